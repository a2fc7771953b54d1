/* SPDX-License-Identifier: Apache-2.0
 *
 * What a thread keeps of a connection and of the requests that are in progress on it.
 */
#ifndef DITTO_CONN_H
#define DITTO_CONN_H

#include "codec.h"

#include <stddef.h>
#include <sys/socket.h>

struct worker; /* runtime.h */

enum source_type { SOURCE_LISTENER, SOURCE_NOTIFY, SOURCE_CONN, SOURCE_LINK, SOURCE_INBOX, SOURCE_TIMER };

struct source {
	int fd;
	uint8_t type;
	int place; /* index in the set of poll and select */
	uint32_t events;
	uint8_t out_due; /* of epoll: it was asked anew whether it can be sent on, and not reported since */
};

struct slot {
	int fd;
	uint64_t size;
	uint64_t end; /* where the last access at an offset ended */
};

#define REQUEST_SLOTS DITTO_SLOT_PERSISTENT

struct plan; /* plan.h */

/* A request whose reply is formatted and whose program has not ended. */
struct job {
	const struct plan *plan;
	uint64_t end;       /* where its reply ends in the output stream */
	uint64_t body_left; /* bytes for OP_SENDFILE */
	uint64_t body_at;
	uint32_t pick;      /* chooses the file of each group, and what is drawn for the request */
	uint32_t head, tail; /* parts of the reply, for vectors */
	uint16_t op;        /* next operation */
	uint8_t traits;     /* enum trait */
	uint8_t resumed;    /* op was begun in an earlier wake-up */
	uint8_t whole;      /* everything runs in the second pass, since an earlier reply waits there */
	uint8_t ended;      /* its program has ended, though not all was sent */
	uint8_t failed;     /* a service that it needs did not answer */
	uint32_t length;    /* of its reply in the output stream */
	const uint8_t *lent; /* the payload, where it is not in the output yet: nothing of the reply was sent then */
};

_Static_assert(sizeof(struct job) == 64, "pool buffers hold a whole number of jobs");

enum trait { TRAIT_DEFERRED = 1, TRAIT_SENDFILE = 2, TRAIT_PULLS = 4, TRAIT_BRINGS = 8 };

/* What every request uses comes first, in as few lines of memory as it takes: with many connections, each is far from
 * what was used last. */
struct conn {
	struct source source; /* first: the wait set points here */
	uint32_t idle_events;   /* what to wait for when nothing is blocked */
	struct worker *worker;
	uint8_t dead, eof, closing, blocked, backlog, readable, armed, unwatched, queued, more, edge, held, hung_up, filled;
	uint8_t shell, drained;
	uint8_t passed; /* another thread has it, or it waits in the list of the yielded */
	uint8_t rounds; /* waits left before its second pass */
	uint8_t begun; /* a part of a request has come */
	uint8_t hears; /* push.c: what it has not asked for is sent to it */
	uint8_t fresh; /* accepted by a dispatcher, not taken over yet */
	_Atomic uint8_t answer; /* message.c: whether another thread sends the reply */
	uint16_t calls;         /* sends in this wake-up */
	uint32_t open_slots;    /* bit set */

	struct links *links;           /* to other services; NULL before the first call */
	const struct ditto_send *send; /* how the reply in progress is sent */
	uint64_t wake;          /* the wake-up that calls belongs to */
	uint64_t parts_at;      /* position in the output from which the parts of its reply are counted */
	struct sockaddr *peer;  /* datagram.c: whom to answer; NULL on connections */
	uint8_t *in;            /* NULL where nothing is in it */
	uint32_t in_cap, in_start, in_end;
	_Atomic uint32_t pending; /* shared.c: events reported, and whether a thread has it */

	struct conn *next;      /* in the list of deferred connections */
	struct job *job; /* NULL where there is none */
	uint16_t job_cap, job_head, job_run, job_tail; /* head..run wait for the second pass, run..tail for the first */
	struct outbuf out;
	struct codec_state codec;

	struct conn *next_dead;
	struct conn *next_pull; /* waits for an element as well */
	struct conn *next_passed; /* message.c: in an inbox, or yielded */
	struct conn *prev_all, *next_all;
	struct slot slot[REQUEST_SLOTS];
	socklen_t peer_bytes;
	int copy;                 /* of its descriptor, which the server made; 0: none */
	uint32_t answered;        /* bytes it is to send, and has sent then */
	uint32_t answer_head;     /* of these, the head that it may send by itself first; 0: none, or it is sent */
	uint32_t answer_sent;     /* of these, what is sent of an answer that is not whole yet */
};

_Static_assert(offsetof(struct conn, links) == 64 && offsetof(struct conn, next) == 128 && offsetof(struct conn, out.waiting) == 192 &&
		       offsetof(struct conn, codec.need) == 256 && offsetof(struct conn, codec.note) == 320,
	       "each of these begins a line: the first four are all that a short request needs");

#endif
