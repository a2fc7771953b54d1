/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What happens at the end of every executed block.  The hot path of the tool: generated code has stored the
 * block's addresses in G.buffer, everything else is in the descriptor. */
#include "lens.h"
#include "owners.h"

Hot G;
ULong g_depth[DEPTH_BUCKETS];

/* Counts a touch that is not of the same line again. */
static inline void touch_data(Thread* t, Key* key, UInt store, ULong line, ULong inc) {
   UInt bucket = lru_touch(&t->data, line);
   (store ? key->store : key->load)[bucket] += inc;
   if (bucket >= DEEP) key->shared[store][bucket] += owners_touch(t->serial, line) * inc;
   key->data_set_misses += sets_miss(&t->data_sets, DATA_WAYS, line) * inc;
   key->page[lru_touch(&t->pages, line >> 6)] += inc;
}

/* One access of the line or lines that [addr, addr + size) covers. */
static void __attribute__((noinline)) touch_data_slow(Thread* t, Key* key, UInt store, Addr addr, UInt size,
                                                      ULong inc) {
   ULong first = addr >> 6, last = (addr + size - 1) >> 6;
   for (ULong line = first; line <= last; line++) touch_data(t, key, store, line, inc);
}

static inline void run_accesses(Thread* t, Key* key, const Desc* d, ULong inc) {
   UInt n = d->nacc;
   ULong same_line[2] = {0, 0};
   for (UInt i = 0; i < n; i++) {
      const Access* a = &d->acc[i];
      Addr addr = G.buffer[i];
      Site* s = a->site;
      if (UNLIKELY(addr == 0)) continue; /* a guarded access that did not happen */
      Long stride = (Long)(addr - s->last);
      s->last = addr;
      s->execs += inc;
      if (stride == 0) s->zero += inc;
      else if (stride == s->stride) s->same += inc;
      s->stride = stride;
      if (UNLIKELY((addr & 63) + a->size > 64)) {
         touch_data_slow(t, key, a->store, addr, a->size, inc);
         continue;
      }
      ULong line = addr >> 6;
      if (line == t->data.top[0]) {
         same_line[a->store] += inc;
         continue;
      }
      touch_data(t, key, a->store, line, inc);
   }
   key->load[0] += same_line[0];
   key->store[0] += same_line[1];
   key->page[0] += same_line[0] + same_line[1];
}

static inline void touch_code(Thread* t, Key* key, ULong line, ULong inc) {
   key->code[lru_touch(&t->code, line)] += inc;
   key->code_set_misses += sets_miss(&t->code_sets, CODE_WAYS, line) * inc;
}

/* A touch of code is the entry of a block (its first line) or the step to the next line inside one.  A block that
 * merely continues a split one in the same line is no entry. */
static inline void run_code(Thread* t, Key* key, const Desc* d, ULong inc) {
   Addr line = d->line0;
   if (line == t->code.top[0]) {
      if (LIKELY(!t->last_desc || !t->last_desc->falls)) key->code[0] += inc;
   } else {
      touch_code(t, key, line, inc);
   }
   for (UInt i = 1; i < d->nlines; i++) touch_code(t, key, line + i, inc);
}

/* Reference predictor: 16384 two-bit counters, all starting at 0 (strongly not taken), chosen by the last 7 outcomes and
 * the low 7 bits of the branch's address; table and history per thread.  Little history and room for many branches: what
 * it misses is hard to foresee, or the exit of a loop. */
static inline void run_branch(Thread* t, Key* key, Branch* b, UInt taken, ULong inc) {
   UChar* counter = &t->predictor[(t->history & 127) << 7 | (b->addr & 127)];
   UInt c = *counter;
   ULong miss = ((c >> 1) != taken) ? inc : 0;
   if (taken) {
      if (c < 3) *counter = (UChar)(c + 1);
      b->taken += inc;
      key->taken += inc;
   } else if (c > 0) *counter = (UChar)(c - 1);
   t->history = (t->history << 1) | taken;
   b->execs += inc;
   b->misses += miss;
   key->misses += miss;
   if (b->last != taken) {
      if (b->seen) b->transitions += inc;
      b->last = (UChar)taken;
   }
   b->seen = 1;
}

static inline void run_indirect(Key* key, Indirect* x, Addr target, ULong inc) {
   x->execs += inc;
   if (x->last != target) {
      x->misses += inc;
      key->ind_misses += inc;
      x->last = target;
   }
   for (UInt i = 0; i < x->ntargets; i++) {
      if (x->targets[i] == target) {
         x->counts[i] += inc;
         return;
      }
   }
   if (inc == 0) return;
   if (x->ntargets < MAX_TARGETS) {
      x->targets[x->ntargets] = target;
      x->counts[x->ntargets++] = 1;
   } else x->other++;
}

void lens_block(Desc* d, UWord outcome) {
   if (UNLIKELY(*G.control != G.command)) control_poll();
   if (UNLIKELY(G.command >= CMD_STOP)) return; /* stopped or off */
   Thread* t = G.thread;
   Key* key = t->key;
   ULong inc = G.inc;
   Exec* e = d->exec;
   if (UNLIKELY(!e || e->key != key)) e = exec_find(d, key);
   if (UNLIKELY(d->rep_addr != 0) && d->rep_only && t->last_desc && t->last_desc->rep_addr == d->rep_addr) {
      /* the next iteration of a rep instruction: no new instruction, no new fetch */
      e->rep_extra += inc;
      key->rep_extra += inc;
   } else {
      e->count += inc;
      t->insns += d->ninsn;
      run_code(t, key, d, inc);
      if (d->pred == t->last_desc) d->pred_votes++;
      else if (d->pred_votes) d->pred_votes--;
      else {
         d->pred = t->last_desc;
         d->pred_votes = 1;
      }
   }
   run_accesses(t, key, d, inc);
   if (d->kind == K_COND) run_branch(t, key, d->br, (UInt)outcome ^ d->invert, inc);
   else if (d->kind == K_IND) run_indirect(key, d->ind, outcome, inc);
   if (d->call == CALL_CALL) {
      t->depth++;
      g_depth[t->depth < DEPTH_BUCKETS ? t->depth : DEPTH_BUCKETS - 1] += inc;
   } else if (d->call == CALL_RET && t->depth) t->depth--;
   t->last_desc = d;
}

void lens_partial(Desc* d) {
   lens_block(d, 0);
}
