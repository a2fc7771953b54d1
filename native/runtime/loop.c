/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop: wait, handle every event, then what was deferred, then timers.
 */
#include "link.h"
#include "message.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>

#define ACCEPTS_PER_WAKE 1000 /* so that a flood of connections does not starve those there are */

/* Of the threads that wait for one listener, the kernel wakes the one that was added last: each moves itself now and
 * then behind the others. */
static void count_accept(struct worker *w)
{
	if (!w->role->relisten || ++w->accepts < w->role->relisten)
		return;
	w->accepts = 0;
	w->waiter->remove(w, &w->listener);
	if (w->waiter->add(w, &w->listener, w->role->listen_events))
		fail("listener in the wait set");
}

void accept_ready(struct worker *w)
{
	int once = !ditto_service.listener.accept_until_again || !ditto_service.listener.nonblocking;

	for (unsigned n = 0; n < ACCEPTS_PER_WAKE; n++) {
		int fd = worker_accept(w, w->listener.fd);

		if (fd < 0)
			return;
		worker_accepted(w, fd);
		count_accept(w);
		if (once)
			return;
	}
}

/* Adopts one connection, or what there is, for each wake-up the acceptor wrote. */
static void notified(struct worker *w)
{
	uint64_t count;
	int fd;

	if (w->role->passage.bytes) {
		passage_ready(w);
		return;
	}
	if (w->role->notify_nr == SYS_pipe2 || w->role->notify_nr == SYS_pipe)
		syscall(SYS_read, w->notify.fd, &count, 1);
	else
		syscall(SYS_read, w->notify.fd, &count, sizeof(count));
	while ((fd = queue_take(w->queue)) >= 0)
		worker_adopt(w, fd);
}

static void run_deferred(struct worker *w)
{
	while (w->deferred) {
		struct conn *c = w->deferred;

		w->deferred = c->next;
		if (!w->deferred)
			w->deferred_tail = &w->deferred;
		conn_after(c);
	}
}

static void run_batch(struct worker *w)
{
	worker_program(w, NULL, &w->role->each_batch);
	w->batched = w->batch_bytes = 0;
}

/* What was deferred before the wait, but for what waits for more rounds.  Requests taken up meanwhile are for the next. */
static void run_late(struct worker *w)
{
	struct conn *c = w->deferred, *next;

	w->deferred = NULL;
	w->deferred_tail = &w->deferred;
	for (; c; c = next) {
		next = c->next;
		if (c->rounds > 1 && !c->dead) {
			c->rounds--;
			c->next = NULL;
			*w->deferred_tail = c;
			w->deferred_tail = &c->next;
			continue;
		}
		conn_after(c);
	}
}

const struct waiter *waiter_for(unsigned wait)
{
	return wait == DITTO_WAIT_POLL ? &wait_poll : wait == DITTO_WAIT_SELECT ? &wait_select : &wait_epoll;
}

void loop_main(struct worker *w)
{
	const struct ditto_role *role = w->role;
	int timeout = role->timeout_ms;

	w->waiter = waiter_for(role->wait);
	w->ready = calloc(role->max_events ? role->max_events : 1, sizeof(*w->ready));
	w->deferred_tail = &w->deferred;
	if (!w->ready || w->waiter->open(w) < 0)
		fail("wait set");
	if (w->listener.fd >= 0 && w->waiter->add(w, &w->listener, role->listen_events ? role->listen_events : EPOLLIN))
		fail("listener in the wait set");
	if (w->notify.fd >= 0 && w->waiter->add(w, &w->notify, EPOLLIN))
		fail("wake-up descriptor in the wait set");
	if (message_source(w) && w->waiter->add(w, message_source(w), EPOLLIN))
		fail("descriptor of messages in the wait set");
	timers_start(w);
	for (;;) {
		int n;

		if (w->due)
			timeout = timers_timeout(w);
		n = w->waiter->wait(w, w->deferred || w->yielded ? 0 : w->links ? links_timeout(timeout) : timeout);
		if (n < 0 && errno != EINTR)
			fail("waiting for events");
		w->wakes++;
		if (role->each_wake.n)
			worker_program(w, NULL, &role->each_wake);
		worker_block(w, role->on_wake);
		if (w->deferred)
			run_late(w);
		if (w->yielded)
			message_yielded(w);
		for (int i = 0; i < n; i++) {
			struct source *s = w->ready[i].data.ptr;

			if (s->type == SOURCE_CONN)
				conn_events((struct conn *)s, w->ready[i].events);
			else if (s->type == SOURCE_LINK)
				link_events((struct link *)s, w->ready[i].events);
			else if (s->type == SOURCE_NOTIFY)
				notified(w);
			else if (s->type == SOURCE_INBOX)
				message_ready(w);
			else if (s->type == SOURCE_TIMER)
				timers_tick(w, s);
			else if (ditto_service.listener.datagrams)
				datagram_ready(w);
			else
				accept_ready(w);
		}
		if (w->batched)
			run_batch(w);
		if (w->deferred && !role->deferred_late)
			run_deferred(w);
		timers_run(w);
		if (w->links)
			links_late(w);
		if (w->dead)
			conn_free_dead(w);
		if (w->links)
			links_free_dead(w);
		worker_block(w, role->before_wait);
		if (role->each_wait.n)
			worker_program(w, NULL, &role->each_wait);
	}
}
