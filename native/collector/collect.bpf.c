/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The BPF side of ditto-collect: one joined record per system call of the followed tasks, written at its return.
 *
 * Per-thread state lives in task storage, so it is found without hashing, survives the change of tid in an execve by
 * a thread that is no leader, and goes away with the task.  A task without storage is not followed.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "collect.h"
#include "payload.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EAGAIN 11
#define barrier() asm volatile("" ::: "memory")
#define FAULT_PERIOD_NS 10000000ull
#define REQ_OP_MASK 0xff

/* Written by the loader while the programs run. */
volatile __u32 mode = DITTO_MODE_OFF;
volatile __u32 mode_seq = 1;	/* changes with mode: an entry noted under another mode is not trusted at the return */
volatile __u64 mode_since = 0;	/* when the mode last changed */
volatile __u32 walk = DITTO_WALK_FOLLOW;
volatile __u32 own_pid = 0;	/* the loader itself is never followed: its own calls would feed on themselves */

/* Set before the programs are loaded, so that what it turns off costs nothing: further records of what a call moved. */
const volatile __u32 more = 0;

/* Read by the loader. */
__u64 lost_ring = 0, lost_map = 0, followed = 0;
static __s64 blocks_pending = 0;

struct thread {
	__u64 entry_ns;
	__u64 entry_run;
	__u64 run;	/* CPU time up to on_since */
	__u64 on_since; /* when it got the CPU it is on; 0: not on one, or not known */
	__u64 seen_ns;
	__u64 faults;	/* reported so far */
	__u64 major;
	__u64 fault_ns;
	__u64 nvcsw0, nivcsw0;
	__u32 seq; /* mode_seq at entry; 0: no call entered */
	__u32 nr;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u32);
} wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct ditto_count_key);
	__type(value, struct ditto_count);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct ditto_block);
} blocks SEC(".maps");

static __always_inline __u64 run_at(struct thread *st, __u64 now)
{
	if (!st->on_since || st->on_since > now)
		st->on_since = now;
	return st->run + (now - st->on_since);
}

/* A record with its common fields set and the rest zero; NULL (and counted) if the ring is full. */
static __always_inline struct ditto_rec *reserve(struct task_struct *task, struct thread *st, __u64 now, __u16 kind)
{
	struct ditto_rec *e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);

	if (!e) {
		__sync_fetch_and_add(&lost_ring, 1);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->t_ns = now;
	e->kind = kind;
	e->pid = task->tgid;
	e->tid = task->pid;
	if (st) {
		e->nvcsw = task->nvcsw - st->nvcsw0;
		e->nivcsw = task->nivcsw - st->nivcsw0;
	}
	return e;
}

