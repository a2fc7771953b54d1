/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See pages.h. */
#include "pages.h"

#include "pub_tool_mallocfree.h"

static UInt hash_base(ULong base, UInt mask) {
   return (UInt)((base * 0x9e3779b97f4a7c15ULL) >> 32) & mask;
}

static void grow(Pages* p) {
   UInt old_size = p->table ? p->mask + 1 : 0;
   UInt size = old_size ? old_size * 4 : 256;
   Page** t = VG_(calloc)("lens.pages.table", size, sizeof *t);
   for (UInt i = 0; i < old_size; i++) {
      for (Page *page = p->table[i], *n; page; page = n) {
         n = page->next;
         UInt h = hash_base(page->base, size - 1);
         page->next = t[h];
         t[h] = page;
      }
   }
   if (p->table) VG_(free)(p->table);
   p->table = t;
   p->mask = size - 1;
}

UInt* pages_slow(Pages* p, ULong key) {
   ULong base = key >> 6;
   if (!p->table || p->count > 2 * p->mask) grow(p);
   UInt h = hash_base(base, p->mask);
   Page* page = p->table[h];
   while (page && page->base != base) page = page->next;
   if (!page) {
      page = VG_(calloc)("lens.pages.page", 1, sizeof *page);
      page->base = base;
      page->next = p->table[h];
      p->table[h] = page;
      p->count++;
   }
   p->cache[base & (PAGES_CACHE - 1)] = page;
   return &page->slot[key & 63];
}

void pages_free(Pages* p) {
   for (UInt i = 0; p->table && i <= p->mask; i++) {
      for (Page *page = p->table[i], *n; page; page = n) {
         n = page->next;
         VG_(free)(page);
      }
   }
   if (p->table) VG_(free)(p->table);
}
