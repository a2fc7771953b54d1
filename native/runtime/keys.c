/* SPDX-License-Identifier: Apache-2.0
 *
 * The table behind keys.h, shared by the threads of a process without locks: a place has a word of hash above and
 * size below, taken by compare and exchange, and the memory of the value.  A table that fills up is replaced by one
 * of twice the size; what another thread stores meanwhile may be lost, which reads as one miss.  Tables that
 * were replaced are left, for a thread may still look at one.
 */
#include "keys.h"

#include "values.h"

#include <stdatomic.h>
#include <sys/mman.h>

#define SIZE_BITS 24
#define SIZE_MASK ((1u << SIZE_BITS) - 1)
#define DROPPED 1ull /* a place that was taken: no hash is that small */
#define FIRST_SHIFT 12
#define LAST_SHIFT 24
#define TRIES 256
#define IS_FULL(used, shift) ((used) * 8 > (uint64_t)5 << (shift))
#ifdef TEST_FUZZ
#define FILL 1
#else
#define FILL 1000 /* stores of a filling client, at least */
#endif

struct place {
	_Atomic uint64_t entry;
	_Atomic uint32_t value; /* in values.h */
};

struct table {
	unsigned shift;
	_Atomic uint64_t used;
	struct place place[];
};

static struct table *_Atomic current;
static atomic_flag growing = ATOMIC_FLAG_INIT;
static _Atomic uint32_t stores, reads;
static _Atomic uint8_t filled;
static uint8_t known_empty;
static _Atomic uint64_t pushed[64]; /* by some bits of the hash: keys that were pushed to */

/* Address space for tables of every size, so that none is asked for under load; what is not touched takes no memory. */
static uint8_t *region;
static size_t region_used;
#define REGION_BYTES ((sizeof(struct place) << LAST_SHIFT) * 2)

void keys_setup(int known)
{
	known_empty = known != 0;
	atomic_store(&filled, known_empty);
	values_setup();
	region = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (region == MAP_FAILED)
		region = NULL;
}

void keys_forget(void)
{
	if (region_used)
		madvise(region, region_used, MADV_DONTNEED);
	region_used = 0;
	values_forget();
	memset((void *)pushed, 0, sizeof(pushed));
	atomic_store(&current, NULL);
	atomic_store(&stores, 0);
	atomic_store(&reads, 0);
	atomic_store(&filled, known_empty);
}

static struct table *table_new(unsigned shift)
{
	size_t bytes = (sizeof(struct table) + (sizeof(struct place) << shift) + 4095) & ~(size_t)4095;
	struct table *t = (struct table *)(void *)(region + region_used);

	if (!region || region_used + bytes > REGION_BYTES)
		return NULL;
	region_used += bytes;
	t->shift = shift;
	return t;
}

static uint64_t tag_of(uint64_t hash)
{
	uint64_t tag = hash & ~(uint64_t)SIZE_MASK;

	return tag ? tag : 1ull << 63;
}

static uint64_t first_place(const struct table *t, uint64_t tag)
{
	return tag >> (64 - t->shift);
}

/* The place where a tag is, or the first free one, made its own.  *state is 1 for a new one, 0 for a known one. */
static struct place *claim(struct table *t, uint64_t tag, uint64_t entry, int *state)
{
	uint64_t mask = ((uint64_t)1 << t->shift) - 1, at = first_place(t, tag), seen;

	for (unsigned i = 0; i < TRIES; i++, at = (at + 1) & mask) {
		struct place *place = &t->place[at];

		seen = atomic_load_explicit(&place->entry, memory_order_relaxed);
		if ((seen & ~(uint64_t)SIZE_MASK) == tag) {
			if (seen != entry)
				atomic_store_explicit(&place->entry, entry, memory_order_relaxed);
			*state = 0;
			return place;
		}
		if (seen <= DROPPED && atomic_compare_exchange_strong(&place->entry, &seen, entry)) {
			*state = seen == 0;
			return place;
		}
	}
	return NULL;
}

static void grow(struct table *from)
{
	struct table *to;

	if (atomic_flag_test_and_set(&growing))
		return; /* someone does */
	if (atomic_load(&current) == from && (!from || from->shift < LAST_SHIFT)) {
		to = table_new(from ? from->shift + 1 : FIRST_SHIFT);
		for (uint64_t i = 0; to && from && i < (uint64_t)1 << from->shift; i++) {
			uint64_t entry = atomic_load_explicit(&from->place[i].entry, memory_order_relaxed);
			struct place *place;
			int state;

			if (entry <= DROPPED)
				continue;
			place = claim(to, entry & ~(uint64_t)SIZE_MASK, entry, &state);
			if (!place)
				continue;
			to->used += (uint64_t)state;
			place->value = from->place[i].value;
		}
		if (to)
			atomic_store(&current, to);
	}
	atomic_flag_clear(&growing);
}

/* Some count is enough to tell a filling client. */
static void count_store(void)
{
	uint32_t n;

	if (atomic_load_explicit(&filled, memory_order_relaxed))
		return;
	n = atomic_fetch_add_explicit(&stores, 1, memory_order_relaxed) + 1;
	if (n >= FILL && n > atomic_load_explicit(&reads, memory_order_relaxed))
		atomic_store_explicit(&filled, 1, memory_order_relaxed);
}

