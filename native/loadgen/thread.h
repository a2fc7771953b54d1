/* SPDX-License-Identifier: Apache-2.0
 *
 * One thread of the generator: its connections and its part of the schedule.
 */
#ifndef LOADGEN_THREAD_H
#define LOADGEN_THREAD_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>

#include "histogram.h"
#include "plan.h"
#include "schedule.h"

struct settings {
	struct sockaddr_storage address;
	socklen_t address_len;
	unsigned connections, threads;
	uint64_t warmup_ns, measured_ns, drain_ns;
	uint64_t silence_ns; /* for which a load of so many requests waits for a reply */
	uint64_t requests; /* closed loop: end after so many, 0: by time */
	double counts; /* what a reply counts in the requests that are printed; 0: nothing is printed */
	struct plan plan;
	struct schedule schedule; /* not started */
};

struct result {
	struct histogram corrected;   /* from the intended time */
	struct histogram uncorrected; /* from the time it was sent */
	struct histogram late;        /* from the intended time to the sending, where a connection was free */
	uint64_t sent, received, failed, broken, unanswered, unsent, bytes;
	uint64_t first_ns, last_ns;   /* of measured replies, from the start */
};

struct thread {
	pthread_t thread;
	unsigned number, connections;
	const struct settings *settings;
	uint64_t start_ns; /* CLOCK_MONOTONIC; all threads the same */
	pthread_barrier_t *ready;
	struct result result;
};

void *thread_main(void *thread);
uint64_t now_ns(void);

#endif
