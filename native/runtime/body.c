/* SPDX-License-Identifier: Apache-2.0
 *
 * The arena of a thread: lines linked into cycles, and the cursors that follow them.
 */
#include "body.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

enum { LINE = 64 };

_Static_assert(offsetof(struct ditto_body, base) == 24 && offsetof(struct ditto_body, counter) == 32 &&
		       offsetof(struct ditto_body, cursor) == 64,
	       "blocks.S knows these offsets");

struct line {
	struct line *next;
	uint8_t *base;
	double one;
	float ones[2];
	uint8_t work[32];
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * 0x2545F4914F6CDD1DULL;
}

/* Seeds that differ little give states that differ much, and never 0. */
static uint64_t scatter(uint64_t seed)
{
	seed = (seed ^ 0x9E3779B97F4A7C15ULL) * 0xD6E8FEB86659FD93ULL;
	seed ^= seed >> 32;
	return seed ? seed : 1;
}

static struct line *line_at(uint8_t *memory, const struct ditto_body_pool *pool, uint64_t index)
{
	return (struct line *)(memory + pool->offset + index * pool->step * LINE);
}

/* One cycle through all lines of the pool.  Sattolo's shuffle of the successors needs no memory but the lines. */
static void link_pool(uint8_t *memory, const struct ditto_body_pool *pool, uint64_t *state)
{
	for (uint64_t i = 0; i < pool->lines; i++) {
		struct line *line = line_at(memory, pool, i);

		line->next = line_at(memory, pool, pool->permuted ? i : i + 1 < pool->lines ? i + 1 : 0);
		line->base = memory + DITTO_BODY_BIAS;
		line->one = 1.0;
		line->ones[0] = line->ones[1] = 1.0f;
	}
	if (!pool->permuted)
		return;
	for (uint64_t i = pool->lines; i > 1; i--) {
		struct line *a = line_at(memory, pool, i - 1);
		struct line *b = line_at(memory, pool, next_random(state) % (i - 1));
		struct line *swapped = a->next;

		a->next = b->next;
		b->next = swapped;
	}
}

/* A pool in permuted order is better for far reads than any in ascending order, which can be foreseen. */
static int wider(const struct ditto_body_pool *pool, const struct ditto_body_pool *than)
{
	return pool->permuted != than->permuted ? pool->permuted > than->permuted : pool->lines > than->lines;
}

static int consistent(const struct ditto_body_layout *layout)
{
	if (layout->arena_bytes == 0 || layout->cursors > DITTO_BODY_CURSORS)
		return 0;
	for (uint32_t i = 0; i < layout->pools; i++) {
		const struct ditto_body_pool *pool = &layout->pool[i];

		uint64_t bytes = pool->shared ? layout->shared_bytes : layout->arena_bytes;

		if (pool->lines == 0 || pool->step == 0 || pool->offset % LINE != 0 || pool->offset >= bytes ||
		    (uint64_t)pool->lines * pool->step > (bytes - pool->offset) / LINE)
			return 0;
	}
	for (uint32_t i = 0; i < layout->cursors; i++)
		if (layout->cursor_pool[i] >= layout->pools)
			return 0;
	return 1;
}

/* Links what is shared, once a process.  Returns how many bodies there were before. */
static uint64_t link_shared(const struct ditto_body_layout *layout, uint64_t state)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint64_t bodies;
	uint64_t before;

	pthread_mutex_lock(&lock);
	before = bodies++;
	for (uint32_t i = 0; !before && i < layout->pools; i++)
		if (layout->pool[i].shared)
			link_pool(layout->shared, &layout->pool[i], &state);
	pthread_mutex_unlock(&lock);
	return before;
}

/* Where a cursor starts: threads that follow one list are apart from each other, as is whoever uses one by chance. */
static struct line *start_of(const struct ditto_body *body, const struct ditto_body_layout *layout,
			     const struct ditto_body_pool *pool, uint64_t before)
{
	if (!pool->shared)
		return line_at(body->arena, pool, 0);
	return line_at(layout->shared, pool, ((uint32_t)(before * 0x9E3779B9u) * (uint64_t)pool->lines) >> 32);
}

int ditto_body_init(struct ditto_body *body, const struct ditto_body_layout *layout, uint64_t seed)
{
	uint64_t state = scatter(seed), before;
	void *arena;

	memset(body, 0, sizeof(*body));
	if (!consistent(layout)) {
		errno = EINVAL;
		return -1;
	}
	arena = mmap(NULL, layout->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED)
		return -1;
	body->arena = arena;
	body->base = body->arena + DITTO_BODY_BIAS;
	body->random = scatter(state);
	before = link_shared(layout, state);
	for (uint32_t i = 0; i < layout->pools; i++) {
		if (!layout->pool[i].shared)
			link_pool(body->arena, &layout->pool[i], &state);
		if (!body->widest || wider(&layout->pool[i], body->widest))
			body->widest = &layout->pool[i];
	}
	if (body->widest)
		body->far = start_of(body, layout, body->widest, before);
	for (uint32_t i = 0; i < layout->cursors; i++)
		body->cursor[i] = (uint64_t)(uintptr_t)start_of(body, layout, &layout->pool[layout->cursor_pool[i]], before);
	return 0;
}

void ditto_body_stall(struct ditto_body *body, uint32_t reads)
{
	const struct line *line = body->far;

	if (!line)
		return;
	/* By bits: the end of a loop is foreseen by few predictors. */
	for (; reads >= 8; reads -= 8)
		line = line->next->next->next->next->next->next->next->next;
	if (reads & 4)
		line = line->next->next->next->next;
	if (reads & 2)
		line = line->next->next;
	if (reads & 1)
		line = line->next;
	body->far = line;
}

void ditto_body_free(struct ditto_body *body, const struct ditto_body_layout *layout)
{
	if (body->arena)
		munmap(body->arena, layout->arena_bytes);
	memset(body, 0, sizeof(*body));
}
