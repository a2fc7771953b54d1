/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <stdlib.h>
#include <sys/select.h>
#include <sys/time.h>

struct select_set {
	int top;
	int next; /* where the report of ready descriptors goes on */
	fd_set in, out;
	struct source *source[FD_SETSIZE];
};

static int set_open(struct worker *w)
{
	w->wait_state = calloc(1, sizeof(struct select_set));
	return w->wait_state ? 0 : -1;
}

static int set_modify(struct worker *w, struct source *s, uint32_t events)
{
	struct select_set *set = w->wait_state;

	s->events = events;
	FD_CLR(s->fd, &set->in);
	FD_CLR(s->fd, &set->out);
	if (events & (EPOLLIN | EPOLLRDHUP))
		FD_SET(s->fd, &set->in);
	if (events & EPOLLOUT)
		FD_SET(s->fd, &set->out);
	return 0;
}

static int set_add(struct worker *w, struct source *s, uint32_t events)
{
	struct select_set *set = w->wait_state;

	if (s->fd < 0 || s->fd >= FD_SETSIZE)
		return -1; /* the primitive has no room for it: the connection is refused */
	s->place = s->fd;
	set->source[s->fd] = s;
	if (s->fd > set->top)
		set->top = s->fd;
	return set_modify(w, s, events);
}

static void set_remove(struct worker *w, struct source *s)
{
	struct select_set *set = w->wait_state;

	if (s->place < 0)
		return;
	set_modify(w, s, 0);
	set->source[s->place] = NULL;
	s->place = -1;
	while (set->top > 0 && !set->source[set->top])
		set->top--;
}

static int set_wait(struct worker *w, int timeout_ms)
{
	struct select_set *set = w->wait_state;
	struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	fd_set in = set->in, out = set->out;
	struct timespec exact = {.tv_sec = limit.tv_sec, .tv_nsec = limit.tv_usec * 1000};
	int left, n = 0;

	if (w->role->wait_nr == SYS_pselect6)
		left = (int)syscall(SYS_pselect6, set->top + 1, &in, &out, NULL, timeout_ms < 0 ? NULL : &exact, NULL);
	else
		left = (int)syscall(SYS_select, set->top + 1, &in, &out, NULL, timeout_ms < 0 ? NULL : &limit);
	if (left <= 0)
		return left;
	if (set->next > set->top)
		set->next = 0;
	for (int tried = 0, fd = set->next; tried <= set->top && left > 0; tried++) {
		uint32_t events = 0;

		if (FD_ISSET(fd, &in)) {
			events |= EPOLLIN;
			left--;
		}
		if (FD_ISSET(fd, &out)) {
			events |= EPOLLOUT;
			left--;
		}
		if (events && set->source[fd]) {
			w->ready[n].events = events;
			w->ready[n].data.ptr = set->source[fd];
			set->next = fd + 1;
			if (++n == w->role->max_events)
				break;
		}
		fd = fd == set->top ? 0 : fd + 1;
	}
	return n;
}

const struct waiter wait_select = {
	.open = set_open, .add = set_add, .modify = set_modify, .remove = set_remove, .wait = set_wait, .keeps = 1,
};
