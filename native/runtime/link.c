/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls to other services inside of a request.  A request that waits for a reply is left as one that waits for its
 * client is: the operation runs again when the wait set reports the link.  A request whose call gets no reply (refused,
 * reset, not in time) is answered with an error, and calls nobody any more.
 */
#include "link.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>

static _Atomic uint32_t failures[DITTO_DOWNSTREAMS]; /* connections of all threads that failed in a call */

static struct link **place_of(struct conn *c, unsigned slot)
{
	if (!c->links)
		c->links = calloc(1, sizeof(*c->links));
	return c->links && slot < DITTO_LINKS ? &c->links->slot[slot] : NULL;
}

/* Runs what is left of the connect program. */
static enum run set_up(struct op_context *x, struct link *l)
{
	const struct ditto_program *program = &l->to->connect;

	for (; l->setup_at < program->n; l->setup_at++) {
		const struct ditto_op *op = &program->op[l->setup_at];

		if (op->kind == OP_COMPUTE)
			worker_block(x->worker, op->block);
		else if (op->kind == OP_CALL || op->kind == OP_CALL_MORE || op->kind == OP_ANSWER || op->kind == OP_CLOSE)
			continue; /* no part of making a connection */
		else if (!DITTO_LINK_OF(op->flags))
			op_run(x, op);
		else if (link_plain(l, op) == RUN_BLOCKED)
			return RUN_BLOCKED;
	}
	l->setting_up = 0;
	if (l->source.fd < 0 || !(l->connected || l->connecting))
		l->failed = 1;
	return RUN_DONE;
}

