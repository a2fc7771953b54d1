/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See owners.h. */
#include "owners.h"

#include "pub_tool_libcbase.h"
#include "pub_tool_mallocfree.h"

#define CACHE 4096
#define PAGE_LINES 64
#define IN_A_ROW 255 /* touches by one thread after which a line is its own */

/* Of a line: the thread that touched it last (16 bits; one in 65536 mistaken for another matters little), whether
 * another had, and the touches since then. */
typedef struct {
   UShort serial;
   UChar shared, since;
} Owner;

typedef struct Page {
   ULong base;
   struct Page* next;
   Owner owner[PAGE_LINES];
} Page;

static Page** table;
static UInt mask, npages;
static Page* cache[CACHE];

static UInt hash(ULong base) {
   return (UInt)((base * 0x9e3779b97f4a7c15ULL) >> 32) & mask;
}

static void grow(void) {
   UInt old = table ? mask + 1 : 0;
   Page** before = table;
   mask = (old ? old * 4 : 1024) - 1;
   table = VG_(calloc)("lens.owners.table", mask + 1, sizeof *table);
   for (UInt i = 0; i < old; i++) {
      for (Page *p = before[i], *n; p; p = n) {
         n = p->next;
         p->next = table[hash(p->base)];
         table[hash(p->base)] = p;
      }
   }
   if (before) VG_(free)(before);
}

void owners_init(void) {
   grow();
}

static Page* page_of(ULong base) {
   Page** place = &cache[base & (CACHE - 1)];
   if (LIKELY(*place && (*place)->base == base)) return *place;
   Page* p = table[hash(base)];
   while (p && p->base != base) p = p->next;
   if (!p) {
      if (npages++ > 2 * mask) grow();
      p = VG_(calloc)("lens.owners.page", 1, sizeof *p);
      p->base = base;
      p->next = table[hash(base)];
      table[hash(base)] = p;
   }
   return *place = p;
}

UInt owners_touch(UInt serial, ULong line) {
   Owner* o = &page_of(line / PAGE_LINES)->owner[line % PAGE_LINES];
   if (o->serial != (UShort)serial) {
      o->shared = o->serial != 0;
      o->serial = (UShort)serial;
      o->since = 0;
   } else if (o->shared && ++o->since == IN_A_ROW) {
      o->shared = 0;
   }
   return o->shared;
}
