/* SPDX-License-Identifier: Apache-2.0
 *
 * What a thread of the generator works with.
 */
#ifndef LOADGEN_RUN_H
#define LOADGEN_RUN_H

#include "frame.h"
#include "thread.h"

#define NEVER UINT64_MAX
#define BUFFER_BYTES (256u << 10)

enum state { CONN_DOWN, CONN_CONNECTING, CONN_OPENING, CONN_IDLE, CONN_BUSY };

struct conn {
	int fd;
	enum state state;
	const struct script *script;
	int brief;          /* ends after its requests, and is made when the next one is due */
	uint32_t at;        /* step in progress or next */
	uint32_t sent;      /* bytes of the request */
	uint32_t interest;  /* of the wait set */
	uint64_t intended, began;
	uint8_t *numbered;  /* HTTP/2: the request with its stream's number */
	uint32_t room, stream;
	struct frame frame;
};

struct run {
	struct thread *thread;
	const struct settings *settings;
	struct schedule schedule;
	struct result *result;
	struct conn *conn;
	uint32_t *idle;     /* ring of connections that wait for a request */
	uint32_t idle_first, idle_count;
	int wait_set;
	int closed;         /* closed loop */
	uint64_t due;       /* ns from the start */
	uint64_t now;       /* ns from the start */
	uint64_t most;      /* requests of this thread, closed loop */
	uint64_t retry;     /* when connections that are down are tried again */
	uint64_t nap_ns;    /* thread.c: for which replies gather */
	uint64_t look;      /* when datagrams without a reply are looked for */
	uint64_t heard, heard_ns; /* replies so far, and when the last came */
	uint8_t *buffer;
};

void tick(struct run *r);
uint64_t end_of(const struct run *r);
int more(const struct run *r); /* whether a closed loop goes on */

/* conn.c */
void conn_setup(struct run *r, struct conn *c, const struct script *script);
void conn_settle(struct run *r); /* before the start: brief connections are not held open */
void conn_dial_all(struct run *r); /* those that are down, unless it is too early */
void conn_begin(struct run *r, struct conn *c, uint64_t intended); /* sends the connection's next request */
void conn_event(struct run *r, struct conn *c, uint32_t events);
struct conn *conn_free(struct run *r); /* the next connection that waits for a request, or NULL */
void conn_finish(struct run *r, struct conn *c); /* the step in progress has ended */
void conn_broken(struct run *r, struct conn *c); /* a reply that was asked for did not come */
void conn_hang_up(struct conn *c);

/* datagram.c */
int by_datagrams(const struct run *r);
void datagram_take(struct run *r, struct conn *c);
void datagram_give_up(struct run *r); /* those without a reply for too long: they or their replies were lost */

#endif
