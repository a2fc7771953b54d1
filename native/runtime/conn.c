/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection: its beginning, what its events mean, its end.
 */
#include "link.h"
#include "message.h"
#include "plan.h"
#include "worker.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct conn *conn_new(struct worker *w, int fd)
{
	uint32_t capacity;
	struct conn *c = w->shared && w->role->crowd ? crowd_recycled(w) : NULL;

	if (!c) {
		c = pool_get(&w->pool, sizeof(*c), &capacity);
		if (!c) {
			close(fd);
			return NULL;
		}
		memset(c, 0, sizeof(*c));
		c->source.type = SOURCE_CONN;
	}
	c->source.fd = fd;
	c->source.place = -1;
	c->worker = w;
	c->unwatched = 1;
	c->out.pool = &w->pool;
	c->idle_events = EPOLLIN;
	c->send = &ditto_service.send;
	if (w->shared) { /* nobody's list: threads come and go */
		atomic_store(&c->pending, EPOLLET);
		return c;
	}
	c->next_all = w->all;
	if (w->all)
		w->all->prev_all = c;
	w->all = c;
	w->conns++;
	return c;
}

void conn_in_release(struct conn *c)
{
	if (c->in)
		pool_rest(&c->worker->pool, POOL_IN, c->in, c->in_cap);
	c->in = NULL;
	c->in_cap = c->in_start = c->in_end = 0;
}

/* Closing over bytes that were never read makes the kernel send a reset, which can overtake the last reply: after an
 * error or a goodbye, what has come already is read first. */
static void read_rest(struct conn *c)
{
	shutdown(c->source.fd, SHUT_WR);
	for (int tries = 0; tries < 16; tries++)
		if (recv(c->source.fd, c->worker->scratch + SCRATCH_BYTES, SCRATCH_BYTES, MSG_DONTWAIT) <= 0)
			return;
}

int conn_copy(struct conn *c, const struct ditto_op *op)
{
	int copy;

	if (op->kind != OP_FCNTL || (op->a != F_DUPFD && op->a != F_DUPFD_CLOEXEC))
		return 0;
	copy = (int)syscall(SYS_fcntl, c->source.fd, op->a, (long)op->b);
	if (copy > 0 && (c->shell || c->copy))
		syscall(SYS_close, copy);
	else if (copy > 0)
		c->copy = copy;
	return 1;
}

void conn_close_one(struct conn *c)
{
	if (c->copy) {
		syscall(SYS_close, c->copy);
		c->copy = 0;
		return;
	}
	if (c->worker->waiter && c->worker->waiter->keeps)
		c->worker->waiter->remove(c->worker, &c->source);
	syscall(SYS_close, c->source.fd);
	c->source.fd = -1;
}

void conn_close(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->dead || c->peer)
		return;
	c->dead = 1;
	if (c->blocked == BLOCKED_PULL)
		pull_forget(c);
	if (c->hears)
		push_forget(c);
	if (c->open_slots)
		file_close_slots(c->slot, &c->open_slots);
	if (c->links)
		links_end(c);
	if (c->closing && c->filled && !c->eof)
		read_rest(c);
	worker_program(w, c, &w->role->on_close);
	if (w->waiter && w->waiter->keeps)
		w->waiter->remove(w, &c->source);
	if (c->copy)
		close(c->copy);
	c->copy = 0;
	if (c->source.fd >= 0)
		close(c->source.fd);
	c->source.fd = -1;
	c->next_dead = w->dead;
	w->dead = c;
}

void conn_empty(struct worker *w, struct conn *c)
{
	c->worker = w;
	c->out.pool = &w->pool;
	conn_in_release(c);
	conn_forget(c);
	out_release(&c->out);
	free(c->links);
	if (c->job)
		pool_put(&w->pool, c->job, c->job_cap * (uint32_t)sizeof(*c->job));
}

void conn_free(struct worker *w, struct conn *c)
{
	uint32_t capacity;

	conn_empty(w, c);
	for (capacity = 1u << POOL_MIN_SHIFT; capacity < sizeof(*c); capacity *= 2)
		;
	pool_put(&w->pool, c, capacity);
}

void conn_free_dead(struct worker *w)
{
	struct conn *c = w->dead, *next;

	w->dead = NULL;
	for (; c; c = next) {
		next = c->next_dead;
		if (c->queued || c->passed) { /* its second pass comes after the next wait, or another thread has it */
			c->next_dead = w->dead;
			w->dead = c;
			continue;
		}
		if (c->prev_all)
			c->prev_all->next_all = c->next_all;
		else
			w->all = c->next_all;
		if (c->next_all)
			c->next_all->prev_all = c->prev_all;
		w->conns--;
		conn_free(w, c);
	}
}

