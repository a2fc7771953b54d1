/* SPDX-License-Identifier: Apache-2.0
 *
 * Servers of datagrams: each that comes is a request, answered by one to where it came from.  One connection without a
 * peer of its own stands for all of them; it is never closed and never waits.  Threads learn of one from their event loop,
 * or block in the receive itself.
 */
#include "runtime.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define DATAGRAMS_PER_WAKE 100 /* so that a flood does not starve timers */
#define DATAGRAM_BYTES 65536u
#define ROUNDS_OF_ANSWERS 8 /* receives whose answers may wait at a time */

static struct conn *stand_in(struct worker *w)
{
	struct conn *c = conn_new(w, w->listener.fd);

	if (!c)
		fail("memory for datagrams");
	c->peer = calloc(1, sizeof(struct sockaddr_storage));
	c->in = pool_get(&w->pool, DATAGRAM_BYTES, &c->in_cap);
	if (!c->peer || !c->in)
		fail("memory for datagrams");
	w->datagrams = c;
	return c;
}

static ssize_t take(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	size_t most = recv->bytes < c->in_cap ? recv->bytes : c->in_cap;
	struct iovec iov = {.iov_base = c->in, .iov_len = most};
	struct msghdr message = {
		.msg_name = c->peer, .msg_namelen = sizeof(struct sockaddr_storage), .msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (recv->nr == SYS_recvmsg) {
		n = syscall(SYS_recvmsg, c->source.fd, &message, recv->flags);
		c->peer_bytes = message.msg_namelen;
	} else {
		c->peer_bytes = sizeof(struct sockaddr_storage);
		n = syscall(SYS_recvfrom, c->source.fd, c->in, most, recv->flags, c->peer, &c->peer_bytes);
	}
	return n;
}

/* What came in one call (recvmmsg), and what waits to leave, by so many in one (sendmmsg). */
struct batch {
	unsigned most, room, sent;
	size_t bytes; /* room for each datagram */
	struct mmsghdr *in, *out;
	struct iovec *in_iov, *out_iov;
	struct sockaddr_storage *from, *to;
	uint8_t *received, *replies;
};

static _Thread_local struct batch *batch;

static struct batch *batch_make(void)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	struct batch *b = calloc(1, sizeof(*b));

	if (!b)
		fail("memory for datagrams");
	b->most = recv->batch ? recv->batch : 1;
	b->room = ditto_service.listener.answers_last ? ROUNDS_OF_ANSWERS * b->most : b->most;
	b->bytes = recv->bytes < DATAGRAM_BYTES ? recv->bytes : DATAGRAM_BYTES;
	b->in = calloc((size_t)b->most + b->room, sizeof(*b->in));
	b->in_iov = calloc((size_t)b->most + b->room, sizeof(*b->in_iov));
	b->from = calloc((size_t)b->most + b->room, sizeof(*b->from));
	b->received = calloc(b->most, b->bytes);
	b->replies = malloc(DATAGRAM_BYTES * (size_t)b->room);
	if (!b->in || !b->in_iov || !b->from || !b->received || !b->replies)
		fail("memory for datagrams");
	b->out = b->in + b->most;
	b->out_iov = b->in_iov + b->most;
	b->to = b->from + b->most;
	for (unsigned i = 0; i < b->most; i++) {
		b->in_iov[i] = (struct iovec){.iov_base = b->received + i * b->bytes, .iov_len = b->bytes};
		b->in[i].msg_hdr = (struct msghdr){.msg_name = &b->from[i], .msg_iov = &b->in_iov[i], .msg_iovlen = 1};
	}
	return b;
}

/* All that waits, each by the call that replies leave in. */
static void batch_send(struct conn *c)
{
	unsigned at = 0, n;

	for (; batch && at < batch->sent; at += n) {
		n = batch->sent - at < batch->most ? batch->sent - at : batch->most;
		if (c->send->nr == SYS_sendmmsg)
			syscall(SYS_sendmmsg, c->source.fd, batch->out + at, n, c->send->flags);
		else if (c->send->nr == SYS_sendmsg)
			syscall(SYS_sendmsg, c->source.fd, &batch->out[at].msg_hdr, c->send->flags);
		else
			syscall(SYS_sendto, c->source.fd, batch->out_iov[at].iov_base, batch->out_iov[at].iov_len, c->send->flags,
				&batch->to[at], batch->out[at].msg_hdr.msg_namelen);
		if (c->send->nr != SYS_sendmmsg)
			n = 1;
	}
	if (batch)
		batch->sent = 0;
}

