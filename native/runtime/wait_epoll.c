/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

static int set_open(struct worker *w)
{
	w->wait_fd = (int)syscall(SYS_epoll_create1, 0);
	return w->wait_fd;
}

static int change(struct worker *w, int how, struct source *s, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};

	s->events = events;
	s->out_due = (events & EPOLLOUT) != 0;
	return (int)syscall(SYS_epoll_ctl, w->wait_fd, how, s->fd, &event);
}

static int set_add(struct worker *w, struct source *s, uint32_t events)
{
	return change(w, EPOLL_CTL_ADD, s, events);
}

static int set_modify(struct worker *w, struct source *s, uint32_t events)
{
	return change(w, EPOLL_CTL_MOD, s, events);
}

static void set_remove(struct worker *w, struct source *s)
{
	change(w, EPOLL_CTL_DEL, s, 0);
}

static int set_wait(struct worker *w, int timeout_ms)
{
	if (w->role->wait == DITTO_WAIT_EPOLL_PWAIT)
		return (int)syscall(SYS_epoll_pwait, w->wait_fd, w->ready, w->role->max_events, timeout_ms, NULL, 8);
	return (int)syscall(SYS_epoll_wait, w->wait_fd, w->ready, w->role->max_events, timeout_ms);
}

const struct waiter wait_epoll = {
	.open = set_open, .add = set_add, .modify = set_modify, .remove = set_remove, .wait = set_wait, .keeps = 0,
};
