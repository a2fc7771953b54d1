/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLAB_SHIFT 18 /* smaller buffers are cut from address space of at least this size */
#define PAGE ((size_t)4096)
#define LINE ((size_t)64)
#define PLACES 16 /* in a page at which buffers of whole pages begin in turn */
#define FRESH_BYTES ((size_t)256 << 20) /* of address space, of which only what is used costs memory */

static unsigned shift_for(size_t bytes)
{
	unsigned shift = POOL_MIN_SHIFT;

	if (bytes > ((size_t)1 << POOL_MIN_SHIFT))
		shift = 64 - (unsigned)__builtin_clzl(bytes - 1);
	return shift;
}

#ifdef DITTO_POOL_MALLOC

void pool_start(struct pool *pool)
{
	(void)pool;
}

void *pool_get(struct pool *pool, size_t bytes, uint32_t *capacity)
{
	unsigned shift = shift_for(bytes);

	(void)pool;
	if (shift > POOL_MAX_SHIFT)
		return NULL;
	*capacity = (uint32_t)1 << shift;
	return malloc(*capacity);
}

void pool_put(struct pool *pool, void *buffer, uint32_t capacity)
{
	(void)pool;
	(void)capacity;
	free(buffer);
}

#else

void pool_start(struct pool *pool)
{
	void *p = mmap(NULL, FRESH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	pool->fresh = p == MAP_FAILED ? NULL : p;
	pool->left = p == MAP_FAILED ? 0 : FRESH_BYTES;
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Bytes to leave out before a buffer.  Connections use the same parts of theirs: if these were as far apart as powers of
 * two are, all of them would share a few sets of a cache.  Large ones go back to the kernel, page by page. */
static size_t gap(struct pool *pool, size_t bytes)
{
	size_t place = -(size_t)(uintptr_t)pool->fresh;

	if (bytes < PAGE)
		return (place & (LINE - 1)) + LINE;
	place &= PAGE - 1;
	return bytes < (size_t)1 << SLAB_SHIFT ? place + pool->cuts++ * 7 % PLACES * (PAGE / PLACES) : place;
}

/* A power of two of bytes that nobody had yet, cut when it is wanted: no page is touched before that. */
static void *cut(struct pool *pool, size_t bytes)
{
	size_t skip = gap(pool, bytes);
	void *p;

	if (skip + bytes > pool->left) {
		if (bytes >= (size_t)1 << SLAB_SHIFT)
			return map(bytes);
		pool->fresh = map((size_t)1 << SLAB_SHIFT);
		pool->left = pool->fresh ? (size_t)1 << SLAB_SHIFT : 0;
		skip = 0;
		if (!pool->fresh)
			return NULL;
	}
	p = pool->fresh + skip;
	pool->fresh += skip + bytes;
	pool->left -= skip + bytes;
	return p;
}

void *pool_get(struct pool *pool, size_t bytes, uint32_t *capacity)
{
	unsigned shift = shift_for(bytes);
	size_t size = (size_t)1 << shift;
	void *buffer;

	if (shift > POOL_MAX_SHIFT)
		return NULL;
	*capacity = (uint32_t)size;
	buffer = pool->free[shift];
	if (buffer) {
		memcpy(&pool->free[shift], buffer, sizeof(void *));
		if (shift >= SLAB_SHIFT)
			pool->kept -= size;
		return buffer;
	}
	return cut(pool, size);
}

void pool_put(struct pool *pool, void *buffer, uint32_t capacity)
{
	unsigned shift = (unsigned)__builtin_ctz(capacity);

	if (shift >= SLAB_SHIFT) {
		if (pool->kept + capacity > POOL_KEEP_BYTES) {
			munmap(buffer, capacity);
			return;
		}
		pool->kept += capacity;
	}
	memcpy(buffer, &pool->free[shift], sizeof(void *));
	pool->free[shift] = buffer;
}

#endif

void pool_rest_beside(struct pool *pool, enum pool_use use, void *buffer, uint32_t capacity)
{
	void *rested = pool->rested[use].buffer;

	if (capacity > POOL_RESTING_BYTES || (rested && pool->rested[use].bytes >= capacity)) {
		pool_put(pool, buffer, capacity);
		return;
	}
	if (rested)
		pool_put(pool, rested, pool->rested[use].bytes);
	pool->rested[use].buffer = buffer;
	pool->rested[use].bytes = capacity;
}
