/* SPDX-License-Identifier: Apache-2.0 */
#include "rng.h"

uint64_t rng_mix(uint64_t seed)
{
	seed += 0x9E3779B97F4A7C15ULL;
	seed = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9ULL;
	seed = (seed ^ (seed >> 27)) * 0x94D049BB133111EBULL;
	return seed ^ (seed >> 31);
}

void rng_seed(struct rng *r, uint64_t seed)
{
	r->s = rng_mix(seed);
	if (r->s == 0)
		r->s = 1;
}
