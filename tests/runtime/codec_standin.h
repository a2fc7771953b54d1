/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for codec_common.c where a test is of the store alone. */
#include <stdint.h>
#include <string.h>

uint8_t *codec_fill(uint8_t *to, int ch, size_t n)
{
	memset(to, ch, n);
	return to + n;
}

uint8_t *codec_copy(uint8_t *to, const uint8_t *from, size_t n)
{
	memcpy(to, from, n);
	return to + n;
}
