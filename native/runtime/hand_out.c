/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that share their connections: what is reported goes to the queue of those that are ready.
 */
#include "link.h"
#include "message.h"
#include "shared.h"

int shared_timeout(const struct worker *w)
{
	return w->shared->links ? links_timeout(w->role->timeout_ms) : w->role->timeout_ms;
}

/* No more reports on a connection until it is asked for again.  What it is asked for is its server's to know: that one may
 * be asking at this moment, so it is not noted down here. */
static void mute(struct worker *w, struct source *source)
{
	struct epoll_event event = {.events = 0, .data.ptr = source};

	syscall(SYS_epoll_ctl, w->wait_fd, EPOLL_CTL_MOD, source->fd, &event);
	shared_signal(w);
}

/* To the queue.  Only a dispatcher has to wake who serves: another thread serves itself, as soon as it has handed out. */
static void hand_on(struct worker *w, struct conn *c)
{
	struct shared *s = w->shared;

	if (w->role->kind == DITTO_ROLE_DISPATCH) {
		shared_queue(w, c);
		return;
	}
	hold(s);
	shared_append(s, c);
	release(s);
}

/* Hands out reports: to the queue, and the listener's to the caller.  Whether the listener is among them. */
int shared_hand_out(struct worker *w, int n)
{
	struct shared *s = w->shared;
	int unwatch = w->role->unwatches;
	int listener = 0;

	for (int i = 0; i < n; i++) {
		struct source *source = w->ready[i].data.ptr;
		struct conn *c = (struct conn *)source;

		if (source->type == SOURCE_LINK) {
			c = shared_link_reported(w, (struct link *)source, w->ready[i].events);
			if (c)
				hand_on(w, c);
			continue;
		}
		if (source->type != SOURCE_CONN) {
			if (source->type == SOURCE_INBOX)
				message_ready(w);
			else
				listener = 1;
			continue;
		}
		if (unwatch) {
			wait_epoll.remove(w, source);
			c->unwatched = 1;
			shared_signal(w);
		} else if (s->mutes) {
			mute(w, source);
		}
		if (shared_mark(c, w->ready[i].events))
			hand_on(w, c);
	}
	for (struct conn *late = shared_links_late(w); late;) {
		struct conn *c = late;

		late = c->next;
		hand_on(w, c);
	}
	return listener;
}
