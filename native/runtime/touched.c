/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory that is touched for its own sake: what the original has resident, and what it takes anew while it serves.
 */
#include "values.h"
#include "worker.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

/* Not for children: each would have it again, and page tables to copy. */
static void touch(size_t bytes, int flags, int fd)
{
	int all = PROT_READ | (fd < 0 ? PROT_WRITE : 0);
	uint8_t *p = mmap(NULL, bytes, all, MAP_PRIVATE | MAP_NORESERVE | flags, fd, 0);

	if (p == MAP_FAILED || madvise(p, bytes, MADV_DONTFORK))
		fail("resident memory");
	for (size_t at = 0; fd < 0 && at < bytes; at += PAGE)
		p[at] = 1;
}

/* Pages of a file, of which a limit of memory charges whoever was first to read it: those of the program, over and over
 * again.  Returns how many bytes there are now, 0 where the program cannot be opened. */
static size_t files_touch(size_t wanted)
{
	size_t done = 0, whole;
	struct stat status;
	int fd = wanted < PAGE ? -1 : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	whole = fstat(fd, &status) ? 0 : (size_t)status.st_size / PAGE * PAGE;
	for (size_t part; whole && wanted - done >= PAGE; done += part) {
		part = wanted - done < whole ? (wanted - done) / PAGE * PAGE : whole;
		touch(part, MAP_POPULATE, fd);
	}
	close(fd);
	return done;
}

void resident_touch(void)
{
	size_t bytes = ditto_service.resident_bytes;

	bytes -= files_touch(ditto_service.file_bytes < bytes ? ditto_service.file_bytes : bytes);
	if (bytes)
		touch(bytes, MAP_ANONYMOUS, -1);
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

/* The slowest instruction that neither reads nor writes, on any x86: a wait that caches do not see.  Its results stay
 * between 0.5 and 1, so that it is as slow each time.  Without a branch for each: the end of such a loop is foreseen by few
 * predictors, and what came before it is forgotten by then. */
static void compute_stall(uint32_t steps)
{
	long double x = 1.0L;

	for (; steps >= 16; steps -= 16)
		__asm__ volatile(".rept 16\n\tfcos\n\t.endr" : "+t"(x));
	if (steps & 8)
		__asm__ volatile(".rept 8\n\tfcos\n\t.endr" : "+t"(x));
	if (steps & 4)
		__asm__ volatile(".rept 4\n\tfcos\n\t.endr" : "+t"(x));
	if (steps & 2)
		__asm__ volatile("fcos\n\tfcos" : "+t"(x));
	if (steps & 1)
		__asm__ volatile("fcos" : "+t"(x));
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
	/* Of 256 requests the first wait once more: changing from one to the next, that could not be foreseen. */
	reads = (ditto_service.stalls >> 8) + (w->stalls++ % 256 < ditto_service.stalls % 256);
	if (ditto_service.stalls_computed)
		compute_stall(reads);
	else if (w->body.widest && values_slots() > w->body.widest->lines)
		w->stored = values_walk(w->stored, reads, rng_u32(&w->rng));
	else
		ditto_body_stall(&w->body, reads);
}
