/* SPDX-License-Identifier: Apache-2.0 */
#include "outbuf.h"

#include <string.h>

#define RESTING_BYTES 16384

/* Sets the buffer aside as full.  Returns -1 without memory. */
static int put_aside(struct outbuf *o)
{
	if (o->full_tail == o->full_cap) {
		uint32_t waiting = o->full_tail - o->full_head, capacity;
		struct out_full *full = pool_get(o->pool, (waiting + 1) * 2 * sizeof(*full), &capacity);

		if (!full)
			return -1;
		if (o->full) {
			memcpy(full, o->full + o->full_head, waiting * sizeof(*full));
			pool_put(o->pool, o->full, o->full_bytes);
		}
		o->full = full;
		o->full_bytes = capacity;
		o->full_cap = capacity / (uint32_t)sizeof(*full);
		o->full_head = 0;
		o->full_tail = waiting;
	}
	o->full[o->full_tail++] = (struct out_full){.buf = o->buf, .cap = o->cap, .start = o->start, .end = o->end};
	o->waiting += o->end - o->start;
	o->base += o->end;
	o->buf = NULL;
	o->cap = o->start = o->end = 0;
	return 0;
}

/* Begins with the buffer that rested last.  Whether there is one that has room for n bytes. */
static int wake_up(struct outbuf *o, size_t n)
{
	struct pool *pool = o->pool;

	if (o->buf || !pool->rested || n > pool->rested_bytes)
		return 0;
	o->buf = pool->rested;
	o->cap = pool->rested_bytes;
	pool->rested = NULL;
	pool->rested_bytes = 0;
	return 1;
}

int out_grow(struct outbuf *o, size_t n)
{
	uint32_t used = o->end - o->start, capacity;
	uint8_t *buf;

	if (wake_up(o, n))
		return 0;
	if (out_splits(o, n)) {
		if (put_aside(o)) {
			o->failed = 1;
			return -1;
		}
		used = 0;
		if (n < o->piece)
			n = o->piece;
	}
	if (o->buf && n <= (size_t)o->cap - used && o->start >= o->cap / 2) {
		memmove(o->buf, o->buf + o->start, used);
	} else {
		buf = pool_get(o->pool, used + n, &capacity);
		if (!buf) {
			o->failed = 1;
			return -1;
		}
		if (used)
			memcpy(buf, o->buf + o->start, used);
		if (o->buf)
			pool_put(o->pool, o->buf, o->cap);
		o->buf = buf;
		o->cap = capacity;
	}
	o->base += o->start;
	o->start = 0;
	o->end = used;
	return 0;
}

void out_release(struct outbuf *o)
{
	while (o->full_head < o->full_tail) {
		struct out_full *full = &o->full[o->full_head++];

		pool_put(o->pool, full->buf, full->cap);
	}
	if (o->full)
		pool_put(o->pool, o->full, o->full_bytes);
	o->full = NULL;
	o->full_cap = o->full_head = o->full_tail = 0;
	o->waiting = 0;
	o->base += o->end;
	o->start = o->end = 0;
	if (o->buf)
		pool_put(o->pool, o->buf, o->cap);
	o->buf = NULL;
	o->cap = 0;
}

void out_rest(struct outbuf *o)
{
	struct pool *pool = o->pool;

	if (o->waiting || o->full || o->cap > RESTING_BYTES || o->cap <= pool->rested_bytes) {
		out_release(o);
		return;
	}
	if (pool->rested)
		pool_put(pool, pool->rested, pool->rested_bytes);
	pool->rested = o->buf;
	pool->rested_bytes = o->cap;
	o->buf = NULL;
	o->cap = 0;
	out_reset(o);
}

void out_took(struct outbuf *o, size_t n)
{
	while (n && o->full_head < o->full_tail) {
		struct out_full *full = &o->full[o->full_head];
		uint32_t part = n < full->end - full->start ? (uint32_t)n : full->end - full->start;

		full->start += part;
		o->waiting -= part;
		n -= part;
		if (full->start == full->end) {
			pool_put(o->pool, full->buf, full->cap);
			o->full_head++;
		}
	}
	if (o->full_head == o->full_tail)
		o->full_head = o->full_tail = 0;
	o->start += (uint32_t)n;
}

uint8_t *out_span(const struct outbuf *o, size_t skip, size_t *n)
{
	for (uint32_t i = o->full_head; i < o->full_tail; i++) {
		const struct out_full *full = &o->full[i];
		size_t length = full->end - full->start;

		if (skip < length) {
			*n = length - skip < *n ? length - skip : *n;
			return full->buf + full->start + skip;
		}
		skip -= length;
	}
	*n = o->end - o->start - skip < *n ? o->end - o->start - skip : *n;
	return o->buf + o->start + skip;
}
