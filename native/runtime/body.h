/* SPDX-License-Identifier: Apache-2.0
 *
 * The data that compute blocks work on.
 *
 * A generated block is `void ditto_block_N(struct ditto_body *)` in blocks.S, with the System V x86-64 calling
 * convention.  Each thread has one struct ditto_body; the layout of the arena comes from the generated
 * ditto_body_layout.
 *
 * Every 64-byte line of the arena begins with what makes any loaded value usable:
 *     0   address of the next line of its pool (one cycle through the pool, in permuted or ascending order)
 *     8   the arena's base as blocks hold it (arena + DITTO_BODY_BIAS), so that a loaded word is a valid base
 *     16  the double 1.0, so that floating-point work is exact and never slow
 *     24  two floats 1.0
 *     32  written by blocks; never read as an address
 */
#ifndef DITTO_BODY_H
#define DITTO_BODY_H

#include <stdint.h>

struct ditto_body_pool {
	uint64_t offset;   /* bytes from the start of the arena, or of what is shared */
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
	uint64_t shared_bytes;
	uint8_t *shared;         /* of shared pools; blocks know its symbol */
};

#define DITTO_BODY_CURSORS 448
#define DITTO_BODY_BIAS 128 /* blocks hold arena + 128: the first four lines have one-byte displacements */

/* Blocks know these offsets. */
struct ditto_body {
	uint8_t *arena;             /* offset 0 */
	uint64_t random;            /* offset 8: of this run of a block, for random branches and targets */
	uint64_t turn;              /* offset 16: runs of blocks, which choose the random word */
	uint8_t *base;              /* offset 24: arena + DITTO_BODY_BIAS */
	uint64_t counter[4];        /* offset 32: of loops nested too deep for registers */
	uint64_t cursor[DITTO_BODY_CURSORS]; /* offset 64 */
	/* Not known to blocks: the pool with the most lines, of the permuted ones if there are any, and the line of it that
	 * the last far read was of. */
	const struct ditto_body_pool *widest;
	const void *far;
} __attribute__((aligned(64)));

/* Makes the arena of one thread, every page touched, so that serving causes no page fault.  Returns 0, or -1 with errno
 * set (EINVAL: the layout is inconsistent) and nothing left mapped.  `seed` decides every permutation. */
int ditto_body_init(struct ditto_body *body, const struct ditto_body_layout *layout, uint64_t seed);

/* Reads `reads` lines of the widest pool, each told by the one before: nothing can foresee or overlap them. */
void ditto_body_stall(struct ditto_body *body, uint32_t reads);

void ditto_body_free(struct ditto_body *body, const struct ditto_body_layout *layout);

#endif