static ssize_t send_piece(struct link *l, const struct ditto_op *op)
{
	const uint8_t *from = l->request->bytes + l->sent;
	size_t n = l->part_end - l->sent;
	struct iovec iov = {.iov_base = (void *)from, .iov_len = n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	switch (op->nr) {
	case SYS_sendto:
		return syscall(SYS_sendto, l->source.fd, from, n, op->b, NULL, 0);
	case SYS_sendmsg:
		return syscall(SYS_sendmsg, l->source.fd, &message, op->b);
	case SYS_writev:
		return syscall(SYS_writev, l->source.fd, &iov, 1);
	default:
		return syscall(SYS_write, l->source.fd, from, n);
	}
}

enum run link_send_part(struct link *l, const struct ditto_op *op)
{
	while (l->sent < l->part_end && !l->failed) {
		ssize_t n;

		if (link_blocks(l) && !l->nonblocking)
			link_block(l);
		n = send_piece(l, op);
		link_unblock(l);
		if (n >= 0)
			l->sent += (uint32_t)n;
		else if (errno == EAGAIN) {
			if (link_wait(l, EPOLLOUT) == RUN_BLOCKED)
				return RUN_BLOCKED;
		} else if (errno != EINTR) {
			l->failed = 1;
			l->pending = 0;
		}
	}
	l->calling = l->sent < l->request->length && !l->failed;
	return RUN_DONE;
}

static void set_part(struct link *l, int32_t bytes)
{
	uint32_t left = l->request->length - l->sent;

	l->part_end = l->sent + (bytes > 0 && (uint32_t)bytes < left ? (uint32_t)bytes : left);
}

/* What decides where the reply ends, beside the protocol: MySQL's command. */
static int says(const struct link *l, const struct ditto_request *request)
{
	if (l->to->service->codec == DITTO_CODEC_MYSQL)
		return request->length > 4 ? request->bytes[4] : 0;
	return request->nobody;
}

void link_begin_request(struct link *l, const struct ditto_request *request, int32_t bytes)
{
	l->request = request;
	l->sent = 0;
	l->calling = l->pending = l->lost = 1;
	l->ready = l->received = 0;
	frame_begin(&l->frame, l->to->service->codec, says(l, request));
	if (l->to->service->codec == DITTO_CODEC_H2) {
		bytes = 0; /* what is said before a request goes with it */
		l->failed |= link_h2_request(l, request) != 0;
	}
	set_part(l, bytes);
	if (request->replies > 1)
		l->frame.pending = request->replies;
}

static void begin(struct link *l, const struct ditto_op *op, struct rng *rng)
{
	const struct ditto_service *service = l->to->service;
	uint32_t cls = dist_draw(op->size, rng, 0);
	const struct ditto_call_class *call = &l->to->call[cls < service->classes ? cls : 0];

	link_begin_request(l, &call->request[call->requests > 1 ? rng_below(rng, call->requests) : 0], op->c);
}

/* Receives until the reply is there, or none will come. */
enum run link_await(struct link *l, const struct ditto_op *op)
{
	/* A thread that blocks does so in the receive, or polls in the request's own program; a session begins without one. */
	int waits = !link_blocks(l) || l->nonblocking || (!op && (l->to->recv.flags & MSG_DONTWAIT));

	while (l->pending && !l->failed) {
		if (waits && !l->ready && link_wait(l, EPOLLIN) == RUN_BLOCKED)
			return RUN_BLOCKED;
		if (link_receive(l, op) < 0 && errno == EAGAIN) {
			waits = 1;
			continue;
		}
		if (l->source.events & EPOLLET)
			l->ready = 1; /* the edge is over: until there is nothing more */
	}
	return RUN_DONE;
}

/* Whether a kept connection has ended meanwhile.  That is only looked at after another one to the same service failed: a
 * service that was started again costs its callers one request then, not one for each connection they keep. */
static int stale(struct link *l, unsigned downstream)
{
	uint8_t byte;

	if (l->setting_up || l->trust == failures[downstream])
		return 0;
	l->trust = failures[downstream];
	return recv(l->source.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

static struct link *take(struct worker *w, unsigned downstream, struct conn *owner)
{
	struct link *l = link_take(w, downstream, owner);

	while (l && stale(l, downstream)) {
		link_close(l);
		l = link_take(w, downstream, owner);
	}
	if (l && l->setting_up)
		l->trust = failures[downstream];
	return l;
}

static enum run call(struct op_context *x, struct link **place, const struct ditto_op *op)
{
	struct link *l = *place;

	if (op->a < 0 || op->a >= ditto_service.downstreams || x->job->failed)
		return RUN_DONE;
	if (l && !x->job->resumed &&
	    (l->failed || l->pending || l->to != &ditto_service.downstream[op->a] || stale(l, (unsigned)op->a))) {
		link_close(l);
		l = NULL;
	}
	if (!l) {
		*place = l = take(x->worker, (unsigned)op->a, x->conn);
		if (!l)
			return RUN_DONE;
	}
	if (l->setting_up && set_up(x, l) == RUN_BLOCKED)
		return RUN_BLOCKED;
	if (!l->failed && link_greet(l) == RUN_BLOCKED)
		return RUN_BLOCKED;
	if (l->failed) {
		l->lost = 1;
		return RUN_DONE;
	}
	if (!l->calling)
		begin(l, op, &x->worker->rng);
	l->op = op;
	return link_send_part(l, op);
}

static enum run answer(struct op_context *x, struct link *l, const struct ditto_op *op)
{
	if (l->calling) { /* a part was left out by chance: without it there is no reply */
		set_part(l, 0);
		if (link_send_part(l, l->op) == RUN_BLOCKED)
			return RUN_BLOCKED;
	}
	if (link_await(l, op) == RUN_BLOCKED)
		return RUN_BLOCKED;
	if (!l->lost)
		return RUN_DONE;
	if (l->failed)
		failures[l->to - ditto_service.downstream]++;
	return job_fail(x->conn, x->job);
}

enum run link_op(struct op_context *x, const struct ditto_op *op)
{
	struct link **place;

	if (x->worker->role->kind == DITTO_ROLE_DISPATCH)
		return RUN_DONE; /* it serves no request */
	if (!x->conn || !x->job || x->conn->shell || !(place = place_of(x->conn, DITTO_LINK_OF(op->flags) - 1u)))
		return RUN_DONE;
	if (op->kind == OP_CALL)
		return call(x, place, op);
	if (!*place || (*place)->setting_up)
		return RUN_DONE;
	switch (op->kind) {
	case OP_CALL_MORE:
		if (!(*place)->calling)
			return RUN_DONE;
		if (!x->job->resumed)
			set_part(*place, op->c);
		return link_send_part(*place, op);
	case OP_ANSWER:
		return answer(x, *place, op);
	case OP_CLOSE:
		link_close(*place);
		*place = NULL;
		return RUN_DONE;
	default:
		return link_plain(*place, op);
	}
}

/* A reply that comes while another one is waited for, or the end of the connection. */
int link_unasked(struct link *l)
{
	while (link_receive(l, NULL) > 0 && l->pending && (l->ready || (l->source.events & EPOLLET)))
		;
	if (l->failed)
		link_unwatch(l); /* or it would be reported for ever */
	return l->failed;
}

/* Nobody waits for that: a program whose parts are chosen by chance has asked for it.  It would be reported until the
 * next call. */
static void writable(struct link *l)
{
	const struct waiter *waiter = l->worker->waiter;

	if (l->watched && waiter && (l->source.events & EPOLLOUT) && !(l->source.events & EPOLLET))
		waiter->modify(l->worker, &l->source, l->source.events & ~(uint32_t)EPOLLOUT);
}

static void forget_idle(struct link *l)
{
	struct link **at = &l->worker->links->idle[l->to - ditto_service.downstream];

	while (*at && *at != l)
		at = &(*at)->next;
	if (*at)
		*at = l->next;
}

void link_events(struct link *l, uint32_t events)
{
	if (l->source.fd < 0)
		return;
	if (l->owner && (events & (l->waits | EPOLLERR | EPOLLHUP | EPOLLRDHUP)) && l->waits) {
		l->waits = 0;
		l->ready = 1;
		conn_resume(l->owner);
		return;
	}
	if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP))) {
		writable(l);
		return;
	}
	link_unasked(l);
	if (!l->owner && l->failed) {
		forget_idle(l);
		link_close(l);
	}
}

static void let_go(struct link **place)
{
	struct link *l = *place;

	*place = NULL;
	if (l->failed || l->pending || l->calling || l->setting_up || l->frame.closes || l->to->pool == DITTO_POOL_REQUEST)
		link_close(l);
	else
		link_idle(l);
}

void links_release(struct conn *c)
{
	for (unsigned i = 0; i < DITTO_LINKS; i++) {
		struct link *l = c->links->slot[i];

		if (l && (l->to->pool != DITTO_POOL_CONNECTION || l->failed || l->pending || l->frame.closes))
			let_go(&c->links->slot[i]);
	}
}

void links_end(struct conn *c)
{
	for (unsigned i = 0; i < DITTO_LINKS; i++)
		if (c->links->slot[i])
			let_go(&c->links->slot[i]);
}