static __always_inline void report_faults(struct task_struct *task, struct thread *st, __u64 now)
{
	__u64 major = task->maj_flt, all = task->min_flt + major;
	struct ditto_rec *e;

	if (all == st->faults)
		return;
	e = reserve(task, st, now, DITTO_REC_FAULT);
	if (!e)
		return;
	e->args[0] = all - st->faults;
	e->args[1] = major - st->major;
	st->faults = all;
	st->major = major;
	st->fault_ns = now;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* Start to follow a task; parent is NULL for one that was running before. */
static __always_inline void follow(struct task_struct *task, struct task_struct *parent, __u64 clone_flags)
{
	__u64 now = bpf_ktime_get_ns();
	struct ditto_rec *e;
	struct thread *st;

	st = bpf_task_storage_get(&threads, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!st) {
		__sync_fetch_and_add(&lost_map, 1);
		return;
	}
	st->seen_ns = now;
	st->fault_ns = now;
	st->nvcsw0 = task->nvcsw;
	st->nivcsw0 = task->nivcsw;
	st->major = task->maj_flt;
	st->faults = task->min_flt + st->major;
	__sync_fetch_and_add(&followed, 1);
	e = reserve(task, st, now, DITTO_REC_BIRTH);
	if (!e)
		return;
	if (parent) {
		e->args[0] = parent->pid;
		e->args[1] = parent->tgid;
		e->args[2] = clone_flags;
	} else {
		e->args[1] = BPF_CORE_READ(task, real_parent, tgid);
	}
	bpf_probe_read_kernel(e->payload, sizeof(task->comm), task->comm);
	e->payload_len = sizeof(task->comm);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

#include "collect_payload.bpf.h"

/* In STRUCTURE mode. */
static __always_inline int left_out(struct pt_regs *regs, long ret)
{
	unsigned char hot = ditto_pay[regs->orig_ax & (DITTO_NR_MAX - 1)].hot;
	__s32 first;

	return hot == DITTO_HOT_UNLESS_PASSING ? ret < 0 || !passing(regs->si, &first) : hot;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long nr)
{
	struct thread *st;
	__u32 m = mode;
	__u64 now;

	if (m == DITTO_MODE_OFF || (m == DITTO_MODE_STRUCTURE && ditto_pay[nr & (DITTO_NR_MAX - 1)].hot == 1))
		return 0;
	st = bpf_task_storage_get(&threads, bpf_get_current_task_btf(), NULL, 0);
	if (!st)
		return 0;
	now = bpf_ktime_get_ns();
	st->entry_ns = now;
	st->entry_run = run_at(st, now);
	st->nr = nr;
	st->seq = mode_seq;
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long ret)
{
	const struct ditto_pay_spec *spec;
	struct task_struct *task;
	struct ditto_rec *e;
	struct thread *st;
	__u32 m = mode, nr;
	__u64 now, run;

	if (m == DITTO_MODE_OFF || (m == DITTO_MODE_STRUCTURE && left_out(regs, ret)))
		return 0;
	task = bpf_get_current_task_btf();
	st = bpf_task_storage_get(&threads, task, NULL, 0);
	if (!st)
		return 0;
	now = bpf_ktime_get_ns();
	run = run_at(st, now);
	if (st->seq != mode_seq) {
		/* In flight when it began to be seen: its time counts from then.  rt_sigreturn leaves -1 as number. */
		__u64 since = mode_since > st->seen_ns ? mode_since : st->seen_ns;

		nr = (long)regs->orig_ax < 0 ? __NR_rt_sigreturn : regs->orig_ax;
		/* What a new thread or process returns from is its parent's call, which the parent records. */
		if (ret == 0 && (nr == __NR_clone || nr == __NR_fork || nr == __NR_vfork || nr == __NR_clone3))
			return 0;
		st->entry_ns = since < now ? since : now;
		st->entry_run = run;
	} else {
		nr = st->nr;
	}
	st->seq = 0;
	e = reserve(task, st, now, DITTO_REC_SYSCALL);
	if (!e)
		return 0;
	e->wall_ns = now - st->entry_ns;
	e->cpu_ns = run - st->entry_run;
	e->run_ns = run;
	e->ret = ret;
	e->nr = nr;
	e->args[0] = regs->di;
	e->args[1] = regs->si;
	e->args[2] = regs->dx;
	e->args[3] = regs->r10;
	e->args[4] = regs->r8;
	e->args[5] = regs->r9;
	spec = &ditto_pay[nr & (DITTO_NR_MAX - 1)];
	if (spec->kind)
		fill_payload(e, spec, ret);
	if (more && e->payload_len && ret > e->payload_len)
		more_payload(e, spec->kind, ret);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	if (now - st->fault_ns > FAULT_PERIOD_NS)
		report_faults(task, st, now);
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct thread *from = bpf_task_storage_get(&threads, prev, NULL, 0);
	struct thread *to = bpf_task_storage_get(&threads, next, NULL, 0);
	__u64 now = 0;

	/* One branch for each pointer: a compiler that ORs the two loses the verifier. */
	if (from) {
		now = bpf_ktime_get_ns();
		if (from->on_since && from->on_since < now)
			from->run += now - from->on_since;
		from->on_since = 0;
	}
	barrier();
	if (to)
		to->on_since = now ? now : bpf_ktime_get_ns();
	return 0;
}

#include "collect_count.bpf.h"
#include "collect_life.bpf.h"
