/* SPDX-License-Identifier: Apache-2.0
 *
 * The traced threads: taking them, following what they give birth to, and turning their stops into records.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ptrace.h>

#include "common.h"
#include "payload.h"
#include "ptrace.h"

#define TRACEES 16384
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | \
		 PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

static struct tracee tracees[TRACEES];
static int seize_error;

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
	tracing.alive++;
	tracing.followed++;
	return gap;
}

static void forget(struct tracee *t)
{
	t->tid = -1; /* a grave, so that searches go on past it */
	tracing.alive--;
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
	output_put(&tracing.out, &rec);
}

static void resume(struct tracee *t, int signal)
{
	int how = tracing.mode == DITTO_MODE_OFF ? PTRACE_CONT : PTRACE_SYSCALL;

	t->running = ptrace(how, t->tid, 0, signal) == 0;
}

static void seize(pid_t tid, void *context)
{
	struct tracee *t;

	(void)context;
	if (find(tid, false) || tid == getpid())
		return;
	if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS)) {
		if (errno != ESRCH)
			seize_error = errno;
		return;
	}
	t = find(tid, true);
	if (!t) {
		tracing.lost_map++;
		ptrace(PTRACE_DETACH, tid, 0, 0);
		return;
	}
	t->running = true;
	t->newborn = false;
	put_birth(t, 0, 0, 0);
	if (tracing.mode != DITTO_MODE_OFF)
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
}

static void seize_process(pid_t pid, void *context)
{
	unsigned long long before;

	/* Threads born while we read the list are caught by their parent's being traced, or by reading again. */
	do {
		before = tracing.followed;
		threads_visit(pid, seize, context);
	} while (tracing.followed != before && !seize_error);
}

int trace_follow(pid_t pid)
{
	seize_error = 0;
	if (!tree_visit(pid, seize_process, NULL))
		return -ESRCH;
	return -seize_error;
}

static void put_call(struct tracee *t, long ret)
{
	struct ditto_rec rec = start_record(t, DITTO_REC_SYSCALL);
	unsigned long long since = t->entry_ns > tracing.mode_since ? t->entry_ns : tracing.mode_since;

	rec.wall_ns = rec.t_ns > since ? rec.t_ns - since : 0;
	rec.ret = ret;
	rec.nr = t->nr;
	memcpy(rec.args, t->args, sizeof(rec.args));
	if (t->nr != __NR_exit && t->nr != __NR_exit_group)
		payload_read(t->tid, &rec);
	output_put(&tracing.out, &rec);
	/* Where the first of several vectors is short, its rest is made up for. */
	for (unsigned int part = 1; tracing.more && part <= tracing.more + (rec.payload_len < DITTO_REC_PAYLOAD); part++) {
		struct ditto_rec more = start_record(t, DITTO_REC_MORE);

		more.t_ns = rec.t_ns;
		if (!payload_more(t->tid, &rec, part, &more))
			break;
		output_put(&tracing.out, &more);
	}
}

/* In STRUCTURE mode. */
static bool left_out(const struct tracee *t, long long ret)
{
	unsigned char hot = ditto_pay[t->nr % DITTO_NR_MAX].hot;

	return hot == DITTO_HOT_UNLESS_PASSING ? ret < 0 || !passes(t->tid, t->args[1], NULL) : hot;
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
		if (tracing.mode == DITTO_MODE_ALL ||
		    (tracing.mode == DITTO_MODE_STRUCTURE && !left_out(t, info.exit.rval)))
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
		tracing.lost_map++;
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
	output_put(&tracing.out, &rec);
}

static void on_exit_event(struct tracee *t)
{
	unsigned long status = 0;
	struct ditto_rec rec;

	ptrace(PTRACE_GETEVENTMSG, t->tid, 0, &status);
	if (t->in_call && tracing.mode != DITTO_MODE_OFF && (t->nr == __NR_exit || t->nr == __NR_exit_group)) {
		t->entry_ns = monotonic_ns();
		put_call(t, 0);
	}
	t->in_call = false;
	rec = start_record(t, DITTO_REC_EXIT);
	rec.ret = status >> 8 & 0xff;
	rec.args[0] = status & 0x7f;
	output_put(&tracing.out, &rec);
}

/* Deal with one stop.  Returns the signal to resume with, or -1 if the thread must not be resumed. */
static int on_stop(struct tracee *t, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	t->running = false;
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
			t->running = ptrace(PTRACE_LISTEN, t->tid, 0, 0) == 0;
			return -1;
		}
		return 0;
	}
	return 0;
}

bool trace_step(bool detaching)
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

void trace_interrupt_all(void)
{
	for (int i = 0; i < TRACEES; i++)
		if (tracees[i].tid > 0 && tracees[i].running)
			ptrace(PTRACE_INTERRUPT, tracees[i].tid, 0, 0);
}
