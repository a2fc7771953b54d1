/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A word for each line of memory, or for each page of it: a hash table of slots for 64 keys in a row, 0 at first. */
#ifndef PAGES_H
#define PAGES_H

#include "pub_tool_basics.h"

#define PAGES_CACHE 1024

typedef struct Page {
   ULong base;
   struct Page* next;
   UInt slot[64];
} Page;

typedef struct {
   Page* cache[PAGES_CACHE];
   Page** table;
   UInt mask, count;
} Pages;

UInt* pages_slow(Pages* p, ULong key);
void pages_free(Pages* p);

static inline UInt* pages_slot(Pages* p, ULong key) {
   Page* page = p->cache[(key >> 6) & (PAGES_CACHE - 1)];
   if (LIKELY(page && page->base == key >> 6)) return &page->slot[key & 63];
   return pages_slow(p, key);
}

#endif
