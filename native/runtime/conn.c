/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection: receiving by the receive policy, taking requests out of what came, ending.
 */
#include "runtime.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CONNS_WITH_BUFFERS 512 /* up to so many connections of a thread, each keeps its buffers while idle */
#define KEPT_OUT 16384

static const struct codec *codec;

void conn_setup(void)
{
	codec = codec_by_id(ditto_service.codec);
}

struct conn *conn_new(struct worker *w, int fd)
{
	uint32_t capacity;
	struct conn *c = pool_get(&w->pool, sizeof(*c), &capacity);

	if (!c) {
		close(fd);
		return NULL;
	}
	memset(c, 0, sizeof(*c));
	c->source.fd = fd;
	c->source.type = SOURCE_CONN;
	c->source.place = -1;
	c->worker = w;
	c->unwatched = 1;
	c->out.pool = &w->pool;
	c->idle_events = EPOLLIN;
	c->next_all = w->all;
	if (w->all)
		w->all->prev_all = c;
	w->all = c;
	w->conns++;
	return c;
}

static void in_release(struct conn *c)
{
	if (c->in)
		pool_put(&c->worker->pool, c->in, c->in_cap);
	c->in = NULL;
	c->in_cap = c->in_start = c->in_end = 0;
}

/* Closing over bytes that were never read makes the kernel send a reset, which can overtake the last reply: after an
 * error or a goodbye, what has come already is read first. */
static void read_rest(struct conn *c)
{
	shutdown(c->source.fd, SHUT_WR);
	for (int tries = 0; tries < 16; tries++)
		if (recv(c->source.fd, c->worker->scratch + SCRATCH_BYTES, SCRATCH_BYTES, MSG_DONTWAIT) <= 0)
			return;
}

void conn_close(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->dead)
		return;
	c->dead = 1;
	if (c->open_slots)
		file_close_slots(c->slot, &c->open_slots);
	if (c->closing && c->filled && !c->eof)
		read_rest(c);
	worker_program(w, c, &w->role->on_close);
	if (w->waiter && w->waiter->keeps)
		w->waiter->remove(w, &c->source);
	if (c->source.fd >= 0)
		close(c->source.fd);
	c->source.fd = -1;
	c->next_dead = w->dead;
	w->dead = c;
}

void conn_free_dead(struct worker *w)
{
	while (w->dead) {
		struct conn *c = w->dead;
		uint32_t capacity;

		w->dead = c->next_dead;
		in_release(c);
		out_release(&c->out);
		if (c->job)
			pool_put(&w->pool, c->job, c->job_cap * (uint32_t)sizeof(*c->job));
		if (c->prev_all)
			c->prev_all->next_all = c->next_all;
		else
			w->all = c->next_all;
		if (c->next_all)
			c->next_all->prev_all = c->prev_all;
		w->conns--;
		for (capacity = 1u << POOL_MIN_SHIFT; capacity < sizeof(*c); capacity *= 2)
			;
		pool_put(&w->pool, c, capacity);
	}
}

/* Room for a receive: the whole of recv.bytes, or what a long unfinished head leaves. */
static int in_room(struct conn *c)
{
	const uint32_t ask = ditto_service.recv.bytes;
	uint32_t kept = c->in_end - c->in_start, capacity;
	uint8_t *in;

	if (c->in && kept == 0) {
		c->in_start = c->in_end = 0;
		return 0;
	}
	if (c->in && c->in_cap - c->in_end >= ask)
		return 0;
	if (c->in && c->in_cap - kept >= ask / 2 && c->in_cap > kept) {
		memmove(c->in, c->in + c->in_start, kept);
		c->in_start = 0;
		c->in_end = kept;
		return 0;
	}
	if (c->backlog && c->in)
		return -1; /* requests wait here already */
	in = pool_get(&c->worker->pool, (size_t)kept + ask, &capacity);
	if (!in)
		return -1;
	if (c->in) {
		memcpy(in, c->in + c->in_start, kept);
		pool_put(&c->worker->pool, c->in, c->in_cap);
	}
	c->in = in;
	c->in_cap = capacity;
	c->in_start = 0;
	c->in_end = kept;
	return 0;
}

