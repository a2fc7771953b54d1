/* SPDX-License-Identifier: Apache-2.0
 *
 * What both recorders share: options, the output file, the control lines, and finding the processes of a tree.
 */
#ifndef DITTO_COMMON_H
#define DITTO_COMMON_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

#include "record.h"

enum ditto_exit {
	DITTO_EXIT_OK = 0,
	DITTO_EXIT_INPUT = 2,	   /* a bad option, or a process that does not exist */
	DITTO_EXIT_CAPABILITY = 3, /* the machine or its permissions refuse this kind of recording */
	DITTO_EXIT_RECORDING = 6,  /* it began and could not be completed */
};

#define DITTO_MAX_ROOTS 256

struct options {
	pid_t roots[DITTO_MAX_ROOTS];
	int root_count;
	const char *out;
	double buffer_mb;
	bool count_only;
	unsigned int more; /* further records of what a call moved */
	enum ditto_rec_mode mode;
};

/* Fills options from the command line; on a bad one says why on standard error and exits with DITTO_EXIT_INPUT. */
void options_parse(struct options *opt, int argc, char **argv, const char *program);

/* The recording being written.  Records are gathered in a buffer and leave in large writes. */
struct output {
	int fd;
	char *buffer;
	size_t used;
	unsigned long long records;
	unsigned long long bytes;
	int error; /* errno of the write that failed; nothing is written after it */
};

/* Create the file and write its header; 0, or -errno. */
int output_open(struct output *out, const char *path, const char *collector);
void output_flush(struct output *out);
/* Append one record. */
void output_put(struct output *out, const void *record);
/* Append a DITTO_REC_MARK. */
void output_mark(struct output *out, unsigned long long t_ns, enum ditto_rec_mode mode);

enum command { COMMAND_NONE, COMMAND_MODE, COMMAND_ADD, COMMAND_STATUS, COMMAND_QUIT, COMMAND_BAD };

struct control {
	char line[256];
	size_t used;
	bool eof;
};

struct request {
	enum command command;
	enum ditto_rec_mode mode;
	pid_t pid;
};

/* Read what standard input has, without waiting if it has nothing; sets eof at its end. */
void control_fill(struct control *control);
/* The next complete line, if there is one. */
bool control_next(struct control *control, struct request *request);

struct status {
	enum ditto_rec_mode mode;
	unsigned long long records, bytes, lost_ring, lost_map, lost_missed, followed;
};

/* One JSON line on standard output.  tail, if not NULL, is added before the closing brace. */
void answer_status(const struct status *status, void (*tail)(void *), void *context);
void answer_error(const char *message);
const char *mode_name(enum ditto_rec_mode mode);

unsigned long long monotonic_ns(void);
/* Flags to poll: set by SIGINT and SIGTERM. */
extern volatile sig_atomic_t stop_requested;
void signals_install(void);

/* Call visit for pid and each process below it; false if pid does not exist. */
bool tree_visit(pid_t pid, void (*visit)(pid_t, void *), void *context);
/* Call visit for each thread of the process. */
void threads_visit(pid_t pid, void (*visit)(pid_t tid, void *), void *context);

#endif
