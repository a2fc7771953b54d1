/* SPDX-License-Identifier: Apache-2.0 OR (GPL-2.0-only OR BSD-2-Clause)
 *
 * What the BPF programs (collect.bpf.c) and their loader (collect.c) share besides the records themselves.
 */
#ifndef DITTO_COLLECT_H
#define DITTO_COLLECT_H

#include "record.h"

/* Key and value of the map filled under --count-only.  A thread is its own only writer, so nothing is atomic. */
struct ditto_count_key {
	ditto_u32 tid;
	ditto_u32 nr;
};

struct ditto_count {
	ditto_u64 calls;
	ditto_u64 bytes; /* sum of positive results */
	ditto_u64 again; /* results of -EAGAIN */
	ditto_u32 pid;
	ditto_u32 unused;
};

/* A block request between issue and completion. */
struct ditto_block {
	ditto_u64 issued_ns;
	ditto_u64 bytes;
	ditto_u32 pid;
	ditto_u32 tid;
	ditto_u32 write;
	ditto_u32 unused;
};

/* What one pass of the task iterator does. */
enum ditto_walk {
	DITTO_WALK_FOLLOW = 0, /* start to follow every task of the wanted processes, and of their children */
	DITTO_WALK_FLUSH = 1,  /* write the faults that followed tasks have not reported yet */
};

#endif
