/* SPDX-License-Identifier: Apache-2.0 */
#include "rng.h"

/* Tables are usually short or dominated by their first values, so a few steps are tried before the bisection. */
uint32_t dist_draw_many(const struct ditto_dist *d, uint32_t u)
{
	uint32_t low = 0, high = d->n - 1;

	for (; low < 8 && low < high; low++)
		if (u <= d->cum[low])
			return d->value[low];
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (u <= d->cum[middle])
			high = middle;
		else
			low = middle + 1;
	}
	return d->value[low];
}
