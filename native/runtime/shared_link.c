/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections to other services of threads that share their connections: whoever serves a request takes one that rests,
 * whoever made it, and a report on one is a report on the connection whose request has it.
 *
 * A thread may still hold a report on one that another has closed, so their memory is never given back: the next one gets
 * it, and takes such a report for one of its own that finds nothing.
 */
#include "link.h"
#include "shared.h"

#include <stdlib.h>

#define LATE EPOLLWAKEUP /* no report has it */

struct link *shared_link_take(struct worker *w, unsigned downstream, struct conn *owner)
{
	struct shared *s = w->shared;
	struct link *l;

	hold(s);
	l = s->resting[downstream];
	if (l)
		s->resting[downstream] = l->next;
	else if ((l = s->spare))
		s->spare = l->next;
	if (l) {
		if (l->source.fd < 0)
			link_new(l, downstream);
		l->rests = 0;
		l->worker = w;
		l->owner = owner;
		atomic_store(&l->reported, 0);
	}
	release(s);
	if (l)
		return l;
	l = link_make(w, downstream, owner);
	if (!l)
		return NULL;
	hold(s);
	l->next_all = s->links;
	s->links = l;
	release(s);
	return l;
}

void shared_link_rests(struct link *l)
{
	struct shared *s = l->worker->shared;
	struct link **list = &s->resting[l->to - ditto_service.downstream];
	uint32_t ended = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

	if ((atomic_load(&l->reported) & ended) && link_unasked(l)) {
		link_close(l); /* it was reported while it was in use, and will not be again */
		return;
	}
	hold(s);
	l->owner = NULL;
	l->waits = 0;
	l->rests = 1;
	l->next = *list;
	*list = l;
	release(s);
}

void shared_link_closed(struct link *l)
{
	struct shared *s = l->worker->shared;

	hold(s);
	l->source.fd = -1;
	l->owner = NULL;
	l->waits = 0;
	l->next = s->spare;
	s->spare = l;
	release(s);
}

/* One that rests says something, or ends. */
static void unasked(struct worker *w, struct link *l)
{
	l->worker = w;
	if (link_unasked(l))
		link_close(l);
	else
		shared_link_rests(l);
}

struct conn *shared_link_reported(struct worker *w, struct link *l, uint32_t events)
{
	struct shared *s = w->shared;
	struct link **at;
	struct conn *c;
	int mine = 0;

	if (!link_pool_of(w))
		return NULL;
	hold(s);
	c = l->owner;
	if (c) {
		atomic_fetch_or(&l->reported, events);
	} else if (l->rests && (events & ~(uint32_t)EPOLLOUT)) {
		for (at = &s->resting[l->to - ditto_service.downstream]; *at != l; at = &(*at)->next)
			;
		*at = l->next;
		l->rests = 0;
		mine = 1;
	}
	release(s);
	if (mine)
		unasked(w, l);
	return c && shared_mark(c, LINK_REPORTED) ? c : NULL;
}

void shared_links_adopt(struct worker *w, struct conn *c)
{
	if (!link_pool_of(w))
		return;
	for (unsigned i = 0; i < DITTO_LINKS; i++)
		if (c->links->slot[i])
			c->links->slot[i]->worker = w;
}

void shared_links_serve(struct conn *c)
{
	for (unsigned i = 0; i < DITTO_LINKS && !c->dead && c->links; i++) {
		struct link *l = c->links->slot[i];
		uint32_t events = l ? atomic_exchange(&l->reported, 0) : 0;

		if (events & LATE)
			link_late(l);
		else if (events)
			link_events(l, events);
	}
}

struct conn *shared_links_late(struct worker *w)
{
	struct shared *s = w->shared;
	struct conn *found = NULL;
	uint32_t now = link_time_now();

	if (!s->links || s->links_seen == now)
		return NULL;
	hold(s);
	s->links_seen = now;
	for (struct link *l = s->links; l; l = l->next_all) {
		struct conn *c = l->owner;

		if (!c || !__atomic_load_n(&l->waits, __ATOMIC_RELAXED) || !link_is_late(l, now))
			continue;
		atomic_fetch_or(&l->reported, LATE);
		if (!shared_mark(c, LINK_REPORTED))
			continue;
		c->next = found;
		found = c;
	}
	release(s);
	return found;
}
