/* SPDX-License-Identifier: Apache-2.0
 *
 * ditto-ptrace: what its two files share.
 */
#ifndef DITTO_PTRACE_H
#define DITTO_PTRACE_H

#include <stdbool.h>
#include <sys/types.h>

#include "record.h"

/* A traced thread. */
struct tracee {
	pid_t tid; /* 0: a free slot */
	pid_t pid;
	bool running;	/* resumed, and not seen to stop since */
	bool in_call;	/* its entry stop has been seen */
	bool newborn;	/* its first stop is to come */
	bool born;	/* its birth has been recorded */
	bool listening; /* in a group stop, left there */
	unsigned long long nr;
	unsigned long long args[6];
	unsigned long long entry_ns;
	unsigned long long run_base;
};


/* Fill payload, iov and aux of a finished call from the stopped thread's memory. */
void payload_read(pid_t tid, struct ditto_rec *rec);
/* The thread's name and its process, from /proc; false if it is gone. */
bool thread_facts(pid_t tid, pid_t *pid, pid_t *parent, char comm[16]);
/* CPU time of the thread so far, or 0. */
unsigned long long thread_run_ns(pid_t tid);

#endif
