/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "common.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_BUFFER (1u << 20)

volatile sig_atomic_t stop_requested;

static bool mode_parse(const char *word, enum ditto_rec_mode *mode)
{
	for (int m = DITTO_MODE_OFF; m <= DITTO_MODE_ALL; m++) {
		if (strcmp(word, mode_name(m)) == 0) {
			*mode = m;
			return true;
		}
	}
	return false;
}

static void usage(const char *program, const char *problem)
{
	fprintf(stderr, "%s: %s; usage: %s --pid PID [--pid PID]... (-o FILE | --count-only) [--buffer-mb N] "
			"[--mode off|structure|all] [--more 0..3]\n", program, problem, program);
	exit(DITTO_EXIT_INPUT);
}

void options_parse(struct options *opt, int argc, char **argv, const char *program)
{
	static const struct option longs[] = {
		{ "pid", required_argument, NULL, 'p' },  { "buffer-mb", required_argument, NULL, 'b' },
		{ "mode", required_argument, NULL, 'm' }, { "count-only", no_argument, NULL, 'c' },
		{ "more", required_argument, NULL, 'M' }, { NULL, 0, NULL, 0 },
	};
	int c;

	*opt = (struct options){ .buffer_mb = 64, .mode = DITTO_MODE_ALL };
	while ((c = getopt_long(argc, argv, "p:o:", longs, NULL)) != -1) {
		switch (c) {
		case 'p':
			if (opt->root_count == DITTO_MAX_ROOTS)
				usage(program, "too many --pid");
			if (atoi(optarg) <= 0)
				usage(program, "--pid wants a positive number");
			opt->roots[opt->root_count++] = atoi(optarg);
			break;
		case 'o':
			opt->out = optarg;
			break;
		case 'b':
			opt->buffer_mb = atof(optarg);
			if (opt->buffer_mb <= 0 || opt->buffer_mb > 2048)
				usage(program, "--buffer-mb wants a number up to 2048");
			break;
		case 'm':
			if (!mode_parse(optarg, &opt->mode))
				usage(program, "--mode wants off, structure or all");
			break;
		case 'M':
			if (strlen(optarg) != 1 || optarg[0] < '0' || optarg[0] > '0' + DITTO_REC_MORE_MAX)
				usage(program, "--more wants 0 to 3");
			opt->more = optarg[0] - '0';
			break;
		case 'c':
			opt->count_only = true;
			break;
		default:
			usage(program, "unknown option");
		}
	}
	if (optind < argc)
		usage(program, "unexpected argument");
	if (!opt->root_count)
		usage(program, "no --pid given");
	if (!opt->out && !opt->count_only)
		usage(program, "no output file given");
}

int output_open(struct output *out, const char *path, const char *collector)
{
	struct ditto_rec_header header = {
		.magic = DITTO_REC_MAGIC,
		.version = DITTO_REC_VERSION,
		.record_size = sizeof(struct ditto_rec),
		.clock_id = CLOCK_MONOTONIC,
		.start_ns = monotonic_ns(),
	};

	*out = (struct output){ .fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) };
	if (out->fd < 0)
		return -errno;
	out->buffer = malloc(OUTPUT_BUFFER);
	if (!out->buffer)
		return -ENOMEM;
	snprintf(header.collector, sizeof(header.collector), "%s", collector);
	memcpy(out->buffer, &header, sizeof(header));
	out->used = sizeof(header);
	output_flush(out);
	return -out->error;
}

void output_flush(struct output *out)
{
	size_t done = 0;

	while (!out->error && done < out->used) {
		ssize_t n = write(out->fd, out->buffer + done, out->used - done);

		if (n > 0)
			done += n;
		else if (n == 0 || errno != EINTR)
			out->error = n == 0 ? ENOSPC : errno;
	}
	out->bytes += done;
	out->used = 0;
}

void output_put(struct output *out, const void *record)
{
	if (!out->buffer || out->error)
		return;
	if (out->used + sizeof(struct ditto_rec) > OUTPUT_BUFFER)
		output_flush(out);
	memcpy(out->buffer + out->used, record, sizeof(struct ditto_rec));
	out->used += sizeof(struct ditto_rec);
	out->records++;
}

