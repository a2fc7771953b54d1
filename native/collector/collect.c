/* SPDX-License-Identifier: Apache-2.0
 *
 * ditto-collect: loads the BPF programs, follows the processes named, and writes their records to a file.
 *
 * The ring is polled, never waited on: a wake-up per record would slow the observed program far more than the records
 * themselves do.  The price is that a record reaches the file up to POLL_MS late.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector.h"

#define POLL_MS 10

static int on_record(void *context, void *data, size_t size)
{
	struct collector *c = context;

	(void)size;
	output_put(&c->out, data);
	return c->out.error ? -1 : 0;
}

static void want(pid_t pid, void *context)
{
	struct collector *c = context;
	__u32 key = pid, one = 1;

	bpf_map_update_elem(bpf_map__fd(c->skel->maps.wanted), &key, &one, BPF_ANY);
}

static int run_walk(struct collector *c, enum ditto_walk what)
{
	char text[64];
	int fd;

	c->skel->bss->walk = what;
	fd = bpf_iter_create(bpf_link__fd(c->walk));
	if (fd < 0)
		return -errno;
	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
	return 0;
}

/* Follow a process, its threads and all below it; 0, or -errno (-ESRCH if there is no such process). */
static int follow(struct collector *c, pid_t pid)
{
	int wanted = bpf_map__fd(c->skel->maps.wanted), error = 0;
	unsigned long long before;
	__u32 key;

	if (!tree_visit(pid, want, c))
		return -ESRCH;
	/* What they fork from here on is followed by its parent's being followed; repeat for what came in between. */
	do {
		before = c->skel->bss->followed;
		error = run_walk(c, DITTO_WALK_FOLLOW);
	} while (!error && c->skel->bss->followed != before);
	while (bpf_map_get_next_key(wanted, NULL, &key) == 0)
		bpf_map_delete_elem(wanted, &key);
	return error;
}

/* The system call hooks slow every process of the machine a little, so they are only there while they are used. */
static int hook_calls(struct collector *c, bool on)
{
	struct {
		struct bpf_program *program;
		struct bpf_link **link;
	} hooks[] = {
		{ c->skel->progs.on_sys_enter, &c->skel->links.on_sys_enter },
		{ c->skel->progs.on_sys_exit, &c->skel->links.on_sys_exit },
		{ c->skel->progs.count_sys_exit, &c->skel->links.count_sys_exit },
	};

	for (size_t i = 0; i < sizeof(hooks) / sizeof(hooks[0]); i++) {
		if (!bpf_program__autoload(hooks[i].program) || on == (*hooks[i].link != NULL))
			continue;
		if (on) {
			*hooks[i].link = bpf_program__attach(hooks[i].program);
			if (!*hooks[i].link)
				return -errno;
		} else {
			bpf_link__destroy(*hooks[i].link);
			*hooks[i].link = NULL;
		}
	}
	return 0;
}

static int set_mode(struct collector *c, enum ditto_rec_mode mode)
{
	int error = mode == DITTO_MODE_OFF ? 0 : hook_calls(c, true);
	unsigned long long now = monotonic_ns();

	if (error)
		return error;
	c->skel->bss->mode_since = now;
	c->skel->data->mode_seq++;
	c->skel->bss->mode = mode;
	output_mark(&c->out, now, mode);
	return mode == DITTO_MODE_OFF ? hook_calls(c, false) : 0;
}

/* Runs of our programs that the kernel skipped because one was running on that CPU already. */
static unsigned long long missed_runs(struct collector *c)
{
	unsigned long long missed = 0;
	struct bpf_program *program;

	bpf_object__for_each_program(program, c->skel->obj) {
		struct bpf_prog_info info = {};
		__u32 size = sizeof(info);

		if (bpf_program__fd(program) >= 0 && bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0)
			missed += info.recursion_misses;
	}
	return missed;
}

static void print_counts(void *context)
{
	struct collector *c = context;
	struct ditto_count_key key, *previous = NULL;
	int map = bpf_map__fd(c->skel->maps.counts);
	struct ditto_count value;
	const char *comma = "";

	printf(",\"counts\":[");
	while (bpf_map_get_next_key(map, previous, &key) == 0) {
		previous = &key;
		if (bpf_map_lookup_elem(map, &key, &value))
			continue;
		printf("%s[%u,%u,%u,%llu,%llu,%llu]", comma, value.pid, key.tid, key.nr,
		       (unsigned long long)value.calls, (unsigned long long)value.bytes,
		       (unsigned long long)value.again);
		comma = ",";
	}
	printf("]");
}