int conn_receive_once(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	int fd = c->source.fd;
	struct iovec iov;
	struct msghdr message;
	ssize_t n;

	if (in_room(c))
		return -2;
	iov.iov_base = c->in + c->in_end;
	iov.iov_len = c->in_cap - c->in_end;
	if (iov.iov_len > recv->bytes)
		iov.iov_len = recv->bytes;
	do {
		switch (recv->nr) {
		case SYS_recvfrom:
			n = syscall(SYS_recvfrom, fd, iov.iov_base, iov.iov_len, recv->flags, NULL, NULL);
			break;
		case SYS_recvmsg:
			message = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
			n = syscall(SYS_recvmsg, fd, &message, recv->flags);
			break;
		case SYS_readv:
			n = syscall(SYS_readv, fd, &iov, 1);
			break;
		default:
			n = syscall(SYS_read, fd, iov.iov_base, iov.iov_len);
		}
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		c->in_end += (uint32_t)n;
	c->filled = n > 0 && (size_t)n == iov.iov_len;
	return (int)n;
}

/* Takes complete requests out of the buffer until it needs more, or too much is waiting already. */
static void take_requests(struct conn *c)
{
	struct request request;
	enum codec_step step;
	size_t used;

	c->backlog = 0;
	while (c->in_start < c->in_end && !c->closing) {
		if (c->out.end - c->out.start > OUT_HIGH || c->job_tail - c->job_head >= JOBS_HIGH) {
			c->backlog = 1;
			return;
		}
		request.note_len = 0;
		step = codec->parse(&c->codec, c->in + c->in_start, c->in_end - c->in_start, &used, &request);
		c->in_start += (uint32_t)used;
		if (step == CODEC_MORE)
			break;
		if (step == CODEC_FATAL || (request.flags & REQ_CLOSE))
			c->closing = 1;
		if (request.flags & REQ_MALFORMED)
			worker_block(c->worker, ditto_service.on_error);
		if (request.flags & REQ_INTERIM) {
			struct reply_parts parts;

			codec->reply(&request, &c->out, &c->worker->rng, &parts);
			continue;
		}
		if (job_add(c, &request)) {
			conn_close(c);
			return;
		}
	}
	if (c->closing)
		c->in_start = c->in_end;
	if (c->in_start == c->in_end) {
		c->in_start = c->in_end = 0;
		if (c->worker->conns > CONNS_WITH_BUFFERS)
			in_release(c);
	}
}

static void queue_second_pass(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->queued)
		return;
	c->queued = 1;
	if (w->role->deferred_lifo) {
		c->next = w->deferred;
		w->deferred = c;
	} else {
		c->next = NULL;
		*w->deferred_tail = c;
		w->deferred_tail = &c->next;
	}
}

/* After jobs have run: what the connection waits for now, or its end. */
void conn_settle(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->dead || c->blocked)
		return;
	if (c->job_head < c->job_run) {
		queue_second_pass(c);
		return;
	}
	if (c->out.start == c->out.end && c->out.buf) {
		if (c->out.cap > KEPT_OUT || w->conns > CONNS_WITH_BUFFERS)
			out_release(&c->out);
		else
			out_reset(&c->out);
	}
	if (c->backlog)
		return;
	if (c->eof || c->closing) {
		conn_close(c);
		return;
	}
	if (c->armed)
		send_disarm(c);
	if (c->unwatched && w->waiter) {
		c->unwatched = 0;
		if (w->waiter->add(w, &c->source, c->idle_events))
			conn_close(c);
	}
}

/* Requests in the buffer, as far as they can be taken. */
static void process(struct conn *c)
{
	do {
		take_requests(c);
		if (c->dead || conn_run(c, 1) != RUN_DONE)
			return;
	} while (c->backlog && c->job_head == c->job_tail && c->out.start == c->out.end);
}

static void receive(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;

	for (;;) {
		int n;

		c->readable = 0;
		n = conn_receive_once(c);
		if (n == -2) { /* no room: later */
			c->readable = 1;
			return;
		}
		if (n < 0) {
			if (errno != EAGAIN)
				conn_close(c);
			return;
		}
		if (n == 0) {
			c->eof = 1;
			return;
		}
		do {
			c->more = 0;
			process(c);
		} while (c->more && !c->dead && !c->blocked);
		if (c->dead || c->closing || c->eof)
			return;
		if (c->blocked || c->backlog) {
			c->readable = c->edge || !c->worker->waiter;
			return;
		}
		if (recv->until_again)
			continue;
		if ((recv->until_short || c->edge) && c->filled)
			continue;
		if (c->edge && c->hung_up) /* its end is to be read, and will not be reported again */
			continue;
		return;
	}
}

void conn_events(struct conn *c, uint32_t events)
{
	if (c->dead)
		return;
	if (events & (EPOLLRDHUP | EPOLLHUP))
		c->hung_up = 1;
	if (c->blocked && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		c->blocked = 0;
		if (conn_run(c, 1) == RUN_DONE && c->backlog && c->job_head == c->job_tail)
			process(c);
		if (!c->dead && !c->blocked && c->readable && !c->backlog)
			events |= EPOLLIN;
	}
	if (!c->dead && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
		if (c->eof) {
			if ((events & (EPOLLERR | EPOLLHUP)) && c->blocked)
				conn_close(c); /* nobody is left to take the rest */
			else if (c->blocked && !c->edge && c->source.events != EPOLLOUT && c->worker->waiter)
				c->worker->waiter->modify(c->worker, &c->source, EPOLLOUT);
		} else if (c->blocked || c->backlog) {
			c->readable = 1;
			if (events & EPOLLERR)
				conn_close(c);
			else if (c->blocked && !c->edge && c->worker->waiter) { /* not now, so do not report it */
				c->armed = 1;
				c->worker->waiter->modify(c->worker, &c->source, EPOLLOUT);
			}
		} else {
			receive(c);
		}
	}
	conn_settle(c);
}

void conn_after(struct conn *c)
{
	c->queued = 0;
	if (c->dead || c->blocked)
		return;
	if (conn_run(c, 2) == RUN_DONE) {
		if (c->backlog)
			process(c);
		if (c->readable && !c->dead && !c->blocked && !c->backlog)
			receive(c);
	}
	conn_settle(c);
}
