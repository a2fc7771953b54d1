/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads, segment keys, transitions between system calls, and the event stream. */
#include "lens.h"
#include "syscalls.h"

#include "pub_tool_libcbase.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_mallocfree.h"
#include "pub_tool_threadstate.h"
#include "pub_tool_tooliface.h"

#define KEY_TABLE 4096
#define TRANSITION_TABLE 4096
#define PREDICTOR_START 0

typedef struct Transition {
   UInt key, next;
   ULong count;
   struct Transition* chain;
} Transition;

typedef struct Record { /* every thread that ever ran, for the file */
   UInt serial, os_tid;
   struct Record* next;
} Record;

Event* g_events;
UInt g_event_count, g_event_cap;
ULong g_events_dropped;

static Thread** threads; /* by Valgrind's thread id, which is used again after a thread's end */
static Key* keys[KEY_TABLE];
static UInt nkeys;
static Transition* transitions[TRANSITION_TABLE];
static Record* records;
static UInt next_serial = 1;

static Key* key_get(UInt tid, UInt cls, UInt prev) {
   UInt h = (tid * 31 + cls * 1031 + prev * 7) & (KEY_TABLE - 1);
   for (Key* k = keys[h]; k; k = k->next) {
      if (k->prev == prev && k->cls == cls && k->tid == tid) return k;
   }
   Key* k = VG_(calloc)("lens.key", 1, sizeof *k);
   k->id = nkeys++;
   k->tid = tid;
   k->cls = cls;
   k->prev = prev;
   k->next = keys[h];
   keys[h] = k;
   return k;
}

static void count_transition(const Key* k, UInt next) {
   UInt h = (k->id * 613 + next) & (TRANSITION_TABLE - 1);
   Transition* t = transitions[h];
   while (t && (t->key != k->id || t->next != next)) t = t->chain;
   if (!t) {
      t = VG_(calloc)("lens.transition", 1, sizeof *t);
      t->key = k->id;
      t->next = next;
      t->chain = transitions[h];
      transitions[h] = t;
   }
   t->count += G.inc;
}

static void begin_thread(Thread* t) {
   t->live = True;
   t->serial = next_serial++;
   t->os_tid = 0;
   t->cls = 0;
   t->prev = PREV_START;
   t->insns = 0;
   t->last_desc = NULL;
   t->depth = 0;
   t->history = 0;
   VG_(memset)(t->predictor, PREDICTOR_START, sizeof t->predictor);
   VG_(memset)(&t->code_sets, 0, sizeof t->code_sets);
   VG_(memset)(&t->data_sets, 0, sizeof t->data_sets);
   t->key = key_get(t->serial, 0, PREV_START);
   t->key->visits += G.inc;
}

static Thread* thread_get(ThreadId tid) {
   Thread* t = threads[tid];
   if (!t) {
      t = VG_(calloc)("lens.thread", 1, sizeof *t);
      lru_init(&t->data);
      lru_init(&t->pages);
      lru_init(&t->code);
      threads[tid] = t;
   }
   if (!t->live) begin_thread(t);
   return t;
}

static void record_thread(Thread* t) {
   t->os_tid = (UInt)VG_(gettid)();
   Record* r = VG_(calloc)("lens.record", 1, sizeof *r);
   r->serial = t->serial;
   r->os_tid = t->os_tid;
   r->next = records;
   records = r;
}

static void start_client(ThreadId tid, ULong blocks) {
   (void)blocks;
   Thread* t = thread_get(tid);
   if (t->os_tid == 0) record_thread(t);
   G.thread = t;
}

static void thread_exit(ThreadId tid) {
   Thread* t = threads[tid];
   if (!t) return;
   t->live = False;
   lru_free(&t->data);
   lru_free(&t->pages);
   lru_free(&t->code);
}

void segments_init(void) {
   threads = VG_(calloc)("lens.threads", VG_N_THREADS, sizeof *threads);
   VG_(track_start_client_code)(start_client);
   VG_(track_pre_thread_ll_exit)(thread_exit);
}

/* All threads start a fresh segment, which is no visit of the one they are in the middle of. */
void segments_restart(void) {
   for (UInt i = 0; i < VG_N_THREADS; i++) {
      Thread* t = threads[i];
      if (!t || !t->live) continue;
      t->key = key_get(t->serial, t->cls, PREV_START);
      t->key->visits++;
      t->insns = 0;
   }
}

static void zero_key(Key* k) {
   Key fresh = {.id = k->id, .tid = k->tid, .cls = k->cls, .prev = k->prev, .next = k->next};
   *k = fresh;
}

void segments_reset(void) {
   keys_each(zero_key);
   for (UInt i = 0; i < TRANSITION_TABLE; i++)
      for (Transition* t = transitions[i]; t; t = t->chain) t->count = 0;
   g_event_count = 0;
   g_events_dropped = 0;
}

/* A forked child has one thread, whose history goes on and whose counts start at zero. */
void segments_child(void) {
   segments_reset();
   records = NULL;
   for (UInt i = 0; i < VG_N_THREADS; i++) {
      Thread* t = threads[i];
      if (!t || !t->live) continue;
      if (t == G.thread) record_thread(t);
      else t->live = False;
   }
}

void pre_syscall(ThreadId tid, UInt nr, UWord* args, UInt n) {
   limits_before(nr, args, n);
   if (*G.control != G.command) control_poll();
   Thread* t = thread_get(tid);
   t->last_nr = nr;
   if (syscall_is_clock(nr)) return;
   count_transition(t->key, nr);
}

static void record_event(Thread* t, UInt nr, const UWord* args, UInt n, Long ret) {
   if (g_event_count == g_event_cap) {
      g_events_dropped++;
      return;
   }
   Event* e = &g_events[g_event_count++];
   e->tid = t->serial;
   e->key = t->key->id;
   e->nr = nr;
   e->passed = (UInt)(passed_with(nr, args, ret >= 0) + 1);
   e->ret = ret;
   for (UInt i = 0; i < 3; i++) e->args[i] = i < n ? args[i] : 0;
   e->insns = t->insns;
}

void post_syscall(ThreadId tid, UInt nr, UWord* args, UInt n, SysRes res) {
   Thread* t = thread_get(tid);
   if (*G.control != G.command) control_poll();
   if (syscall_is_clock(nr)) {
      t->key->clock_calls += G.inc;
      return;
   }
   if (nr == __NR_exit || nr == __NR_exit_group) return; /* nothing follows */
   Bool ok = !sr_isError(res);
   Long ret = ok ? (Long)sr_Res(res) : -(Long)sr_Err(res);
   if (G.inc && g_event_cap) record_event(t, nr, args, n, ret);
   t->cls = class_after(nr, args, ok, ret, t->cls);
   t->prev = nr;
   t->key = key_get(t->serial, t->cls, nr);
   t->key->visits += G.inc;
   t->insns = 0;
}

UInt keys_count(void) {
   return nkeys;
}

void keys_each(void (*f)(Key*)) {
   for (UInt i = 0; i < KEY_TABLE; i++)
      for (Key* k = keys[i]; k; k = k->next) f(k);
}

void threads_each(void (*f)(UInt, UInt)) {
   for (Record* r = records; r; r = r->next) f(r->serial, r->os_tid);
}

void transitions_each(void (*f)(UInt, UInt, ULong)) {
   for (UInt i = 0; i < TRANSITION_TABLE; i++)
      for (Transition* t = transitions[i]; t; t = t->chain)
         if (t->count) f(t->key, t->next, t->count);
}
