/* SPDX-License-Identifier: Apache-2.0
 *
 * Accepting connections and handing them to the thread or process that serves them.
 */
#include "worker.h"

#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <signal.h>

/* The descriptors handed to one thread: a bounded ring that several threads may fill without a lock. */
#define QUEUE_PLACES 4096u

struct queue {
	_Atomic uint32_t tail;
	uint32_t head; /* the owner's */
	_Atomic int place[QUEUE_PLACES]; /* descriptor + 1, 0: empty */
};

struct queue *queue_new(void)
{
	return calloc(1, sizeof(struct queue));
}

static int queue_put(struct queue *q, int fd)
{
	uint32_t at = atomic_load_explicit(&q->tail, memory_order_relaxed);
	int empty;

	for (;;) {
		empty = 0;
		if (atomic_load_explicit(&q->place[at % QUEUE_PLACES], memory_order_acquire) != 0)
			return -1; /* full: the owner is that far behind */
		if (atomic_compare_exchange_weak(&q->tail, &at, at + 1))
			break;
	}
	return atomic_compare_exchange_strong(&q->place[at % QUEUE_PLACES], &empty, fd + 1) ? 0 : -1;
}

int queue_take(struct queue *q)
{
	int fd = atomic_exchange_explicit(&q->place[q->head % QUEUE_PLACES], 0, memory_order_acq_rel);

	if (fd)
		q->head++;
	return fd - 1;
}

/* Without a descriptor to spare the connection is taken and dropped, so that it is not reported again at once. */
static void refuse(struct worker *w, int listener)
{
	int fd;

	if (w->spare_fd < 0)
		return;
	close(w->spare_fd);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	w->spare_fd = open("/", O_PATH | O_CLOEXEC);
}

int worker_accept(struct worker *w, int listener)
{
	const struct ditto_listener *table = &ditto_service.listener;
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	int fd;

	for (;;) {
		if (table->accept_nr == SYS_accept)
			fd = (int)syscall(SYS_accept, listener, &address, &size);
		else
			fd = (int)syscall(SYS_accept4, listener, &address, &size, table->accept_flags);
		if (fd >= 0 || (errno != EINTR && errno != ECONNABORTED))
			break;
	}
	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
		refuse(w, listener);
	return fd;
}

/* Workers of threads that have ended wait for the next connection: their memory is made once. */
static struct worker *resting;
static atomic_flag resting_lock = ATOMIC_FLAG_INIT;

static struct worker *worker_take(struct worker *from, unsigned role)
{
	struct worker **at, *w;

	while (atomic_flag_test_and_set_explicit(&resting_lock, memory_order_acquire))
		;
	for (at = &resting; *at && (*at)->role_index != role; at = &(*at)->rest_next)
		;
	w = *at;
	if (w)
		*at = w->rest_next;
	atomic_flag_clear_explicit(&resting_lock, memory_order_release);
	return w ? w : worker_new(from->process, role, rng_u32(&from->rng));
}

static void worker_rest(struct worker *w)
{
	while (atomic_flag_test_and_set_explicit(&resting_lock, memory_order_acquire))
		;
	w->rest_next = resting;
	resting = w;
	atomic_flag_clear_explicit(&resting_lock, memory_order_release);
}

static void *serve_thread(void *argument)
{
	struct worker *w = argument;

	serve_connection(w, w->first_fd);
	if (crew_takes(w->role_index, DITTO_HAND_CACHED))
		crew_main(w);
	worker_rest(w);
	return NULL;
}

static void spawn_thread(struct worker *from, unsigned role, int fd)
{
	struct worker *w = worker_take(from, role);
	pthread_attr_t attributes;
	pthread_t thread;

	if (!w) {
		close(fd);
		return;
	}
	w->first_fd = fd;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (w->role->body_stack_bytes)
		pthread_attr_setstacksize(&attributes, w->role->body_stack_bytes);
	if (pthread_create(&thread, &attributes, serve_thread, w)) {
		close(fd);
		worker_rest(w);
	}
	pthread_attr_destroy(&attributes);
}

/* Children are waited for, as their times count as their parent's only then. */
static void reap(int number)
{
	int error = errno;

	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	errno = error;
}

void children_reaped(void)
{
	static atomic_flag set = ATOMIC_FLAG_INIT;
	struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART | SA_NOCLDSTOP};

	if (!atomic_flag_test_and_set(&set))
		sigaction(SIGCHLD, &action, NULL);
}