static void answer(struct collector *c)
{
	struct status status = {
		.mode = c->skel->bss->mode,
		.records = c->out.records,
		.bytes = c->out.bytes + c->out.used,
		.lost_ring = c->skel->bss->lost_ring,
		.lost_map = c->skel->bss->lost_map,
		.lost_missed = missed_runs(c),
		.followed = c->skel->bss->followed,
	};

	answer_status(&status, c->options.count_only ? print_counts : NULL, c);
}

/* Requests issued and not completed by the end. */
static void put_pending_blocks(struct collector *c)
{
	int map = bpf_map__fd(c->skel->maps.blocks);
	struct ditto_block b;
	__u64 key;

	while (bpf_map_get_next_key(map, NULL, &key) == 0) {
		if (bpf_map_lookup_elem(map, &key, &b) == 0) {
			struct ditto_rec rec = { .t_ns = b.issued_ns, .kind = DITTO_REC_BLOCK, .pid = b.pid,
						 .tid = b.tid, .args = { b.bytes, b.write, 0 } };

			output_put(&c->out, &rec);
		}
		bpf_map_delete_elem(map, &key);
	}
}

static void handle(struct collector *c, const struct request *request, bool *quit)
{
	char text[128];
	int error;

	switch (request->command) {
	case COMMAND_MODE:
		error = set_mode(c, request->mode);
		ring_buffer__consume(c->ring);
		snprintf(text, sizeof(text), "cannot change mode: %s", strerror(-error));
		if (error)
			answer_error(text);
		else
			answer(c);
		break;
	case COMMAND_ADD:
		error = follow(c, request->pid);
		snprintf(text, sizeof(text), "cannot follow process %d: %s", request->pid, strerror(-error));
		if (error)
			answer_error(text);
		else
			answer(c);
		break;
	case COMMAND_STATUS:
		ring_buffer__consume(c->ring);
		answer(c);
		break;
	case COMMAND_QUIT:
		*quit = true;
		break;
	default:
		answer_error("unknown command: mode off|structure|all, add PID, status, quit");
	}
}

static int finish(struct collector *c)
{
	if (!c->out.error) {
		run_walk(c, DITTO_WALK_FLUSH);
		/* Detached before the last look at the ring, so that its end is the end. */
		collect_bpf__detach(c->skel);
		ring_buffer__consume(c->ring);
		put_pending_blocks(c);
		output_flush(&c->out);
		if (c->out.fd >= 0 && close(c->out.fd))
			c->out.error = errno;
	}
	if (c->out.error) {
		char text[600];

		snprintf(text, sizeof(text), "writing %.400s failed after %llu records: %s", c->options.out,
			 c->out.records, strerror(c->out.error));
		answer_error(text);
		fprintf(stderr, "%s: %s; free some space or name another file\n", PROGRAM, text);
		return DITTO_EXIT_RECORDING;
	}
	answer(c);
	return DITTO_EXIT_OK;
}

int main(int argc, char **argv)
{
	static struct collector c = { .out = { .fd = -1 } };
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };
	struct request request;
	bool quit = false;
	int error = 0, followed = 0;

	options_parse(&c.options, argc, argv, PROGRAM);
	signals_install();
	collector_load(&c, on_record);
	if (c.options.out)
		error = output_open(&c.out, c.options.out, "ebpf");
	if (error) {
		fprintf(stderr, "%s: cannot write %s: %s\n", PROGRAM, c.options.out, strerror(-error));
		return error == -ENOSPC ? DITTO_EXIT_RECORDING : DITTO_EXIT_INPUT;
	}
	for (int i = 0; i < c.options.root_count; i++) {
		error = follow(&c, c.options.roots[i]);
		if (error == -ESRCH && (followed || i + 1 < c.options.root_count))
			continue; /* one of several, which has ended meanwhile */
		followed += error == 0;
		if (error) {
			fprintf(stderr, "%s: cannot follow process %d: %s\n", PROGRAM, c.options.roots[i], strerror(-error));
			return error == -ESRCH ? DITTO_EXIT_INPUT : DITTO_EXIT_CAPABILITY;
		}
	}
	set_mode(&c, c.options.mode);
	puts("{\"ready\":true}");
	fflush(stdout);
	while (!quit && !stop_requested && !c.out.error) {
		poll(&in, 1, POLL_MS);
		ring_buffer__consume(c.ring);
		control_fill(&c.control);
		while (!quit && control_next(&c.control, &request))
			handle(&c, &request, &quit);
		quit = quit || c.control.eof;
	}
	return finish(&c);
}
