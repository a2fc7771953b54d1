/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lens: one-pass measurement of a program's instruction, memory and branch behaviour, per segment.
 *
 * Words.  A *segment* is what a thread executes between two system calls; its *key* is (thread, request class,
 * number of the call last returned from).  A *block* is a guest basic block: Valgrind is told not to chase jumps
 * and not to unroll, so each translation is a straight line that ends at its first control transfer (or after 60
 * instructions).  A *descriptor* is a block's static description plus its counters. */
#ifndef LENS_H
#define LENS_H

#include "pub_tool_basics.h"
#include "lru.h"
#include "sets.h"

#define LENS_VERSION 3
#define PREV_START 0xffffu /* "no call yet": a thread's birth, or counting began in the middle of a segment */
#define MAX_CLASSES 256
#define CLASS_LEN 76
#define MAX_BLOCK_ACCESSES 512
#define MAX_TARGETS 16
#define DEPTH_BUCKETS 64

enum { CMD_WARM = 0, CMD_COUNT = 1, CMD_STOP = 2, CMD_OFF = 3 };

typedef struct Key {
   UInt id, tid, cls, prev;
   ULong visits;
   ULong rep_extra;     /* fetches of a rep instruction beyond its first, which a per-iteration count would add */
   ULong taken, misses; /* conditional branches */
   ULong ind_misses;    /* indirect jumps, calls and returns under the last-target predictor */
   ULong code_set_misses, data_set_misses; /* of caches with sets, see sets.h */
   ULong clock_calls;   /* calls that are a vDSO read outside Valgrind; they end no segment */
   ULong load[BUCKETS], store[BUCKETS], code[BUCKETS], page[BUCKETS];
   ULong shared[2][BUCKETS]; /* of load, and of store, those of lines that other threads work on, see owners.h */
   struct Key* next;
} Key;

typedef struct Exec { /* executions of one block under one key */
   Key* key;
   ULong count, rep_extra;
   struct Exec* next;
} Exec;

typedef struct Site { /* a static memory instruction's n-th access */
   Addr last;
   Long stride;
   ULong execs, same, zero;
   Addr addr;
   UShort size;
   UChar store, ordinal;
   UInt id;
   struct Site* next;
} Site;

typedef struct Branch { /* a static conditional branch */
   ULong execs, taken, transitions, misses;
   Addr addr, target;
   UInt id;
   UChar last, seen;
   struct Branch* next;
} Branch;

enum { IND_JUMP = 0, IND_CALL = 1, IND_RET = 2 };

typedef struct Indirect { /* a static indirect jump, call or return */
   Addr last;
   ULong execs, misses, other;
   UInt kind, ntargets;
   Addr targets[MAX_TARGETS];
   ULong counts[MAX_TARGETS];
   Addr addr;
   UInt id;
   struct Indirect* next;
} Indirect;

typedef struct {
   Site* site;
   UInt size;
   UInt store;
} Access;

enum { K_PLAIN = 0, K_COND = 1, K_IND = 2 };
enum { CALL_NONE = 0, CALL_CALL = 1, CALL_RET = 2 };

typedef struct Desc {
   UInt kind;
   UInt ninsn;
   Addr line0;        /* first code line */
   UInt nlines;       /* code lines the block covers */
   UInt nacc, nstore; /* accesses, of which stores */
   Exec* exec;        /* the key used last is at the head */
   Branch* br;
   Indirect* ind;
   Addr rep_addr;  /* address of the rep instruction that ends the block; 0: none */
   UChar call;     /* CALL_* */
   UChar falls;    /* ends without a control transfer (the block was split) */
   UChar rep_only; /* the block is just a rep instruction */
   UChar partial;  /* a prefix of a block, left early */
   UChar invert;   /* the exit's guard is true when the branch is not taken */
   const struct Desc* pred; /* candidate for the most common predecessor, by majority vote */
   UInt pred_votes;
   Addr start;
   UInt len, out_id;
   ULong code_hash;
   const UChar* code; /* copy of the code bytes */
   struct Desc* next;
   Access acc[0];
} Desc;

