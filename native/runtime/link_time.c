/* SPDX-License-Identifier: Apache-2.0
 *
 * No call waits for ever: a service that is stopped, or out of reach, says nothing at all.  A timer of the process counts
 * ticks, a few in the time that a call may wait, so that calls themselves read no clock and set no option.  Loops look for
 * late calls when they wake up, which they do at every tick.  A thread that blocks is woken by the timer, which shuts
 * the connection down that it blocks on.
 */
#include "link.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>

#define TICKS 4 /* in options.patience */
#define FREE (-1)
#define BUSY (-2) /* the timer shuts it down now */
#define SHUT (-3)

static _Atomic uint32_t ticks;
static _Atomic(struct link_pool *) pools;
static atomic_flag started = ATOMIC_FLAG_INIT;

static void tick(int number)
{
	const struct timeval soon = {.tv_usec = 1000};
	int error = errno;
	uint32_t now = ++ticks;

	(void)number;
	for (struct link_pool *p = pools; p; p = p->next) {
		int fd = p->held;

		if (fd >= 0 && now - p->held_since > TICKS && atomic_compare_exchange_strong(&p->held, &fd, BUSY)) {
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon)); /* a connect begins anew after this signal */
			shutdown(fd, SHUT_RDWR);
			p->held = SHUT;
		}
	}
	errno = error;
}

void link_time_start(struct link_pool *pool)
{
	pool->held = FREE;
	pool->seen = ticks;
	pool->next = pools;
	while (!atomic_compare_exchange_weak(&pools, &pool->next, pool))
		;
	link_time_begin();
}

void link_time_begin(void)
{
	struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
	uint64_t us = (uint64_t)options.patience * 1000000u / TICKS;
	struct itimerval timer;

	if (!us || atomic_flag_test_and_set(&started))
		return;
	timer.it_interval = timer.it_value = (struct timeval){(time_t)(us / 1000000u), (suseconds_t)(us % 1000000u)};
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

void link_time_forked(void)
{
	atomic_flag_clear(&started);
}

int links_timeout(int timeout_ms)
{
	uint64_t ms = (uint64_t)options.patience * 1000u / TICKS;

	return ms && (timeout_ms < 0 || (uint64_t)timeout_ms > ms) ? (int)ms : timeout_ms;
}

uint32_t link_time_now(void)
{
	return ticks;
}

int link_is_late(const struct link *l, uint32_t now)
{
	return now - l->since > TICKS;
}

void link_late(struct link *l)
{
	if (!l->waits || !link_is_late(l, ticks))
		return;
	l->waits = 0;
	l->failed = 1;
	l->pending = 0;
	conn_resume(l->owner);
}

void links_late(struct worker *w)
{
	struct link_pool *pool = w->links;

	if (pool->seen == ticks)
		return;
	pool->seen = ticks;
	for (struct link *l = pool->all; l; l = l->next_all)
		if (l->owner)
			link_late(l);
}

void link_block(struct link *l)
{
	struct link_pool *pool = l->worker->links;

	pool->held_since = ticks;
	pool->held = l->source.fd;
}

void link_unblock(struct link *l)
{
	struct link_pool *pool = l->worker->links;
	int fd = l->source.fd;

	if (pool->held == FREE)
		return;
	while (!atomic_compare_exchange_strong(&pool->held, &fd, FREE)) {
		if (fd == SHUT) {
			pool->held = FREE;
			return;
		}
		fd = l->source.fd; /* the timer has it, in another thread, for one call */
	}
}
