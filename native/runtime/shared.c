/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that share their connections: one wait set, a queue of the connections that are ready, and whichever thread
 * is free serves the next one.  Where the threads wait for events themselves, one of them does at a time, and the
 * others are parked until there is more than one thing to do, or all of them do (crowd.c); else a dispatcher waits for
 * all of them.
 */
#include "shared.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

struct shared *shared_new(const struct ditto_role *role)
{
	struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->role = role;
	s->tail = &s->head;
	s->wait_fd = (int)syscall(SYS_epoll_create1, 0);
	if (s->wait_fd < 0)
		return NULL;
	return s;
}

void shared_join(struct shared *s, struct worker *w)
{
	w->shared = s;
	w->wait_fd = s->wait_fd;
	w->waiter = &wait_epoll;
	w->deferred_tail = &w->deferred;
	w->ready = calloc(w->role->max_events ? w->role->max_events : 1, sizeof(*w->ready));
	if (!w->ready)
		fail("wait set");
	s->mutes |= w->role->mutes;
	if (w->role->kind == DITTO_ROLE_SHARED) {
		s->running++;
		if (!s->first)
			s->first = w;
	}
}

static void futex(_Atomic uint32_t *word, int how, uint32_t value)
{
	syscall(SYS_futex, word, how, value, NULL, NULL, 0);
}

/* Takes a parked thread out, to be woken; NULL if none is or enough run.  The lock is held. */
static struct worker *rouse(struct shared *s)
{
	struct worker *w = s->idle;

	if (!w || (s->role->running && s->running >= s->role->running))
		return NULL;
	s->idle = w->next_idle;
	s->running++;
	s->waking++;
	return w;
}

static void wake(struct worker *w)
{
	if (!w)
		return;
	atomic_store(&w->parked, 0);
	futex(&w->parked, FUTEX_WAKE_PRIVATE, 1);
}

void shared_signal(struct worker *w)
{
	static _Atomic uint32_t nobody;
	uint32_t n = w->role->wakes ? (w->role->wakes + (rng_u32(&w->rng) >> 16)) >> 16 : 0;

	while (n--)
		futex(&nobody, FUTEX_WAKE_PRIVATE, 1);
}

/* A connection that is ready, and one more thread where there is more to do. */
static struct conn *take(struct worker *w, int *woken)
{
	struct shared *s = w->shared;
	struct worker *other = NULL;
	struct conn *c;

	hold(s);
	if (*woken)
		s->waking--;
	*woken = 0;
	c = s->head;
	if (c) {
		s->head = c->next;
		if (!s->head)
			s->tail = &s->head;
		else if (!s->waking)
			other = rouse(s);
	}
	release(s);
	wake(other);
	return c;
}

void shared_queue(struct worker *from, struct conn *c)
{
	struct shared *s = from->shared;
	struct worker *other;

	hold(s);
	shared_append(s, c);
	other = rouse(s);
	release(s);
	wake(other);
}

void shared_bury(struct worker *w)
{
	struct shared *s = w->shared;
	struct conn *c;

	hold(s);
	while (w->dead) {
		c = w->dead;
		w->dead = c->next_dead;
		c->next_dead = s->graves;
		s->graves = c;
	}
	release(s);
}

/* Before a wait: no other thread has reports that it has not handed out, so nothing names the closed connections. */
void shared_dig(struct worker *w)
{
	struct shared *s = w->shared;
	struct conn *c;

	hold(s);
	c = s->graves;
	s->graves = NULL;
	release(s);
	while (c) {
		struct conn *next = c->next_dead;

		conn_free(w, c);
		c = next;
	}
}

void shared_yield(struct worker *w, struct conn *c)
{
	uint32_t busy = BUSY;

	if (w->shared->role->crowd)
		crowd_yield(w, c);
	else if (!atomic_compare_exchange_strong(&c->pending, &busy, 0))
		shared_queue(w, c);
}

/* Whether a connection is reported only once before it is asked for again. */
static int asked_anew(const struct worker *w, const struct conn *c)
{
	return w->shared->mutes || (c->idle_events & EPOLLONESHOT);
}

/* How long a thread waits at most for the next request of the connection that it has. */
#define LINGER_MS 200

/* A connection that its dispatcher took out of the wait set stays there for as long as its thread waits for the next
 * request itself.  Whether one came; the connection is watched again otherwise. */
