/* SPDX-License-Identifier: Apache-2.0
 *
 * The connections to other services that a thread has: those that are idle, a further one, their end.
 */
#include "link.h"
#include "shared.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_RECEIVE (1u << 20)

struct link_pool *link_pool_of(struct worker *w)
{
	struct link_pool *pool = w->links;
	uint32_t size = 4096;

	if (pool)
		return pool;
	for (unsigned i = 0; i < ditto_service.downstreams; i++) {
		const struct ditto_downstream *to = &ditto_service.downstream[i];

		size = to->recv.bytes > size ? to->recv.bytes : size;
		for (unsigned k = 0; k < to->furthers; k++)
			size = to->further[k].bytes > size ? to->further[k].bytes : size;
	}
	if (size > LARGEST_RECEIVE)
		size = LARGEST_RECEIVE;
	pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pool->size = size;
	pool->buffer = malloc(size);
	if (!pool->buffer) {
		free(pool);
		return NULL;
	}
	link_time_start(pool);
	return w->links = pool;
}

/* What other links and threads know it by stays as it is. */
void link_new(struct link *l, unsigned downstream)
{
	free(l->numbered);
	l->numbered = NULL;
	memset(&l->request, 0, offsetof(struct link, next_all) - offsetof(struct link, request));
	memset(&l->frame, 0, sizeof(l->frame));
	l->source.fd = l->source.place = -1;
	l->source.type = SOURCE_LINK;
	l->source.events = 0;
	l->source.out_due = 0;
	l->to = &ditto_service.downstream[downstream];
	l->setting_up = 1;
}

struct link *link_make(struct worker *w, unsigned downstream, struct conn *owner)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	link_new(l, downstream);
	l->worker = w;
	l->owner = owner;
	return l;
}

struct link *link_take(struct worker *w, unsigned downstream, struct conn *owner)
{
	struct link_pool *pool = link_pool_of(w);
	struct link *l;

	if (!pool)
		return NULL;
	if (w->shared)
		return shared_link_take(w, downstream, owner);
	l = pool->idle[downstream];
	if (l) {
		pool->idle[downstream] = l->next;
		l->owner = owner;
		return l;
	}
	l = link_make(w, downstream, owner);
	if (!l)
		return NULL;
	l->next_all = pool->all;
	if (pool->all)
		pool->all->prev_all = l;
	pool->all = l;
	return l;
}

void link_idle(struct link *l)
{
	struct link **list = &l->worker->links->idle[l->to - ditto_service.downstream];

	if (l->worker->shared) {
		shared_link_rests(l);
		return;
	}
	l->owner = NULL;
	l->waits = 0;
	l->next = *list;
	*list = l;
}

void link_close(struct link *l)
{
	struct link_pool *pool = l->worker->links;

	if (l->source.fd >= 0) {
		if (l->watched && l->worker->waiter && l->worker->waiter->keeps)
			link_unwatch(l);
		syscall(SYS_close, l->source.fd);
	}
	if (l->worker->shared) {
		shared_link_closed(l);
		return;
	}
	l->source.fd = -1;
	l->owner = NULL;
	l->next = pool->dead;
	pool->dead = l;
	if (!l->worker->waiter)
		links_free_dead(l->worker); /* no wait set can still report it */
}

void links_free_dead(struct worker *w)
{
	struct link *l;

	while ((l = w->links->dead)) {
		w->links->dead = l->next;
		if (l->prev_all)
			l->prev_all->next_all = l->next_all;
		else
			w->links->all = l->next_all;
		if (l->next_all)
			l->next_all->prev_all = l->prev_all;
		free(l->numbered);
		free(l);
	}
}
