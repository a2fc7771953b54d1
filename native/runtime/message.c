/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages between the threads of a process.  A request is put into the inbox of those that do a part of its work, and
 * its thread goes on to other requests; whoever has done the work puts it into the inbox of that thread.  A message is
 * told of by a write to the inbox's descriptor, or by a futex; what is written there means nothing, since what passes
 * lies in the queue, before the write.
 */
#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define READ_BYTES 65536u

struct inbox {
	struct source source; /* first: the wait set points here */
	int write_fd;
	atomic_flag lock; /* held for a few instructions, over the three that follow */
	struct conn *head, **tail;
	uint32_t loose; /* messages that bring no request */
	_Atomic uint32_t told; /* a write is not read yet */
	_Atomic uint32_t behind; /* a write found no room: whoever reads next takes everything */
	_Atomic uint32_t left, waiting; /* where they are told by futex: messages nobody has taken, threads that wait */
};

static void open_ends(struct inbox *in, const struct ditto_inbox *table, int blocks)
{
	int ends[2] = {-1, -1}, nonblock = blocks ? 0 : O_NONBLOCK, failed = 0;

	if (table->nr == SYS_eventfd || table->nr == SYS_eventfd2)
		failed = (ends[0] = ends[1] = eventfd(0, EFD_CLOEXEC | (blocks ? 0 : EFD_NONBLOCK) |
							   (table->each ? EFD_SEMAPHORE : 0))) < 0;
	else if (table->nr == SYS_socketpair)
		failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (blocks ? 0 : SOCK_NONBLOCK), 0, ends);
	else if (table->nr)
		failed = pipe2(ends, O_CLOEXEC | nonblock);
	if (failed)
		fail("descriptors of a thread's messages");
	in->source = (struct source){.fd = ends[0], .type = SOURCE_INBOX, .place = -1};
	in->write_fd = ends[1];
}

/* Whether its threads sit in the read itself. */
static int blocks(const struct ditto_role *role)
{
	if (role->kind == DITTO_ROLE_LOOP || role->kind == DITTO_ROLE_DISPATCH)
		return 0;
	return role->kind != DITTO_ROLE_WORKER || role->wait == DITTO_WAIT_BLOCKING;
}

void message_join(struct worker *w)
{
	const struct ditto_inbox *table = &w->role->inbox;

	if (!table->bytes && w->role->kind != DITTO_ROLE_WORKER)
		return;
	for (unsigned i = 0; !table->own && i < w->number && !w->inbox; i++)
		if (w->process->worker[i].role == w->role)
			w->inbox = w->process->worker[i].inbox;
	if (w->inbox)
		return;
	w->inbox = calloc(1, sizeof(*w->inbox));
	if (!w->inbox)
		fail("memory for messages");
	w->inbox->tail = &w->inbox->head;
	open_ends(w->inbox, table, blocks(w->role));
}

struct source *message_source(struct worker *w)
{
	return w->inbox && w->inbox->source.fd >= 0 ? &w->inbox->source : NULL;
}

static void lock(struct inbox *in)
{
	while (atomic_flag_test_and_set_explicit(&in->lock, memory_order_acquire))
		__builtin_ia32_pause();
}

static void unlock(struct inbox *in)
{
	atomic_flag_clear_explicit(&in->lock, memory_order_release);
}

static void put(struct inbox *in, struct conn *c)
{
	lock(in);
	if (c) {
		c->next_passed = NULL;
		*in->tail = c;
		in->tail = &c->next_passed;
	} else {
		in->loose++;
	}
	unlock(in);
}

/* Whether there was a message; *c is the request it brings, or NULL. */
static int take(struct inbox *in, struct conn **c)
{
	int found;

	lock(in);
	*c = in->head;
	found = *c || in->loose;
	if (*c) {
		in->head = (*c)->next_passed;
		if (!in->head)
			in->tail = &in->head;
	} else if (in->loose) {
		in->loose--;
	}
	unlock(in);
	return found;
}

