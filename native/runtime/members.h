/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys that hold each value once, as sets do: what is drawn from one, and when there is nothing left, follows from what was
 * added.  Each value lies in the key's list, and its own hash is noted while it is one; those that were removed are left in the
 * list and passed over.
 */
#ifndef DITTO_MEMBERS_H
#define DITTO_MEMBERS_H

#include "keys.h"

/* value: NULL where it did not come in one piece; it is then taken to be new. */
void members_add(uint64_t hash, const uint8_t *value, uint32_t size);
void members_remove(uint64_t hash, const uint8_t *value, uint32_t size);
/* As keys_pop; *size is 0 where it is not known. */
enum key_state members_draw(uint64_t hash, int drains, const uint8_t **value, uint32_t *size);
void members_drop(uint64_t hash); /* the key and all values, if it has any */

#endif
