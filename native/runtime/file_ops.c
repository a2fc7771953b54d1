/* SPDX-License-Identifier: Apache-2.0
 *
 * Operations on files.
 */
#include "runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define PLACE_STEP 2654435761u /* a prime: no file has a multiple of it of places */
#define LISTING_BYTES 32768 /* what the C library asks of a directory at a time */
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
	char folder[512];

	if (flags & O_DIRECTORY) { /* where the group's files are */
		snprintf(folder, sizeof(folder), "%s", path);
		*(strrchr(folder, '/') + 1) = 0;
		path = folder;
	}
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
	uint32_t size = dist_draw(op->size, &x->worker->rng, x->worker->batch_bytes ? x->worker->batch_bytes : 4096);

	return size > SCRATCH_BYTES ? SCRATCH_BYTES : size;
}

/* The number of a place: of a kind by its share, any of that kind.  Neighbours in heat are none in the file. */
static uint64_t draw_place(const struct ditto_dist *where, struct rng *rng)
{
	uint32_t total = where->value[where->n - 1], end = dist_draw(where, rng, 1), start = 0;

	for (unsigned i = 0; i < where->n && where->value[i] < end; i++)
		start = where->value[i];
	return (start + rng_below(rng, end - start)) * (uint64_t)PLACE_STEP % (total ? total : 1);
}

/* Where in the file to read or write `size` bytes. */
static off_t draw_offset(struct op_context *x, struct slot *slot, const struct ditto_op *op, uint32_t size)
{
	uint64_t unit = op->a > 0 ? (uint64_t)op->a : 512, last = slot->size > size ? slot->size - size : 0, at;

	if (slot->end <= last && op->c > 0 && rng_below(&x->worker->rng, 1000) < (uint32_t)op->c)
		at = slot->end;
	else if (op->where)
		at = draw_place(op->where, &x->worker->rng) * unit;
	else
		at = rng_below(&x->worker->rng, (uint32_t)(last / unit) + 1) * unit;
	if (at > last)
		at = last / unit * unit;
	slot->end = at + size;
	return (off_t)at;
}

static void read_slot(struct op_context *x, const struct ditto_op *op)
{
	struct slot *slot = slot_for(x, op->b);
	uint32_t size = transfer_size(x, op);
	struct iovec iov = {.iov_base = x->worker->scratch, .iov_len = size};

	switch (op->nr) {
	case SYS_getdents64:
		syscall(SYS_getdents64, slot->fd, iov.iov_base, (size_t)LISTING_BYTES);
		break;
	case SYS_pread64:
		syscall(SYS_pread64, slot->fd, iov.iov_base, (size_t)size, draw_offset(x, slot, op, size));
		break;
	case SYS_preadv:
		syscall(SYS_preadv, slot->fd, &iov, 1, draw_offset(x, slot, op, size), 0);
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
		written = syscall(SYS_pwrite64, slot->fd, iov.iov_base, (size_t)size, draw_offset(x, slot, op, size));
		break;
	case SYS_pwritev:
		written = syscall(SYS_pwritev, slot->fd, &iov, 1, draw_offset(x, slot, op, size), 0);
		break;
	case SYS_writev:
		written = syscall(SYS_writev, slot->fd, &iov, 1);
		break;
	default:
		written = syscall(SYS_write, slot->fd, iov.iov_base, (size_t)size);
	}
	if (written > 0 && op->b >= DITTO_SLOT_PERSISTENT && op->nr != SYS_pwrite64 && op->nr != SYS_pwritev) {
		/* other threads and processes write to the same log: each counts its own share, which is enough */
		slot->size += (uint64_t)written;
		if (slot->size > LOG_LIMIT && ftruncate(slot->fd, 0) == 0)
			slot->size = 0;
	}
}

static void sync_slot(int fd, uint16_t nr)
{
	if (nr == SYS_sync_file_range)
		syscall(nr, fd, 0L, 0L, SYNC_FILE_RANGE_WRITE);
	else
		syscall(nr == SYS_fdatasync ? SYS_fdatasync : SYS_fsync, fd);
}

/* Asks for a file's state, or sets what it is already. */
static void state_of(struct slot *slot, uint16_t nr)
{
	struct stat st;

	switch (nr) {
	case SYS_newfstatat:
		syscall(nr, slot->fd, "", &st, AT_EMPTY_PATH);
		break;
	case SYS_fchmod:
		syscall(nr, slot->fd, 0600);
		break;
	case SYS_fchown:
		syscall(nr, slot->fd, -1, -1);
		break;
	case SYS_flock:
		syscall(nr, slot->fd, LOCK_UN);
		break;
	case SYS_ftruncate:
		syscall(nr, slot->fd, (off_t)slot->size);
		break;
	case SYS_fallocate:
		syscall(nr, slot->fd, FALLOC_FL_KEEP_SIZE, 0L, 1L);
		break;
	case SYS_fadvise64:
		syscall(nr, slot->fd, 0L, 0L, POSIX_FADV_NORMAL);
		break;
	default:
		syscall(SYS_fstat, slot->fd, &st);
	}
}

enum run file_op(struct op_context *x, const struct ditto_op *op)
{
	struct epoll_event watched = {.events = EPOLLIN | EPOLLET};
	struct slot *slot;

	switch (op->kind) {
	case OP_FILE_OPEN:
		open_slot(x, op);
		break;
	case OP_FILE_STAT:
		stat_path(x, op);
		break;
	case OP_FILE_FSTAT:
		state_of(slot_for(x, op->b), op->nr);
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
		sync_slot(slot_for(x, op->b)->fd, op->nr);
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
