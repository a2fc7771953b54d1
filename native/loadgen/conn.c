/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection of the generator: dialling, a request, its reply, its end.
 */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fail.h"

#define RETRY_NS 10000000ull /* after a refused connection */

static void watch(struct run *r, struct conn *c, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (c->interest == events)
		return;
	epoll_ctl(r->wait_set, c->interest ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event);
	c->interest = events;
}

static void become_idle(struct run *r, struct conn *c)
{
	c->state = CONN_IDLE;
	r->idle[(r->idle_first + r->idle_count++) % r->thread->connections] = (uint32_t)(c - r->conn);
}

void conn_hang_up(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->interest = 0;
}

static void down(struct run *r, struct conn *c)
{
	conn_hang_up(c);
	if (c->brief) {
		become_idle(r, c);
	} else {
		c->state = CONN_DOWN;
		r->retry = r->now;
	}
}

static const struct step *step_of(const struct conn *c)
{
	return &c->script->step[c->at];
}

void conn_broken(struct run *r, struct conn *c)
{
	if (c->state == CONN_BUSY && c->intended >= r->settings->warmup_ns)
		r->result->broken++;
	down(r, c);
}

/* HTTP/2: the request as it is sent on the next stream of its connection. */
static void number(struct conn *c, const struct step *step)
{
	if (c->room < step->bytes) {
		free(c->numbered);
		c->numbered = malloc(step->bytes);
		c->room = step->bytes;
		if (!c->numbered)
			fail("no memory for a request of %u bytes", step->bytes);
	}
	c->stream += 2;
	c->frame.stream = c->stream - 1;
	memcpy(c->numbered, step->request, step->bytes);
	frame_h2_number(c->numbered, step->bytes, c->frame.stream);
}

