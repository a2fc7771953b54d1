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

/* A reply that cannot be sent is lost, as datagrams may be. */
ssize_t datagram_send(struct conn *c, size_t n)
{
	struct iovec iov = {.iov_base = c->out.buf + c->out.start, .iov_len = n};
	struct msghdr message = {.msg_name = c->peer, .msg_namelen = c->peer_bytes, .msg_iov = &iov, .msg_iovlen = 1};

	if (c->send->nr == SYS_sendmsg)
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

void datagram_ready(struct worker *w)
{
	struct conn *c = w->datagrams ? w->datagrams : stand_in(w);

	for (unsigned i = 0; i < DATAGRAMS_PER_WAKE; i++) {
		ssize_t n = take(c);

		if (n < 0)
			return; /* nothing is left, or an earlier reply found nobody */
		c->in_end = (uint32_t)n;
		conn_process(c);
		if (c->job_head < c->job_run)
			conn_run(c, 2);
		forget(c);
		if (!ditto_service.recv.until_again)
			return;
	}
}

void datagram_main(struct worker *w)
{
	w->deferred_tail = &w->deferred;
	for (;;)
		datagram_ready(w);
}
