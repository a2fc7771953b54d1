/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The deep part of the LRU stack; see lru.h. */
#include "lru.h"

#include "pub_tool_libcassert.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_mallocfree.h"

#define EMPTY (~0ULL)
#define SLOT_UNSEEN 0u
#define SLOT_FORGOTTEN 0xffffffffu
#define FIRST_LIST_BUCKET 4u /* 2^3 == LRU_TOP */

static UInt hash_base(ULong base, UInt mask) {
   return (UInt)((base * 0x9e3779b97f4a7c15ULL) >> 32) & mask;
}

void lru_init(Lru* l) {
   VG_(memset)(l, 0, sizeof *l);
   for (UInt i = 0; i < LRU_TOP; i++) l->top[i] = EMPTY;
}

void lru_free(Lru* l) {
   if (l->table) {
      for (UInt i = 0; i <= l->table_mask; i++) {
         for (LruPage *p = l->table[i], *n; p; p = n) {
            n = p->next;
            VG_(free)(p);
         }
      }
      VG_(free)(l->table);
   }
   if (l->nodes) VG_(free)(l->nodes);
   lru_init(l);
}

static void grow_table(Lru* l) {
   UInt old_size = l->table ? l->table_mask + 1 : 0;
   UInt size = old_size ? old_size * 4 : 256;
   LruPage** t = VG_(calloc)("lens.lru.table", size, sizeof *t);
   for (UInt i = 0; i < old_size; i++) {
      for (LruPage *p = l->table[i], *n; p; p = n) {
         n = p->next;
         UInt h = hash_base(p->base, size - 1);
         p->next = t[h];
         t[h] = p;
      }
   }
   if (l->table) VG_(free)(l->table);
   l->table = t;
   l->table_mask = size - 1;
}

static UInt* slot_slow(Lru* l, ULong key) {
   ULong base = key >> 6;
   if (!l->table || l->npages > 2 * l->table_mask) grow_table(l);
   UInt h = hash_base(base, l->table_mask);
   LruPage* p = l->table[h];
   while (p && p->base != base) p = p->next;
   if (!p) {
      p = VG_(calloc)("lens.lru.page", 1, sizeof *p);
      p->base = base;
      p->next = l->table[h];
      l->table[h] = p;
      l->npages++;
   }
   l->cache[base & (LRU_CACHE - 1)] = p;
   return &p->slot[key & 63];
}

static inline UInt* slot_of(Lru* l, ULong key) {
   LruPage* p = l->cache[(key >> 6) & (LRU_CACHE - 1)];
   if (LIKELY(p && p->base == key >> 6)) return &p->slot[key & 63];
   return slot_slow(l, key);
}

/* Everything before the node that now leaves its place moves one deeper: the last node of each bucket below
 * `bucket` becomes the first of the next one. */
static inline void shift_markers(Lru* l, UInt bucket) {
   LruNode* nodes = l->nodes;
   for (UInt k = FIRST_LIST_BUCKET + 1; k <= bucket; k++) {
      UInt m = nodes[l->marker[k]].prev;
      nodes[m].level = k;
      l->marker[k] = m;
   }
}

static inline void push_head(Lru* l, UInt n, ULong key) {
   LruNode* nodes = l->nodes;
   nodes[n].key = key;
   nodes[n].level = FIRST_LIST_BUCKET;
   nodes[n].prev = 0;
   nodes[n].next = l->head;
   if (l->head) nodes[l->head].prev = n;
   else l->tail = n;
   l->head = n;
}

static UInt new_node(Lru* l) {
   if (l->used + 1 >= l->cap) {
      l->cap = l->cap ? l->cap * 2 : 1024;
      l->nodes = VG_(realloc)("lens.lru.nodes", l->nodes, (SizeT)l->cap * sizeof *l->nodes);
   }
   return ++l->used;
}

/* The stack grows by one: `key` enters the list at its head. */
static UInt insert_new(Lru* l, ULong key) {
   UInt k = FIRST_LIST_BUCKET + 1;
   while (k < BUCKET_DEEP && l->marker[k]) k++;
   shift_markers(l, k - 1);
   UInt n;
   if (l->len == LRU_LIST_MAX) {
      n = l->tail;
      *slot_of(l, l->nodes[n].key) = SLOT_FORGOTTEN;
      l->tail = l->nodes[n].prev;
      l->nodes[l->tail].next = 0;
      l->len--;
   } else {
      n = new_node(l);
      if (l->tail && l->len + LRU_TOP == (1u << (k - 1))) { /* the tail moves to a power-of-two position */
         l->marker[k] = l->tail;
         l->nodes[l->tail].level = k;
      }
   }
   push_head(l, n, key);
   l->len++;
   return n;
}

UInt lru_deep(Lru* l, ULong key, ULong evicted) {
   UInt* slot = slot_of(l, key);
   UInt n = *slot;
   if (n == SLOT_UNSEEN || n == SLOT_FORGOTTEN) {
      *slot = SLOT_FORGOTTEN; /* seen; overwritten when it leaves the array */
      if (evicted != EMPTY) *slot_of(l, evicted) = insert_new(l, evicted);
      return n == SLOT_UNSEEN ? BUCKET_FIRST : BUCKET_DEEP;
   }
   LruNode* nodes = l->nodes;
   UInt bucket = nodes[n].level;
   *slot_of(l, evicted) = n;
   if (n == l->head) {
      nodes[n].key = evicted;
      return bucket;
   }
   shift_markers(l, bucket);
   UInt before = nodes[n].prev, after = nodes[n].next;
   nodes[before].next = after;
   if (after) nodes[after].prev = before;
   else l->tail = before;
   push_head(l, n, evicted);
   return bucket;
}
