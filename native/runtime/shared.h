/* SPDX-License-Identifier: Apache-2.0
 *
 * What threads that share connections have in common: between shared.c and crowd.c.
 */
#ifndef DITTO_SHARED_H
#define DITTO_SHARED_H

#include "worker.h"

#define LINK_REPORTED EPOLLONESHOT /* in conn.pending: of one of its links something is reported */
#define BUSY 0x80000000u /* in conn.pending: queued or being served (no event of epoll has this bit but EPOLLET) */

_Static_assert(EPOLLET == BUSY, "a report never holds it");

struct shared {
	int wait_fd;
	const struct ditto_role *role;
	struct worker *first;      /* its listener is the one in the wait set */
	atomic_flag lock;          /* held for a few instructions, over what follows */
	struct conn *head, **tail; /* ready connections */
	struct conn *graves;       /* closed ones: freed when no report can name them any more */
	struct worker *idle;       /* parked threads, the last parked first */
	unsigned running;          /* threads neither parked nor waiting for events */
	unsigned waking;           /* woken, and have not looked at the queue yet */
	struct link *resting[DITTO_DOWNSTREAMS], *spare, *links; /* shared_link.c: idle, closed, and all */
	uint32_t links_seen;       /* tick at which late calls were looked for */
	int mutes;                 /* its dispatcher asks for nothing of a connection with each report */
	int polling;               /* some thread waits for events, or hands out what it got */
};

static inline void hold(struct shared *s)
{
	while (atomic_flag_test_and_set_explicit(&s->lock, memory_order_acquire))
		__builtin_ia32_pause();
}

static inline void release(struct shared *s)
{
	atomic_flag_clear_explicit(&s->lock, memory_order_release);
}

/* Marks a report on a connection; whether it has to be queued.  Its own thread sees the mark otherwise. */
static inline int shared_mark(struct conn *c, uint32_t events)
{
	return !(atomic_fetch_or(&c->pending, events | BUSY) & BUSY);
}

/* To the queue; the lock is held. */
static inline void shared_append(struct shared *s, struct conn *c)
{
	c->next = NULL;
	*s->tail = c;
	s->tail = &c->next;
}

void shared_serve(struct worker *w, struct conn *c); /* as long as there are reports on it */

/* shared_link.c */
struct link *shared_link_take(struct worker *w, unsigned downstream, struct conn *owner);
void shared_link_rests(struct link *l);
void shared_link_closed(struct link *l); /* its descriptor is */
struct conn *shared_link_reported(struct worker *w, struct link *l, uint32_t events); /* the one to be served now, or NULL */
void shared_links_adopt(struct worker *w, struct conn *c); /* before a thread serves it */
void shared_links_serve(struct conn *c);                   /* what was reported of its links */
struct conn *shared_links_late(struct worker *w);          /* those to be served because a call is late, by next */

/* crowd.c */
void crowd_main(struct worker *w) __attribute__((noreturn));
void crowd_yield(struct worker *w, struct conn *c);
void crowd_rearm(struct worker *w, struct conn *c);

#endif
