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

#endif
