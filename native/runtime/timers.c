/* SPDX-License-Identifier: Apache-2.0
 *
 * Timers of an event loop, of which the next one due bounds the wait, and the sleeps of periodic threads.
 */
#include "runtime.h"

#include <emmintrin.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>

#define LONGEST_NS 1000000000u /* that a periodic thread sleeps because there is nothing to do */

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t); /* the vDSO: no system call */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int timer_descriptor(uint64_t period_ns, int flags)
{
	struct timespec period = {(time_t)(period_ns / 1000000000u), (long)(period_ns % 1000000000u)};
	struct itimerspec every = {.it_interval = period, .it_value = period};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | flags);

	if (fd < 0 || timerfd_settime(fd, 0, &every, NULL))
		fail("timer");
	return fd;
}

static void tick_from_now_on(struct worker *w, unsigned timer)
{
	struct source *s = &w->ticks[timer];
	int fd = timer_descriptor(w->role->timer[timer].period_ns, TFD_NONBLOCK);

	*s = (struct source){.fd = fd, .type = SOURCE_TIMER, .place = -1};
	if (w->waiter->add(w, s, EPOLLIN))
		fail("timer in the wait set");
	w->due[timer] = UINT64_MAX;
}

void timers_tick(struct worker *w, struct source *s)
{
	uint64_t times;

	syscall(SYS_read, s->fd, &times, sizeof(times));
	worker_program(w, NULL, &w->role->timer[s - w->ticks].program);
}

void timers_start(struct worker *w)
{
	const struct ditto_role *role = w->role;
	uint64_t now;

	if (!role->timers)
		return;
	w->due = calloc(role->timers, sizeof(*w->due));
	w->ticks = calloc(role->timers, sizeof(*w->ticks));
	if (!w->due || !w->ticks)
		fail("memory for timers");
	now = now_ns();
	for (unsigned i = 0; i < role->timers; i++) {
		if (role->timer[i].descriptor) {
			tick_from_now_on(w, i);
			continue;
		}
		w->due[i] = role->timer[i].requests ? role->timer[i].requests : now + role->timer[i].period_ns;
	}
}

int timers_timeout(struct worker *w)
{
	const struct ditto_role *role = w->role;
	uint64_t next = UINT64_MAX, now, ms;

	if (!w->due || role->timeout_ms == 0)
		return role->timeout_ms;
	for (unsigned i = 0; i < role->timers; i++)
		if (!role->timer[i].requests && w->due[i] < next)
			next = w->due[i];
	if (next == UINT64_MAX)
		return role->timeout_ms;
	now = now_ns();
	ms = next <= now ? 0 : (next - now + 999999) / 1000000;
	if (role->timeout_ms > 0 && ms > (uint64_t)role->timeout_ms)
		return role->timeout_ms;
	return ms > 1000000000 ? 1000000000 : (int)ms;
}

/* Runs what is due.  The next time counts from now: a program that takes long does not pile up. */
void timers_run(struct worker *w)
{
	const struct ditto_role *role = w->role;
	uint64_t now;

	if (!w->due)
		return;
	now = now_ns();
	for (unsigned i = 0; i < role->timers; i++) {
		const struct ditto_timer *timer = &role->timer[i];

		if (w->due[i] > (timer->requests ? w->served : now))
			continue;
		worker_program(w, NULL, &timer->program);
		w->due[i] = timer->requests ? w->served + timer->requests : now + timer->period_ns;
	}
}

/* x to the power of part / 256, by square roots: clones link no mathematics. */
static double power(double x, unsigned part)
{
	__m128d root = _mm_set_sd(x);
	double result = 1;

	for (unsigned bit = 256; bit; bit >>= 1) {
		if (part & bit)
			result *= _mm_cvtsd_f64(root);
		root = _mm_sqrt_sd(root, root);
	}
	return result;
}

/* The period, or longer where fewer requests come than were observed: of a thread that looks for work, sleeps longer when
 * it found little, and never shorter than under the observed load. */
uint64_t timers_pause(const struct worker *w, struct pace *pace)
{
	const struct ditto_timer *timer = w->role->timer;
	const struct process *p = w->process;
	uint64_t longest = timer->period_ns > LONGEST_NS ? timer->period_ns : LONGEST_NS, served = 0;
	double wanted = timer->requests, came;

	if (!timer->requests)
		return timer->period_ns;
	for (unsigned i = 0; i < p->workers; i++)
		served += __atomic_load_n(&p->worker[i].served, __ATOMIC_RELAXED);
	if (pace->pause) {
		came = (double)(served - pace->served) * (double)timer->period_ns / (double)pace->pause;
		pace->requests += (came - pace->requests) / (came > pace->requests ? 2 : 8); /* soon back when there is work */
	} else {
		pace->requests = wanted;
	}
	pace->served = served;
	if (pace->requests >= wanted) {
		pace->pause = timer->period_ns;
		return pace->pause;
	}
	came = (double)timer->period_ns / power(pace->requests / wanted, timer->follows); /* infinite where none came */
	pace->pause = came < (double)longest ? (uint64_t)came : longest;
	return pace->pause;
}
