/* SPDX-License-Identifier: Apache-2.0
 *
 * Timers of an event loop: the next one due bounds the wait.
 */
#include "runtime.h"

#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t); /* the vDSO: no system call */
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void timers_start(struct worker *w)
{
	const struct ditto_role *role = w->role;
	uint64_t now;

	if (!role->timers)
		return;
	w->due = calloc(role->timers, sizeof(*w->due));
	if (!w->due)
		fail("memory for timers");
	now = now_ns();
	for (unsigned i = 0; i < role->timers; i++)
		w->due[i] = role->timer[i].requests ? role->timer[i].requests : now + role->timer[i].period_ns;
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
