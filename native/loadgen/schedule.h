/* SPDX-License-Identifier: Apache-2.0
 *
 * When requests are meant to be sent: arrivals of a rate that may change over time.
 */
#ifndef LOADGEN_SCHEDULE_H
#define LOADGEN_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

enum arrivals { ARRIVALS_CLOSED, ARRIVALS_CONSTANT, ARRIVALS_POISSON, ARRIVALS_RECORDED };

struct rate_step {
	double from;  /* seconds */
	double rate;  /* requests a second from then on */
};

/* One thread's part of a schedule. */
struct schedule {
	enum arrivals arrivals;
	const struct rate_step *step; /* ordered; the first from 0 */
	size_t steps, at;
	double period; /* seconds after which the steps begin again; 0: never */
	double share;  /* of the rate */
	const uint64_t *recorded; /* ns from the start, ordered */
	size_t recorded_count, next, stride;
	double now, base; /* seconds; base: start of the current period */
	uint64_t random;
};

/* The thread's share is one of `threads`. */
void schedule_start(struct schedule *s, unsigned thread, unsigned threads);
/* Nanoseconds from the start at which the next request is due; UINT64_MAX: none any more. */
uint64_t schedule_next(struct schedule *s);

uint64_t random_next(uint64_t *state);

#endif
