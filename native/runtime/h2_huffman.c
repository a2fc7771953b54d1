/* SPDX-License-Identifier: Apache-2.0
 *
 * HPACK's Huffman code (RFC 7541, appendix B).  It is canonical, so the lengths of its codes tell all of it.
 */
#include "h2.h"

#define SYMBOLS 257u
#define LONGEST 30u

static const uint8_t length_of[SYMBOLS] = {
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28,
	28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6,
	6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
	23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26,
	24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24,
	24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
};

static uint16_t symbol[SYMBOLS]; /* by length, then by value */
static struct {
	uint32_t first; /* code of the first symbol of this length */
	uint16_t count, at;
} by_length[LONGEST + 1];

void h2_huffman_setup(void)
{
	uint32_t code = 0;
	uint16_t at = 0;

	for (unsigned length = 1; length <= LONGEST; length++) {
		code <<= 1;
		by_length[length].first = code;
		by_length[length].at = at;
		by_length[length].count = 0;
		for (unsigned i = 0; i < SYMBOLS; i++)
			if (length_of[i] == length) {
				symbol[at++] = (uint16_t)i;
				by_length[length].count++;
			}
		code += by_length[length].count;
	}
}

int32_t h2_huffman(const uint8_t *p, size_t n, uint8_t *to, uint32_t most)
{
	uint32_t code = 0, length = 0;
	int32_t made = 0;

	for (size_t i = 0; i < n; i++)
		for (int bit = 7; bit >= 0; bit--) {
			code = code << 1 | (p[i] >> bit & 1u);
			if (++length > LONGEST)
				return -1;
			if (code - by_length[length].first >= by_length[length].count)
				continue;
			code = symbol[by_length[length].at + code - by_length[length].first];
			if (code == SYMBOLS - 1)
				return -1; /* the end of a string is never coded */
			if ((uint32_t)made < most)
				to[made] = (uint8_t)code;
			made++;
			code = length = 0;
		}
	return length < 8 && code == (1u << length) - 1 ? made : -1; /* filled up with ones */
}
