/* SPDX-License-Identifier: Apache-2.0
 *
 * The send policy: how output is cut into calls and vectors, and what happens when the peer does not take it.
 */
#include "plan.h"
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define VECTORS 1024

/* Waits for writability in the way of the role.  RUN_DONE: the descriptor is writable now (blocking roles). */
static enum run must_wait(struct conn *c)
{
	const struct ditto_send *send = c->send;
	struct worker *w = c->worker;
	uint32_t events = c->source.events;

	if (!w->waiter)
		return serve_wait(c, POLLOUT) ? RUN_DEAD : RUN_DONE;
	c->blocked = 1;
	if ((events & EPOLLOUT) && !(c->edge && send->calls_per_wake && c->calls >= send->calls_per_wake))
		return RUN_BLOCKED; /* it is reported already; an edge already seen has to be asked for again */
	events = c->idle_events | EPOLLOUT;
	if (c->eof && !c->edge)
		events &= ~(uint32_t)(EPOLLIN | EPOLLRDHUP); /* the end of input would be reported for ever */
	c->armed = 1;
	if (c->unwatched) {
		c->unwatched = 0; /* before: see epoll_op in ops.c */
		w->waiter->add(w, &c->source, events);
	} else {
		w->waiter->modify(w, &c->source, events);
	}
	return RUN_BLOCKED;
}

/* Back to what is waited for between requests, in one call; none if nothing was changed. */
void send_disarm(struct conn *c)
{
	if (!c->armed || c->blocked || c->dead)
		return;
	c->armed = 0;
	if (!c->send->arm)
		c->idle_events |= EPOLLOUT & c->source.events; /* the original leaves it */
	if (c->source.events != c->idle_events && !c->unwatched && c->worker->waiter)
		c->worker->waiter->modify(c->worker, &c->source, c->idle_events);
}

/* Cuts the next `total` bytes into vectors: head, payload and tail of the reply where they are known, each vector
 * within iov_bytes.  A reply without such parts is one vector. */
static unsigned cut(const struct conn *c, size_t total, const struct job *job, struct iovec *iov)
{
	const struct ditto_send *send = c->send;
	unsigned want = send->iovs < VECTORS / 2 ? send->iovs : VECTORS / 2, n = 0;
	size_t most = send->iov_bytes ? send->iov_bytes : total, tail = 0, part;
	uint8_t *at = c->out.buf + c->out.start;

	if (want > 1 && job && job->tail && job->head < total && job->tail <= total) {
		if (job->head) {
			iov[n++] = (struct iovec){.iov_base = at, .iov_len = job->head};
			at += job->head;
			total -= job->head;
		}
		if (want > 2 && job->tail > job->head && job->tail - job->head < total)
			tail = total - (job->tail - job->head);
		total -= tail;
		/* more vectors than parts: the payload is spread */
		if (want > n + (tail != 0) + 1u && total / (want - n - (tail != 0)) < most)
			most = (total + want - n - (tail != 0) - 1) / (want - n - (tail != 0));
	}
	for (; total && n < VECTORS - 1; total -= part, at += part) {
		part = total < most ? total : most;
		iov[n++] = (struct iovec){.iov_base = at, .iov_len = part};
	}
	if (tail && !total)
		iov[n++] = (struct iovec){.iov_base = at, .iov_len = tail};
	return n;
}

/* The next bytes, where some lie in pieces: each is a vector. */
static unsigned gather(const struct conn *c, size_t total, struct iovec *iov)
{
	unsigned n = 0;
	size_t at = 0, part;

	for (; at < total && n < VECTORS; at += part) {
		part = total - at;
		iov[n].iov_base = out_span(&c->out, at, &part);
		iov[n++].iov_len = part;
	}
	return n;
}

static unsigned vectors(const struct conn *c, size_t total, const struct job *job, struct iovec *iov)
{
	return c->out.waiting ? gather(c, total, iov) : cut(c, total, job, iov);
}

/* All of one reply whose payload lies elsewhere. */
static ssize_t call_lent(struct conn *c, const struct job *job)
{
	uint8_t *at = c->out.buf + c->out.start;
	struct iovec iov[3] = {
		{.iov_base = at, .iov_len = job->head},
		{.iov_base = (void *)job->lent, .iov_len = job->tail - job->head},
		{.iov_base = at + job->tail, .iov_len = job->length - job->tail},
	};
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = 3};

	if (c->send->nr == SYS_writev)
		return syscall(SYS_writev, c->source.fd, iov, 3);
	return syscall(SYS_sendmsg, c->source.fd, &message, c->send->flags);
}

static ssize_t call(struct conn *c, size_t n, const struct job *job)
{
	const struct ditto_send *send = c->send;
	int fd = c->source.fd;
	struct iovec iov[VECTORS];
	struct msghdr message;
	uint8_t *at;

	if (c->peer)
		return datagram_send(c, n);
	switch (send->nr) {
	case SYS_writev:
		return syscall(SYS_writev, fd, iov, vectors(c, n, job, iov));
	case SYS_sendmsg:
		message = (struct msghdr){.msg_iov = iov, .msg_iovlen = vectors(c, n, job, iov)};
		return syscall(SYS_sendmsg, fd, &message, send->flags);
	case SYS_sendto:
		at = out_span(&c->out, 0, &n);
		return syscall(SYS_sendto, fd, at, n, send->flags, NULL, 0);
	default:
		at = out_span(&c->out, 0, &n);
		return syscall(SYS_write, fd, at, n);
	}
}

