/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector.h"

/* libbpf's own messages, kept to tell the cause if loading fails: the first that says something. */
static char first_message[256];

static int keep_message(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level == LIBBPF_WARN) {
		char text[sizeof(first_message)];

		vsnprintf(text, sizeof(text), format, args);
		text[strcspn(text, "\n")] = '\0';
		/* A first message about RLIMIT_MEMLOCK is harmless since Linux 5.11 and hides the cause. */
		if (!first_message[0] && text[0] && !strstr(text, "RLIMIT_MEMLOCK"))
			memcpy(first_message, text, sizeof(first_message));
	}
	return 0;
}

static void refuse(const char *step, int error)
{
	const char *remedy = "use collector ptrace";

	if (error == -EPERM)
		remedy = geteuid() ? "run as root, or give it CAP_BPF and CAP_PERFMON, or use collector ptrace"
				   : "this kernel or container forbids BPF to root too: use collector ptrace";
	else if (error == -ENOENT || error == -ESRCH)
		remedy = "this kernel has no BTF or lacks a tracepoint: use collector ptrace";
	fprintf(stderr, "%s: %s refused: %s (%s); %s\n", PROGRAM, step, strerror(-error),
		first_message[0] ? first_message : "no detail", remedy);
	exit(DITTO_EXIT_CAPABILITY);
}

void collector_load(struct collector *c, ring_buffer_sample_fn on_record)
{
	unsigned long long size = 4096, bytes = c->options.buffer_mb * 1048576;
	struct bpf_program *program;
	bool counting = c->options.count_only;
	int error;

	libbpf_set_print(keep_message);
	c->skel = collect_bpf__open();
	if (!c->skel)
		refuse("opening the BPF object", -errno);
	while (size < bytes)
		size *= 2;
	bpf_map__set_max_entries(c->skel->maps.ring, size);
	bpf_object__for_each_program(program, c->skel->obj) {
		bool counts = strncmp(bpf_program__name(program), "count_", 6) == 0;
		bool both = program == c->skel->progs.on_fork || program == c->skel->progs.walk_tasks;

		bpf_program__set_autoload(program, both || counts == counting);
	}
	c->skel->bss->own_pid = getpid();
	c->skel->rodata->more = c->options.more;
	error = collect_bpf__load(c->skel);
	if (error)
		refuse("loading BPF programs", error);
	bpf_object__for_each_program(program, c->skel->obj)
		if (program == c->skel->progs.walk_tasks)
			bpf_program__set_autoattach(program, false);
	error = collect_bpf__attach(c->skel);
	if (error)
		refuse("attaching BPF programs", error);
	c->walk = bpf_program__attach_iter(c->skel->progs.walk_tasks, NULL);
	if (!c->walk)
		refuse("attaching the task iterator", -errno);
	c->ring = ring_buffer__new(bpf_map__fd(c->skel->maps.ring), on_record, c, NULL);
	if (!c->ring)
		refuse("mapping the ring buffer", -errno);
}
