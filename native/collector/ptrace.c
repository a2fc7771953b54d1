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
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include "common.h"
#include "payload.h"
#include "ptrace.h"

#define PROGRAM "ditto-ptrace"
#define TRACEES 16384
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | \
		 PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

static struct tracee tracees[TRACEES];
static struct output out = { .fd = -1 };
static struct options options;
static struct control control;
static enum ditto_rec_mode mode;
static unsigned long long mode_since, lost_map, followed;
static int alive, seize_error;
static pthread_t tracer;
static volatile int input_waiting, input_done;

static struct tracee *find(pid_t tid, bool create)
{
	unsigned int at = (unsigned int)tid * 2654435761u % TRACEES;
	struct tracee *gap = NULL;

	for (int i = 0; i < TRACEES; i++, at = (at + 1) % TRACEES) {
		if (tracees[at].tid == tid)
			return &tracees[at];
		if (tracees[at].tid == -1 && !gap)
			gap = &tracees[at];
		if (tracees[at].tid == 0) {
			gap = gap ? gap : &tracees[at];
			break;
		}
	}
	if (!create || !gap)
		return NULL;
	*gap = (struct tracee){ .tid = tid, .newborn = true };
	alive++;
	followed++;
	return gap;
}

static void forget(struct tracee *t)
{
	t->tid = -1; /* a grave, so that searches go on past it */
	alive--;
}

static struct ditto_rec start_record(const struct tracee *t, enum ditto_rec_kind kind)
{
	return (struct ditto_rec){ .t_ns = monotonic_ns(), .kind = kind, .pid = t->pid, .tid = t->tid };
}

static void put_birth(struct tracee *t, pid_t parent_tid, pid_t parent_pid, unsigned long long flags)
{
	struct ditto_rec rec;
	pid_t parent = 0;
	char comm[16] = "";

	if (t->born)
		return;
	t->born = true;
	thread_facts(t->tid, &t->pid, &parent, comm);
	rec = start_record(t, DITTO_REC_BIRTH);
	rec.args[0] = parent_tid;
	rec.args[1] = parent_pid ? parent_pid : parent;
	rec.args[2] = flags;
	memcpy(rec.payload, comm, sizeof(comm));
	rec.payload_len = sizeof(comm);
	output_put(&out, &rec);
}

static void resume(struct tracee *t, int signal)
{
	int how = mode == DITTO_MODE_OFF ? PTRACE_CONT : PTRACE_SYSCALL;

	t->running = ptrace(how, t->tid, 0, signal) == 0;
}

static void seize(pid_t tid, void *context)
{
	struct tracee *t;

	(void)context;
	if (find(tid, false))
		return;
	if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS)) {
		if (errno != ESRCH)
			seize_error = errno;
		return;
	}
	t = find(tid, true);
	if (!t) {
		lost_map++;
		ptrace(PTRACE_DETACH, tid, 0, 0);
		return;
	}
	t->running = true;
	t->newborn = false;
	put_birth(t, 0, 0, 0);
	if (mode != DITTO_MODE_OFF)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
}

static void seize_process(pid_t pid, void *context)
{
	unsigned long long before;

	/* Threads born while we read the list are caught by their parent's being traced, or by reading again. */
	do {
		before = followed;
		threads_visit(pid, seize, context);
	} while (followed != before && !seize_error);
}

static int follow(pid_t pid)
{
	seize_error = 0;
	if (!tree_visit(pid, seize_process, NULL))
		return -ESRCH;
	return -seize_error;
}

static void put_call(struct tracee *t, long ret)
{
	struct ditto_rec rec = start_record(t, DITTO_REC_SYSCALL);
	unsigned long long since = t->entry_ns > mode_since ? t->entry_ns : mode_since;

	rec.wall_ns = rec.t_ns > since ? rec.t_ns - since : 0;
	rec.ret = ret;
	rec.nr = t->nr;
	memcpy(rec.args, t->args, sizeof(rec.args));
	if (t->nr != __NR_exit && t->nr != __NR_exit_group)
		payload_read(t->tid, &rec);
	output_put(&out, &rec);
}

static void on_syscall_stop(struct tracee *t)
{
	struct ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) <= 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		t->in_call = true;
		t->nr = info.entry.nr;
		for (int i = 0; i < 6; i++)
			t->args[i] = info.entry.args[i];
		t->entry_ns = monotonic_ns();
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && t->in_call) {
		t->in_call = false;
		if (mode == DITTO_MODE_ALL || (mode == DITTO_MODE_STRUCTURE && !ditto_pay[t->nr % DITTO_NR_MAX].hot))
			put_call(t, info.exit.rval);
	}
}

static void on_clone(struct tracee *t)
{
	unsigned long tid = 0;
	unsigned long long flags = 0;
	struct tracee *child;

	if (ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &tid) || !tid)
		return;
	child = find(tid, true);
	if (!child) {
		lost_map++;
		return;
	}
	if (t->in_call && t->nr == __NR_clone)
		flags = t->args[0];
	else if (t->in_call && t->nr == __NR_vfork)
		flags = 0x4100; /* CLONE_VFORK | CLONE_VM */
	else if (t->in_call && t->nr == __NR_clone3)
		flags = ptrace(PTRACE_PEEKDATA, t->tid, t->args[0], 0);
	put_birth(child, t->tid, t->pid, flags);
}

