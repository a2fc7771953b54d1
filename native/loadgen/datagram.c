/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests in datagrams: a connection is a socket of its own with at most one request under way.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "run.h"

#define LOST_NS 1000000000ull  /* without a reply, a datagram is lost */
#define LOOK_NS 50000000ull    /* between looks for such */
#define REFUSED_NS 10000000ull /* until the next try where nobody has the port */
#define DNS_HEAD 12u
#define DNS_SERVER_FAILED 2

int by_datagrams(const struct run *r)
{
	return r->settings->plan.framing >= FRAMING_DATAGRAM;
}

/* Whether a datagram is the reply: in DNS by its number, elsewhere whatever it is. */
static int is_reply(const struct run *r, struct conn *c, size_t n)
{
	const struct step *step = &c->script->step[c->at];

	if (c->state != CONN_BUSY && c->state != CONN_OPENING)
		return 0; /* it came late */
	if (r->settings->plan.framing != FRAMING_DNS || step->bytes < 2)
		return 1;
	if (n < DNS_HEAD || memcmp(r->buffer, step->request, 2) != 0)
		return 0;
	c->frame.failed = (r->buffer[3] & 15) == DNS_SERVER_FAILED;
	return 1;
}

void datagram_take(struct run *r, struct conn *c)
{
	ssize_t n = recv(c->fd, r->buffer, BUFFER_BYTES, 0);

	if (n >= 0) {
		r->result->bytes += (uint64_t)n;
		if (is_reply(r, c, (size_t)n))
			conn_finish(r, c);
	} else if (errno != EAGAIN && errno != EINTR) {
		if (c->state == CONN_IDLE) { /* it leaves the ring when its turn comes */
			conn_hang_up(c);
			return;
		}
		conn_broken(r, c);
		r->retry = r->now + REFUSED_NS;
	}
}

void datagram_give_up(struct run *r)
{
	if (r->now < r->look)
		return;
	r->look = r->now + LOOK_NS;
	for (unsigned i = 0; i < r->thread->connections; i++)
		if (r->conn[i].state == CONN_BUSY && r->now > r->conn[i].began + LOST_NS)
			conn_broken(r, &r->conn[i]);
}
