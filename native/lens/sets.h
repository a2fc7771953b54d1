/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cache as processors have them: lines share sets, and a set keeps those used last.  What it misses beyond a stack
 * distance tells how evenly a program's lines are spread over the sets. */
#ifndef SETS_H
#define SETS_H

#include "pub_tool_basics.h"

#define SETS 64
#define CODE_WAYS 8  /* 32 KiB */
#define DATA_WAYS 12 /* 48 KiB */

typedef struct {
   ULong way[SETS][DATA_WAYS]; /* the one used last first; 0: empty */
} Sets;

/* 1 if the line was not there; it is now. */
static inline UInt sets_miss(Sets* s, UInt ways, ULong line) {
   ULong* way = s->way[line & (SETS - 1)];
   ULong moving = way[0];
   if (moving == line) return 0;
   way[0] = line;
   for (UInt i = 1; i < ways; i++) {
      ULong here = way[i];
      way[i] = moving;
      if (here == line) return 0;
      moving = here;
   }
   return 1;
}

#endif
