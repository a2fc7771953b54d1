/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the runtime know of each other.  One struct worker a thread; a connection belongs to one worker
 * and is touched by no other thread.
 */
#ifndef DITTO_RUNTIME_H
#define DITTO_RUNTIME_H

#include "body.h"
#include "codec.h"
#include "conn.h"
#include "ditto.h"
#include "outbuf.h"
#include "rng.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* --- options and process-wide facts (main.c) ---------------------------------------------------------- */

struct options {
	const char *host;
	int port;
	const char *data;  /* NULL: a temporary directory, removed at the end */
	int skeleton;      /* leave out every compute block */
	int check;         /* only find out whether a clone answers */
	int stub;          /* stand in for this downstream instead; -1: be the clone */
	unsigned patience; /* seconds that a call waits for its reply; 0: for ever */
	uint64_t seed;
};

extern struct options options;
void fail(const char *what); /* message with errno to stderr, ends the clone with 1 */

/* --- connections -------------------------------------------------------------------------------------- */

enum run { RUN_DONE, RUN_BLOCKED, RUN_DEAD };

/* What conn.blocked waits for: the client to take the reply, another service to answer, an element to be brought, a
 * message of another thread. */
enum { BLOCKED_OUT = 1, BLOCKED_LINK = 2, BLOCKED_PULL = 3, BLOCKED_MESSAGE = 4 };

#define OUT_HIGH (4u << 20) /* no further request is taken up while more output than this waits */
#define JOBS_HIGH 4096u

void conn_setup(void);
struct conn *conn_new(struct worker *w, int fd); /* takes fd over; NULL (fd closed) without memory */
void conn_events(struct conn *c, uint32_t events);
void conn_after(struct conn *c); /* second pass */
void conn_resume(struct conn *c); /* what another service was waited for has come */
void conn_close(struct conn *c); /* runs on_close; memory goes at the end of the wake-up */
void conn_free_dead(struct worker *w);
void conn_free(struct worker *w, struct conn *c); /* memory only */
void conn_empty(struct worker *w, struct conn *c); /* what it holds, but not itself */
int conn_receive_once(struct conn *c); /* bytes, 0 at the end, -1 with errno; -2: no room */
void conn_settle(struct conn *c);

void conn_greet(struct conn *c); /* what the server says first, in protocols where it does */
void conn_forget(struct conn *c); /* what its codec keeps of it */
void conn_process(struct conn *c); /* receive.c: requests in the buffer, as far as they can be taken */
void conn_take_more(struct conn *c); /* and what a program has received by itself */
void conn_receive(struct conn *c); /* by the receive policy */
/* Connections with nothing in their buffers have none, so that a thread works on those that it used last. */
void conn_in_release(struct conn *c);

enum run conn_run(struct conn *c, int pass); /* jobs.c */
int job_add(struct conn *c, struct request *request);
enum run job_fail(struct conn *c, struct job *job); /* its reply becomes an error, or its connection ends */
void job_setup(void);

int pull_traits(const struct request *request); /* pulls.c */
int pull_holds(struct conn *c, struct job *job); /* it waits for an element; 0: there is one, and it takes it */
void pull_brought(struct worker *w, struct job *job); /* it has brought one more */
void pull_forget(struct conn *c); /* it ends */
int pull_ended(struct conn *c); /* its client has gone meanwhile */
void push_told(struct conn *c, const struct request *request); /* push.c: it hears what is told on a channel, or tells */
void push_forget(struct conn *c); /* it ends */
void pull_main(struct worker *w) __attribute__((noreturn));

enum run send_until(struct conn *c, uint64_t target, struct job *job);
void send_own(struct conn *c, struct job *job); /* copies a payload that was lent into the output */
enum run send_file(struct conn *c, struct job *job, const struct slot *slot);
void send_disarm(struct conn *c);

/* --- operations ---------------------------------------------------------------------------------------- */

struct op_context {
	struct worker *worker;
	struct conn *conn; /* NULL in timers */
	struct job *job;   /* NULL outside requests */
	struct slot *slot;
	uint32_t *open_slots;
	uint32_t pick;
};

