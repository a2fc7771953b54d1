/* SPDX-License-Identifier: Apache-2.0
 *
 * ditto-ptrace: the recorder for where eBPF is not permitted.  The same options, control lines and file as
 * ditto-collect, at a far higher price: two stops per system call.  cpu_ns and run_ns are 0.
 *
 * Only the main thread may use ptrace, and it waits for the traced threads; so a second thread reads the control
 * lines and interrupts that wait with a signal, again and again until the line has been taken.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "common.h"
#include "ptrace.h"

#define PROGRAM "ditto-ptrace"

struct tracing tracing = { .out.fd = -1 };

static struct options options;
static struct control control;
static pthread_t tracer;
static volatile int input_waiting, input_done;

static void set_mode(enum ditto_rec_mode wanted)
{
	bool wake = tracing.mode == DITTO_MODE_OFF && wanted != DITTO_MODE_OFF;

	tracing.mode = wanted;
	tracing.mode_since = monotonic_ns();
	output_mark(&tracing.out, tracing.mode_since, tracing.mode);
	/* Threads that run free must stop once to be resumed call by call. */
	if (wake)
		trace_interrupt_all();
}

static void answer(void)
{
	struct status status = {
		.mode = tracing.mode,
		.records = tracing.out.records,
		.bytes = tracing.out.bytes + tracing.out.used,
		.lost_map = tracing.lost_map,
		.followed = tracing.followed,
	};

	answer_status(&status, NULL, NULL);
}

static bool handle(const struct request *request)
{
	char text[128];
	int error = 0;

	switch (request->command) {
	case COMMAND_MODE:
		set_mode(request->mode);
		break;
	case COMMAND_ADD:
		error = trace_follow(request->pid);
		break;
	case COMMAND_STATUS:
		break;
	case COMMAND_QUIT:
		return true;
	default:
		answer_error("unknown command: mode off|structure|all, add PID, status, quit");
		return false;
	}
	snprintf(text, sizeof(text), "cannot follow process %d: %s", request->pid, strerror(-error));
	if (error)
		answer_error(text);
	else
		answer();
	return false;
}

static void *watch_input(void *unused)
{
	struct pollfd in = { .fd = STDIN_FILENO, .events = POLLIN };

	(void)unused;
	while (!input_done) {
		if (poll(&in, 1, 100) <= 0 && !stop_requested)
			continue;
		__atomic_store_n(&input_waiting, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&input_waiting, __ATOMIC_SEQ_CST) && !input_done) {
			pthread_kill(tracer, SIGUSR1);
			usleep(2000);
		}
	}
	return NULL;
}

static void on_wake(int signal)
{
	(void)signal;
}

static int finish(void)
{
	unsigned long long deadline = monotonic_ns() + 5000000000ull;
	struct itimerval tick = { .it_interval.tv_usec = 100000, .it_value.tv_usec = 100000 };

	/* A thread that waits for its vfork child cannot be stopped; the kernel lets it go when we end. */
	setitimer(ITIMER_REAL, &tick, NULL);
	trace_interrupt_all();
	while (tracing.alive > 0 && monotonic_ns() < deadline)
		if (!trace_step(true) && errno == ECHILD)
			break;
	input_done = 1;
	output_flush(&tracing.out);
	if (tracing.out.error || close(tracing.out.fd)) {
		char text[600];

		snprintf(text, sizeof(text), "writing %.400s failed after %llu records: %s", options.out,
			 tracing.out.records, strerror(tracing.out.error ? tracing.out.error : errno));
		answer_error(text);
		fprintf(stderr, "%s: %s; free some space or name another file\n", PROGRAM, text);
		return DITTO_EXIT_RECORDING;
	}
	answer();
	return DITTO_EXIT_OK;
}

int main(int argc, char **argv)
{
	struct sigaction wake = { .sa_handler = on_wake };
	struct request request;
	pthread_t watcher;
	bool quit = false;
	int error;

	options_parse(&options, argc, argv, PROGRAM);
	if (options.count_only) {
		fprintf(stderr, "%s: --count-only needs eBPF: use ditto-collect\n", PROGRAM);
		return DITTO_EXIT_CAPABILITY;
	}
	signals_install();
	sigaction(SIGUSR1, &wake, NULL);
	sigaction(SIGALRM, &wake, NULL);
	tracer = pthread_self();
	tracing.mode = options.mode;
	tracing.more = options.more;
	error = output_open(&tracing.out, options.out, "ptrace");
	if (error) {
		fprintf(stderr, "%s: cannot write %s: %s\n", PROGRAM, options.out, strerror(-error));
		return error == -ENOSPC ? DITTO_EXIT_RECORDING : DITTO_EXIT_INPUT;
	}
	for (int i = 0; i < options.root_count; i++) {
		error = trace_follow(options.roots[i]);
		if (error) {
			fprintf(stderr, "%s: cannot follow process %d: %s%s\n", PROGRAM, options.roots[i],
				strerror(-error), error == -EPERM ? " (is another tracer on it? run as root, or set "
				"/proc/sys/kernel/yama/ptrace_scope to 0)" : "");
			return error == -ESRCH ? DITTO_EXIT_INPUT : DITTO_EXIT_CAPABILITY;
		}
	}
	set_mode(options.mode);
	if (pthread_create(&watcher, NULL, watch_input, NULL))
		return DITTO_EXIT_CAPABILITY;
	puts("{\"ready\":true}");
	fflush(stdout);
	while (!quit && !stop_requested && !tracing.out.error) {
		if (!input_waiting && !trace_step(false) && errno == ECHILD)
			usleep(5000); /* all have ended: only control lines are left to wait for */
		if (!input_waiting)
			continue;
		control_fill(&control);
		while (!quit && control_next(&control, &request))
			quit = handle(&request);
		quit = quit || control.eof;
		__atomic_store_n(&input_waiting, 0, __ATOMIC_SEQ_CST);
	}
	return finish();
}
