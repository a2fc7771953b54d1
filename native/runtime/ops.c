/* SPDX-License-Identifier: Apache-2.0
 *
 * The operations of programs, apart from computing and replying.
 */
#include "link.h"
#include "message.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

/* The oldest place of a mapping that is empty or large enough, else the oldest. */
static struct mapping *place_for(struct worker *w, uint32_t bytes)
{
	for (unsigned i = 0; i < MAPPINGS; i++) {
		struct mapping *m = &w->mapped[w->mapped_next++ % MAPPINGS];

		if (!m->at || m->bytes >= bytes)
			return m;
	}
	return &w->mapped[w->mapped_next++ % MAPPINGS];
}

/* A new mapping; one that a request makes is touched page by page, for it is used there.  The last few are kept as
 * the original's are; after that an old one gives its place, by mapping over it where one is large enough, so that no
 * call is made that the profile does not ask for.  Where none is, the smaller one stays: each place grows a few times. */
static void map_memory(struct worker *w, uint32_t bytes, int touch)
{
	struct mapping *m = place_for(w, bytes);
	int over = m->at && m->bytes >= bytes, flags = MAP_PRIVATE | MAP_ANONYMOUS | (over ? MAP_FIXED : 0);
	uint8_t *p;

	p = (uint8_t *)syscall(SYS_mmap, over ? m->at : NULL, (size_t)bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (p == MAP_FAILED) {
		if (!over)
			m->at = NULL;
		return;
	}
	for (size_t at = 0; touch && at < bytes; at += 4096)
		p[at] = 1;
	m->bytes = over ? m->bytes : bytes;
	m->at = p;
}

/* Of a file, to be read where it is. */
static void map_file(struct worker *w, uint32_t bytes, int fd)
{
	struct mapping *m = &w->mapped[w->mapped_next++ % MAPPINGS];
	volatile uint8_t sum = 0;
	uint8_t *p;

	if (m->at)
		syscall(SYS_munmap, m->at, m->bytes);
	m->at = NULL;
	p = (uint8_t *)syscall(SYS_mmap, NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return;
	for (size_t at = 0; at < bytes; at += 4096)
		sum = (uint8_t)(sum + p[at]);
	m->bytes = bytes;
	m->at = p;
}

static void unmap_memory(struct worker *w)
{
	struct mapping *m = &w->mapped[(w->mapped_next - 1) % MAPPINGS];

	if (!m->at)
		return;
	syscall(SYS_munmap, m->at, m->bytes);
	m->at = NULL;
	w->mapped_next--;
}

static void advise(struct worker *w, uint32_t bytes)
{
	size_t size = bytes ? bytes : 4096;

	if (size > SCRATCH_BYTES)
		size = SCRATCH_BYTES;
	/* the second half of the scratch mapping is nobody's */
	syscall(SYS_madvise, w->scratch + SCRATCH_BYTES, size, MADV_DONTNEED);
	for (size_t at = 0; at < size; at += 4096)
		w->scratch[SCRATCH_BYTES + at] = 1;
}

static void receive_again(struct conn *c)
{
	int n;

	if (c->eof || c->backlog || c->shell)
		return;
	n = conn_receive_once(c);
	if (n == 0)
		c->eof = 1;
	else if (n > 0)
		c->more = 1;
	else if (n == -1 && errno != EAGAIN)
		conn_close(c);
}

/* A loop has other connections to serve, whatever its descriptors are. */
static void drain(struct conn *c, const struct ditto_op *op)
{
	int flags = c->worker->waiter ? MSG_DONTWAIT : 0;
	uint8_t dropped[4096];
	size_t ask = op->a > 0 && (size_t)op->a < sizeof(dropped) ? (size_t)op->a : sizeof(dropped);

	if (op->nr == SYS_read)
		syscall(SYS_read, c->source.fd, dropped, ask);
	else
		syscall(SYS_recvfrom, c->source.fd, dropped, ask, flags, NULL, NULL);
}

static void epoll_op(struct conn *c, const struct ditto_op *op)
{
	struct worker *w = c->worker;
	int (*change)(struct worker *, struct source *, uint32_t);

	if (w->waiter != &wait_epoll || c->shell || (w->shared && !(op->a & ~EPOLLONESHOT) && op->kind == OP_EPOLL_MOD))
		return; /* watched for nothing: what another thread waits for would be lost, as parts are chosen by chance */
	if (op->kind == OP_EPOLL_DEL) {
		c->unwatched = 1;
		w->waiter->remove(w, &c->source);
		return;
	}
	c->edge = ((uint32_t)op->a & EPOLLET) != 0;
	c->idle_events = (uint32_t)op->a;
	change = op->kind == OP_EPOLL_ADD && c->unwatched ? w->waiter->add : w->waiter->modify;
	c->unwatched = 0; /* before: a dispatcher may take it out of the set at once */
	change(w, &c->source, (uint32_t)op->a);
}

/* The call that asks to be told may have been left out by chance: an edge that was reported before does not come again. */
static enum run until_writable(struct op_context *x)
{
	struct conn *c = x->conn;

	if (x->job->resumed || !x->worker->waiter || c->unwatched || !(c->source.events & EPOLLOUT))
		return RUN_DONE;
	if ((c->source.events & EPOLLET) && !c->source.out_due)
		return RUN_DONE;
	c->blocked = BLOCKED_OUT;
	return RUN_BLOCKED;
}

int socket_op(int fd, const struct ditto_op *op)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	struct linger value = {.l_onoff = op->c}; /* begins with a number, as most options are one */
	int lingers = op->a == SOL_SOCKET && op->b == SO_LINGER;

	switch (op->kind) {
	case OP_SETSOCKOPT:
		syscall(SYS_setsockopt, fd, op->a, op->b, &value, lingers ? sizeof(value) : sizeof(value.l_onoff));
		break;
	case OP_GETSOCKOPT:
		size = sizeof(address);
		syscall(SYS_getsockopt, fd, op->a, op->b, &address, &size);
		break;
	case OP_GETPEERNAME:
		syscall(SYS_getpeername, fd, &address, &size);
		break;
	case OP_GETSOCKNAME:
		syscall(SYS_getsockname, fd, &address, &size);
		break;
	case OP_FCNTL:
		if (op->a != F_DUPFD && op->a != F_DUPFD_CLOEXEC) /* a copy would be nobody's */
			syscall(SYS_fcntl, fd, op->a, (long)op->b);
		break;
	case OP_IOCTL:
		value.l_onoff = op->b;
		syscall(SYS_ioctl, fd, (unsigned long)(uint32_t)op->a, &value);
		break;
	case OP_SHUTDOWN:
		syscall(SYS_shutdown, fd, op->a);
		break;
	default:
		return 0;
	}
	return 1;
}

static void conn_op(struct conn *c, const struct ditto_op *op)
{
	switch (op->kind) {
	case OP_RECV_AGAIN:
		receive_again(c);
		break;
	case OP_DRAIN:
		drain(c, op);
		break;
	case OP_CLOSE:
		conn_close_one(c);
		break;
	case OP_POLL: /* before a send, for which there is mostly room */
		poll_by(op->nr, c->source.fd, (short)op->a, 0);
		break;
	case OP_EPOLL_ADD:
	case OP_EPOLL_MOD:
	case OP_EPOLL_DEL:
		epoll_op(c, op);
		break;
	default:
		if (!conn_copy(c, op))
			socket_op(c->source.fd, op);
	}
}

static enum run send_slot(struct op_context *x, const struct ditto_op *op)
{
	static const struct slot none = {.fd = -1, .size = 0};
	const struct slot *slot = &none;

	if (!x->job || !x->conn)
		return RUN_DONE;
	if (op->a >= DITTO_SLOT_PERSISTENT && op->a < DITTO_SLOTS)
		slot = &x->worker->process->slot[op->a];
	else if (op->a >= 0 && op->a < REQUEST_SLOTS && (*x->open_slots >> op->a & 1))
		slot = &x->slot[op->a];
	return send_file(x->conn, x->job, slot);
}

/* RUN_BLOCKED: run the same operation again when the connection is writable. */
enum run op_run(struct op_context *x, const struct ditto_op *op)
{
	static uint32_t nobody; /* a futex word without waiters */
	struct worker *w = x->worker;
	uint32_t bytes;

	switch (op->kind) {
	case OP_COMPUTE:
		worker_block(w, op->block);
		break;
	case OP_REPLY:
		if (w->passed)
			message_answer(w, op);
		break; /* else jobs.c; means nothing outside a request */
	case OP_SENDFILE:
		return send_slot(x, op);
	case OP_FILE_OPEN:
	case OP_FILE_STAT:
	case OP_FILE_FSTAT:
	case OP_FILE_READ:
	case OP_FILE_WRITE:
	case OP_FILE_SEEK:
	case OP_FILE_SYNC:
	case OP_FILE_CLOSE:
	case OP_FILE_WATCH:
		return file_op(x, op);
	case OP_BATCH:
		w->batched++;
		w->batch_bytes += dist_draw(op->size, &w->rng, 0);
		break;
	case OP_MISC:
		misc_call(op->nr);
		break;
	case OP_MMAP:
		bytes = dist_draw(op->size, &w->rng, 4096);
		if (op->a == 1) {
			const struct slot *slot = file_slot(x, op->b);

			if (slot->fd >= 0 && bytes && bytes <= slot->size) /* beyond its end a touch would be fatal */
				map_file(w, bytes, slot->fd);
			break;
		}
		map_memory(w, bytes ? bytes : 4096, x->conn != NULL && op->a != 2);
		break;
	case OP_MUNMAP:
		unmap_memory(w);
		break;
	case OP_MADVISE:
		advise(w, dist_draw(op->size, &w->rng, 4096));
		break;
	case OP_FUTEX_WAKE:
		if (op->a > 0 && op->a <= ditto_service.roles)
			helper_wake(w, (unsigned)op->a - 1);
		else
			syscall(SYS_futex, &nobody, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		break;
	case OP_SLEEP:
		pause_for(op->nr, dist_draw(op->size, &w->rng, 0));
		break;
	case OP_WRITABLE:
		return x->job && x->conn ? until_writable(x) : RUN_DONE;
	case OP_NOTIFY:
		if (op->a < 0 || op->a >= ditto_service.roles)
			break;
		if (ditto_service.role[op->a].inbox.bytes || ditto_service.role[op->a].kind == DITTO_ROLE_WORKER)
			message_pass(x, op);
		else
			worker_notify(w, (unsigned)op->a);
		break;
	case OP_FORK:
		child_fork(w, op->a);
		break;
	case OP_AWAIT:
		return message_await(x);
	case OP_YIELD:
		return message_yield(x);
	default:
		if (DITTO_LINK_OF(op->flags))
			return link_op(x, op);
		if (x->conn && x->conn->source.fd >= 0)
			conn_op(x->conn, op);
	}
	/* an operation may find that the peer is gone; when it is closing already its program goes on */
	return x->job && x->conn && x->conn->dead ? RUN_DEAD : RUN_DONE;
}

void op_program(struct op_context *x, const struct ditto_program *program)
{
	for (unsigned i = 0; i < program->n; i++)
		if (op_due(x->worker, &program->op[i]))
			op_run(x, &program->op[i]);
}

/* A program outside requests: a timer's (c is NULL), or what follows accept, adoption and close. */
void worker_program(struct worker *w, struct conn *c, const struct ditto_program *program)
{
	struct slot slot[REQUEST_SLOTS];
	uint32_t open = 0;
	struct op_context x = {.worker = w, .conn = c, .job = NULL, .slot = slot, .open_slots = &open};

	if (!program->n)
		return;
	x.pick = ditto_service.file_groups ? rng_u32(&w->rng) : 0;
	op_program(&x, program);
	if (open)
		file_close_slots(slot, &open);
}
