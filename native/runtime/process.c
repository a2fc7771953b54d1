/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes and threads of the tables: children are forked before a process starts its threads.
 */
#include "link.h"
#include "message.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define CHILDREN 4096

static pid_t children[CHILDREN];
static volatile unsigned child_count;
static uint8_t *scratch;

void process_end_all(void)
{
	for (unsigned i = 0; i < child_count; i++)
		kill(children[i], SIGTERM); /* which lets a tool that runs them write what it found */
}

void process_keep(pid_t child)
{
	if (child_count < CHILDREN)
		children[child_count++] = child;
}

static void fork_children(unsigned index)
{
	for (unsigned i = 0; i < ditto_service.processes; i++) {
		const struct ditto_process *table = &ditto_service.process[i];

		if (table->parent != (int)index || i == index)
			continue;
		for (unsigned n = 0; n < table->count && child_count < CHILDREN; n++) {
			pid_t parent = getpid(), child = fork();

			if (child < 0)
				fail("fork");
			if (child == 0) {
				prctl(PR_SET_PDEATHSIG, SIGTERM); /* the clone ends as a whole */
				signal(SIGHUP, SIG_DFL);
				if (getppid() != parent)
					_exit(0);
				signal(SIGTERM, SIG_DFL);
				signal(SIGINT, SIG_DFL);
				child_count = 0;
				if (ditto_service.role[table->role[0]].leads_session)
					setsid();
				process_run(i, n);
			}
			process_keep(child);
		}
	}
}

static void open_files(struct process *p)
{
	for (unsigned i = 0; i < DITTO_SLOTS; i++)
		p->slot[i].fd = -1;
	for (unsigned i = 0; i < p->table->opens; i++) {
		const struct ditto_open_at_start *open_it = &p->table->open_at_start[i];
		struct worker w; /* only its path buffer is used */
		const char *path;
		uint64_t size;

		if (open_it->slot >= DITTO_SLOTS || open_it->group >= ditto_service.file_groups)
			continue;
		path = file_path(&w, open_it->group, 0, &size);
		p->slot[open_it->slot].fd = open(path, open_it->flags & ~(O_EXCL | O_TRUNC), 0600);
		p->slot[open_it->slot].size = size;
	}
}

/* Contents of files, and behind them the spare area that OP_MADVISE gives back; all threads of a process share it. */
static void make_scratch(void)
{
	scratch = mmap(NULL, 2 * SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (scratch == MAP_FAILED)
		fail("memory for file contents");
	memset(scratch, 'x', SCRATCH_BYTES);
}

static void make_notify(struct worker *w)
{
	uint16_t nr = w->role->notify_nr;
	int ends[2];

	if (!nr)
		return;
	if (nr == SYS_pipe2 || nr == SYS_pipe) {
		if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
			fail("pipe");
		w->notify.fd = ends[0];
		w->notify_write = ends[1];
	} else {
		w->notify.fd = w->notify_write = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (w->notify.fd < 0)
			fail("eventfd");
	}
}

int worker_init(struct worker *w, struct process *p, unsigned role, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->process = p;
	w->role = &ditto_service.role[role];
	w->role_index = role;
	w->listener = (struct source){.fd = -1, .type = SOURCE_LISTENER, .place = -1};
	w->notify = (struct source){.fd = -1, .type = SOURCE_NOTIFY, .place = -1};
	w->notify_write = w->wait_fd = w->first_fd = w->spare_fd = -1;
	rng_seed(&w->rng, options.seed ^ rng_mix(seed + 1));
	w->scratch = scratch;
	if (ditto_service.body && w->role->kind != DITTO_ROLE_IDLE && ditto_body_init(&w->body, ditto_service.body, options.seed))
		return -1;
	return 0;
}

struct worker *worker_new(struct process *p, unsigned role, uint64_t seed)
{
	struct worker *w = aligned_alloc(_Alignof(struct worker), sizeof(*w));

	if (w && worker_init(w, p, role, seed)) {
		free(w);
		w = NULL;
	}
	return w;
}

void worker_main(struct worker *w)
{
	const struct ditto_role *role = w->role;

	if (role->listens) {
		w->listener.fd = ditto_service.listener.reuseport ? listener_open() : listener_fd;
		w->spare_fd = open("/", O_PATH | O_CLOEXEC);
	}
	if (role->kind == DITTO_ROLE_LOOP || role->kind == DITTO_ROLE_ACCEPT_SERVE || role->kind == DITTO_ROLE_PULL ||
	    w->shared) {
		pool_start(&w->pool);
		if (ditto_service.downstreams)
			link_time_begin();
	}
	switch (role->kind) {
	case DITTO_ROLE_PERIODIC:
		periodic_main(w);
	case DITTO_ROLE_IDLE:
		idle_main(w);
	case DITTO_ROLE_HELPER:
		helper_main(w);
	case DITTO_ROLE_SHARED:
		shared_main(w);
	case DITTO_ROLE_DISPATCH:
		dispatch_main(w);
	case DITTO_ROLE_ACCEPT_SERVE:
		accept_serve_main(w);
	case DITTO_ROLE_PULL:
		pull_main(w);
	case DITTO_ROLE_WORKER:
		message_main(w);
	case DITTO_ROLE_SERVE:
		if (role->passage.bytes)
			passage_main(w);
		crew_main(w); /* other threads that serve are made by whoever accepts */
	default:
		if (role->wait == DITTO_WAIT_BLOCKING && ditto_service.listener.datagrams)
			datagram_main(w);
		loop_main(w);
	}
}

static void *thread_main(void *argument)
{
	worker_main(argument);
	return NULL;
}

static void start_thread(struct worker *w)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (w->role->body_stack_bytes)
		pthread_attr_setstacksize(&attributes, w->role->body_stack_bytes);
	errno = pthread_create(&thread, &attributes, thread_main, w);
	if (errno)
		fail("thread");
	pthread_attr_destroy(&attributes);
}