enum run op_run(struct op_context *x, const struct ditto_op *op);
void misc_call(uint16_t nr); /* misc.c */
void pause_for(uint16_t nr, uint32_t microseconds);
int socket_op(int fd, const struct ditto_op *op); /* of those that only need a socket; 0: another one */
int op_due(struct worker *w, const struct ditto_op *op);
void op_program(struct op_context *x, const struct ditto_program *program); /* all of it, never waiting */
void worker_program(struct worker *w, struct conn *c, const struct ditto_program *program);

void files_create(void);          /* the data directory and its files */
void files_remove(void);          /* async-signal-safe; only what files_create made */
const char *file_path(struct worker *w, unsigned group, uint32_t pick, uint64_t *size);
enum run file_op(struct op_context *x, const struct ditto_op *op);
const struct slot *file_slot(struct op_context *x, int index); /* its fd is -1 where it is not open */
void file_close_slots(struct slot *slot, uint32_t *open);

/* --- waiting ------------------------------------------------------------------------------------------- */

/* A wait primitive.  Events are those of epoll; wait() fills worker.ready. */
struct waiter {
	int (*open)(struct worker *w);
	int (*add)(struct worker *w, struct source *s, uint32_t events);
	int (*modify)(struct worker *w, struct source *s, uint32_t events);
	void (*remove)(struct worker *w, struct source *s);
	int (*wait)(struct worker *w, int timeout_ms);
	uint8_t keeps; /* the set forgets a closed descriptor only by remove() */
};

extern const struct waiter wait_epoll, wait_poll, wait_select;
const struct waiter *waiter_for(unsigned wait); /* loop.c, enum ditto_wait */

/* --- threads -------------------------------------------------------------------------------------------- */

struct queue; /* process.c: descriptors handed over */
struct inbox; /* message.c: requests passed on */

#define MAPPINGS 16 /* mappings made by operations that a worker keeps */

/* After its body, what it needs for every request comes first. */
struct worker {
	struct ditto_body body;
	struct rng rng;
	const struct ditto_role *role;
	const struct waiter *waiter; /* NULL: blocking calls */
	struct epoll_event *ready;
	uint64_t wakes;
	uint64_t served;    /* requests taken up */
	uint64_t *due;      /* next time of each timer, CLOCK_MONOTONIC ns, or number of requests */
	struct link_pool *links; /* link.c; NULL before the first call */

	struct conn *deferred, **deferred_tail, *dead;
	struct conn *yielded; /* goes on after the next wait */
	struct shared *shared; /* shared.c; NULL: its connections are its own */
	uint32_t conns, accepts; /* how many there are; accepts since the listener was added to the wait set */
	int wait_fd;
	uint32_t stalls;    /* requests that waited */
	uint32_t stored;    /* slot of the store that the last of them was of; 0: none yet */
	uint32_t fresh;     /* pages not touched yet, in 65536ths */

	uint32_t drawn; /* the number that operations which come together share */
	uint8_t log; /* enum log_state, of the request in work */
	uint64_t log_until; /* turn up to which it writes the log, while it holds that */
	uint32_t batched, batch_bytes; /* requests that asked for each_batch, and what they add to it */
	uint32_t brought; /* elements that nobody has taken */
	struct pool pool;

	struct process *process;
	unsigned role_index, number;
	struct source listener, notify;
	int notify_write;
	int listen_queue; /* serve.c: an event queue of the listener alone; 0: none */
	int spare_fd; /* given up to refuse a connection when no descriptor is left */
	void *wait_state;
	struct conn *all;
	struct conn *pulls, *last_pull; /* connections whose requests wait for elements */
	struct source *ticks; /* timerfds, by timer */
	unsigned hand_next; /* whose turn it is */
	struct queue *queue;
	struct inbox *inbox;
	struct conn *passed;  /* whose work it does */
	char path[512];
	uint8_t *scratch; /* file contents; shared by all threads */
	struct mapping {
		uint8_t *at;
		size_t bytes;
	} mapped[MAPPINGS];
	unsigned mapped_next;
	int first_fd;     /* connection a spawned server starts with, or -1 */
	struct worker *rest_next, *spawn; /* worker.c */
	struct conn *datagrams; /* what stands for all of its peers */
	struct worker *next_idle;
	_Atomic uint32_t parked;
};

