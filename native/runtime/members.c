/* SPDX-License-Identifier: Apache-2.0
 *
 * See members.h.
 */
#include "members.h"

static uint8_t any; /* whether a value was ever added: else no key needs to be looked through */

static uint64_t member(uint64_t hash, const uint8_t *value, uint32_t size)
{
	return keys_mix(hash, keys_hash(value, size));
}

void members_add(uint64_t hash, const uint8_t *value, uint32_t size)
{
	any = 1;
	if (!value)
		keys_push(hash, NULL, 0);
	else if (keys_note(member(hash, value, size)))
		keys_push(hash, value, size);
}

void members_remove(uint64_t hash, const uint8_t *value, uint32_t size)
{
	if (value)
		keys_drop(member(hash, value, size));
}

enum key_state members_draw(uint64_t hash, int drains, const uint8_t **value, uint32_t *size)
{
	for (;;) {
		enum key_state state;
		uint64_t own;

		*value = NULL;
		state = keys_pop(hash, drains, value, size);
		if (!*value || !*size)
			return state;
		own = member(hash, *value, *size);
		if (keys_has(own)) {
			keys_drop(own);
			return state;
		}
	}
}

void members_drop(uint64_t hash)
{
	const uint8_t *value;
	uint32_t size = 0;

	if (any)
		do
			members_draw(hash, 0, &value, &size);
		while (value);
	keys_drop(hash);
}
