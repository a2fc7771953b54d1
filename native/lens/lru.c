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

void lru_init(Lru* l) {
   VG_(memset)(l, 0, sizeof *l);
   for (UInt i = 0; i < LRU_TOP; i++) l->top[i] = EMPTY;
}

void lru_free(Lru* l) {
   pages_free(&l->pages);
   if (l->nodes) VG_(free)(l->nodes);
   lru_init(l);
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
      *pages_slot(&l->pages, l->nodes[n].key) = SLOT_FORGOTTEN;
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
   UInt* slot = pages_slot(&l->pages, key);
   UInt n = *slot;
   if (n == SLOT_UNSEEN || n == SLOT_FORGOTTEN) {
      *slot = SLOT_FORGOTTEN; /* seen; overwritten when it leaves the array */
      if (evicted != EMPTY) *pages_slot(&l->pages, evicted) = insert_new(l, evicted);
      return n == SLOT_UNSEEN ? BUCKET_FIRST : BUCKET_DEEP;
   }
   LruNode* nodes = l->nodes;
   UInt bucket = nodes[n].level;
   *pages_slot(&l->pages, evicted) = n;
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
