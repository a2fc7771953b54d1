/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables of what is static: blocks, memory sites, branches, indirect transfers.  Valgrind may translate the same
 * code again at any time, so each is looked up by what identifies it; a block by its address and its bytes, since
 * code can be unmapped or rewritten. */
#include "lens.h"

#include "pub_tool_libcassert.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_mallocfree.h"

#define TABLE_BITS 16
#define TABLE_SIZE (1u << TABLE_BITS)

static Desc* blocks[TABLE_SIZE];
static Site* sites[TABLE_SIZE];
static Branch* branches[TABLE_SIZE];
static Indirect* indirects[TABLE_SIZE];
static UInt nblocks, nsites, nbranches, nindirects;

static UInt hash_addr(Addr a) {
   return (UInt)((a * 0x9e3779b97f4a7c15ULL) >> (64 - TABLE_BITS));
}

/* Small objects that live as long as the process. */
static void* arena(SizeT size) {
   static UChar* at;
   static SizeT left;
   size = (size + 63) & ~63UL;
   if (size > left) {
      left = size > (1u << 20) ? size : (1u << 20);
      at = VG_(calloc)("lens.arena", 1, left + 64);
      at = (UChar*)(((Addr)at + 63) & ~63UL);
   }
   void* p = at;
   at += size;
   left -= size;
   return p;
}

static ULong hash_code(const UChar* code, UInt len) {
   ULong h = 0xcbf29ce484222325ULL;
   for (UInt i = 0; i < len; i++) h = (h ^ code[i]) * 0x100000001b3ULL;
   return h;
}

Desc* desc_get(Addr start, UInt len, UInt ninsn, const Access* acc, UInt nacc, Bool partial, Bool* fresh) {
   const UChar* code = (const UChar*)start;
   ULong h = hash_code(code, len);
   Desc** slot = &blocks[hash_addr(start)];
   *fresh = False;
   for (Desc* d = *slot; d; d = d->next) {
      if (d->start == start && d->len == len && d->ninsn == ninsn && d->code_hash == h && d->nacc == nacc &&
          d->partial == partial)
         return d;
   }
   *fresh = True;
   Desc* d = arena(sizeof *d + nacc * sizeof *acc);
   d->start = start;
   d->len = len;
   d->ninsn = ninsn;
   d->code_hash = h;
   d->nacc = nacc;
   d->partial = partial;
   d->line0 = start >> 6;
   d->nlines = (UInt)(((start + len - 1) >> 6) - d->line0 + 1);
   nblocks++;
   for (UInt i = 0; i < nacc; i++) {
      d->acc[i] = acc[i];
      d->nstore += acc[i].store;
   }
   UChar* copy = arena(len);
   VG_(memcpy)(copy, code, len);
   d->code = copy;
   d->next = *slot;
   *slot = d;
   return d;
}

Site* site_get(Addr addr, UInt ordinal, UInt size, Bool store) {
   Site** slot = &sites[hash_addr(addr + ordinal)];
   for (Site* s = *slot; s; s = s->next) {
      if (s->addr == addr && s->ordinal == ordinal && s->size == size && s->store == store) return s;
   }
   Site* s = arena(sizeof *s);
   s->addr = addr;
   s->ordinal = (UChar)ordinal;
   s->size = (UShort)size;
   s->store = store;
   s->id = nsites++;
   s->next = *slot;
   *slot = s;
   return s;
}

Branch* branch_get(Addr addr, Addr target) {
   Branch** slot = &branches[hash_addr(addr)];
   for (Branch* b = *slot; b; b = b->next) {
      if (b->addr == addr && b->target == target) return b;
   }
   Branch* b = arena(sizeof *b);
   b->addr = addr;
   b->target = target;
   b->id = nbranches++;
   b->next = *slot;
   *slot = b;
   return b;
}

Indirect* indirect_get(Addr addr, UInt kind) {
   Indirect** slot = &indirects[hash_addr(addr)];
   for (Indirect* x = *slot; x; x = x->next) {
      if (x->addr == addr && x->kind == kind) return x;
   }
   Indirect* x = arena(sizeof *x);
   x->addr = addr;
   x->kind = kind;
   x->id = nindirects++;
   x->next = *slot;
   *slot = x;
   return x;
}

/* Moves the entry of key `k` to the head, making it if need be. */
Exec* exec_find(Desc* d, Key* k) {
   Exec** at = &d->exec;
   for (Exec* e = *at; e; at = &e->next, e = *at) {
      if (e->key == k) {
         *at = e->next;
         e->next = d->exec;
         d->exec = e;
         return e;
      }
   }
   Exec* e = arena(sizeof *e);
   e->key = k;
   e->next = d->exec;
   d->exec = e;
   return e;
}

void blocks_each(void (*f)(Desc*)) {
   for (UInt i = 0; i < TABLE_SIZE; i++)
      for (Desc* d = blocks[i]; d; d = d->next) f(d);
}

void sites_each(void (*f)(Site*)) {
   for (UInt i = 0; i < TABLE_SIZE; i++)
      for (Site* s = sites[i]; s; s = s->next) f(s);
}

void branches_each(void (*f)(Branch*)) {
   for (UInt i = 0; i < TABLE_SIZE; i++)
      for (Branch* b = branches[i]; b; b = b->next) f(b);
}

void indirects_each(void (*f)(Indirect*)) {
   for (UInt i = 0; i < TABLE_SIZE; i++)
      for (Indirect* x = indirects[i]; x; x = x->next) f(x);
}

UInt blocks_count(void) {
   return nblocks;
}

UInt branches_count(void) {
   return nbranches;
}

UInt indirects_count(void) {
   return nindirects;
}

UInt sites_count(void) {
   return nsites;
}

static void reset_desc(Desc* d) {
   for (Exec* e = d->exec; e; e = e->next) e->count = e->rep_extra = 0;
}

static void reset_site(Site* s) {
   s->execs = s->same = s->zero = 0;
}

static void reset_branch(Branch* b) {
   b->execs = b->taken = b->transitions = b->misses = 0;
}

static void reset_indirect(Indirect* x) {
   x->execs = x->misses = x->other = 0;
   x->ntargets = 0;
   VG_(memset)(x->counts, 0, sizeof x->counts);
}

/* Counters to zero; what was learnt (strides, predictors) stays. */
void blocks_reset(void) {
   blocks_each(reset_desc);
   sites_each(reset_site);
   branches_each(reset_branch);
   indirects_each(reset_indirect);
   VG_(memset)(g_depth, 0, sizeof g_depth);
}
