/* SPDX-License-Identifier: Apache-2.0
 *
 * ditto-ptrace: what its files share.
 */
#ifndef DITTO_PTRACE_H
#define DITTO_PTRACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common.h"
#include "record.h"

/* A traced thread. */
struct tracee {
	pid_t tid; /* 0: a free slot */
	pid_t pid;
	bool running;	/* resumed, and not seen to stop since */
	bool in_call;	/* its entry stop has been seen */
	bool newborn;	/* its first stop is to come */
	bool born;	/* its birth has been recorded */
	unsigned long long nr;
	unsigned long long args[6];
	unsigned long long entry_ns;
};


/* The state of the recording. */
struct tracing {
	struct output out;
	enum ditto_rec_mode mode;
	unsigned int more;
	unsigned long long mode_since;
	unsigned long long lost_map; /* threads that found the table full */
	unsigned long long followed;
	int alive;
};

extern struct tracing tracing;

/* Trace a process, its threads and all below it; 0, or -errno (-ESRCH if there is no such process). */
int trace_follow(pid_t pid);
/* Wait for one thread to stop or end, and deal with it; false on an interruption or with nothing to wait for. */
bool trace_step(bool detaching);
/* Make every thread that runs stop once. */
void trace_interrupt_all(void);

/* Whether descriptors pass with a message; tells them to the record, if that is given. */
bool passes(pid_t tid, unsigned long long message, struct ditto_rec *rec);
/* Fill payload, iov and aux of a finished call from the stopped thread's memory. */
void payload_read(pid_t tid, struct ditto_rec *rec);
/* The bytes behind those in the payload of a finished call that moved data: part number `part`, from 1; false if there
 * are none. */
bool payload_more(pid_t tid, const struct ditto_rec *call, unsigned int part, struct ditto_rec *rec);
/* The thread's name and its process, from /proc; false if it is gone. */
bool thread_facts(pid_t tid, pid_t *pid, pid_t *parent, char comm[16]);

#endif
