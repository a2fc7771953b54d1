/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Birth, exec and exit of followed tasks, block I/O, and the walk over all tasks.  Included by collect.bpf.c.
 * Births, execs and exits are recorded in every mode: they are rare, and a recording without them cannot be read.
 */

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	struct pt_regs *regs;
	__u64 flags = 0;
	long nr;

	if (!bpf_task_storage_get(&threads, parent, NULL, 0))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	nr = regs->orig_ax;
	if (nr == __NR_clone)
		flags = regs->di;
	else if (nr == __NR_clone3)
		bpf_probe_read_user(&flags, sizeof(flags), (void *)regs->di);
	else if (nr == __NR_vfork)
		flags = 0x4100; /* CLONE_VFORK | CLONE_VM */
	follow(child, parent, flags);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_tid, struct linux_binprm *bprm)
{
	struct thread *st = bpf_task_storage_get(&threads, task, NULL, 0);
	struct ditto_rec *e;
	long n;

	if (!st)
		return 0;
	e = reserve(task, st, bpf_ktime_get_ns(), DITTO_REC_EXEC);
	if (!e)
		return 0;
	e->args[0] = old_tid;
	n = bpf_probe_read_kernel_str(e->payload, sizeof(e->payload), bprm->filename);
	e->payload_len = n > 0 ? n : 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	struct thread *st = bpf_task_storage_get(&threads, task, NULL, 0);
	struct pt_regs *regs;
	struct ditto_rec *e;
	__u64 now;

	if (!st)
		return 0;
	now = bpf_ktime_get_ns();
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	/* exit and exit_group never return: this is where they are recorded. */
	if (mode != DITTO_MODE_OFF && (regs->orig_ax == __NR_exit || regs->orig_ax == __NR_exit_group)) {
		e = reserve(task, st, now, DITTO_REC_SYSCALL);
		if (e) {
			e->nr = regs->orig_ax;
			e->args[0] = regs->di;
			e->run_ns = run_at(st, now);
			bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
		}
	}
	report_faults(task, st, now);
	e = reserve(task, st, now, DITTO_REC_EXIT);
	if (!e)
		return 0;
	/* As wait() encodes it: the exit code above, the killing signal below. */
	e->ret = (task->exit_code >> 8) & 0xff;
	e->args[0] = task->exit_code & 0x7f;
	e->run_ns = run_at(st, now);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_block_issue, struct request *rq)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct ditto_block b = {};
	__u64 key = (__u64)rq;

	if (mode == DITTO_MODE_OFF || !bpf_task_storage_get(&threads, task, NULL, 0))
		return 0;
	b.issued_ns = bpf_ktime_get_ns();
	b.bytes = rq->__data_len;
	b.write = (rq->cmd_flags & REQ_OP_MASK) == 1;
	b.pid = task->tgid;
	b.tid = task->pid;
	if (bpf_map_update_elem(&blocks, &key, &b, BPF_ANY)) {
		__sync_fetch_and_add(&lost_map, 1);
		return 0;
	}
	__sync_fetch_and_add(&blocks_pending, 1);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_block_done, struct request *rq)
{
	struct ditto_block *b;
	struct ditto_rec *e;
	__u64 key = (__u64)rq;

	if (blocks_pending <= 0)
		return 0;
	b = bpf_map_lookup_elem(&blocks, &key);
	if (!b)
		return 0;
	e = bpf_ringbuf_reserve(&ring, sizeof(*e), 0);
	if (e) {
		__builtin_memset(e, 0, sizeof(*e));
		e->t_ns = bpf_ktime_get_ns();
		e->kind = DITTO_REC_BLOCK;
		e->pid = b->pid;
		e->tid = b->tid;
		e->args[0] = b->bytes;
		e->args[1] = b->write;
		e->args[2] = e->t_ns - b->issued_ns;
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	} else {
		__sync_fetch_and_add(&lost_ring, 1);
	}
	bpf_map_delete_elem(&blocks, &key);
	__sync_fetch_and_add(&blocks_pending, -1);
	return 0;
}

SEC("iter/task")
int walk_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct thread *st;
	__u32 pid, parent, one = 1;

	if (!task)
		return 0;
	st = bpf_task_storage_get(&threads, task, NULL, 0);
	if (walk == DITTO_WALK_FLUSH) {
		if (st)
			report_faults(task, st, bpf_ktime_get_ns());
		return 0;
	}
	pid = task->tgid;
	parent = BPF_CORE_READ(task, real_parent, tgid);
	if (st || pid == own_pid || (!bpf_map_lookup_elem(&wanted, &pid) && !bpf_map_lookup_elem(&wanted, &parent)))
		return 0;
	bpf_map_update_elem(&wanted, &pid, &one, BPF_ANY);
	follow(task, NULL, 0);
	return 0;
}
