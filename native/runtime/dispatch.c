/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread that waits for the events of connections which others serve.
 */
#include "message.h"
#include "worker.h"

#include <errno.h>

/* Accepts, for threads that wait for the events of all connections themselves. */
static void accept_for_crowd(struct worker *w)
{
	for (;;) {
		serve_listen_wait(w);
		worker_block(w, w->role->on_wake);
		accept_ready(w);
		shared_bury(w);
	}
}

/* Waits for events on all connections and gives each to a thread that serves; accepts as well. */
void dispatch_main(struct worker *w)
{
	const struct ditto_role *role = w->role;

	if (role->crowd)
		accept_for_crowd(w);
	if (w->listener.fd >= 0 && wait_epoll.add(w, &w->listener, role->listen_events ? role->listen_events : EPOLLIN))
		fail("listener in the wait set");
	if (message_source(w) && wait_epoll.add(w, message_source(w), EPOLLIN))
		fail("descriptor of messages in the wait set");
	for (;;) {
		int n;

		shared_dig(w);
		n = w->waiter->wait(w, shared_timeout(w));
		if (n < 0 && errno != EINTR)
			fail("waiting for events");
		w->wakes++;
		worker_block(w, role->on_wake);
		if (shared_hand_out(w, n)) {
			accept_ready(w);
			shared_bury(w);
		}
		worker_block(w, role->before_wait);
		if (role->each_wait.n)
			worker_program(w, NULL, &role->each_wait);
	}
}
