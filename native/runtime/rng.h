/* SPDX-License-Identifier: Apache-2.0
 *
 * Random numbers and draws from the tables' distributions; one generator a thread, seeded, never the clock.
 */
#ifndef DITTO_RNG_H
#define DITTO_RNG_H

#include "ditto.h"

struct rng {
	uint64_t s; /* never 0 */
};

/* Decorrelates neighbouring seeds (splitmix64's finaliser). */
uint64_t rng_mix(uint64_t seed);
void rng_seed(struct rng *r, uint64_t seed);

static inline uint64_t rng_next(struct rng *r)
{
	uint64_t x = r->s;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	r->s = x;
	return x * 0x2545F4914F6CDD1DULL;
}

static inline uint32_t rng_u32(struct rng *r)
{
	return (uint32_t)(rng_next(r) >> 32);
}

/* A number of the kind of rng_u32 for the at-th of some draws that fill the range evenly: of 2^k from a multiple of 2^k on,
 * one lies in each of its 2^k parts.  Keys make other draws, in another order. */
uint32_t rng_even(uint32_t at, uint32_t key);

/* A number below n (n > 0), by multiplication instead of division. */
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)(((uint64_t)rng_u32(r) * n) >> 32);
}

uint32_t dist_draw_many(const struct ditto_dist *d, uint32_t u);

/* Draws from d; `none` if the table gives no distribution. */
static inline uint32_t dist_draw(const struct ditto_dist *d, struct rng *r, uint32_t none)
{
	if (!d || d->n == 0)
		return none;
	if (d->n == 1)
		return d->value[0];
	return dist_draw_many(d, rng_u32(r));
}

static inline int rng_chance(struct rng *r, uint32_t prob)
{
	return prob == DITTO_ALWAYS || rng_u32(r) < prob;
}

#endif