static void on_exec(struct tracee *t)
{
	unsigned long former = 0;
	struct ditto_rec rec;
	struct tracee *old;
	char path[64];
	ssize_t n;

	ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &former);
	old = former && (pid_t)former != t->tid ? find(former, false) : NULL;
	if (old) {
		/* A thread that was no leader takes the leader's id with it: its entry stop was under the old one. */
		t->in_call = old->in_call;
		t->nr = old->nr;
		t->entry_ns = old->entry_ns;
		memcpy(t->args, old->args, sizeof(t->args));
		forget(old);
	}
	rec = start_record(t, DITTO_REC_EXEC);
	rec.args[0] = former;
	snprintf(path, sizeof(path), "/proc/%d/exe", t->tid);
	n = readlink(path, (char *)rec.payload, sizeof(rec.payload) - 1);
	rec.payload_len = n > 0 ? n + 1 : 0;
	output_put(&out, &rec);
}

static void on_exit_event(struct tracee *t)
{
	unsigned long status = 0;
	struct ditto_rec rec;

	ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &status);
	if (t->in_call && mode != DITTO_MODE_OFF && (t->nr == __NR_exit || t->nr == __NR_exit_group)) {
		t->entry_ns = monotonic_ns();
		put_call(t, 0);
	}
	t->in_call = false;
	rec = start_record(t, DITTO_REC_EXIT);
	rec.ret = status >> 8 & 0xff;
	rec.args[0] = status & 0x7f;
	output_put(&out, &rec);
}

/* Deal with one stop.  Returns the signal to resume with, or -1 if the thread must not be resumed. */
static int on_stop(struct tracee *t, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	t->running = false;
	t->listening = false;
	if (t->newborn) {
		t->newborn = false;
		if (!t->pid) {
			pid_t parent;
			char comm[16];

			thread_facts(t->tid, &t->pid, &parent, comm);
		}
	}
	if (signal == (SIGTRAP | 0x80)) {
		on_syscall_stop(t);
		return 0;
	}
	switch (event) {
	case 0:
		return signal; /* about to be delivered: let it through */
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
	case PTRACE_EVENT_CLONE:
		on_clone(t);
		return 0;
	case PTRACE_EVENT_EXEC:
		on_exec(t);
		return 0;
	case PTRACE_EVENT_EXIT:
		on_exit_event(t);
		return 0;
	case PTRACE_EVENT_STOP:
		if (signal != SIGTRAP) {
			/* A group stop: the app stopped itself, and stays so until it is continued. */
			t->listening = ptrace(PTRACE_LISTEN, t->tid, 0, 0) == 0;
			t->running = t->listening;
			return -1;
		}
		return 0;
	}
	return 0;
}

/* Wait for one thread to stop or end; false on an interruption or when nothing is left to wait for. */
static bool step(bool detaching)
{
	struct tracee *t;
	int status, signal;
	pid_t tid = waitpid(-1, &status, __WALL);

	if (tid < 0)
		return false;
	t = find(tid, WIFSTOPPED(status));
	if (!t)
		return true;
	if (!WIFSTOPPED(status)) {
		forget(t);
		return true;
	}
	signal = on_stop(t, status);
	if (detaching) {
		if (ptrace(PTRACE_DETACH, tid, 0, signal > 0 ? signal : 0) == 0)
			forget(t);
	} else if (signal >= 0) {
		resume(t, signal);
	}
	return true;
}

static void interrupt_all(void)
{
	for (int i = 0; i < TRACEES; i++)
		if (tracees[i].tid > 0 && tracees[i].running)
			ptrace(PTRACE_INTERRUPT, tracees[i].tid, 0, 0);
}

static void set_mode(enum ditto_rec_mode wanted)
{
	bool wake = mode == DITTO_MODE_OFF && wanted != DITTO_MODE_OFF;

	mode = wanted;
	mode_since = monotonic_ns();
	output_mark(&out, mode_since, mode);
	/* Threads that run free must stop once to be resumed call by call. */
	if (wake)
		interrupt_all();
}

static void answer(void)
{
	struct status status = { .mode = mode, .records = out.records, .bytes = out.bytes + out.used,
				 .lost_map = lost_map, .followed = followed };

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
		error = follow(request->pid);
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
	interrupt_all();
	while (alive > 0 && monotonic_ns() < deadline)
		if (!step(true) && errno == ECHILD)
			break;
	input_done = 1;
	output_flush(&out);
	if (out.error || close(out.fd)) {
		char text[600];

		snprintf(text, sizeof(text), "writing %.400s failed after %llu records: %s", options.out, out.records,
			 strerror(out.error ? out.error : errno));
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
	mode = options.mode;
	error = output_open(&out, options.out, "ptrace");
	if (error) {
		fprintf(stderr, "%s: cannot write %s: %s\n", PROGRAM, options.out, strerror(-error));
		return error == -ENOSPC ? DITTO_EXIT_RECORDING : DITTO_EXIT_INPUT;
	}
	for (int i = 0; i < options.root_count; i++) {
		error = follow(options.roots[i]);
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
	while (!quit && !stop_requested && !out.error) {
		if (!input_waiting && !step(false) && errno == ECHILD)
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
