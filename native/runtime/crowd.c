/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that share their connections and all wait for events of the one wait set at once.  A report that comes while
 * another thread serves the connection is left to that one.
 *
 * A thread may still hold a report on a connection that another has closed, so the memory of connections is never given
 * back: the next connection gets it, and takes such a report for one of its own that finds nothing.
 */
#include "shared.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct conn *crowd_recycled(struct worker *w)
{
	struct shared *s = w->shared;
	struct conn *c;

	hold(s);
	c = s->graves;
	if (c)
		s->graves = c->next_dead;
	release(s);
	if (!c)
		return NULL;
	conn_empty(w, c);
	/* neither its type nor that somebody has it may ever seem to change */
	memset(&c->worker, 0, offsetof(struct conn, pending) - offsetof(struct conn, worker));
	memset(&c->job, 0, sizeof(*c) - offsetof(struct conn, job));
	return c;
}

/* Lets go of a connection that was just made.  What was reported meanwhile is reported again. */
void crowd_yield(struct worker *w, struct conn *c)
{
	uint32_t events = c->source.events;

	if ((atomic_exchange(&c->pending, 0) & ~BUSY) && (events & (EPOLLET | EPOLLONESHOT)))
		wait_epoll.modify(w, &c->source, events);
}

/* Before a connection is let go of: it is reported again only if it was asked for since the last report. */
void crowd_rearm(struct worker *w, struct conn *c)
{
	uint32_t once = c->idle_events & (uint32_t)EPOLLONESHOT;
	uint32_t events = c->blocked == BLOCKED_OUT ? EPOLLOUT : (c->idle_events & ~(uint32_t)EPOLLONESHOT) | EPOLLIN;

	if (!(c->source.events & events) && !c->unwatched)
		wait_epoll.modify(w, &c->source, events | once);
}

static void reported(struct worker *w, struct conn *c, uint32_t events)
{
	if (shared_mark(c, events))
		shared_serve(w, c);
}

void crowd_main(struct worker *w)
{
	const struct ditto_role *role = w->role;
	struct conn *c, *next;

	for (;;) {
		int n = w->waiter->wait(w, shared_timeout(w));

		if (n < 0 && errno != EINTR)
			fail("waiting for events");
		w->wakes++;
		worker_block(w, role->on_wake);
		for (int i = 0; i < n; i++) {
			struct source *source = w->ready[i].data.ptr;

			if (source->type == SOURCE_CONN) {
				reported(w, (struct conn *)source, w->ready[i].events);
				continue;
			}
			if (source->type == SOURCE_LINK) {
				c = shared_link_reported(w, (struct link *)source, w->ready[i].events);
				if (c)
					shared_serve(w, c);
				continue;
			}
			accept_ready(w);
			shared_bury(w);
			if (source->events & EPOLLONESHOT)
				wait_epoll.modify(w, source, source->events);
		}
		for (c = shared_links_late(w); c; c = next) {
			next = c->next;
			shared_serve(w, c);
		}
		worker_block(w, role->before_wait);
	}
}
