/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * --count-only: calls counted in a map, no record written and no entry hooked.  Included by collect.bpf.c.
 * The loader tells these programs by their names: count_*.
 */

static __always_inline void count_call(struct task_struct *task, __u32 nr, long ret)
{
	struct ditto_count_key key = { .tid = task->pid, .nr = nr };
	struct ditto_count *c = bpf_map_lookup_elem(&counts, &key);

	if (!c) {
		struct ditto_count first = { .pid = task->tgid };

		bpf_map_update_elem(&counts, &key, &first, BPF_NOEXIST);
		c = bpf_map_lookup_elem(&counts, &key);
		if (!c) {
			__sync_fetch_and_add(&lost_map, 1);
			return;
		}
	}
	c->calls++;
	if (ret > 0)
		c->bytes += ret;
	else if (ret == -EAGAIN)
		c->again++;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(count_sys_exit, struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 nr;

	if (mode == DITTO_MODE_OFF || !bpf_task_storage_get(&threads, task, NULL, 0))
		return 0;
	nr = (long)regs->orig_ax < 0 ? __NR_rt_sigreturn : regs->orig_ax;
	if (ret == 0 && (nr == __NR_clone || nr == __NR_fork || nr == __NR_vfork || nr == __NR_clone3))
		return 0;
	count_call(task, nr, ret);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(count_exit, struct task_struct *task)
{
	long nr = ((struct pt_regs *)bpf_task_pt_regs(task))->orig_ax;

	if (mode != DITTO_MODE_OFF && (nr == __NR_exit || nr == __NR_exit_group) &&
	    bpf_task_storage_get(&threads, task, NULL, 0))
		count_call(task, nr, 0);
	return 0;
}
