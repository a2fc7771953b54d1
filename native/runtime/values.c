/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "codec.h"
#include "ditto.h"
#include "keys.h"

#define UNIT 16u
#define CLASSES 128
#define LARGEST (16u << 20)
#define GROWTH(units) ((units) + (units) / 8 + 1)
#define KNOWN 4096 /* slots after which others join the round: so few take little cache from what a store does besides */
#ifdef TEST_FUZZ
#define MOST_BYTES ((size_t)64 << 20)
#else
#define MOST_BYTES ((size_t)64 << 30)
#endif

/* At the start of a slot, before the value, as stores have it. */
struct slot_head {
	uint32_t size;
	uint32_t next; /* free one of its class, or, in use, what it leads to */
	uint32_t round; /* the slot after it in the round of all slots; 0 only where there is none of them */
	uint8_t class;
	uint8_t unused[3];
};

static uint8_t *heap;
static uint64_t heap_units;
static _Atomic uint64_t heap_used; /* units; the first is no place */
static unsigned classes;
static uint32_t class_units[CLASSES];

static struct {
	atomic_flag taken;
	uint32_t first;
} __attribute__((aligned(64))) free_slots[CLASSES];

static _Atomic uint32_t slots;
static uint32_t known[KNOWN]; /* of all slots, each with the same chance */
static _Thread_local uint32_t latest; /* slot that was read or filled last, from which nobody has walked */

void values_setup(void)
{
	size_t bytes = MOST_BYTES, memory = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
	uint32_t units = 1;

	if (heap)
		return;
	while (bytes > memory / 2)
		bytes /= 2;
	heap = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (heap == MAP_FAILED) {
		heap = NULL;
		return;
	}
	heap_units = bytes / UNIT < UINT32_MAX ? bytes / UNIT : UINT32_MAX;
	atomic_store(&heap_used, 1);
	for (classes = 0; classes < CLASSES && units <= LARGEST / UNIT; classes++, units = GROWTH(units))
		class_units[classes] = units;
}

void values_forget(void)
{
	if (!heap)
		return;
	madvise(heap, atomic_load(&heap_used) * UNIT, MADV_DONTNEED);
	atomic_store(&heap_used, 1);
	atomic_store(&slots, 0);
	memset(known, 0, sizeof(known));
	latest = 0;
	for (unsigned i = 0; i < CLASSES; i++)
		free_slots[i].first = 0;
}

static struct slot_head *head_at(uint32_t place)
{
	return (struct slot_head *)(void *)(heap + (size_t)place * UNIT);
}

/* The class for a value, with as much beside it as the original keeps beside one. */
static unsigned class_for(uint32_t size)
{
	uint64_t bytes = (uint64_t)size + sizeof(struct slot_head), units;
	unsigned low = 0, high = classes;

	if (ditto_service.stored_scale > STORED_AS_IT_IS)
		bytes = bytes * ditto_service.stored_scale / STORED_AS_IT_IS;
	units = (bytes + UNIT - 1) / UNIT;
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (class_units[middle] >= units)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void lock(unsigned class)
{
	while (atomic_flag_test_and_set_explicit(&free_slots[class].taken, memory_order_acquire))
		__builtin_ia32_pause();
}

static void unlock(unsigned class)
{
	atomic_flag_clear_explicit(&free_slots[class].taken, memory_order_release);
}

/* After one that is drawn, so that the order of the round tells nothing of where slots lie.  Of two that join after the same
 * one at once, the round may lack one. */
static void join(uint32_t place)
{
	uint32_t before = atomic_fetch_add_explicit(&slots, 1, memory_order_relaxed);
	uint64_t chance = keys_mix(before, ditto_service.seed), at = before;

	if (before) {
		struct slot_head *after = head_at(known[(chance & UINT32_MAX) * (before < KNOWN ? before : KNOWN) >> 32]);

		head_at(place)->round = after->round;
		after->round = place;
	} else {
		head_at(place)->round = place;
	}
	if (before >= KNOWN)
		at = (chance >> 32) * ((uint64_t)before + 1) >> 32;
	if (at < KNOWN)
		known[at] = place;
}

uint32_t values_slots(void)
{
	return atomic_load_explicit(&slots, memory_order_relaxed);
}

uint32_t values_walk(uint32_t from, uint32_t steps, uint32_t chance)
{
	uint32_t place = latest ? latest : from;

	latest = 0;
	for (; steps; steps--) {
		if (!place)
			place = known[chance % KNOWN];
		place = head_at(place)->round;
	}
	return place;
}

uint32_t values_take(uint32_t size)
{
	unsigned class = class_for(size);
	uint32_t place;

	if (!heap || class >= classes)
		return 0;
	lock(class);
	place = free_slots[class].first;
	if (place)
		free_slots[class].first = head_at(place)->next;
	unlock(class);
	if (!place) {
		uint64_t at = atomic_fetch_add_explicit(&heap_used, class_units[class], memory_order_relaxed);

		if (at + class_units[class] > heap_units) {
			atomic_fetch_sub_explicit(&heap_used, class_units[class], memory_order_relaxed);
			return 0;
		}
		place = (uint32_t)at;
		head_at(place)->class = (uint8_t)class;
		if (ditto_service.stalls_in_store)
			join(place);
	}
	head_at(place)->next = 0;
	return place;
}

void values_give(uint32_t place)
{
	unsigned class;

	if (!place)
		return;
	class = head_at(place)->class;
	lock(class);
	head_at(place)->next = free_slots[class].first;
	free_slots[class].first = place;
	unlock(class);
}

void values_link(uint32_t place, uint32_t next)
{
	head_at(place)->next = next;
}

uint32_t values_next(uint32_t place)
{
	return place ? head_at(place)->next : 0;
}

void values_give_all(uint32_t place)
{
	while (place) {
		uint32_t next = values_next(place);

		values_give(place);
		place = next;
	}
}

int values_fits(uint32_t place, uint32_t size)
{
	return place && head_at(place)->class == class_for(size);
}

void values_fill(uint32_t place, const uint8_t *value, uint32_t size)
{
	struct slot_head *head = head_at(place);
	uint8_t *to = (uint8_t *)(head + 1);

	latest = place;
	head->size = size;
	if (value)
		codec_copy(to, value, size);
#ifdef TEST_FUZZ /* which compares what is answered whole and in pieces */
	value = NULL;
#endif
	if (!value)
		codec_fill(to, 'x', size);
}

const uint8_t *values_at(uint32_t place, uint32_t *size)
{
	const struct slot_head *head = head_at(place);
	uint32_t most = class_units[head->class] * UNIT - (uint32_t)sizeof(*head);

	latest = place;
	*size = head->size < most ? head->size : most;
	return (const uint8_t *)(head + 1);
}