/* A call that sent nothing.  RUN_DONE: try again. */
static enum run refused(struct conn *c)
{
	if (errno == EINTR)
		return RUN_DONE;
	if (errno == EAGAIN)
		return must_wait(c);
	conn_close(c);
	return RUN_DEAD;
}

static int over_limit(struct conn *c)
{
	const struct ditto_send *send = c->send;

	if (c->wake != c->worker->wakes) {
		c->wake = c->worker->wakes;
		c->calls = 0;
	}
	return send->calls_per_wake && c->calls >= send->calls_per_wake && c->worker->waiter;
}

void send_own(struct conn *c, struct job *job)
{
	uint64_t payload = job->end - job->length + job->head;

	if (job->lent && out_sent(&c->out) <= payload)
		codec_copy(c->out.buf + (payload - c->out.base), job->lent, job->tail - job->head);
	job->lent = NULL;
}

/* Whether vectors can take the payload from where it lies: three, for all of one reply. */
static int lends(const struct conn *c, const struct job *job)
{
	const struct ditto_send *send = c->send;

	return (send->nr == SYS_writev || send->nr == SYS_sendmsg) && send->iovs == 3 && !send->iov_bytes && !send->call_bytes && !send->parts &&
	       job->head && job->tail > job->head && job->length > job->tail && out_sent(&c->out) == job->end - job->length;
}

/* Parts are those of what follows a head that is sent before. */
void send_begin(struct conn *c, const struct job *job, const struct ditto_send *send, int head)
{
	c->send = send;
	if (!job->resumed)
		c->parts_at = head ? UINT64_MAX : out_sent(&c->out);
}

/* How many of the bytes left go into the next call. */
static size_t call_bytes(const struct conn *c, uint64_t left)
{
	const struct ditto_send *send = c->send;
	uint64_t at = c->parts_at, sent = out_sent(&c->out);

	for (unsigned i = 0; i < send->parts && sent >= c->parts_at; i++) {
		at += send->part[i];
		if (at > sent)
			return at - sent < left ? (size_t)(at - sent) : (size_t)left;
	}
	return send->call_bytes && left > send->call_bytes ? send->call_bytes : (size_t)left;
}

/* Sends the output up to position target. */
enum run send_until(struct conn *c, uint64_t target, struct job *job)
{
	const struct ditto_send *send = c->send;
	enum run state;

	if (job && job->lent && (!lends(c, job) || target != job->end))
		send_own(c, job);
	while (out_sent(&c->out) < target) {
		uint64_t left = target - out_sent(&c->out);
		size_t n = call_bytes(c, left);
		ssize_t sent;

		if (over_limit(c))
			return must_wait(c);
		sent = job && job->lent ? call_lent(c, job) : call(c, n, job);
		c->calls++;
		if (sent < 0) {
			state = refused(c);
			if (state != RUN_DONE)
				return state;
			continue;
		}
		if (job && (uint64_t)sent < left)
			send_own(c, job); /* while the output still begins with the reply */
		else if (job)
			job->lent = NULL;
		out_took(&c->out, (size_t)sent);
		job = NULL; /* what is left no longer begins with the head */
		if ((uint64_t)sent < left)
			worker_block(c->worker, send->between);
	}
	return RUN_DONE;
}

/* Sends the body of the job's reply from a file; without one, filler of the same length, so that the reply is right
 * whatever became of the file.  The head is ahead of it, even where the call that sends it was not drawn. */
enum run send_file(struct conn *c, struct job *job, const struct slot *slot)
{
	const struct ditto_send *send = c->send = job->plan->send;
	enum run state = job->body_left && out_sent(&c->out) < job->end ? send_until(c, job->end, NULL) : RUN_DONE;

	if (state != RUN_DONE)
		return state;
	while (job->body_left) {
		size_t n = job->body_left < 0x7ffff000 ? (size_t)job->body_left : 0x7ffff000;
		off_t at = (off_t)job->body_at;
		ssize_t sent;

		if (send->call_bytes && n > send->call_bytes)
			n = send->call_bytes;
		if (over_limit(c))
			return must_wait(c);
		if (slot->fd >= 0) {
			sent = syscall(SYS_sendfile, c->source.fd, slot->fd, &at, n);
		} else {
			n = n < SCRATCH_BYTES ? n : SCRATCH_BYTES;
			sent = syscall(SYS_write, c->source.fd, c->worker->scratch, n);
		}
		c->calls++;
		if (sent < 0) {
			state = refused(c);
			if (state != RUN_DONE)
				return state;
			continue;
		}
		if (sent == 0) { /* the file is shorter than it was */
			conn_close(c);
			return RUN_DEAD;
		}
		job->body_left -= (uint64_t)sent;
		job->body_at += (uint64_t)sent;
		if (job->body_left)
			worker_block(c->worker, send->between);
	}
	return RUN_DONE;
}
