/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <poll.h>
#include <stdlib.h>

struct poll_set {
	uint32_t n, capacity, next; /* next: where the report of ready descriptors goes on */
	struct pollfd *fd;
	struct source **source;
};

static int set_open(struct worker *w)
{
	w->wait_state = calloc(1, sizeof(struct poll_set));
	return w->wait_state ? 0 : -1;
}

static int set_add(struct worker *w, struct source *s, uint32_t events)
{
	struct poll_set *set = w->wait_state;

	if (set->n == set->capacity) {
		uint32_t capacity = set->capacity ? set->capacity * 2 : 64;
		struct pollfd *fd = realloc(set->fd, capacity * sizeof(*fd));
		struct source **source;

		if (!fd)
			return -1;
		set->fd = fd;
		source = realloc(set->source, capacity * sizeof(*source));
		if (!source)
			return -1;
		set->source = source;
		set->capacity = capacity;
	}
	s->place = (int)set->n;
	s->events = events;
	set->fd[set->n] = (struct pollfd){.fd = s->fd, .events = (short)(events & 0xffff)};
	set->source[set->n++] = s;
	return 0;
}

static int set_modify(struct worker *w, struct source *s, uint32_t events)
{
	struct poll_set *set = w->wait_state;

	s->events = events;
	set->fd[s->place].events = (short)(events & 0xffff);
	return 0;
}

static void set_remove(struct worker *w, struct source *s)
{
	struct poll_set *set = w->wait_state;

	if (s->place < 0)
		return;
	set->n--;
	set->fd[s->place] = set->fd[set->n];
	set->source[s->place] = set->source[set->n];
	set->source[s->place]->place = s->place;
	s->place = -1;
}

/* POLLIN, POLLOUT, POLLERR, POLLHUP and POLLRDHUP are the same bits as epoll's. */
static int set_wait(struct worker *w, int timeout_ms)
{
	struct poll_set *set = w->wait_state;
	struct timespec limit = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
	int left, n = 0;

	if (w->role->wait_nr == SYS_ppoll)
		left = (int)syscall(SYS_ppoll, set->fd, set->n, timeout_ms < 0 ? NULL : &limit, NULL, 0);
	else
		left = (int)syscall(SYS_poll, set->fd, set->n, timeout_ms);
	if (left <= 0)
		return left;
	if (set->next >= set->n)
		set->next = 0;
	for (uint32_t tried = 0, i = set->next; tried < set->n && left > 0; tried++) {
		if (set->fd[i].revents) {
			left--;
			w->ready[n].events = (uint32_t)(uint16_t)set->fd[i].revents;
			w->ready[n].data.ptr = set->source[i];
			set->next = i + 1; /* what does not fit is first next time */
			if (++n == w->role->max_events)
				break;
		}
		i = i + 1 == set->n ? 0 : i + 1;
	}
	if (left == 0)
		set->next = 0;
	return n;
}

const struct waiter wait_poll = {
	.open = set_open, .add = set_add, .modify = set_modify, .remove = set_remove, .wait = set_wait, .keeps = 1,
};
