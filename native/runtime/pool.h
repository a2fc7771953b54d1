/* SPDX-License-Identifier: Apache-2.0
 *
 * Buffers in powers of two, kept by the thread that uses them, so that the steady state never asks the kernel for
 * memory.  Compiled with DITTO_POOL_MALLOC every buffer is a malloc of its own, for the sanitizers.
 */
#ifndef DITTO_POOL_H
#define DITTO_POOL_H

#include <stddef.h>
#include <stdint.h>

#define POOL_MIN_SHIFT 9
#define POOL_MAX_SHIFT 31
#define POOL_RESTING_BYTES 65536u /* most of a buffer that rests */
#define POOL_KEEP_BYTES (64u << 20) /* free large buffers kept by a thread; more go back to the kernel */

enum pool_use { POOL_IN, POOL_OUT, POOL_JOBS, POOL_USES };

struct pool {
	struct {
		void *buffer;
		uint32_t bytes;
	} rested[POOL_USES]; /* see pool_rest */
	void *free[POOL_MAX_SHIFT + 1];
	size_t kept; /* bytes of free buffers that came from a mapping of their own */
	char *fresh; /* address space that no buffer has had yet */
	size_t left; /* bytes of it */
	unsigned cuts; /* buffers of whole pages cut from it */
};

/* Sets address space aside, so that connections that come later ask the kernel for none. */
void pool_start(struct pool *pool);

/* A buffer of at least `bytes`; *capacity tells how many.  NULL when there is no memory or bytes exceeds 2 GiB. */
void *pool_get(struct pool *pool, size_t bytes, uint32_t *capacity);
void pool_put(struct pool *pool, void *buffer, uint32_t capacity);

/* A buffer for one of these uses, given back with pool_rest: the one that rested last, if it is large enough.  So the
 * connections of a thread work on few buffers in turn, which are the ones used last, and as large as was needed before. */
static inline void *pool_wake(struct pool *pool, enum pool_use use, size_t bytes, uint32_t *capacity)
{
	void *buffer = pool->rested[use].buffer;

	if (!buffer || pool->rested[use].bytes < bytes)
		return pool_get(pool, bytes, capacity);
	pool->rested[use].buffer = NULL;
	*capacity = pool->rested[use].bytes;
	return buffer;
}

void pool_rest_beside(struct pool *pool, enum pool_use use, void *buffer, uint32_t capacity); /* where one may rest already */

static inline void pool_rest(struct pool *pool, enum pool_use use, void *buffer, uint32_t capacity)
{
	if (pool->rested[use].buffer || capacity > POOL_RESTING_BYTES) {
		pool_rest_beside(pool, use, buffer, capacity);
		return;
	}
	pool->rested[use].buffer = buffer;
	pool->rested[use].bytes = capacity;
}

#endif