static unsigned threads_of(unsigned role)
{
	const struct ditto_role *r = &ditto_service.role[role];

	if (r->kind == DITTO_ROLE_SERVE && !crew_takes(role, DITTO_HAND_POOL) && !r->passage.bytes)
		return 0;
	return r->count ? r->count : 1;
}

/* The threads of each role that shares connections, and the dispatchers that hand out to them, get what they share. */
static void share(struct process *p)
{
	for (unsigned i = 0; i < p->workers; i++) {
		const struct ditto_role *role = p->worker[i].role;
		unsigned index = p->worker[i].role_index;
		struct shared *s;

		if (role->kind != DITTO_ROLE_SHARED || p->worker[i].shared)
			continue;
		s = shared_new(role);
		if (!s)
			fail("wait set");
		for (unsigned k = 0; k < p->workers; k++) {
			struct worker *w = &p->worker[k];
			int hands = w->role->kind == DITTO_ROLE_DISPATCH && w->role->hand_to == (int)index;

			if (w->role_index == index || hands)
				shared_join(s, w);
		}
	}
	for (unsigned i = 0; i < p->workers; i++)
		if (p->worker[i].role->kind == DITTO_ROLE_DISPATCH && !p->worker[i].shared)
			fail("a dispatcher without threads to give to");
}

void process_run(unsigned index, unsigned instance)
{
	const struct ditto_process *table = &ditto_service.process[index];
	struct process *p = calloc(1, sizeof(*p));
	unsigned total = 0, n = 0;

	fork_children(index);
	for (unsigned r = 0; r < table->roles; r++)
		total += threads_of(table->role[r]);
	if (p)
		p->helpers = calloc(ditto_service.roles ? ditto_service.roles : 1u, sizeof(*p->helpers));
	if (p && p->helpers)
		p->worker = aligned_alloc(_Alignof(struct worker), (total ? total : 1) * sizeof(*p->worker));
	if (!p || !p->worker || !total)
		fail("threads of a process");
	p->table = table;
	if (index == 0)
		resident_touch();
	open_files(p);
	make_scratch();
	fresh_set_aside();
	for (unsigned r = 0; r < table->roles; r++) {
		for (unsigned i = 0; i < threads_of(table->role[r]); i++, n++) {
			struct worker *w = &p->worker[n];

			if (worker_init(w, p, table->role[r], ((uint64_t)index << 40) + ((uint64_t)instance << 20) + n))
				fail("memory of a thread");
			w->number = n;
			w->queue = queue_new();
			if (!w->queue)
				fail("queue of a thread");
			make_notify(w);
			if (w->role->passage.bytes)
				w->notify.fd = passage_end(table->role[r], instance);
			message_join(w);
		}
	}
	p->workers = total;
	share(p);
	for (unsigned i = 1; i < total; i++)
		start_thread(&p->worker[i]);
	worker_main(&p->worker[0]);
	_exit(1);
}
