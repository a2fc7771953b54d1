/* SPDX-License-Identifier: Apache-2.0
 *
 * The data that compute blocks work on.
 *
 * A generated block is `void ditto_block_N(struct ditto_body *)` in blocks.S, with the System V x86-64 calling
 * convention.  Each thread has one struct ditto_body; the layout of the arena (which lines form linked lists, which
 * hold branch patterns) comes from the generated ditto_body_layout.
 */
#ifndef DITTO_BODY_H
#define DITTO_BODY_H

#include <stdint.h>

/* A pool of lines in the arena, linked into one cycle in a permuted (or ascending) order: the first 8 bytes of
 * each line point to the next line. */
struct ditto_body_pool {
	uint64_t offset;   /* bytes from the start of the arena */
	uint32_t lines;    /* 64-byte lines */
	uint32_t step;     /* lines between neighbours in memory order; 1: dense */
	uint8_t permuted;  /* else ascending */
	uint8_t shared;    /* the same memory for all threads of the process */
};

struct ditto_body_layout {
	uint64_t arena_bytes;
	uint32_t pools;
	const struct ditto_body_pool *pool;
	uint32_t cursors;        /* 8-byte cursor slots in struct ditto_body, one a pool stream */
	const uint32_t *cursor_pool; /* the pool each cursor starts in */
};

#define DITTO_BODY_CURSORS 448

struct ditto_body {
	uint8_t *arena;             /* offset 0 */
	uint64_t random;            /* offset 8: xorshift state for random branch rows */
	uint64_t runs;              /* offset 16: blocks run, for pattern rows */
	uint64_t spare[5];          /* offset 24 */
	uint64_t cursor[DITTO_BODY_CURSORS]; /* offset 64 */
};

/* Makes the arena of one thread.  Returns 0, or -1 with errno set.  `seed` decides every permutation. */
int ditto_body_init(struct ditto_body *body, const struct ditto_body_layout *layout, uint64_t seed);
void ditto_body_free(struct ditto_body *body, const struct ditto_body_layout *layout);

#endif
