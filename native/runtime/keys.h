/* SPDX-License-Identifier: Apache-2.0
 *
 * Which keys a keyed store holds: a hash of each key and memory for its value, so that reads hit and miss as they do in
 * a store with the same history, hits have the size that was stored, and memory grows and is touched as the original's.
 * No key is kept.
 *
 * A store counts as filled once it was given many values in a row of more stores than reads, as a preparing client
 * does.  Until then nothing is known of what it would hold, and replies are drawn as they were observed; where the
 * original was seen to start empty, that is all there is to know.
 */
#ifndef DITTO_KEYS_H
#define DITTO_KEYS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum key_role {
	KEY_NONE, KEY_READ, KEY_STORE, KEY_DROP, KEY_TAKE, /* a read that drops */
	KEY_PUSH, KEY_POP, KEY_PULL,			   /* a pop that waits */
	KEY_ADD, KEY_REMOVE, KEY_DRAW,			   /* of sets, which have each value once: see members.h */
	KEY_STORE_NEW, KEY_STORE_OLD, KEY_GROW, KEY_SWAP,  /* stores that depend on whether the key is there */
	KEY_LOOK,					   /* whether it is there */
	KEY_HEAR, KEY_TELL,				   /* channels: see push.c */
};
enum key_state { KEY_UNKNOWN = -1, KEY_ABSENT = 0, KEY_PRESENT = 1 };

/* Once, before the first thread; without it no key is kept.  known: an empty store, and all reads are of what it is given. */
void keys_setup(int known);
void keys_forget(void); /* an empty store again; no other thread may be using it */
void keys_store(uint64_t hash, const uint8_t *value, uint32_t size); /* value: NULL where it did not come in one piece */
void keys_drop(uint64_t hash);
void keys_push(uint64_t hash, const uint8_t *value, uint32_t size); /* one more value of the same key */
/* The last of them is gone, with the only one the key.  KEY_UNKNOWN also where no key like this was ever pushed to, for
 * there are more ways to get values than are seen.  drains: keys were seen to run empty, so what is in them is what was
 * put there since, in a store that was not filled as well.  For KEY_PRESENT as keys_read; bytes stay until the next value comes. */
enum key_state keys_pop(uint64_t hash, int drains, const uint8_t **value, uint32_t *size);
int keys_note(uint64_t hash); /* a key without a value; 0: it was there */
int keys_has(uint64_t hash);
/* For KEY_PRESENT, *size is set, and *value to the bytes or, where there was no memory for them, to NULL. */
enum key_state keys_read(uint64_t hash, const uint8_t **value, uint32_t *size);

/* The two halves of the product, folded. */
static inline uint64_t keys_mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)(a ^ 0x9E3779B97F4A7C15ULL) * (b ^ 0xD6E8FEB86659FD93ULL);

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t keys_word(const uint8_t *key)
{
	uint64_t word;

	memcpy(&word, key, 8);
	return word;
}

static inline uint64_t keys_hash(const uint8_t *key, size_t n)
{
	uint64_t hash = n, word = 0;

	for (; n > 16; n -= 16, key += 16)
		hash = keys_mix(keys_word(key) ^ hash, keys_word(key + 8));
	if (n >= 8) {
		hash = keys_mix(keys_word(key) ^ hash, keys_word(key + n - 8));
	} else {
		for (size_t i = 0; i < n; i++)
			word = word << 8 | key[i];
		hash ^= word;
	}
	return keys_mix(hash, 0x2545F4914F6CDD1DULL);
}

#endif
