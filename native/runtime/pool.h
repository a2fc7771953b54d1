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
#define POOL_KEEP_BYTES (64u << 20) /* free large buffers kept by a thread; more go back to the kernel */

struct pool {
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

/* Bytes waiting to be sent.  Positions are offsets in the stream of all output of the connection, so that they stay
 * valid when the buffer moves: buf[start] has position base + start. */
struct outbuf {
	struct pool *pool;
	uint8_t *buf;
	uint32_t cap, start, end;
	uint64_t base;
	uint8_t failed; /* no memory: the connection has to go */
};

int out_grow(struct outbuf *o, size_t n);
void out_release(struct outbuf *o);

/* Room for n more bytes at o->buf + o->end; NULL when there is none to be had. */
static inline uint8_t *out_room(struct outbuf *o, size_t n)
{
	if ((size_t)(o->cap - o->end) < n && out_grow(o, n))
		return NULL;
	return o->buf + o->end;
}

/* Everything was sent: begin at the front again. */
static inline void out_reset(struct outbuf *o)
{
	o->base += o->end;
	o->start = o->end = 0;
}

static inline uint64_t out_sent(const struct outbuf *o)
{
	return o->base + o->start;
}

static inline uint64_t out_end(const struct outbuf *o)
{
	return o->base + o->end;
}

#endif
