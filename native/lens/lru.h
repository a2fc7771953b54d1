/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Exact LRU stack distances in power-of-two buckets.
 *
 * Bucket 0: the same key again; bucket k (1..21): 2^(k-1) <= distance < 2^k, the distance being the number of
 * distinct other keys since the last access; bucket 22: 2^21 and more; bucket 23: first touch.
 *
 * The first LRU_TOP positions of the stack are an array searched and shifted in one pass; the rest is a linked
 * list with a marker at each power-of-two position, so that an access moves one node and shifts at most log2 of
 * its depth markers.  Keys deeper than 2^21 are forgotten except for the fact that they were seen. */
#ifndef LRU_H
#define LRU_H

#include "pages.h"

#include "pub_tool_basics.h"

#define BUCKETS 24
#define BUCKET_DEEP 22
#define BUCKET_FIRST 23
#define LRU_TOP 8
#define LRU_LIST_MAX ((1u << 21) - LRU_TOP)

typedef struct {
   ULong key;
   UInt prev, next;
   UInt level;
   UInt pad;
} LruNode;

typedef struct {
   ULong top[LRU_TOP]; /* most recent first; ~0: empty */
   LruNode* nodes;     /* index 0 is unused and means none */
   UInt used, cap;
   UInt head, tail, len;
   UInt marker[BUCKETS]; /* first node of bucket k, for k > 4; bucket 4 begins at the head */
   Pages pages; /* of each key its node, or what became of it */
} Lru;

void lru_init(Lru* l);
void lru_free(Lru* l);
/* `key` missed the array, `evicted` fell off it; returns the bucket. */
UInt lru_deep(Lru* l, ULong key, ULong evicted);

/* Bucket of this access, which becomes the most recent. */
static inline UInt lru_touch(Lru* l, ULong key) {
   static const UChar bucket[LRU_TOP] = {0, 1, 2, 2, 3, 3, 3, 3};
   ULong* top = l->top;
   ULong moving = top[0];
   if (moving == key) return 0;
   top[0] = key;
#pragma GCC unroll 8
   for (UInt i = 1; i < LRU_TOP; i++) {
      ULong here = top[i];
      top[i] = moving;
      if (here == key) return bucket[i];
      moving = here;
   }
   return lru_deep(l, key, moving);
}

#endif