void output_mark(struct output *out, unsigned long long t_ns, enum ditto_rec_mode mode)
{
	struct ditto_rec mark = { .t_ns = t_ns, .kind = DITTO_REC_MARK, .nr = mode };

	output_put(out, &mark);
}

void control_fill(struct control *control)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };

	while (!control->eof && control->used < sizeof(control->line) - 1 && poll(&in, 1, 0) > 0) {
		ssize_t n = read(STDIN_FILENO, control->line + control->used, sizeof(control->line) - 1 - control->used);

		if (n > 0)
			control->used += n;
		else if (n == 0 || (errno != EINTR && errno != EAGAIN))
			control->eof = true;
	}
}

bool control_next(struct control *control, struct request *request)
{
	char *end = memchr(control->line, '\n', control->used);
	char line[sizeof(control->line)], word[32] = "";
	size_t length;

	*request = (struct request){ .command = COMMAND_BAD };
	if (!end) {
		if (control->used < sizeof(control->line) - 1)
			return false;
		control->used = 0; /* a line longer than any command */
		return true;
	}
	length = end - control->line;
	memcpy(line, control->line, length);
	line[length] = '\0';
	control->used -= length + 1;
	memmove(control->line, end + 1, control->used);

	if (strcmp(line, "status") == 0)
		request->command = COMMAND_STATUS;
	else if (strcmp(line, "quit") == 0)
		request->command = COMMAND_QUIT;
	else if (sscanf(line, "mode %31s", word) == 1 && mode_parse(word, &request->mode))
		request->command = COMMAND_MODE;
	else if (sscanf(line, "add %d", &request->pid) == 1 && request->pid > 0)
		request->command = COMMAND_ADD;
	return true;
}

void answer_status(const struct status *s, void (*tail)(void *), void *context)
{
	printf("{\"ok\":true,\"mode\":\"%s\",\"records\":%llu,\"lost\":%llu,\"lost_ring\":%llu,\"lost_map\":%llu,"
	       "\"lost_missed\":%llu,\"bytes\":%llu,\"followed\":%llu",
	       mode_name(s->mode), s->records, s->lost_ring + s->lost_map + s->lost_missed, s->lost_ring, s->lost_map,
	       s->lost_missed, s->bytes, s->followed);
	if (tail)
		tail(context);
	puts("}");
	fflush(stdout);
}

void answer_error(const char *message)
{
	printf("{\"ok\":false,\"error\":\"");
	for (; *message; message++)
		putchar(*message == '"' || *message == '\\' || (unsigned char)*message < 32 ? '\'' : *message);
	puts("\"}");
	fflush(stdout);
}

const char *mode_name(enum ditto_rec_mode mode)
{
	static const char *const names[] = { "off", "structure", "all" };

	return names[mode];
}

unsigned long long monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void on_stop(int signal)
{
	(void)signal;
	stop_requested = 1;
}

void signals_install(void)
{
	struct sigaction stop = { .sa_handler = on_stop };

	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGTERM, &stop, NULL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN); /* whoever controls it may be gone: what was recorded is flushed all the same */
}

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512], *end;
	pid_t parent = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fgets(text, sizeof(text), file) && (end = strrchr(text, ')')))
		sscanf(end + 1, " %*c %d", &parent);
	fclose(file);
	return parent;
}

bool tree_visit(pid_t pid, void (*visit)(pid_t, void *), void *context)
{
	struct dirent *entry;
	char path[64];
	DIR *proc;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	if (access(path, F_OK))
		return false;
	visit(pid, context);
	proc = opendir("/proc");
	if (!proc)
		return true;
	while ((entry = readdir(proc))) {
		pid_t child = isdigit((unsigned char)entry->d_name[0]) ? atoi(entry->d_name) : 0;

		if (child && parent_of(child) == pid)
			tree_visit(child, visit, context);
	}
	closedir(proc);
	return true;
}

void threads_visit(pid_t pid, void (*visit)(pid_t, void *), void *context)
{
	struct dirent *entry;
	char path[64];
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	if (!tasks)
		return;
	while ((entry = readdir(tasks)))
		if (isdigit((unsigned char)entry->d_name[0]))
			visit(atoi(entry->d_name), context);
	closedir(tasks);
}
