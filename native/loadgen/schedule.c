/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule.h"

#include <math.h>

/* Marsaglia's xorshift with a multiplication after it ("xorshift64*"). */
uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545F4914F6CDD1DULL;
}

static double uniform(uint64_t *state)
{
	return ((double)(random_next(state) >> 11) + 0.5) * 0x1p-53;
}

void schedule_start(struct schedule *s, unsigned thread, unsigned threads)
{
	s->share = 1.0 / threads;
	s->random = 0x9E3779B97F4A7C15ULL * (thread + 1);
	s->next = thread;
	s->stride = threads;
	s->at = 0;
	s->base = 0;
	s->now = 0;
	/* threads at a constant rate take turns */
	if (s->arrivals == ARRIVALS_CONSTANT && s->step[0].rate > 0)
		s->now = (double)thread / s->step[0].rate - 1.0 / (s->step[0].rate * s->share);
}

/* Moves on until the rate has brought `wanted` requests. */
static double advance(struct schedule *s, double wanted)
{
	for (;;) {
		int last = s->at + 1 == s->steps;
		double end = !last ? s->base + s->step[s->at + 1].from : s->period > 0 ? s->base + s->period : INFINITY;
		double rate = s->step[s->at].rate * s->share;
		double room = rate > 0 ? (end - s->now) * rate : 0;

		if (rate > 0 && room >= wanted) {
			s->now += wanted / rate;
			return s->now;
		}
		if (isinf(end))
			return INFINITY;
		wanted -= room;
		s->now = end;
		if (!last) {
			s->at++;
		} else {
			s->at = 0;
			s->base += s->period;
		}
	}
}

uint64_t schedule_next(struct schedule *s)
{
	double when;

	if (s->arrivals == ARRIVALS_RECORDED) {
		uint64_t at = s->next < s->recorded_count ? s->recorded[s->next] : UINT64_MAX;

		s->next += s->stride;
		return at;
	}
	when = advance(s, s->arrivals == ARRIVALS_POISSON ? -log(uniform(&s->random)) : 1.0);
	return isinf(when) ? UINT64_MAX : when <= 0 ? 0 : (uint64_t)(when * 1e9);
}