typedef struct Thread {
   UInt serial, os_tid;
   Bool live;
   UInt prev, cls, last_nr;
   Key* key;
   ULong insns; /* since the last call */
   const Desc* last_desc;
   UInt history; /* of conditional branch outcomes */
   UInt depth;   /* of calls */
   Lru data, pages, code;
   UChar predictor[1 << 14];
   Sets code_sets, data_sets;
} Thread;

/* What generated code and its helper use at every block.  Valgrind runs one thread at a time and switches only
 * between blocks, so one address buffer serves all threads. */
typedef struct {
   volatile UInt* control;
   UInt command;
   ULong inc; /* 1 while counting, 0 while warming */
   Thread* thread;
   Addr buffer[MAX_BLOCK_ACCESSES];
} Hot;

extern Hot G;
extern ULong g_depth[DEPTH_BUCKETS];
extern ULong g_dropped_accesses; /* accesses beyond MAX_BLOCK_ACCESSES in one block, per execution unknown: static count */

/* blocks.c */
Desc* desc_get(Addr start, UInt len, UInt ninsn, const Access* acc, UInt nacc, Bool partial, Bool* fresh);
Site* site_get(Addr addr, UInt ordinal, UInt size, Bool store);
Branch* branch_get(Addr addr, Addr target);
Indirect* indirect_get(Addr addr, UInt kind);
void blocks_reset(void);
void blocks_each(void (*f)(Desc*));
void sites_each(void (*f)(Site*));
void branches_each(void (*f)(Branch*));
void indirects_each(void (*f)(Indirect*));
UInt blocks_count(void);
UInt sites_count(void);
UInt branches_count(void);
UInt indirects_count(void);
Exec* exec_find(Desc* d, Key* k);

/* run.c: called from generated code */
void lens_block(Desc* d, UWord outcome);
void lens_partial(Desc* d);

/* instrument.c */
struct _IRSB;

/* segments.c */
void segments_init(void);
void segments_reset(void);
void segments_restart(void);
void segments_child(void);
void keys_each(void (*f)(Key*));
UInt keys_count(void);
void threads_each(void (*f)(UInt serial, UInt os_tid));
void transitions_each(void (*f)(UInt key, UInt next, ULong count));
/* limits.c */
void limits_before(UInt nr, const UWord* args, UInt n);

void pre_syscall(ThreadId tid, UInt nr, UWord* args, UInt n);
void post_syscall(ThreadId tid, UInt nr, UWord* args, UInt n, SysRes res);

typedef struct {
   UInt tid, key;
   UInt nr, passed; /* 1 + the first descriptor that passed with a message; 0 where none did */
   Long ret;
   ULong args[3];
   ULong insns;
} Event;
extern Event* g_events;
extern UInt g_event_count, g_event_cap;
extern ULong g_events_dropped;

/* classes.c */
enum { CODEC_RESP, CODEC_HTTP1, CODEC_MEMCACHED, CODEC_OPAQUE, CODEC_PGSQL, CODEC_MYSQL, CODEC_FASTCGI, CODEC_H2 };
extern Int g_codec;
extern Bool g_fold; /* http1: digits in paths tell no class */
Int passed_with(UInt nr, const UWord* args, Bool ok); /* the first descriptor that passed with a message, or -1 */
UInt class_after(UInt nr, const UWord* args, Bool ok, Long ret, UInt current);
UInt classes_count(void);
const HChar* class_name(UInt id, UInt* len);
extern ULong g_class_overflow;

/* control.c */
void control_open(const HChar* path);
void control_poll(void);

/* dump.c */
extern const HChar* g_out;
/* Writes the file; unless `always`, only if anything was counted since the last time or nothing was written yet. */
void dump_write(Bool always);

#endif
