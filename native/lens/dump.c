/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file: PREFIX.<pid>.lens, written under another name and renamed.
 *
 * All numbers little-endian.  Header: 8 bytes "DITTOLNS", u32 version, u32 number of sections; then per section
 * char name[8] (zero-padded), u64 offset from the file's start, u64 count, u32 item size, u32 zero.  A section is
 * `count` packed items of that size.  An unknown section is to be skipped, an unknown version to be refused.
 *
 *   meta      u64[8]: pid, accesses dropped (static, per translation), events dropped, class overflows, blocks
 *             translated, ended by (0 exit, 1 stop),  codec, parent process
 *   command   u8: the program and its arguments, each ended by a zero byte
 *   threads   u32 serial, u32 kernel thread id
 *   classes   u32 length, char name[76]; the index is the class id, 0 is "none"
 *   keys      struct key_item below; the index is the key id
 *   trans     u32 key, u32 next call, u64 count
 *   blocks    struct block_item; the index is the block id; only blocks that were executed
 *   code      u8: the bytes of all blocks
 *   execs     u32 block, u32 key, u64 count, u64 rep_extra
 *   acc       u32 site: the access list of all blocks in order of execution
 *   sites     struct site_item
 *   branches  struct branch_item
 *   indirect  struct indirect_item
 *   events    struct Event of lens.h
 *   caches    u64 misses of code, u64 of data in caches with sets, by key
 *   depth     u64: calls made at call depth = index, deeper ones in the last */
#include "lens.h"

#include "pub_tool_xarray.h"
#include "pub_tool_clientstate.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_libcfile.h"
#include "pub_tool_libcprint.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_mallocfree.h"
#include "pub_tool_vki.h"

typedef struct {
   UChar* data;
   SizeT len, cap;
   UInt item;
   const HChar* name;
} Section;

struct key_item {
   UInt tid, cls, prev, pad;
   ULong visits, rep_extra, taken, misses, ind_misses, clock_calls;
   ULong load[BUCKETS], store[BUCKETS], code[BUCKETS], page[BUCKETS], shared[2][BUCKETS];
};
struct block_item {
   ULong addr, code_offset;
   UInt len, ninsn, first_access, naccesses;
   UInt kind, call, partial, rep;
   UInt branch, indirect, pred, pad; /* indices; NONE if there is none; pred: the usual block before this one */
};
struct site_item {
   ULong addr;
   UInt size, store;
   ULong execs, same, zero;
   Long stride;
};
struct branch_item {
   ULong addr, target, execs, taken, transitions, misses;
};
struct indirect_item {
   ULong addr;
   UInt kind, ntargets;
   ULong execs, misses, other, targets[MAX_TARGETS], counts[MAX_TARGETS];
};

enum { META, COMMAND, THREADS, CLASSES, KEYS, TRANS, BLOCKS, CODE, EXECS, ACC, SITES, BRANCHES, INDIRECT, EVENTS, CACHES, DEPTH, NSECT };

static Section sections[NSECT];
#define NONE 0xffffffffu

static UInt block_out; /* blocks written so far */
static Bool written;

static void* put(UInt s, UInt n) {
   Section* x = &sections[s];
   SizeT need = x->len + (SizeT)n * x->item;
   if (need > x->cap) {
      x->cap = need * 2 + 4096;
      x->data = VG_(realloc)("lens.dump", x->data, x->cap);
   }
   UChar* p = x->data + x->len;
   x->len = need;
   return p;
}

static void open_section(UInt s, const HChar* name, UInt item) {
   Section empty = {.name = name, .item = item};
   sections[s] = empty;
}

static void put_thread(UInt serial, UInt os_tid) {
   UInt* p = put(THREADS, 1);
   p[0] = serial;
   p[1] = os_tid;
}

static void put_key(Key* k) {
   struct key_item* p = (struct key_item*)sections[KEYS].data + k->id;
   p->tid = k->tid;
   p->cls = k->cls;
   p->prev = k->prev;
   p->pad = 0;
   p->visits = k->visits;
   p->rep_extra = k->rep_extra;
   p->taken = k->taken;
   p->misses = k->misses;
   p->ind_misses = k->ind_misses;
   p->clock_calls = k->clock_calls;
   VG_(memcpy)(p->load, k->load, sizeof p->load);
   VG_(memcpy)(p->store, k->store, sizeof p->store);
   VG_(memcpy)(p->code, k->code, sizeof p->code);
   VG_(memcpy)(p->page, k->page, sizeof p->page);
   VG_(memcpy)(p->shared, k->shared, sizeof p->shared);
}

