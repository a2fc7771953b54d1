/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#include <inttypes.h>

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->count[i] += from->count[i];
	into->total += from->total;
	if (from->largest > into->largest)
		into->largest = from->largest;
}

uint64_t histogram_value(unsigned bucket)
{
	unsigned shift = bucket / HISTOGRAM_SUB;
	uint64_t low;

	if (shift <= 1)
		return bucket;
	shift -= 1;
	low = (uint64_t)(bucket - shift * HISTOGRAM_SUB) << shift;
	return low + ((uint64_t)1 << shift) / 2;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
	uint64_t wanted = (uint64_t)(percent / 100.0 * (double)h->total + 0.5), seen = 0;

	if (wanted < 1)
		wanted = 1;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->count[i];
		if (seen >= wanted)
			return histogram_value(i);
	}
	return 0;
}

void histogram_print(const struct histogram *h, FILE *to)
{
	const char *comma = "";

	fputc('[', to);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		if (!h->count[i])
			continue;
		fprintf(to, "%s[%" PRIu64 ",%" PRIu64 "]", comma, histogram_value(i), h->count[i]);
		comma = ",";
	}
	fputc(']', to);
}