static void batch_add(struct conn *c, const void *data, size_t n)
{
	unsigned at;

	batch = batch ? batch : batch_make();
	at = batch->sent++;
	n = n < DATAGRAM_BYTES ? n : DATAGRAM_BYTES;
	memcpy(&batch->to[at], c->peer, sizeof(batch->to[at]));
	batch->out_iov[at] = (struct iovec){.iov_base = batch->replies + at * (size_t)DATAGRAM_BYTES, .iov_len = n};
	memcpy(batch->out_iov[at].iov_base, data, n);
	batch->out[at].msg_hdr = (struct msghdr){.msg_name = &batch->to[at], .msg_namelen = c->peer_bytes,
						 .msg_iov = &batch->out_iov[at], .msg_iovlen = 1};
	if (batch->sent == batch->room)
		batch_send(c);
}

/* A reply that cannot be sent is lost, as datagrams may be. */
ssize_t datagram_send(struct conn *c, size_t n)
{
	struct iovec iov = {.iov_base = c->out.buf + c->out.start, .iov_len = n};
	struct msghdr message = {.msg_name = c->peer, .msg_namelen = c->peer_bytes, .msg_iov = &iov, .msg_iovlen = 1};

	if (c->send->nr == SYS_sendmmsg || ditto_service.listener.answers_last)
		batch_add(c, iov.iov_base, n);
	else if (c->send->nr == SYS_sendmsg)
		syscall(SYS_sendmsg, c->source.fd, &message, c->send->flags);
	else
		syscall(SYS_sendto, c->source.fd, iov.iov_base, n, c->send->flags, c->peer, c->peer_bytes);
	return (ssize_t)n;
}

/* Whatever a datagram left unfinished ends with it. */
static void forget(struct conn *c)
{
	if (c->open_slots)
		file_close_slots(c->slot, &c->open_slots);
	memset(&c->codec, 0, sizeof(c->codec));
	c->job_head = c->job_run = c->job_tail = 0;
	c->in_start = c->in_end = 0;
	c->closing = c->blocked = c->backlog = c->held = c->more = 0;
	out_reset(&c->out);
}

static void answer(struct conn *c, size_t n)
{
	c->in_end = (uint32_t)n;
	conn_process(c);
	if (c->job_head < c->job_run)
		conn_run(c, 2);
	forget(c);
}

/* How many came in one call; 0 or less: none. */
static int take_several(struct conn *c)
{
	int n;

	batch = batch ? batch : batch_make();
	for (unsigned i = 0; i < batch->most; i++)
		batch->in[i].msg_hdr.msg_namelen = sizeof(batch->from[i]);
	n = (int)syscall(SYS_recvmmsg, c->source.fd, batch->in, batch->most, ditto_service.recv.flags, NULL);
	for (int i = 0; i < n; i++) {
		c->peer_bytes = batch->in[i].msg_hdr.msg_namelen;
		memcpy(c->peer, &batch->from[i], sizeof(batch->from[i]));
		memcpy(c->in, batch->in_iov[i].iov_base, batch->in[i].msg_len);
		answer(c, batch->in[i].msg_len);
	}
	return n;
}

static void receive_round(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	ssize_t n, all = 0;

	for (unsigned i = 0; i < DATAGRAMS_PER_WAKE; i++) {
		if (recv->nr == SYS_recvmmsg) {
			n = take_several(c);
			all += n;
		} else {
			n = take(c);
			if (n >= 0)
				answer(c, (size_t)n);
			all++;
		}
		if (!ditto_service.listener.answers_last)
			batch_send(c);
		if (n < 0 || !recv->until_again || (recv->enough && all >= recv->enough))
			return; /* nothing is left, or an earlier reply found nobody */
	}
}

void datagram_ready(struct worker *w)
{
	struct conn *c = w->datagrams ? w->datagrams : stand_in(w);

	receive_round(c);
	batch_send(c);
	if (ditto_service.listener.rewatches && w->waiter)
		w->waiter->modify(w, &w->listener, w->role->listen_events ? w->role->listen_events : EPOLLIN);
}

void datagram_main(struct worker *w)
{
	w->deferred_tail = &w->deferred;
	for (;;)
		datagram_ready(w);
}