static void push(struct run *r, struct conn *c)
{
	const struct step *step = step_of(c);
	const uint8_t *request = r->settings->plan.framing == FRAMING_H2 ? c->numbered : step->request;

	while (c->sent < step->bytes) {
		ssize_t n = send(c->fd, request + c->sent, step->bytes - c->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			watch(r, c, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			conn_broken(r, c);
			return;
		}
		c->sent += (uint32_t)n;
	}
	watch(r, c, EPOLLIN);
	if (step->flags & STEP_NOREPLY)
		conn_finish(r, c);
}

/* A socket on its way to the server: 1 connected, 0 not yet, -1 refused. */
static int open_socket(const struct run *r, struct conn *c)
{
	const struct settings *s = r->settings;
	int one = 1;

	c->fd = socket(s->address.ss_family, (by_datagrams(r) ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("no socket: %s", strerror(errno));
	if (!by_datagrams(r))
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->interest = 0;
	c->at = 0;
	c->stream = c->frame.kept = c->frame.part = 0;
	if (connect(c->fd, (const struct sockaddr *)&s->address, s->address_len) == 0)
		return 1;
	return errno == EINPROGRESS ? 0 : -1;
}

void conn_begin(struct run *r, struct conn *c, uint64_t intended)
{
	int connected = c->fd >= 0 ? 1 : open_socket(r, c);

	c->intended = intended;
	c->began = r->now;
	c->sent = 0;
	if (c->state == CONN_BUSY) {
		r->result->sent += intended >= r->settings->warmup_ns;
		if (!r->closed && intended >= r->settings->warmup_ns)
			histogram_add(&r->result->late, c->began > intended ? c->began - intended : 0);
	}
	frame_begin(&c->frame, r->settings->plan.framing, step_of(c));
	if (r->settings->plan.framing == FRAMING_H2)
		number(c, step_of(c));
	if (connected > 0)
		push(r, c);
	else if (connected == 0)
		watch(r, c, EPOLLIN | EPOLLOUT);
	else
		conn_broken(r, c);
}

static void count(struct run *r, const struct conn *c)
{
	struct result *result = r->result;

	if (c->intended < r->settings->warmup_ns)
		return;
	if (!result->received++)
		result->first_ns = r->now;
	result->last_ns = r->now;
	result->failed += c->frame.failed;
	histogram_add(&result->corrected, r->now > c->intended ? r->now - c->intended : 0);
	histogram_add(&result->uncorrected, r->now > c->began ? r->now - c->began : 0);
}

void conn_finish(struct run *r, struct conn *c)
{
	const struct step *step = step_of(c);
	int closes = c->frame.closes || (step->flags & STEP_CLOSE);
	int measured = c->state == CONN_BUSY;

	tick(r);
	if (measured)
		count(r, c);
	if (++c->at == c->script->steps)
		c->at = c->script->opening;
	if (closes) {
		down(r, c);
	} else if (c->state == CONN_OPENING && c->at < c->script->opening) {
		conn_begin(r, c, 0);
	} else {
		become_idle(r, c);
	}
}

static void up(struct run *r, struct conn *c)
{
	c->at = 0;
	if (c->script->opening) {
		c->state = CONN_OPENING;
		conn_begin(r, c, 0);
	} else {
		watch(r, c, EPOLLIN);
		become_idle(r, c);
	}
}

static void dial(struct run *r, struct conn *c)
{
	int connected = open_socket(r, c);

	if (connected > 0) {
		up(r, c);
	} else if (connected == 0) {
		c->state = CONN_CONNECTING;
		watch(r, c, EPOLLOUT);
	} else {
		conn_hang_up(c);
		c->state = CONN_DOWN;
		r->retry = r->now + RETRY_NS;
	}
}

void conn_dial_all(struct run *r)
{
	if (r->now < r->retry)
		return;
	r->retry = NEVER;
	for (unsigned i = 0; i < r->thread->connections; i++)
		if (r->conn[i].state == CONN_DOWN)
			dial(r, &r->conn[i]);
}

static void take(struct run *r, struct conn *c)
{
	ssize_t n = recv(c->fd, r->buffer, BUFFER_BYTES, 0);
	size_t at = 0, used;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (n == 0 && (c->state == CONN_BUSY || c->state == CONN_OPENING) && frame_at_end(&c->frame, r->settings->plan.framing)) {
			c->frame.closes = 1;
			c->brief = !c->script->opening;
			conn_finish(r, c);
			return;
		}
		if (c->state == CONN_IDLE) { /* it leaves the ring when its turn comes */
			conn_hang_up(c);
			return;
		}
		conn_broken(r, c);
		return;
	}
	r->result->bytes += (uint64_t)n;
	while (at < (size_t)n && (c->state == CONN_BUSY || c->state == CONN_OPENING || r->settings->plan.framing == FRAMING_H2)) {
		enum frame_result result =
			frame_feed(&c->frame, r->settings->plan.framing, step_of(c), r->buffer + at, (size_t)n - at, &used);

		at += used;
		if (result == FRAME_BROKEN) {
			conn_broken(r, c);
			return;
		}
		if (result == FRAME_MORE)
			return;
		conn_finish(r, c);
		if (c->fd < 0)
			return;
	}
}

void conn_event(struct run *r, struct conn *c, uint32_t events)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (c->fd < 0)
		return;
	if (c->state == CONN_CONNECTING) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error) {
			conn_hang_up(c);
			c->state = CONN_DOWN;
			r->retry = r->now + RETRY_NS;
		} else {
			up(r, c);
		}
		return;
	}
	if ((events & EPOLLOUT) && (c->state == CONN_BUSY || c->state == CONN_OPENING))
		push(r, c);
	if (c->fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (by_datagrams(r))
		datagram_take(r, c);
	else
		take(r, c);
}

/* Whether the script ends its connections itself: the next one is made when its request is due, as its client did. */
static int is_brief(const struct script *script)
{
	if (script->opening)
		return 0;
	for (uint32_t i = 0; i < script->steps; i++)
		if (script->step[i].flags & STEP_CLOSE)
			return 1;
	return 0;
}

void conn_setup(struct run *r, struct conn *c, const struct script *script)
{
	c->fd = -1;
	c->script = script;
	c->brief = is_brief(script);
	if (c->brief && c != r->conn) /* the first finds out whether the server is there */
		become_idle(r, c);
}

void conn_settle(struct run *r)
{
	for (unsigned i = 0; i < r->thread->connections; i++)
		if (r->conn[i].brief && r->conn[i].state == CONN_IDLE)
			conn_hang_up(&r->conn[i]);
}

/* The next connection that waits for a request, or NULL. */
struct conn *conn_free(struct run *r)
{
	while (r->idle_count) {
		struct conn *c = &r->conn[r->idle[r->idle_first]];

		r->idle_first = (r->idle_first + 1) % r->thread->connections;
		r->idle_count--;
		if (c->fd >= 0 || c->brief)
			return c;
		c->state = CONN_DOWN; /* the peer closed it while it was idle */
		r->retry = r->now;
	}
	return NULL;
}