static int lingers(struct worker *w, struct conn *c)
{
	int waits = !c->blocked && !c->armed && !c->backlog && (rng_u32(&w->rng) >> 16) < w->role->lingers;

	if (waits && poll_by(w->role->asks_nr, c->source.fd, POLLIN, LINGER_MS) == 0)
		return 1;
	if (w->waiter->add(w, &c->source, c->blocked == BLOCKED_OUT ? c->idle_events | EPOLLOUT : c->idle_events))
		conn_close(c);
	return 0;
}

void shared_serve(struct worker *w, struct conn *c)
{
	int dispatched = !w->role->polls, keeps = 0, next = 0;

	c->worker = w;
	c->out.pool = &w->pool;
	if (c->links)
		shared_links_adopt(w, c);
	w->wakes++;
	for (;;) {
		uint32_t busy = BUSY, events = atomic_fetch_and(&c->pending, BUSY) & ~BUSY;

		if (events & LINK_REPORTED) {
			shared_links_serve(c);
			events &= ~(uint32_t)LINK_REPORTED;
		}
		if (events && asked_anew(w, c))
			c->source.events = 0;
		if (c->fresh) {
			c->fresh = 0;
			worker_adopted(w, c);
			events |= EPOLLIN;
		}
		if (!next)
			keeps = w->role->lingers && c->unwatched;
		if (keeps)
			c->unwatched = 0; /* or it would be watched again with the reply */
		if (next)
			events |= EPOLLIN;
		else if (w->role->asks_nr && (events & EPOLLIN))
			poll_by(w->role->asks_nr, c->source.fd, POLLIN, 0);
		conn_events(c, events);
		while (w->deferred) {
			w->deferred = NULL;
			w->deferred_tail = &w->deferred;
			conn_after(c);
		}
		next = keeps && !c->dead && lingers(w, c);
		if (next)
			continue;
		if (c->dead) {
			shared_bury(w);
			break;
		}
		if (asked_anew(w, c))
			crowd_rearm(w, c);
		if (atomic_compare_exchange_strong(&c->pending, &busy, 0))
			break;
		if (dispatched) {
			shared_queue(w, c);
			break;
		}
	}
}

/* One round of waiting for events, by the one thread that may; at first without blocking where the original does. */
static void poll_events(struct worker *w)
{
	struct shared *s = w->shared;
	const struct waiter *waiter = w->waiter;
	int n = 0, listener;

	worker_block(w, w->role->before_wait);
	shared_dig(w);
	if (w->role->polls_first)
		n = waiter->wait(w, 0);
	if (n == 0) {
		hold(s);
		s->running--;
		release(s);
		n = waiter->wait(w, shared_timeout(w));
		hold(s);
		s->running++;
		release(s);
	}
	if (n < 0 && errno != EINTR)
		fail("waiting for events");
	worker_block(w, w->role->on_wake);
	listener = shared_hand_out(w, n);
	hold(s);
	s->polling = 0;
	release(s);
	if (listener) {
		accept_ready(w);
		shared_bury(w);
		if (w->role->listen_events & EPOLLONESHOT)
			waiter->modify(w, &s->first->listener, w->role->listen_events);
	}
}

static void park(struct worker *w)
{
	while (atomic_load(&w->parked))
		futex(&w->parked, FUTEX_WAIT_PRIVATE, 1);
}

void shared_main(struct worker *w)
{
	struct shared *s = w->shared;
	int woken = 0;

	if (w == s->first && w->listener.fd >= 0 && wait_epoll.add(w, &w->listener, w->role->listen_events))
		fail("listener in the wait set");
	if (w->role->crowd)
		crowd_main(w);
	for (;;) {
		struct conn *c = take(w, &woken);

		if (c) {
			shared_serve(w, c);
			continue;
		}
		hold(s);
		if (s->head) {
			release(s);
			continue;
		}
		if (w->role->polls && !s->polling) {
			s->polling = 1;
			release(s);
			poll_events(w);
			continue;
		}
		s->running--;
		atomic_store(&w->parked, 1);
		w->next_idle = s->idle;
		s->idle = w;
		release(s);
		park(w);
		shared_signal(w);
		worker_block(w, w->role->on_unpark);
		woken = 1;
	}
}
