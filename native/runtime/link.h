/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections to other services: who has them, and what a request does with them.
 */
#ifndef DITTO_LINK_H
#define DITTO_LINK_H

#include "reply_frame.h"
#include "runtime.h"

#include <stdatomic.h>
#include <sys/socket.h>

struct link {
	struct source source; /* first: the wait set points here */
	struct worker *worker;
	struct conn *owner; /* whose request calls; NULL while it is idle */
	struct link *next;  /* idle, or dead */
	const struct ditto_downstream *to;
	const struct ditto_request *request; /* of the call in progress */
	const struct ditto_op *op; /* and the operation that began it */
	uint32_t sent, part_end;
	uint32_t waits;     /* events that the owner's request waits for */
	uint32_t setup_at;  /* next operation of the connect program */
	uint8_t setting_up, connecting, connected, watched, nonblocking;
	uint8_t greeting;   /* enum in link_greet.c: how far the session's beginning is */
	uint8_t calling;    /* the request is not all sent */
	uint8_t pending;    /* its reply is not all there */
	uint8_t received;   /* receives that brought something of it, as far as they differ */
	uint8_t ready;      /* something can be received */
	uint8_t failed;     /* refused, reset, late, or not the protocol: good for nothing any more */
	uint8_t rests;      /* shared_link.c: it is in the list of those that do */
	_Atomic uint32_t reported; /* shared_link.c: events that the thread which serves its owner has not seen yet */
	uint8_t lost;       /* the call has no whole reply, or a clone's that says that it had none either */
	uint32_t since;     /* tick at which its owner began to wait */
	uint32_t trust;     /* connections to the service that had failed when this one was last known to be good */
	struct link *next_all, *prev_all;
	struct reply_frame frame;
	struct ditto_request own; /* HTTP/2: the request with its stream's number, and what is said before it */
	uint8_t *numbered;
};

/* Of one connection of a client. */
struct links {
	struct link *slot[DITTO_LINKS];
};

/* Of one thread. */
struct link_pool {
	struct link *idle[DITTO_DOWNSTREAMS];
	struct link *dead; /* until the end of the wake-up: the wait set may still report them */
	struct link *all;
	struct link_pool *next;
	uint32_t seen;     /* tick at which late calls were looked for */
	_Atomic int held;  /* link_time.c: descriptor that the thread blocks on */
	_Atomic uint32_t held_since;
	uint32_t size;
	uint8_t *buffer;   /* what is received; only where it ends matters */
};

enum run link_op(struct op_context *x, const struct ditto_op *op);
void link_events(struct link *l, uint32_t events);
void links_release(struct conn *c); /* a request has ended */
void links_end(struct conn *c);     /* the client's connection has */
void link_begin_request(struct link *l, const struct ditto_request *request, int32_t bytes); /* the first part of so many */
enum run link_send_part(struct link *l, const struct ditto_op *op);
enum run link_await(struct link *l, const struct ditto_op *op); /* receives until the reply is there, or none will come */
enum run link_greet(struct link *l); /* link_greet.c */
int link_unasked(struct link *l); /* what came although nobody waits for it; whether the link is good for nothing now */

/* link_pool.c */
struct link_pool *link_pool_of(struct worker *w); /* made with the first call; NULL without memory */
void link_new(struct link *l, unsigned downstream); /* memory that is zero, or of one that was closed */
struct link *link_make(struct worker *w, unsigned downstream, struct conn *owner); /* in no list yet; NULL: no memory */
/* For a request on the connection: an idle one, or one without a connection yet; NULL. */
struct link *link_take(struct worker *w, unsigned downstream, struct conn *owner);
void link_idle(struct link *l);
void link_close(struct link *l);
void links_free_dead(struct worker *w);

/* link_life.c */
enum run link_plain(struct link *l, const struct ditto_op *op);
enum run link_wait(struct link *l, uint32_t events); /* RUN_DONE: it is ready now */
long link_receive(struct link *l, const struct ditto_op *op);
void link_unwatch(struct link *l);

/* link_h2.c: makes the request that is sent on the connection's next stream; -1 without memory. */
int link_h2_request(struct link *l, const struct ditto_request *request);

/* link_time.c: no call waits for ever */
void link_time_start(struct link_pool *pool); /* of a pool's first link */
void link_time_begin(void); /* of a process that may call: ahead of requests, which the original makes without */
void link_time_forked(void);                  /* in a child: the parent's timer is not its own */
int links_timeout(int timeout_ms);            /* that long a loop may wait at most */
uint32_t link_time_now(void);                 /* ticks */
int link_is_late(const struct link *l, uint32_t now);
void link_late(struct link *l);               /* its request goes on without, if it still waits and is late */
void links_late(struct worker *w);            /* requests that have waited too long go on without */
void link_block(struct link *l);              /* before a call that may block, */
void link_unblock(struct link *l);            /* and after it; keeps errno */

static inline int link_blocks(const struct link *l)
{
	return l->to->blocking || !l->worker->waiter;
}

/* --- where downstreams are (wiring.c) ------------------------------------------------------------------ */

struct address {
	uint32_t size; /* 0: not known */
	struct sockaddr_storage at;
};

extern struct address *downstream_address; /* one a downstream */

int wiring_option(const char *text); /* "N=HOST:PORT"; -1: it is none */
int resolve_name(const char *name, uint32_t *address); /* resolve.c: IPv4, in network order; -1: none now */
void wiring_start(void);             /* a stand-in, started here, for each that no option named */
void stub_serve(unsigned downstream, int listener) __attribute__((noreturn)); /* stub.c */

void send_begin(struct conn *c, const struct job *job, const struct ditto_send *send, int head); /* send.c */

#endif
