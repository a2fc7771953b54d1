/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes waiting to be sent.  Positions are offsets in the stream of all output of the connection, so that they stay
 * valid when buffers move.
 *
 * A server that hands a long reply to the kernel in vectors of one length holds it in pieces of that length, each of
 * which is free again, and the first to be taken by the next reply, as soon as it is sent.  In one buffer as long as the
 * reply, what is written next would be what was sent longest ago, and twenty such replies more than a cache holds.
 */
#ifndef DITTO_OUTBUF_H
#define DITTO_OUTBUF_H

#include "pool.h"

/* A buffer that is full, with what is left of it to send. */
struct out_full {
	uint8_t *buf;
	uint32_t cap, start, end;
};

/* What is written goes to buf + end, where base + end is its position; full buffers wait before it. */
struct outbuf {
	struct pool *pool;
	uint8_t *buf; /* NULL before it has something to say */
	uint32_t cap, start, end;
	uint32_t piece; /* most bytes in a buffer; 0: whatever is wanted */
	uint64_t base;
	uint64_t waiting; /* bytes in full buffers */
	struct out_full *full;
	uint32_t full_cap, full_head, full_tail, full_bytes;
	uint8_t failed; /* no memory: the connection has to go */
};

int out_grow(struct outbuf *o, size_t n);
void out_release(struct outbuf *o);

/* The next n bytes have been sent. */
void out_took(struct outbuf *o, size_t n);

/* What lies together from `skip` bytes after the first that was not sent: at most n bytes, *n tells how many. */
uint8_t *out_span(const struct outbuf *o, size_t skip, size_t *n);

/* Whether n more bytes are too many for the piece begun. */
static inline int out_splits(const struct outbuf *o, size_t n)
{
	return o->piece && o->end > o->start && o->end + n > o->piece;
}

/* Room for n more bytes at o->buf + o->end; NULL when there is none to be had. */
static inline uint8_t *out_room(struct outbuf *o, size_t n)
{
	if (!o->buf && n) {
		o->buf = (uint8_t *)pool_wake(o->pool, POOL_OUT, n, &o->cap);
		if (!o->buf) {
			o->failed = 1;
			return NULL;
		}
		return o->buf;
	}
	if (((size_t)(o->cap - o->end) < n || out_splits(o, n)) && out_grow(o, n))
		return NULL;
	return o->buf + o->end;
}

/* Everything was sent: begin at the front again. */
static inline void out_reset(struct outbuf *o)
{
	o->base += o->end;
	o->start = o->end = 0;
}

/* Everything was sent: the buffer is for whichever output of the thread has something to say next. */
static inline void out_rest(struct outbuf *o)
{
	if (o->waiting || o->full) {
		out_release(o);
		return;
	}
	pool_rest(o->pool, POOL_OUT, o->buf, o->cap);
	o->buf = NULL;
	o->cap = 0;
	out_reset(o);
}

static inline uint64_t out_sent(const struct outbuf *o)
{
	return o->base + o->start - o->waiting;
}

static inline uint64_t out_end(const struct outbuf *o)
{
	return o->base + o->end;
}

static inline uint64_t out_bytes(const struct outbuf *o)
{
	return o->waiting + o->end - o->start;
}

/* The n bytes from a position on, NULL where they do not lie together or some were sent. */
static inline uint8_t *out_at(const struct outbuf *o, uint64_t position, size_t n)
{
	size_t together = n;
	uint8_t *at = position < out_sent(o) ? NULL : out_span(o, position - out_sent(o), &together);

	return together == n ? at : NULL;
}

#endif
