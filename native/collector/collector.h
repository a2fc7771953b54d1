/* SPDX-License-Identifier: Apache-2.0
 *
 * The running collector, as its loader and its main program see it.
 */
#ifndef DITTO_COLLECTOR_H
#define DITTO_COLLECTOR_H

#include <bpf/libbpf.h>

#include "collect.h"
#include "common.h"

#include "build/collect.skel.h"

#define PROGRAM "ditto-collect"

struct collector {
	struct options options;
	struct collect_bpf *skel;
	struct ring_buffer *ring;
	struct bpf_link *walk;
	struct output out;
	struct control control;
};

/* Open, size, load and attach the programs; records will be handed to on_record.  If the machine refuses, says on
 * standard error what and why and what to do, and exits with DITTO_EXIT_CAPABILITY. */
void collector_load(struct collector *c, ring_buffer_sample_fn on_record);

#endif
