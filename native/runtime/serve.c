/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that block: one connection at a time, a period, or nothing to do.
 */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/wait.h>
#include <time.h>

int wait_descriptor(int descriptor, short events, int timeout_ms)
{
	struct pollfd fd = {.fd = descriptor, .events = events};
	long n;

	do
		n = syscall(SYS_poll, &fd, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -1 : n == 0;
}

int poll_by(uint16_t nr, int descriptor, short events, int timeout_ms)
{
	struct pollfd fd = {.fd = descriptor, .events = events};
	struct timespec time = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};

	if (nr != SYS_ppoll)
		return wait_descriptor(descriptor, events, timeout_ms);
	return syscall(SYS_ppoll, &fd, 1, &time, NULL, 0) > 0 ? 0 : 1;
}

/* Until a connection can be read from, by the call that the original makes. */
static int wait_readable(int descriptor, uint16_t nr)
{
	const int selects = (nr == SYS_select || nr == SYS_pselect6) && descriptor < FD_SETSIZE;
	struct pollfd fd = {.fd = descriptor, .events = POLLIN};
	fd_set set;
	long n;

	if (!selects && nr != SYS_ppoll)
		return wait_descriptor(descriptor, POLLIN, -1);
	do {
		if (selects) {
			FD_ZERO(&set);
			FD_SET(descriptor, &set);
			n = syscall(nr, descriptor + 1, &set, NULL, NULL, NULL, NULL);
		} else {
			n = syscall(nr, &fd, 1, NULL, NULL, 0);
		}
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -1 : 0;
}

int serve_wait(struct conn *c, short events)
{
	struct worker *w = c->worker;
	struct epoll_event event;
	int n;

	if (events != POLLIN)
		return wait_descriptor(c->source.fd, events, -1);
	if (w->wait_fd < 0)
		return wait_readable(c->source.fd, w->role->wait_nr);
	do
		n = w->role->wait == DITTO_WAIT_EPOLL_PWAIT ? (int)syscall(SYS_epoll_pwait, w->wait_fd, &event, 1, -1, NULL, 8)
							    : (int)syscall(SYS_epoll_wait, w->wait_fd, &event, 1, -1);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -1 : 0;
}

/* A wait set of the one connection, where the original makes one. */
static void open_set(struct worker *w)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (!w->all || (w->role->wait != DITTO_WAIT_EPOLL && w->role->wait != DITTO_WAIT_EPOLL_PWAIT))
		return;
	w->wait_fd = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (w->wait_fd >= 0)
		syscall(SYS_epoll_ctl, w->wait_fd, EPOLL_CTL_ADD, w->all->source.fd, &event);
}

/* Serves one connection to its end.  A descriptor that does not block after all is waited for with poll. */
void serve_connection(struct worker *w, int fd)
{
	int calls = w->role->wait == DITTO_WAIT_POLL || w->role->wait == DITTO_WAIT_SELECT || w->role->wait == DITTO_WAIT_EPOLL ||
		    w->role->wait == DITTO_WAIT_EPOLL_PWAIT;
	int wait_first = calls && !w->role->receive_first;
	struct conn *c;

	w->deferred_tail = &w->deferred;
	worker_adopt(w, fd);
	open_set(w);
	for (c = w->all; c && !c->dead; c = w->all) {
		int goes_on = c->begun && w->role->waits_once;
		int waits = ((wait_first && !goes_on) || c->drained) && !c->eof;

		c->drained = 0;
		if (waits && serve_wait(c, POLLIN))
			break;
		w->wakes++;
		if (waits && w->role->each_wake.n)
			worker_program(w, NULL, &w->role->each_wake);
		if (waits || !calls)
			worker_block(w, w->role->on_wake);
		conn_events(c, EPOLLIN);
		while (w->deferred) {
			w->deferred = NULL;
			w->deferred_tail = &w->deferred;
			conn_after(c);
		}
		worker_block(w, w->role->before_wait);
	}
	if (w->wait_fd >= 0)
		close(w->wait_fd);
	w->wait_fd = -1;
	conn_free_dead(w);
}

/* An event queue that has the listener and nothing else. */
static void wait_in_queue(struct worker *w)
{
	struct epoll_event event = {.events = w->role->listen_events ? w->role->listen_events : EPOLLIN};
	int queue = w->listen_queue;

	if (!queue) {
		queue = w->listen_queue = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
		if (queue < 0 || syscall(SYS_epoll_ctl, queue, EPOLL_CTL_ADD, w->listener.fd, &event))
			fail("listener in an event queue");
	}
	if (w->role->listen_wait == DITTO_WAIT_EPOLL_PWAIT)
		syscall(SYS_epoll_pwait, queue, &event, 1, -1, NULL, 8);
	else
		syscall(SYS_epoll_wait, queue, &event, 1, -1);
}

