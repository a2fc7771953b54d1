/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory that stored values take: slots in size classes, as in a slab allocator, shared by the threads of a process.
 * What lies in a slot is what this clone's own client sent, or filler.  Slots are never unmapped and never change their
 * class, so that a reader that races with a writer reads wrong bytes at worst.
 */
#ifndef DITTO_VALUES_H
#define DITTO_VALUES_H

#include <stdint.h>

void values_setup(void);  /* once, before the first thread; without it there is no memory to be had */
void values_forget(void); /* all slots are free again; no other thread may be using them */

/* Places are numbers above 0; 0 stands for no memory. */
uint32_t values_take(uint32_t size);
void values_give(uint32_t place);
/* A slot in use may lead to another, as the elements of a list do; 0: to none, as a new one does. */
void values_link(uint32_t place, uint32_t next);
uint32_t values_next(uint32_t place);
void values_give_all(uint32_t place); /* it and all it leads to */
int values_fits(uint32_t place, uint32_t size); /* whether a slot is of the class that size would get */
void values_fill(uint32_t place, const uint8_t *value, uint32_t size); /* NULL: filler */
const uint8_t *values_at(uint32_t place, uint32_t *size);

/* All slots lie on a round in an order by chance, each a line of memory far from the one before, as items of a store that are
 * found by hash or by age.  Only where far reads are to be of the store; else there are no slots on it. */
uint32_t values_slots(void); /* on the round */
/* So many steps from the slot that this thread has used last, so that what is asked for often leads to the same ones; where it
 * has used none since the last walk, on from the end of that, or by chance where that is 0.  Returns where they lead. */
uint32_t values_walk(uint32_t from, uint32_t steps, uint32_t chance);

#endif