#define SCRATCH_BYTES (256u << 10)

struct process {
	const struct ditto_process *table;
	struct worker *worker;
	unsigned workers;
	struct slot slot[DITTO_SLOTS];
	_Atomic uint32_t *helpers; /* by role: wake-ups that no helper has taken yet */
};

void process_run(unsigned index, unsigned instance) __attribute__((noreturn));
void process_end_all(void); /* async-signal-safe: children of this process */
void process_keep(pid_t child); /* to be ended with it */
void resident_touch(void);
void fresh_set_aside(void);
void born_set_aside(void); /* once, before the first process is made for a connection */
void born_touch(void); /* in each such process */
void fresh_touch(uint32_t pages);
int listener_open(void);
extern int listener_fd; /* shared listener, -1 with reuseport */
unsigned listener_port(int fd);

int worker_accept(struct worker *w, int listener);  /* the descriptor, or -1 */
void worker_accepted(struct worker *w, int fd);     /* on_accept, then the hand-over */
void worker_adopt(struct worker *w, int fd);
void worker_adopted(struct worker *w, struct conn *c); /* on_adopt, for a connection that exists already */
void worker_notify(struct worker *from, unsigned role);
void worker_main(struct worker *w);
int queue_take(struct queue *q); /* -1: empty */

void accept_ready(struct worker *w); /* accepts by the listener's policy */
void loop_main(struct worker *w) __attribute__((noreturn));
ssize_t datagram_send(struct conn *c, size_t n); /* n, whatever became of it */
void datagram_ready(struct worker *w); /* receives by the receive policy and answers */
void datagram_main(struct worker *w) __attribute__((noreturn)); /* for threads that block in the receive */
void helper_main(struct worker *w) __attribute__((noreturn));
void helper_wake(struct worker *from, unsigned role);
void child_fork(struct worker *from, int role); /* child.c */
void children_reaped(void); /* from now on, as they end */
void shared_main(struct worker *w) __attribute__((noreturn));
void dispatch_main(struct worker *w) __attribute__((noreturn));
void periodic_main(struct worker *w) __attribute__((noreturn));
void idle_main(struct worker *w) __attribute__((noreturn));
void serve_connection(struct worker *w, int fd);
void accept_serve_main(struct worker *w) __attribute__((noreturn));
int poll_by(uint16_t nr, int descriptor, short events, int timeout_ms); /* 0: there is such an event */
int serve_wait(struct conn *c, short events); /* blocking roles: until the connection is ready */
int wait_descriptor(int fd, short events, int timeout_ms); /* 0: there is one, 1: none came in time, -1: error */

/* What a periodic thread knows of the load; zeros at first. */
struct pace {
	uint64_t served; /* by all threads of the process when it last looked */
	uint64_t pause;	 /* how long it slept since; 0 at first */
	double requests; /* that lately came in a period */
};

int timer_descriptor(uint64_t period_ns, int flags); /* a timerfd that ticks */
void timers_start(struct worker *w);
int timers_timeout(struct worker *w); /* ms for the next wait */
void timers_run(struct worker *w);
void timers_tick(struct worker *w, struct source *s); /* the timerfd of one of them is ready */
uint64_t timers_pause(const struct worker *w, struct pace *pace); /* ns for the next sleep of a periodic thread */
uint64_t now_ns(void);

/* What a request waits for memory beyond what its blocks make it wait, and takes of it anew. */
void worker_stall(struct worker *w);

static inline void worker_block(struct worker *w, ditto_block_fn block)
{
	if (block && !options.skeleton)
		block(&w->body);
}

#endif