/* Until there is a connection to accept, by the role's own primitive; returns at once where that is the accept. */
void serve_listen_wait(struct worker *w)
{
	fd_set set;

	switch (w->role->listen_wait) {
	case DITTO_WAIT_SELECT:
		if (w->listener.fd >= FD_SETSIZE)
			break;
		FD_ZERO(&set);
		FD_SET(w->listener.fd, &set);
		syscall(SYS_pselect6, w->listener.fd + 1, &set, NULL, NULL, NULL, NULL);
		break;
	case DITTO_WAIT_POLL:
		wait_descriptor(w->listener.fd, POLLIN, -1);
		break;
	case DITTO_WAIT_EPOLL:
	case DITTO_WAIT_EPOLL_PWAIT:
		wait_in_queue(w);
		break;
	default:
		break;
	}
}

void accept_serve_main(struct worker *w)
{
	int refused = 0;

	for (;;) {
		int fd;

		if (!w->role->accept_first || refused)
			serve_listen_wait(w);
		worker_program(w, NULL, &w->role->before_accept);
		fd = worker_accept(w, w->listener.fd);
		refused = fd < 0;

		if (fd >= 0) {
			if (w->role->handover == DITTO_HAND_KEEP) {
				if (w->role->on_accept.n) {
					struct conn shell = {.source = {.fd = fd, .place = -1}, .worker = w};

					worker_program(w, &shell, &w->role->on_accept);
				}
				serve_connection(w, fd);
			} else {
				worker_accepted(w, fd);
			}
		} else if (errno == EAGAIN && (w->role->listen_wait == 0 || w->role->listen_wait == DITTO_WAIT_BLOCKING)) {
			wait_descriptor(w->listener.fd, POLLIN, -1);
		}
	}
}

static void sleep_for(uint16_t nr, uint64_t ns, int set)
{
	static uint32_t word;
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
	struct timeval tv = {.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
	struct timespec until;
	struct epoll_event event;
	uint64_t times;
	sigset_t none;
	int ms = ns / 1000000u > 1000000000u ? 1000000000 : (int)((ns + 999999u) / 1000000u);

	switch (nr) {
	case SYS_clock_nanosleep:
		syscall(nr, CLOCK_MONOTONIC, 0, &t, NULL);
		break;
	case SYS_poll:
		syscall(nr, NULL, 0, ms);
		break;
	case SYS_ppoll:
		syscall(nr, NULL, 0, &t, NULL, 8);
		break;
	case SYS_select:
		syscall(nr, 0, NULL, NULL, NULL, &tv);
		break;
	case SYS_pselect6:
		syscall(nr, 0, NULL, NULL, NULL, &t, NULL);
		break;
	case SYS_epoll_wait:
		syscall(nr, set, &event, 1, ms);
		break;
	case SYS_epoll_pwait:
		syscall(nr, set, &event, 1, ms, NULL, 8);
		break;
	case SYS_read: /* of a timerfd */
		syscall(nr, set, &times, sizeof(times));
		break;
	case SYS_futex: /* as pthread_cond_timedwait: until an absolute time */
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += t.tv_sec;
		until.tv_nsec += t.tv_nsec;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		syscall(nr, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
		break;
	case SYS_rt_sigtimedwait:
		sigemptyset(&none);
		syscall(nr, &none, NULL, &t, 8);
		break;
	default:
		syscall(SYS_nanosleep, &t, NULL);
	}
}

void periodic_main(struct worker *w)
{
	const struct ditto_role *role = w->role;
	struct pace pace = {0};
	sigset_t alarm;
	int set = -1;

	if (role->wait_nr == SYS_epoll_wait || role->wait_nr == SYS_epoll_pwait)
		set = (int)syscall(SYS_epoll_create1, EPOLL_CLOEXEC);
	if (!role->timers)
		idle_main(w);
	if (role->wait_nr == SYS_read)
		set = timer_descriptor(role->timer[0].period_ns, 0);
	if (ditto_service.downstreams) { /* ticks of late calls are for threads that call */
		sigemptyset(&alarm);
		sigaddset(&alarm, SIGALRM);
		pthread_sigmask(SIG_BLOCK, &alarm, NULL);
	}
	for (;;) {
		sleep_for(role->wait_nr, timers_pause(w, &pace), set);
		worker_program(w, NULL, &role->timer[0].program);
	}
}

void idle_main(struct worker *w)
{
	static uint32_t word;
	sigset_t none;

	sigemptyset(&none);
	for (;;) {
		switch (w->role->wait_nr) {
		case SYS_futex:
			syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
			break;
		case SYS_rt_sigsuspend:
			syscall(SYS_rt_sigsuspend, &none, 8);
			break;
		case SYS_wait4:
			if (syscall(SYS_wait4, -1, NULL, 0, NULL) < 0 && errno == ECHILD)
				syscall(SYS_pause); /* no child is left to wait for */
			break;
		default:
			syscall(SYS_pause);
		}
	}
}
