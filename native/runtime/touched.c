/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is touched for its own sake: what the original has resident, and what it takes anew while it serves.
 */
#include "values.h"
#include "worker.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)

void resident_touch(void)
{
	uint8_t *p;

	if (!ditto_service.resident_bytes)
		return;
	p = mmap(NULL, ditto_service.resident_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	/* Not for children: each would have it again, and page tables to copy. */
	if (p == MAP_FAILED || madvise(p, ditto_service.resident_bytes, MADV_DONTFORK))
		fail("resident memory");
	for (uint64_t at = 0; at < ditto_service.resident_bytes; at += PAGE)
		p[at] = 1;
}

/* Of every child its own, though the address space is set aside once; huge pages would be few faults in place of many. */
static uint8_t *born;

void born_set_aside(void)
{
	size_t bytes = ditto_service.born_pages * PAGE;

	if (!bytes)
		return;
	born = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (born == MAP_FAILED)
		born = NULL;
	else
		madvise(born, bytes, MADV_NOHUGEPAGE);
}

void born_touch(void)
{
	for (size_t i = 0; born && i < ditto_service.born_pages; i++)
		born[i * PAGE] = 1;
}

/* Pages that requests touch anew, of all threads.  Once all were, they are given back by one call for many faults; a
 * service that only grows by a little keeps them. */
#define FRESH_PAGES 256u

static uint8_t *fresh;

void fresh_set_aside(void)
{
	if (!ditto_service.fresh_pages)
		return;
	fresh = mmap(NULL, FRESH_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (fresh == MAP_FAILED)
		fail("memory that is taken anew");
	madvise(fresh, FRESH_PAGES * PAGE, MADV_NOHUGEPAGE);
}

void fresh_touch(uint32_t pages)
{
	static atomic_uint touched;

	for (; fresh && pages; pages--) {
		uint32_t n = atomic_fetch_add_explicit(&touched, 1, memory_order_relaxed);

		if (n && n % FRESH_PAGES == 0)
			madvise(fresh, FRESH_PAGES * PAGE, MADV_DONTNEED);
		fresh[n % FRESH_PAGES * PAGE] = 1;
	}
}

/* Where a store is larger than what blocks read from far: of two lists that wait for memory, the one that waits longer needs fewer
 * reads, and grows with what it stores as the original's time does. */
void worker_stall(struct worker *w)
{
	uint32_t reads;

	if (ditto_service.fresh_pages) {
		w->fresh += ditto_service.fresh_pages;
		fresh_touch(w->fresh >> 16);
		w->fresh &= 65535;
	}
	if (!ditto_service.stalls || options.skeleton)
		return;
	w->stalls += ditto_service.stalls;
	reads = w->stalls >> 8;
	w->stalls &= 255;
	if (w->body.widest && values_slots() > w->body.widest->lines)
		w->stored = values_walk(w->stored, reads, rng_u32(&w->rng));
	else
		ditto_body_stall(&w->body, reads);
}