static void put_caches(Key* k) {
   ULong item[2] = {k->code_set_misses, k->data_set_misses};
   VG_(memcpy)(sections[CACHES].data + (SizeT)k->id * sizeof item, item, sizeof item);
}

static void put_transition(UInt key, UInt next, ULong count) {
   struct {
      UInt key, next;
      ULong count;
   } item = {key, next, count};
   VG_(memcpy)(put(TRANS, 1), &item, sizeof item);
}

static Bool ran(const Desc* d) {
   for (const Exec* e = d->exec; e; e = e->next)
      if (e->count || e->rep_extra) return True;
   return False;
}

static void number_block(Desc* d) {
   d->out_id = ran(d) ? block_out++ : NONE;
}

static void put_block(Desc* d) {
   if (d->out_id == NONE) return;
   for (Exec* e = d->exec; e; e = e->next) {
      if (!e->count && !e->rep_extra) continue;
      struct {
         UInt block, key;
         ULong count, rep_extra;
      } item = {d->out_id, e->key->id, e->count, e->rep_extra};
      VG_(memcpy)(put(EXECS, 1), &item, sizeof item);
   }
   struct block_item b = {.addr = d->start,
                          .code_offset = sections[CODE].len,
                          .len = d->len,
                          .ninsn = d->ninsn,
                          .first_access = (UInt)(sections[ACC].len / sizeof(UInt)),
                          .naccesses = d->nacc,
                          .kind = d->kind,
                          .call = d->call,
                          .partial = d->partial,
                          .rep = d->rep_addr ? 1 + d->rep_only : 0,
                          .branch = d->br ? d->br->id : NONE,
                          .indirect = d->ind ? d->ind->id : NONE,
                          .pred = d->pred ? d->pred->out_id : NONE};
   VG_(memcpy)(put(BLOCKS, 1), &b, sizeof b);
   VG_(memcpy)(put(CODE, d->len), d->code, d->len);
   UInt* acc = put(ACC, d->nacc);
   for (UInt i = 0; i < d->nacc; i++) acc[i] = d->acc[i].site->id;
}

static void put_site(Site* s) {
   struct site_item* p = (struct site_item*)sections[SITES].data + s->id;
   struct site_item item = {s->addr, s->size, s->store, s->execs, s->same, s->zero, s->stride};
   *p = item;
}

static void put_branch(Branch* b) {
   struct branch_item* p = (struct branch_item*)sections[BRANCHES].data + b->id;
   struct branch_item item = {b->addr, b->target, b->execs, b->taken, b->transitions, b->misses};
   *p = item;
}

static void put_indirect(Indirect* x) {
   struct indirect_item* p = (struct indirect_item*)sections[INDIRECT].data + x->id;
   struct indirect_item item = {x->addr, x->kind, x->ntargets, x->execs, x->misses, x->other, {0}, {0}};
   VG_(memcpy)(item.targets, x->targets, sizeof item.targets);
   VG_(memcpy)(item.counts, x->counts, sizeof item.counts);
   *p = item;
}

static void put_word(const HChar* word) {
   UInt n = (UInt)VG_(strlen)(word) + 1;
   VG_(memcpy)(put(COMMAND, n), word, n);
}

static void put_meta(Bool stopped) {
   put_word(VG_(args_the_exename));
   for (Word i = 0; i < VG_(sizeXA)(VG_(args_for_client)); i++)
      put_word(*(HChar**)VG_(indexXA)(VG_(args_for_client), i));
   ULong m[8] = {(ULong)VG_(getpid)(), g_dropped_accesses, g_events_dropped, g_class_overflow,
                 blocks_count(),       stopped,            (ULong)g_codec,   (ULong)VG_(getppid)()};
   VG_(memcpy)(put(META, 8), m, sizeof m);
   for (UInt i = 0; i < classes_count(); i++) {
      UInt len;
      const HChar* name = class_name(i, &len);
      UChar* p = put(CLASSES, 1);
      VG_(memset)(p, 0, 4 + CLASS_LEN);
      VG_(memcpy)(p, &len, 4);
      VG_(memcpy)(p + 4, name, len);
   }
}

