/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Descriptors that pass to and from other processes with messages.  Included by collect_payload.bpf.h.
 */

struct user_msg {
	__u64 name;
	__u64 namelen;
	__u64 iov;
	__u64 iovlen;
	__u64 control;
	__u64 controllen;
};

struct user_control {
	__u64 len;
	__s32 level;
	__s32 type;
	__s32 first;
};

/* What a descriptor of this process stands for; NULL where it is not open. */
static __always_inline struct file *file_of(long fd)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = NULL;

	if (fd < 0 || fd >= BPF_CORE_READ(table, max_fds) || bpf_probe_read_kernel(&file, sizeof(file), files + fd))
		return NULL;
	return file;
}

/* How many descriptors pass with a message, of which the first header of control data tells; *first is set if any do. */
static __always_inline __u64 passing(__u64 message, __s32 *first)
{
	struct user_control control = {};
	struct user_msg msg = {};

	if (bpf_probe_read_user(&msg, sizeof(msg), (void *)message) || !msg.control || msg.controllen < sizeof(control) - 4 ||
	    bpf_probe_read_user(&control, 20, (void *)msg.control) || control.level != 1 || control.type != 1 ||
	    control.len < 20 || control.len > msg.controllen)
		return 0;
	*first = control.first;
	return (control.len - 16) / 4;
}

/* The descriptors that passed, as record.h tells.  Kept out of line, for it runs once a connection. */
static __noinline int fill_passed(struct ditto_rec *e)
{
	struct file *file;
	__s32 first = -1;

	if (!e)
		return 0;
	e->args[4] = e->args[5] = 0;
	e->args[3] = e->ret < 0 ? 0 : passing(e->args[1], &first);
	file = e->args[3] ? file_of(first) : NULL;
	if (file) {
		e->args[4] = first;
		e->args[5] = BPF_CORE_READ(file, f_inode, i_ino);
	} else {
		e->args[3] = 0;
	}
	return 0;
}
