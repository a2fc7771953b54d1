/* SPDX-License-Identifier: Apache-2.0
 *
 * Counts of nanoseconds in buckets of one part in 1024, as an HdrHistogram of three significant digits has them.
 */
#ifndef LOADGEN_HISTOGRAM_H
#define LOADGEN_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_SUB_BITS 10
#define HISTOGRAM_SUB (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_LARGEST_BIT 37 /* 137 seconds */
#define HISTOGRAM_BUCKETS ((HISTOGRAM_LARGEST_BIT - HISTOGRAM_SUB_BITS + 2) * HISTOGRAM_SUB)

struct histogram {
	uint64_t count[HISTOGRAM_BUCKETS];
	uint64_t total, largest;
};

static inline unsigned histogram_bucket(uint64_t ns)
{
	unsigned shift = 63 - (unsigned)__builtin_clzll(ns | HISTOGRAM_SUB);

	shift -= HISTOGRAM_SUB_BITS;
	return shift * HISTOGRAM_SUB + (unsigned)(ns >> shift);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
	if (ns >> (HISTOGRAM_LARGEST_BIT + 1))
		ns = ((uint64_t)1 << (HISTOGRAM_LARGEST_BIT + 1)) - 1;
	h->count[histogram_bucket(ns)]++;
	h->total++;
	if (ns > h->largest)
		h->largest = ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from);
uint64_t histogram_value(unsigned bucket); /* the middle of a bucket, ns */
uint64_t histogram_percentile(const struct histogram *h, double percent);
void histogram_print(const struct histogram *h, FILE *to); /* JSON: [[ns, count], ...] */

#endif