/* Memory for the value: what the place has, if it is of the right class. */
static void keep(struct place *place, const uint8_t *value, uint32_t size)
{
	uint32_t old = atomic_load_explicit(&place->value, memory_order_acquire), slot = old;

	if (!values_fits(old, size) || values_next(old))
		slot = values_take(size);
	if (slot)
		values_fill(slot, value, size);
	if (slot != old)
		values_give_all(atomic_exchange(&place->value, slot));
}

static void add(struct place *place, const uint8_t *value, uint32_t size)
{
	uint32_t last = atomic_load_explicit(&place->value, memory_order_acquire), slot = values_take(size);

	if (!slot)
		return;
	values_fill(slot, value, size);
	do
		values_link(slot, last);
	while (!atomic_compare_exchange_weak(&place->value, &last, slot));
}

static void enter(uint64_t hash, uint32_t size, const uint8_t *value, void (*how)(struct place *, const uint8_t *, uint32_t))
{
	struct table *t = atomic_load_explicit(&current, memory_order_acquire);
	uint64_t tag = tag_of(hash);
	struct place *place;
	int state;

	if (!t) {
		grow(NULL);
		t = atomic_load(&current);
		if (!t)
			return;
	}
	place = claim(t, tag, tag | (size < SIZE_MASK ? size : SIZE_MASK), &state);
	if (!place)
		return;
	if (how)
		how(place, value, size);
	if (state == 1 && IS_FULL(atomic_fetch_add_explicit(&t->used, 1, memory_order_relaxed), t->shift))
		grow(t);
}

void keys_store(uint64_t hash, const uint8_t *value, uint32_t size)
{
	count_store();
	enter(hash, size, value, keep);
}

static _Atomic uint64_t *pushed_word(uint64_t hash, uint64_t *bit)
{
	*bit = (uint64_t)1 << (hash >> 34 & 63);
	return &pushed[hash >> 40 & 63];
}

void keys_push(uint64_t hash, const uint8_t *value, uint32_t size)
{
	uint64_t bit;
	_Atomic uint64_t *word = pushed_word(hash, &bit);

	if (!(atomic_load_explicit(word, memory_order_relaxed) & bit))
		atomic_fetch_or(word, bit);
	count_store();
	enter(hash, size, value, add);
}

static struct place *find(uint64_t hash)
{
	struct table *t = atomic_load_explicit(&current, memory_order_acquire);
	uint64_t tag = tag_of(hash), mask, at;

	if (!t)
		return NULL;
	mask = ((uint64_t)1 << t->shift) - 1;
	at = first_place(t, tag);
	for (unsigned i = 0; i < TRIES; i++, at = (at + 1) & mask) {
		uint64_t seen = atomic_load_explicit(&t->place[at].entry, memory_order_relaxed);

		if ((seen & ~(uint64_t)SIZE_MASK) == tag)
			return &t->place[at];
		if (seen == 0)
			return NULL;
	}
	return NULL;
}

void keys_drop(uint64_t hash)
{
	struct place *place = find(hash);

	if (!place)
		return;
	atomic_store_explicit(&place->entry, DROPPED, memory_order_relaxed);
	values_give_all(atomic_exchange(&place->value, 0));
}

enum key_state keys_pop(uint64_t hash, int drains, const uint8_t **value, uint32_t *size)
{
	struct place *place = find(hash);
	uint32_t last = place ? atomic_load_explicit(&place->value, memory_order_acquire) : 0;
	uint64_t bit;
	int known = (atomic_load_explicit(pushed_word(hash, &bit), memory_order_relaxed) & bit) != 0;

	if (!atomic_load_explicit(&filled, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
		known &= drains;
	}
	do
		if (!last)
			return known ? KEY_ABSENT : KEY_UNKNOWN;
	while (!atomic_compare_exchange_weak(&place->value, &last, values_next(last)));
	if (!values_next(last))
		atomic_store_explicit(&place->entry, DROPPED, memory_order_relaxed);
	*value = values_at(last, size);
	values_give(last);
	return known ? KEY_PRESENT : KEY_UNKNOWN;
}

int keys_note(uint64_t hash)
{
	int known = keys_has(hash);

	if (!known)
		enter(hash, 0, NULL, NULL);
	return !known;
}

int keys_has(uint64_t hash)
{
	return find(hash) != NULL;
}

enum key_state keys_read(uint64_t hash, const uint8_t **value, uint32_t *size)
{
	struct place *place;
	uint32_t slot;

	if (!atomic_load_explicit(&filled, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&reads, 1, memory_order_relaxed);
		return KEY_UNKNOWN;
	}
	place = find(hash);
	if (!place)
		return KEY_ABSENT;
	*value = NULL;
	*size = (uint32_t)(atomic_load_explicit(&place->entry, memory_order_relaxed) & SIZE_MASK);
	slot = atomic_load_explicit(&place->value, memory_order_acquire);
	if (slot)
		*value = values_at(slot, size);
	return KEY_PRESENT;
}