static void tell(struct inbox *in, const struct ditto_op *op)
{
	uint8_t message[4096] = {1}; /* as a number that is added to an eventfd: one */
	size_t n = op->c > 0 && (size_t)op->c < sizeof(message) ? (size_t)op->c : 8;
	long written;

	if ((op->b & DITTO_MESSAGE_ONCE) && atomic_exchange(&in->told, 1))
		return;
	if (op->nr == SYS_sendto)
		written = syscall(SYS_sendto, in->write_fd, message, n, op->b & DITTO_MESSAGE_QUIET ? MSG_NOSIGNAL : 0, NULL, 0);
	else
		written = syscall(SYS_write, in->write_fd, message, n);
	if (written < 0)
		atomic_store(&in->behind, 1);
}

static void wake(struct inbox *in, const struct ditto_op *op)
{
	atomic_fetch_add(&in->left, 1);
	if (!(op->b & DITTO_MESSAGE_ONCE) || atomic_load(&in->waiting))
		syscall(SYS_futex, &in->left, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void wait_to_be_woken(struct inbox *in)
{
	for (;;) {
		uint32_t left = atomic_load(&in->left);

		while (left && !atomic_compare_exchange_weak(&in->left, &left, left - 1))
			;
		if (left)
			return;
		atomic_fetch_add(&in->waiting, 1);
		syscall(SYS_futex, &in->left, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
		atomic_fetch_sub(&in->waiting, 1);
	}
}

static struct worker *next_reader(struct worker *from, unsigned role)
{
	struct process *p = from->process;

	for (unsigned tried = 0; tried < p->workers; tried++) {
		struct worker *w = p->worker + from->hand_next;

		from->hand_next = from->hand_next + 1 == p->workers ? 0 : from->hand_next + 1;
		if (w->role_index == role && w->inbox)
			return w;
	}
	return NULL;
}

/* Whether nothing is left to do for a connection after this reply, until its client says more: whoever sends the reply
 * tells nobody. */
static int is_last(const struct conn *c, const struct job *job)
{
	return job == &c->job[c->job_tail - 1] && c->job_head == c->job_run && !(job->traits & TRAIT_DEFERRED) &&
	       !job->body_left && c->in_start == c->in_end && !c->backlog && !c->closing && !c->eof;
}

/* Whether a request of this thread can pass to another one. */
static int may_pass(const struct op_context *x, const struct ditto_op *op)
{
	if (!(op->b & DITTO_MESSAGE_BRINGS) || !x->job || !x->conn || x->conn->passed || x->conn->peer || x->worker->shared)
		return 0;
	if (!(op->b & DITTO_MESSAGE_ANSWERED))
		return x->worker->inbox != NULL;
	/* nobody would be told of the end of a reply that has left already */
	return x->worker->waiter && is_last(x->conn, x->job) && out_sent(&x->conn->out) < x->job->end;
}

void message_pass(struct op_context *x, const struct ditto_op *op)
{
	struct worker *w = x->worker, *to;
	struct conn *c = NULL;

	if (w->passed && !atomic_load(&w->passed->answer)) { /* back to the thread that it came from */
		c = w->passed;
		to = c->worker;
		w->passed = NULL;
	} else {
		to = next_reader(w, (unsigned)op->a);
		if (!to || to == w)
			return;
		if (may_pass(x, op)) {
			c = x->conn;
			c->passed = 1;
			if (op->b & DITTO_MESSAGE_ANSWERED)
				message_want_answer(c, x->job);
		}
	}
	put(to->inbox, c);
	if (op->nr == SYS_futex)
		wake(to->inbox, op);
	else if (to->inbox->write_fd >= 0)
		tell(to->inbox, op);
}

enum run message_await(struct op_context *x)
{
	if (!x->conn || !x->conn->passed || (atomic_load(&x->conn->answer) && message_answered(x->conn)))
		return RUN_DONE;
	while (!x->worker->waiter && x->conn->passed)
		message_ready(x->worker);
	if (!x->conn->passed)
		return RUN_DONE;
	x->conn->blocked = BLOCKED_MESSAGE;
	return RUN_BLOCKED;
}

enum run message_yield(struct op_context *x)
{
	struct worker *w = x->worker;
	struct conn *c = x->conn, **at;

	if (!x->job || x->job->resumed || !c || c->peer || c->passed || w->role->kind != DITTO_ROLE_LOOP)
		return RUN_DONE;
	for (at = &w->yielded; *at; at = &(*at)->next_passed)
		;
	c->next_passed = NULL;
	*at = c;
	c->passed = 1;
	c->blocked = BLOCKED_MESSAGE;
	return RUN_BLOCKED;
}

/* A request has come back: it goes on, if its client has not left meanwhile. */
static void come_back(struct worker *w, struct conn *c)
{
	c->passed = 0;
	if (!c->dead && w->waiter)
		conn_resume(c);
}

void message_yielded(struct worker *w)
{
	struct conn *c = w->yielded, *next;

	w->yielded = NULL;
	for (; c; c = next) {
		next = c->next_passed;
		come_back(w, c);
	}
}

/* Reads once, or until nothing is left.  How many messages that was; 0: none. */
static uint32_t read_inbox(struct worker *w)
{
	static _Thread_local uint8_t buffer[READ_BYTES];
	const struct ditto_inbox *table = &w->role->inbox;
	size_t bytes = table->bytes && table->bytes < READ_BYTES ? table->bytes : READ_BYTES;
	struct inbox *in = w->inbox;
	uint64_t got = 0;
	long n;

	do {
		n = table->read_nr == SYS_recvfrom ? syscall(SYS_recvfrom, in->source.fd, buffer, bytes, 0, NULL, NULL)
						   : syscall(SYS_read, in->source.fd, buffer, bytes);
		got += n > 0 ? (uint64_t)n : 0;
	} while (n > 0 && table->again);
	if (!got)
		return 0;
	atomic_store(&in->told, 0);
	if (atomic_exchange(&in->behind, 0) || !table->each)
		return UINT32_MAX;
	return (uint32_t)(got < table->each ? 1 : got / table->each);
}

void message_ready(struct worker *w)
{
	struct conn *c;

	if (read_inbox(w))
		while (take(w->inbox, &c))
			if (c)
				come_back(w, c);
}

/* Each message is worth one run of the role's program. */
static void work(struct worker *w, uint32_t most)
{
	const struct ditto_role *role = w->role;
	static const struct ditto_op back = {.kind = OP_NOTIFY, .nr = SYS_write, .c = 8};

	while (most-- && take(w->inbox, &w->passed)) {
		w->wakes++;
		if (role->timers)
			worker_program(w, NULL, &role->timer[0].program);
		/* What a program does not say is done all the same: an answer that is wanted, and giving the request back. */
		if (w->passed && atomic_load(&w->passed->answer))
			message_answer(w, &back);
		if (w->passed)
			message_pass(&(struct op_context){.worker = w}, &back);
	}
}

void message_main(struct worker *w)
{
	const struct ditto_role *role = w->role;

	if (role->wait_nr == SYS_futex) {
		for (;;) {
			wait_to_be_woken(w->inbox);
			work(w, 1);
		}
	}
	if (role->wait != DITTO_WAIT_BLOCKING) {
		w->waiter = waiter_for(role->wait);
		w->ready = calloc(role->max_events ? role->max_events : 1, sizeof(*w->ready));
		if (!w->ready || w->waiter->open(w) < 0 || w->waiter->add(w, &w->inbox->source, EPOLLIN))
			fail("wait set");
	}
	for (;;) {
		if (w->waiter && w->waiter->wait(w, role->timeout_ms) <= 0)
			continue;
		work(w, read_inbox(w));
	}
}
