/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations on files.
 */
#include "runtime.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define LOG_LIMIT (64u << 20) /* where a growing file starts again */

static struct slot *slot_for(struct op_context *x, int index)
{
	static struct slot none = {.fd = -1, .size = 0};

	if (index >= DITTO_SLOT_PERSISTENT && index < DITTO_SLOTS)
		return &x->worker->process->slot[index];
	if (index >= 0 && index < REQUEST_SLOTS && (*x->open_slots >> index & 1))
		return &x->slot[index];
	return &none;
}

const struct slot *file_slot(struct op_context *x, int index)
{
	return slot_for(x, index);
}

static int is_made(int group)
{
	return group >= 0 && group < ditto_service.file_groups &&
	       ditto_service.file_group[group].kind == DITTO_FILE_REGULAR;
}

static void open_slot(struct op_context *x, const struct ditto_op *op)
{
	uint64_t size;
	const char *path = file_path(x->worker, (unsigned)op->a, x->pick, &size);
	int fd, flags = op->c & ~(O_EXCL | O_TRUNC); /* the file stays what it was made */

	if (is_made(op->a) && (op->c & O_TRUNC) && size == 0)
		flags |= O_TRUNC;
	if (op->nr == SYS_open)
		fd = (int)syscall(SYS_open, path, flags, 0600);
	else
		fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
	if (op->b < 0 || op->b >= REQUEST_SLOTS || fd < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (*x->open_slots >> op->b & 1)
		close(x->slot[op->b].fd);
	x->slot[op->b] = (struct slot){.fd = fd, .size = size};
	*x->open_slots |= 1u << op->b;
}

static void stat_path(struct op_context *x, const struct ditto_op *op)
{
	struct stat st;
	char statx_buffer[256];
	uint64_t size;
	const char *path = file_path(x->worker, (unsigned)op->a, x->pick, &size);

	switch (op->nr) {
	case SYS_newfstatat:
		syscall(SYS_newfstatat, AT_FDCWD, path, &st, op->b);
		break;
	case SYS_statx:
		syscall(SYS_statx, AT_FDCWD, path, op->b, 0x7ff, statx_buffer);
		break;
	case SYS_access:
		syscall(SYS_access, path, F_OK);
		break;
	case SYS_faccessat:
		syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
		break;
	case SYS_lstat:
		syscall(SYS_lstat, path, &st);
		break;
	default:
		syscall(SYS_stat, path, &st);
	}
}

static uint32_t transfer_size(struct op_context *x, const struct ditto_op *op)
{
	uint32_t size = dist_draw(op->size, &x->worker->rng, 4096);

	return size > SCRATCH_BYTES ? SCRATCH_BYTES : size;
}

/* A random offset in the file at which `size` bytes can be had, a multiple of 512. */
static off_t random_offset(struct op_context *x, const struct slot *slot, uint32_t size)
{
	uint64_t blocks = slot->size > size ? (slot->size - size) / 512 + 1 : 1;

	return (off_t)(blocks > 1 ? (uint64_t)rng_below(&x->worker->rng, (uint32_t)blocks) * 512 : 0);
}

static void read_slot(struct op_context *x, const struct ditto_op *op)
{
	const struct slot *slot = slot_for(x, op->b);
	uint32_t size = transfer_size(x, op);
	struct iovec iov = {.iov_base = x->worker->scratch, .iov_len = size};

	switch (op->nr) {
	case SYS_pread64:
		syscall(SYS_pread64, slot->fd, iov.iov_base, (size_t)size, random_offset(x, slot, size));
		break;
	case SYS_preadv:
		syscall(SYS_preadv, slot->fd, &iov, 1, random_offset(x, slot, size), 0);
		break;
	case SYS_readv:
		syscall(SYS_readv, slot->fd, &iov, 1);
		break;
	default:
		syscall(SYS_read, slot->fd, iov.iov_base, (size_t)size);
	}
}

static void write_slot(struct op_context *x, const struct ditto_op *op)
{
	struct slot *slot = slot_for(x, op->b);
	uint32_t size = transfer_size(x, op);
	struct iovec iov = {.iov_base = x->worker->scratch, .iov_len = size};
	long written;

	switch (op->nr) {
	case SYS_pwrite64:
		written = syscall(SYS_pwrite64, slot->fd, iov.iov_base, (size_t)size, random_offset(x, slot, size));
		break;
	case SYS_writev:
		written = syscall(SYS_writev, slot->fd, &iov, 1);
		break;
	default:
		written = syscall(SYS_write, slot->fd, iov.iov_base, (size_t)size);
	}
	if (written > 0 && op->b >= DITTO_SLOT_PERSISTENT && op->nr != SYS_pwrite64) {
		/* other threads and processes write to the same log: each counts its own share, which is enough */
		slot->size += (uint64_t)written;
		if (slot->size > LOG_LIMIT && ftruncate(slot->fd, 0) == 0)
			slot->size = 0;
	}
}

enum run file_op(struct op_context *x, const struct ditto_op *op)
{
	struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
	struct stat st;
	struct slot *slot;

	switch (op->kind) {
	case OP_FILE_OPEN:
		open_slot(x, op);
		break;
	case OP_FILE_STAT:
		stat_path(x, op);
		break;
	case OP_FILE_FSTAT:
		if (op->nr == SYS_newfstatat)
			syscall(SYS_newfstatat, slot_for(x, op->b)->fd, "", &st, AT_EMPTY_PATH);
		else if (op->nr == SYS_fchmod)
			syscall(SYS_fchmod, slot_for(x, op->b)->fd, 0600);
		else
			syscall(SYS_fstat, slot_for(x, op->b)->fd, &st);
		break;
	case OP_FILE_READ:
		read_slot(x, op);
		break;
	case OP_FILE_WRITE:
		write_slot(x, op);
		break;
	case OP_FILE_SEEK:
		syscall(SYS_lseek, slot_for(x, op->b)->fd, 0L, SEEK_SET);
		break;
	case OP_FILE_WATCH:
		syscall(SYS_epoll_ctl, x->worker->wait_fd, EPOLL_CTL_ADD, slot_for(x, op->b)->fd, &watched);
		break;
	case OP_FILE_SYNC:
		syscall(op->nr == SYS_fdatasync ? SYS_fdatasync : SYS_fsync, slot_for(x, op->b)->fd);
		break;
	default: /* close: only what the request opened; a persistent file stays */
		slot = slot_for(x, op->b);
		if (op->b < DITTO_SLOT_PERSISTENT && slot->fd >= 0) {
			syscall(SYS_close, slot->fd);
			*x->open_slots &= ~(1u << op->b);
		}
	}
	return RUN_DONE;
}
