/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads and their queues: between worker.c and process.c.
 */
#ifndef DITTO_WORKER_H
#define DITTO_WORKER_H

#include "runtime.h"

#include <stdatomic.h>

struct queue *queue_new(void);
int worker_init(struct worker *w, struct process *p, unsigned role, uint64_t seed); /* 0, or -1 with errno */
struct worker *worker_new(struct process *p, unsigned role, uint64_t seed);

struct shared *shared_new(const struct ditto_role *role); /* NULL with errno */
void shared_join(struct shared *s, struct worker *w);
void shared_signal(struct worker *w); /* what a lock and its condition cost beside the wake that matters */
void shared_bury(struct worker *w); /* puts away the connections that w has closed */
void shared_dig(struct worker *w);  /* before a wait by the one thread that may: frees them */
int shared_timeout(const struct worker *w); /* of its wait for events, ms */
int shared_hand_out(struct worker *w, int n); /* n reports; whether the listener is among them */
void shared_yield(struct worker *w, struct conn *c); /* lets go of a connection that was just made */
void shared_queue(struct worker *from, struct conn *c); /* to be served by whichever thread is free */

int crew_takes(unsigned role, enum ditto_handover by); /* crew.c: whether some role hands its threads connections so */
int crew_hand(int fd);          /* -1: too many wait already */
int crew_offer(int fd);         /* -1: no thread is free */
void crew_main(struct worker *w) __attribute__((noreturn));

void passages_open(void); /* passage.c: before the first fork */
int passage_end(unsigned role, unsigned instance); /* where such a thread takes connections from; -1: from nowhere */
void passage_give(unsigned role, int fd);
void passage_ready(struct worker *w);
void passage_main(struct worker *w) __attribute__((noreturn)); /* for threads that serve one connection at a time */

void serve_listen_wait(struct worker *w); /* serve.c: until there is a connection, by the role's listen_wait */
struct conn *crowd_recycled(struct worker *w); /* memory of a connection that was closed, or NULL */

int conn_copy(struct conn *c, const struct ditto_op *op); /* of its descriptor; ends with it.  0: op makes none */
void conn_close_one(struct conn *c); /* the copy, or else its own */

#endif
