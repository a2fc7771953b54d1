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
	uint8_t *rested; /* an output's last buffer, for the next one; see out_rest */
	uint32_t rested_bytes;
	unsigned cuts; /* buffers of whole pages cut from it */
	void *free[POOL_MAX_SHIFT + 1];
	size_t kept; /* bytes of free buffers that came from a mapping of their own */
	char *fresh; /* address space that no buffer has had yet */
	size_t left; /* bytes of it */
};

/* Sets address space aside, so that connections that come later ask the kernel for none. */
void pool_start(struct pool *pool);

/* A buffer of at least `bytes`; *capacity tells how many.  NULL when there is no memory or bytes exceeds 2 GiB. */
void *pool_get(struct pool *pool, size_t bytes, uint32_t *capacity);
void pool_put(struct pool *pool, void *buffer, uint32_t capacity);

#endif
