/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See owners.h. */
#include "owners.h"

#include "pages.h"

#define IN_A_ROW 255u /* touches by one thread after which a line is its own */

/* A line's word: the thread that touched it last (low 16 bits; one in 65536 mistaken for another matters little), and if
 * another had before, how many of its own touches are left until the line is its own. */
static Pages lines;

UInt owners_touch(UInt serial, ULong line) {
   UInt* word = pages_slot(&lines, line);
   UInt last = *word & 0xffff, left = *word >> 16;
   serial &= 0xffff;
   if (last != serial) left = last ? IN_A_ROW : 0;
   else if (left) left--;
   *word = serial | left << 16;
   return left != 0;
}