static void queue_second_pass(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->queued)
		return;
	c->queued = 1;
	c->rounds = c->job[c->job_head].plan->rounds;
	if (w->role->deferred_lifo) {
		c->next = w->deferred;
		w->deferred = c;
	} else {
		c->next = NULL;
		*w->deferred_tail = c;
		w->deferred_tail = &c->next;
	}
}

/* Whether it would not be told of the next request, or told all the time that it can send: a program whose parts are
 * chosen by chance may have left it so, and one that asks to be told leaves it to its reply's last send. */
static int watched_for_none(const struct conn *c)
{
	uint32_t e = c->idle_events;

	return !(e & EPOLLIN) || ((e & EPOLLOUT) && !(e & ((uint32_t)EPOLLET | EPOLLONESHOT)));
}

static void await_next(struct conn *c)
{
	c->idle_events = (c->idle_events & ~(uint32_t)EPOLLOUT) | EPOLLIN;
	c->worker->waiter->modify(c->worker, &c->source, c->idle_events);
}

/* After jobs have run: what the connection waits for now, or its end. */
void conn_settle(struct conn *c)
{
	struct worker *w = c->worker;

	if (c->dead || c->blocked)
		return;
	if (c->job_head < c->job_run) {
		queue_second_pass(c);
		return;
	}
	if (c->out.buf && !out_bytes(&c->out))
		out_rest(&c->out);
	if (c->backlog)
		return;
	if (c->eof || c->closing) {
		conn_close(c);
		return;
	}
	if (c->armed)
		send_disarm(c);
	else if (w->waiter == &wait_epoll && !c->unwatched && !w->shared && watched_for_none(c))
		await_next(c);
	if (c->unwatched && w->waiter) {
		c->unwatched = 0;
		if (w->waiter->add(w, &c->source, c->idle_events))
			conn_close(c);
	}
}

/* While nothing is received from the client, only its taking the reply is waited for, if it is that. */
static void not_now(struct conn *c)
{
	struct worker *w = c->worker;
	uint32_t events = c->blocked == BLOCKED_OUT ? EPOLLOUT : 0;

	if (!c->edge && w->waiter && !c->unwatched && c->source.events != events) {
		c->armed = 1;
		w->waiter->modify(w, &c->source, events);
	}
}

void conn_events(struct conn *c, uint32_t events)
{
	if (events & EPOLLOUT)
		c->source.out_due = 0;
	if (c->dead || (c->blocked == BLOCKED_MESSAGE && !message_answered(c)))
		return; /* or another thread has it, and is about to answer */
	if (c->blocked == BLOCKED_MESSAGE && !c->passed) {
		conn_resume(c);
		if (c->dead)
			return;
	}
	if (events & (EPOLLRDHUP | EPOLLHUP))
		c->hung_up = 1;
	if (((c->blocked == BLOCKED_LINK || c->blocked == BLOCKED_MESSAGE) && (events & (EPOLLERR | EPOLLHUP))) ||
	    (c->blocked == BLOCKED_PULL && pull_ended(c))) {
		conn_close(c); /* nobody is left to answer, and it would be reported until then */
		return;
	}
	if (c->blocked == BLOCKED_OUT && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) {
		c->blocked = 0;
		if (conn_run(c, 1) == RUN_DONE && c->backlog && c->job_head == c->job_tail)
			conn_process(c);
		conn_take_more(c);
		if (!c->dead && !c->blocked && c->readable && !c->backlog)
			events |= EPOLLIN;
	}
	if (!c->dead && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
		if (c->eof) {
			if ((events & (EPOLLERR | EPOLLHUP)) && c->blocked)
				conn_close(c); /* nobody is left to take the rest */
			else if (c->blocked)
				not_now(c);
		} else if (c->blocked || c->backlog) {
			c->readable = 1;
			if (events & EPOLLERR)
				conn_close(c);
			else if (c->blocked)
				not_now(c);
		} else {
			conn_receive(c);
		}
	}
	conn_settle(c);
}

void conn_resume(struct conn *c)
{
	c->blocked = 0;
	if (conn_run(c, 1) == RUN_DONE && c->backlog && c->job_head == c->job_tail)
		conn_process(c);
	conn_take_more(c);
	if (!c->dead && !c->blocked && c->readable && !c->backlog)
		conn_receive(c);
	conn_settle(c);
}

void conn_after(struct conn *c)
{
	c->queued = 0;
	if (c->dead || c->blocked)
		return;
	if (conn_run(c, 2) == RUN_DONE) {
		if (c->backlog)
			conn_process(c);
		conn_take_more(c);
		if (c->readable && !c->dead && !c->blocked && !c->backlog)
			conn_receive(c);
	}
	conn_settle(c);
}
