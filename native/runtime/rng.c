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

static uint32_t turned(uint32_t x)
{
	x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
	x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
	x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
	return __builtin_bswap32(x);
}

/* A bijection in which each bit depends on the lower ones alone (Laine and Karras; Vegdahl's constants). */
static uint32_t mixed(uint32_t x, uint32_t key)
{
	x ^= x * 0x3D20ADEAu;
	x += key;
	x *= key >> 16 | 1;
	x ^= x * 0x05526C56u;
	return x ^ x * 0x53A22864u;
}

/* Bits turned around are van der Corput's numbers; these are scrambled (Owen), and so are the places in the order, or the
 * draws of two keys would both be low, or high, in turn. */
uint32_t rng_even(uint32_t at, uint32_t key)
{
	uint64_t keys = rng_mix(key);

	at = turned(mixed(turned(at), (uint32_t)keys));
	return turned(mixed(at, (uint32_t)(keys >> 32)));
}