/* The worker of a child is made before the first fork, and copied by each. */
static void spawn_process(struct worker *from, unsigned role, int fd)
{
	pid_t child;
	uint64_t seed = rng_next(&from->rng);

	if (!from->spawn) {
		from->spawn = worker_new(from->process, role, seed);
		born_set_aside();
		children_reaped();
	}
	child = from->spawn ? fork() : -1;
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		signal(SIGCHLD, SIG_DFL);
		link_time_forked();
		if (from->spawn->role->leads_session)
			setsid();
		rng_seed(&from->spawn->rng, seed);
		born_touch();
		serve_connection(from->spawn, fd);
		_exit(0);
	}
	close(fd);
}

/* The next thread of a role, in turn. */
static struct worker *next_of(struct worker *from, unsigned role)
{
	struct process *p = from->process;

	for (unsigned tried = 0; tried < p->workers; tried++) {
		struct worker *w = p->worker + from->hand_next;

		from->hand_next = from->hand_next + 1 == p->workers ? 0 : from->hand_next + 1;
		if (w->role_index == role && w->notify_write >= 0)
			return w;
	}
	return NULL;
}

static void wake(const struct worker *w)
{
	uint64_t one = 1;

	if (w->role->notify_nr == SYS_pipe2 || w->role->notify_nr == SYS_pipe)
		syscall(SYS_write, w->notify_write, &one, 1);
	else
		syscall(SYS_write, w->notify_write, &one, sizeof(one));
}

void worker_notify(struct worker *from, unsigned role)
{
	struct worker *w = next_of(from, role);

	if (w)
		wake(w);
}

/* Takes a connection over; before: a program to run first, may be NULL. */
static void adopt(struct worker *w, int fd, const struct ditto_program *before)
{
	struct conn *c = conn_new(w, fd);

	if (!c)
		return;
	if (w->waiter && w->waiter != &wait_epoll) {
		c->unwatched = 0;
		if (w->waiter->add(w, &c->source, EPOLLIN)) {
			conn_close(c);
			return;
		}
	}
	if (before)
		worker_program(w, c, before);
	worker_adopted(w, c);
	if (w->shared && !c->dead)
		shared_yield(w, c);
}

void worker_adopted(struct worker *w, struct conn *c)
{
	worker_program(w, c, &w->role->on_adopt);
	if (c->source.fd < 0) {
		conn_close(c); /* the program has closed it */
		return;
	}
	conn_greet(c);
	conn_take_more(c);
	conn_settle(c);
}

/* A connection that whichever thread is free takes over. */
static void hand_shared(struct worker *w, int fd)
{
	struct conn *c = conn_new(w, fd);

	if (!c)
		return;
	worker_program(w, c, &w->role->on_accept);
	if (c->source.fd < 0) {
		conn_close(c);
		return;
	}
	if (w->role->crowd) {
		worker_adopted(w, c);
		if (!c->dead)
			shared_yield(w, c);
		return;
	}
	c->fresh = 1;
	shared_queue(w, c);
}

void worker_accepted(struct worker *w, int fd)
{
	const struct ditto_role *role = w->role;
	unsigned to = (unsigned)role->hand_to;
	struct conn shell; /* what on_accept's operations work on before the connection has an owner */
	struct worker *other;

	if (role->connection_limit && w->conns >= role->connection_limit) {
		close(fd);
		return;
	}
	if (role->kind == DITTO_ROLE_DISPATCH) {
		hand_shared(w, fd);
		return;
	}
	if (role->handover == DITTO_HAND_KEEP || role->hand_to < 0 || to >= ditto_service.roles) {
		adopt(w, fd, &role->on_accept);
		return;
	}
	if (role->on_accept.n) {
		memset(&shell, 0, sizeof(shell));
		shell.source.fd = fd;
		shell.source.place = -1;
		shell.worker = w;
		shell.shell = 1;
		worker_program(w, &shell, &role->on_accept);
		if (shell.source.fd < 0)
			return;
	}
	if (role->handover == DITTO_HAND_SPAWN_THREAD || role->handover == DITTO_HAND_CACHED) {
		if (role->handover == DITTO_HAND_SPAWN_THREAD || crew_offer(fd))
			spawn_thread(w, to, fd);
	} else if (role->handover == DITTO_HAND_SPAWN_PROCESS) {
		spawn_process(w, to, fd);
	} else if (role->handover == DITTO_HAND_PASS) {
		passage_give(to, fd);
	} else if (role->handover == DITTO_HAND_POOL) {
		if (crew_hand(fd))
			close(fd);
	} else {
		other = next_of(w, to);
		if (!other || queue_put(other->queue, fd))
			close(fd);
		else
			wake(other);
	}
}

void worker_adopt(struct worker *w, int fd)
{
	adopt(w, fd, NULL);
}