static Bool write_all(Int fd, const UChar* data, SizeT len) {
   while (len) {
      Int n = VG_(write)(fd, data, (Int)(len > (1u << 28) ? (1u << 28) : len));
      if (n <= 0) return False;
      data += n;
      len -= (SizeT)n;
   }
   return True;
}

static Bool write_sections(Int fd) {
   UChar head[16 + NSECT * 32];
   UInt version[2] = {LENS_VERSION, NSECT};
   ULong offset = sizeof head;
   VG_(memset)(head, 0, sizeof head);
   VG_(memcpy)(head, "DITTOLNS", 8);
   VG_(memcpy)(head + 8, version, 8);
   for (UInt i = 0; i < NSECT; i++) {
      UChar* h = head + 16 + i * 32;
      ULong where[2] = {offset, sections[i].len / sections[i].item};
      VG_(memcpy)(h, sections[i].name, VG_(strlen)(sections[i].name));
      VG_(memcpy)(h + 8, where, 16);
      VG_(memcpy)(h + 24, &sections[i].item, 4);
      offset += (sections[i].len + 7) & ~7UL;
   }
   if (!write_all(fd, head, sizeof head)) return False;
   for (UInt i = 0; i < NSECT; i++) {
      static const UChar zeros[8];
      if (!write_all(fd, sections[i].data, sections[i].len)) return False;
      if (!write_all(fd, zeros, -sections[i].len & 7)) return False;
   }
   return True;
}

static void collect(Bool stopped) {
   static const struct {
      const HChar* name;
      UInt item;
   } layout[NSECT] = {{"meta", 8},
                      {"command", 1},
                      {"threads", 8},
                      {"classes", 4 + CLASS_LEN},
                      {"keys", sizeof(struct key_item)},
                      {"trans", 16},
                      {"blocks", sizeof(struct block_item)},
                      {"code", 1},
                      {"execs", 24},
                      {"acc", 4},
                      {"sites", sizeof(struct site_item)},
                      {"branches", sizeof(struct branch_item)},
                      {"indirect", sizeof(struct indirect_item)},
                      {"events", sizeof(Event)},
                      {"caches", 16},
                      {"depth", 8}};
   for (UInt i = 0; i < NSECT; i++) open_section(i, layout[i].name, layout[i].item);
   block_out = 0;
   put_meta(stopped);
   threads_each(put_thread);
   put(KEYS, keys_count());
   keys_each(put_key);
   put(CACHES, keys_count());
   keys_each(put_caches);
   transitions_each(put_transition);
   blocks_each(number_block);
   blocks_each(put_block);
   put(SITES, sites_count());
   sites_each(put_site);
   put(BRANCHES, branches_count());
   branches_each(put_branch);
   put(INDIRECT, indirects_count());
   indirects_each(put_indirect);
   if (g_event_count) VG_(memcpy)(put(EVENTS, g_event_count), g_events, (SizeT)g_event_count * sizeof *g_events);
   VG_(memcpy)(put(DEPTH, DEPTH_BUCKETS), g_depth, sizeof g_depth);
}

void dump_write(Bool always) {
   if (written && !always && G.command >= CMD_STOP) return;
   SizeT room = VG_(strlen)(g_out) + 32;
   HChar* name = VG_(malloc)("lens.name", room);
   HChar* temp = VG_(malloc)("lens.name", room);
   VG_(snprintf)(name, (Int)room, "%s.%d.lens", g_out, VG_(getpid)());
   VG_(snprintf)(temp, (Int)room, "%s.%d.lens.tmp", g_out, VG_(getpid)());
   collect(always);
   Int fd = VG_(fd_open)(temp, VKI_O_CREAT | VKI_O_WRONLY | VKI_O_TRUNC, 0644);
   Bool good = fd >= 0 && write_sections(fd);
   if (fd >= 0) VG_(close)(fd);
   if (!good || VG_(rename)(temp, name) != 0) VG_(umsg)("lens: cannot write %s\n", name);
   else written = True;
   for (UInt i = 0; i < NSECT; i++)
      if (sections[i].data) VG_(free)(sections[i].data);
   VG_(free)(name);
   VG_(free)(temp);
}
