/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables that a generated clone hands to the runtime.
 *
 * The runtime is ordinary C and knows nothing of any app; `tables.c`, generated from a profile, defines
 * `ditto_service`, and `blocks.S` holds the compute blocks it names.  Everything here is const data: sizes in
 * bytes, times in nanoseconds, probabilities as 32-bit fractions (DITTO_ALWAYS is 1).
 */
#ifndef DITTO_H
#define DITTO_H

#include <stddef.h>
#include <stdint.h>

#define DITTO_TABLES_VERSION 8
#define DITTO_ALWAYS UINT32_MAX
#define DITTO_NONE (-1)

/* A discrete distribution: value[i] is drawn with the probability cum[i] - cum[i-1] (as fractions of 2^32;
 * the last cum is DITTO_ALWAYS).  n is at least 1 and at most 256. */
struct ditto_dist {
	uint16_t n;
	const uint32_t *value;
	const uint32_t *cum;
};

/* --- compute ---------------------------------------------------------------------------------------- */

struct ditto_body; /* one a thread: the arena and cursors of its blocks; see body.h */
typedef void (*ditto_block_fn)(struct ditto_body *);

#include "program.h"

/* File slots 0..7 belong to a request and are closed when it ends; slots 8..63 are opened once a process, at start
 * (logs, data files), by ditto_process.open_at_start. */
#define DITTO_SLOTS 64
#define DITTO_SLOT_PERSISTENT 8

enum ditto_file_kind {
	DITTO_FILE_REGULAR = 0, /* made by the clone in its data directory, filled with filler */
	DITTO_FILE_PROC_SELF_STAT,
	DITTO_FILE_PROC_SELF_STATUS,
	DITTO_FILE_PROC_SELF_SMAPS,
	DITTO_FILE_PROC_MEMINFO,
	DITTO_FILE_PROC_LOADAVG,
	DITTO_FILE_PROC_STAT,
	DITTO_FILE_DEV_URANDOM,
	DITTO_FILE_DEV_NULL,
	DITTO_FILE_MISSING, /* a path that does not exist (the original asks and gets ENOENT) */
};

struct ditto_file_group {
	uint8_t kind;
	uint8_t depth;  /* directories between the data directory and the file: path walks cost */
	uint8_t append; /* grows by its writes (a log): starts empty, is truncated at 64 MiB */
	uint32_t count; /* files in the group */
	const struct ditto_dist *size;
};

struct ditto_open_at_start {
	uint16_t group;
	uint8_t slot;
	int32_t flags; /* open(2) flags; O_CREAT is added for what the clone makes */
};

/* --- requests and replies --------------------------------------------------------------------------- */

enum ditto_codec_id { DITTO_CODEC_OPAQUE = 0, DITTO_CODEC_HTTP1, DITTO_CODEC_RESP2, DITTO_CODEC_MEMCACHED, DITTO_CODEC_DNS,
	DITTO_CODEC_PGSQL, DITTO_CODEC_MYSQL, DITTO_CODEC_FASTCGI, DITTO_CODEC_H2 };

enum ditto_reply_kind {
	/* RESP2 */
	REPLY_SIMPLE = 1, REPLY_ERROR, REPLY_INTEGER, REPLY_BULK, REPLY_NIL, REPLY_ARRAY,
	/* memcached text */
	REPLY_VALUE = 16, REPLY_MISS, REPLY_STORED, REPLY_NOT_STORED, REPLY_EXISTS, REPLY_NOT_FOUND, REPLY_DELETED,
	REPLY_TOUCHED, REPLY_NUMBER, REPLY_OK, REPLY_VERSION, REPLY_STATS,
	/* HTTP/1.1: status, head_bytes, size (body) */
	REPLY_HTTP = 32, REPLY_HTTP_CHUNKED, REPLY_HTTP_CLOSE, /* the last ends with the connection */
	/* opaque */
	REPLY_OPAQUE = 48,
	/* DNS: status (response code), count (answers), second (records of authority), size (bytes of all records) */
	REPLY_DNS = 56,
	/* FastCGI: status, head_bytes, size (body), count (most bytes of output in a record) */
	REPLY_FASTCGI = 60,
	/* HTTP/2: status, head_bytes (of the frame of headers), size (data); gRPC: status is its own, count messages, second
	 * bytes of the frame of trailers */
	REPLY_H2 = 61, REPLY_GRPC,
	/* databases: count rows of columns; nothing but that it was done; an error; what a connection begins with (size) */
	REPLY_ROWS = 64, REPLY_DONE, REPLY_FAILED, REPLY_SESSION,
};

/* A column of a result. */
struct ditto_column {
	uint16_t name_bytes;
	uint8_t binary;      /* values are not text */
	uint32_t type;       /* the protocol's own number; so are flags and type_bytes */
	uint32_t flags;
	int64_t type_bytes;
	uint32_t none;       /* chance of no value (NULL) */
	const struct ditto_dist *size; /* of a value */
};

struct ditto_reply {
	uint32_t prob; /* cumulative within the class; the last is DITTO_ALWAYS */
	uint8_t kind;
	uint16_t status;    /* of HTTP; RESP: see resp.h */
	uint32_t head_bytes; /* HTTP: bytes of status line and headers together, met exactly where at all possible */
	const struct ditto_dist *count; /* array elements */
	const struct ditto_dist *size;  /* payload: bulk or element size, value size, body size, digits of a number,
	                                 * text of a simple string; for REPLY_OPAQUE the whole reply */
	const struct ditto_dist *second; /* memcached: digits of the flags field */
	uint16_t columns;                /* of REPLY_ROWS */
	const struct ditto_column *column;
	uint8_t columns_known;           /* left out for clients that remember those of a prepared statement */
};

/* How a request is recognised as of this class.
 * RESP2 and memcached: verb (public command word, upper case for RESP, lower case for memcached) and, if argc is
 * not 0, the number of words.  HTTP: verb is the method; path_print is a 12-bit keyed fingerprint of the path without
 * query (ditto_path_print in codec_common.c, key ditto_service.print_key), DITTO_NONE for any.  Databases: verb is the
 * statement's, or a word for another message, path_print a fingerprint of its text (sql.h).  Opaque: size range, and
 * path_print a fingerprint of the word that the request begins with (DITTO_NONE: none).
 * A request that fits no class goes to the first class with the same verb, else to the codec's default reply. */
struct ditto_match {
	const char *verb;
	uint16_t argc;
	int32_t path_print;
	uint32_t min_bytes, max_bytes;
};

struct ditto_send {
	uint16_t nr;         /* write, writev, sendto, sendmsg */
	int32_t flags;
	uint32_t call_bytes; /* most bytes handed to one call; 0: no limit */
	uint16_t iovs;       /* vectors a reply is spread over (writev, sendmsg): head, payload, tail; at least 1 */
	uint32_t iov_bytes;  /* most bytes in one vector; 0: no limit */
	uint16_t calls_per_wake; /* calls on one connection before waiting for writability; 0: until EAGAIN */
	uint8_t per_read;    /* replies to all requests of one receive leave in one send (else one send a request) */
	uint8_t arm;         /* 1: EPOLLOUT is added with EPOLL_CTL_MOD when a send could not finish, and removed after */
	ditto_block_fn between; /* run after a send that did not finish the reply; may be NULL */
	uint16_t parts;      /* a reply leaves in several calls, made of so many bytes each; the rest in one more */
	const uint32_t *part;
};

struct ditto_class {
	struct ditto_match match;
	uint32_t prob; /* share of requests, for synthetic load and for the opaque codec; cumulative */
	uint16_t replies, reply_draw; /* reply_draw: the draw of operations that tells the kind of reply too; 0: none */
	const struct ditto_reply *reply;
	struct ditto_program program; /* run once the request is complete */
	const struct ditto_dist *request_bytes;
	const struct ditto_send *send; /* NULL: as the service */
	uint32_t closes; /* chance in 2^32 - 1 that the connection is closed after the reply */
	uint8_t rounds;  /* waits before the second pass, of a role with deferred_late; 0 is one */
};

/* --- network ----------------------------------------------------------------------------------------- */

struct ditto_recv {
	uint16_t nr;        /* read, recvfrom, recvmsg, readv */
	uint32_t bytes;     /* buffer size asked for */
	int32_t flags;      /* recvfrom/recvmsg flags */
	uint8_t until_again; /* after handling what was received, receive again until EAGAIN */
	uint8_t until_short; /* receive again only if the buffer was filled */
	uint32_t head;       /* bytes asked for first, the head of a request, and then the rest at once; 0: all together */
	uint32_t second;     /* bytes asked for behind that head before the rest; 0: none */
	uint32_t rest;       /* buffer size asked for where a request has begun to come; 0: bytes */
	uint16_t batch;      /* most datagrams in one call (recvmmsg) */
	uint16_t enough;     /* datagrams from which on a wake-up receives no more; 0: however many there are */
	uint8_t lines; /* what was looked at (MSG_PEEK) is taken line by line */
};

struct ditto_listener {
	int32_t backlog;
	uint8_t nonblocking;
	uint8_t datagrams;   /* UDP: each datagram is a request, and its reply one datagram */
	uint8_t reuseport;   /* one socket a thread or process with SO_REUSEPORT, as the original */
	uint16_t accept_nr;  /* accept or accept4 */
	int32_t accept_flags;
	uint8_t accept_until_again; /* accept until EAGAIN, else once a wake-up */
	uint8_t answers_last; /* datagrams are answered after the last receive of a wake-up */
	uint8_t rewatches;    /* and the wait set is told anew, after each, that they are waited for */
	uint16_t sockopts;   /* set on the listener before listen */
	const struct ditto_op *sockopt;
};

/* --- threads and processes --------------------------------------------------------------------------- */

enum ditto_wait { DITTO_WAIT_EPOLL = 1, DITTO_WAIT_EPOLL_PWAIT, DITTO_WAIT_POLL, DITTO_WAIT_SELECT, DITTO_WAIT_BLOCKING };

enum ditto_role_kind {
	DITTO_ROLE_LOOP = 1, /* waits for events, handles them, waits again; may accept, may serve connections */
	DITTO_ROLE_PERIODIC, /* sleeps for timer[0].period_ns by wait_nr, runs timer[0].program, again */
	DITTO_ROLE_IDLE,     /* waits for ever (wait_nr: futex, rt_sigsuspend, wait4, pause) */
	DITTO_ROLE_SERVE,    /* serves one connection with blocking calls, then ends (thread or process a connection), or the next one */
	DITTO_ROLE_HELPER,   /* runs timer[0].program whenever OP_FUTEX_WAKE wakes it */
	DITTO_ROLE_SHARED,   /* serves whichever connection of its role's common wait set is ready */
	DITTO_ROLE_DISPATCH, /* waits for events and gives ready connections to the threads of role hand_to (shared), or,
	                      * where those wait themselves, only accepts for them */
	DITTO_ROLE_PULL,     /* receives no requests: runs the program of a class over and over, which waits for its job itself */
	DITTO_ROLE_WORKER,   /* runs timer[0].program for each message of its inbox, which it waits for by wait or wait_nr */
	DITTO_ROLE_CHILD,    /* in no process: what a process that OP_FORK makes does, each timer's program so many times */
	DITTO_ROLE_ACCEPT_SERVE, /* accepts with a blocking call, serves that connection to its end, accepts again */
};

enum ditto_handover {
	DITTO_HAND_KEEP = 0,   /* the acceptor serves the connection itself */
	DITTO_HAND_QUEUE,      /* to the threads of role hand_to, in turn, through a queue and an eventfd or pipe write */
	DITTO_HAND_SPAWN_THREAD,  /* a new thread of role hand_to for each connection */
	DITTO_HAND_SPAWN_PROCESS, /* a new process */
	DITTO_HAND_PASS,       /* to a process with threads of role hand_to, in turn, with a message (SCM_RIGHTS) */
	DITTO_HAND_POOL, DITTO_HAND_CACHED, /* to whichever thread of role hand_to is free first; to a new one where none is */
};

struct ditto_timer {
	uint64_t period_ns;
	/* 0, or it runs once in so many requests of its thread, whatever the clock says; of a periodic thread, how many came
	 * in a period: where fewer do, it sleeps longer, by their ratio to the power of follows / 256 */
	uint32_t requests;
	uint16_t follows;
	struct ditto_program program;
	uint8_t descriptor; /* of loops: it is told of by a timerfd in the wait set, which is read, and not by the wait's time-out */
	uint32_t times; /* how often a child runs it */
};

/* How the threads of a role learn of messages. */
struct ditto_inbox {
	uint16_t nr;      /* eventfd2, pipe2 or socketpair */
	uint16_t read_nr; /* read or recvfrom */
	uint32_t bytes;   /* asked for; 0: there are no messages, or they are told by futex */
	uint32_t each;    /* bytes of a message; 0: a read stands for all there are */
	uint8_t again;    /* read until nothing is left */
	uint8_t own;      /* each thread has one; else the threads of a process have it in common */
};

/* How the threads of a role are given connections by another process. */
struct ditto_passage {
	uint32_t bytes; /* of the message that a connection comes with; 0: none come so */
	int32_t flags;  /* of recvmsg */
	uint8_t own;    /* each process has a socket pair of its own; else they take from one in turn */
	uint8_t again;  /* take until there is none */
};

struct ditto_role {
	const char *name;    /* neutral: r0, r1 ... */
	uint8_t kind;
	uint8_t wait;        /* enum ditto_wait for loops */
	uint16_t wait_nr;    /* syscall for periodic, idle */
	uint16_t count;      /* threads of this role in each process */
	uint16_t max_events; /* epoll_wait's */
	int32_t timeout_ms;  /* when nothing is due: -1 for ever, 0 busy polling, else at most this */
	uint8_t listens;     /* the listener is in this role's wait set */
	uint32_t listen_events;  /* epoll events for the listener (EPOLLEXCLUSIVE and so on) */
	uint16_t relisten;   /* the listener leaves the wait set and is added again with every so many accepts; 0: never */
	uint8_t handover;
	int16_t hand_to;     /* role index */
	uint16_t notify_nr;  /* eventfd2, pipe2, or 0: how hand_to is woken */
	struct ditto_inbox inbox;
	struct ditto_passage passage;
	uint16_t connection_limit; /* 0: none */
	uint8_t leads_session; /* a process that begins with a thread of this role is in a session of its own */
	uint8_t deferred_lifo, deferred_late; /* late: the second pass comes only after the next wait, which does not block */
	struct ditto_program each_wake; /* calls made after each return of the wait, before the first event */
	struct ditto_program each_wait; /* and right before the wait */
	struct ditto_program each_batch; /* once for all requests of a wake-up, before those that are deferred go on */
	ditto_block_fn on_wake;    /* after each return of the wait, before the first event */
	ditto_block_fn before_wait; /* at the end of each wake-up */
	/* Threads that share connections (shared, dispatch): */
	uint8_t polls;       /* its threads wait for events themselves, one at a time; else a dispatcher does */
	uint8_t crowd;       /* all of its threads wait for the same events at once */
	uint8_t polls_first; /* before it blocks, a wait asks for what there is */
	uint8_t unwatches;   /* dispatch: a connection leaves the wait set with each report, and its program adds it again */
	uint8_t mutes;       /* dispatch: it stays there, for no events, and its program asks for them again */
	ditto_block_fn on_unpark; /* after a thread was woken by another */
	uint32_t wakes, lingers; /* in 65536ths: wakes of nobody a report (dispatch) or wake-up; waits for a connection's next */
	uint16_t running, asks_nr; /* most threads that run at a time (0: no limit); call before a receive (0: none) */
	/* Threads that serve one connection at a time (accept_serve), and those that accept for a crowd (dispatch): */
	uint8_t listen_wait;   /* enum ditto_wait: how the next connection is waited for, 0 or blocking: in the accept */
	uint8_t accept_first;  /* the wait comes only after an accept that found none */
	uint8_t receive_first, waits_once; /* for a request only after a receive that found none; not for its rest */
	struct ditto_program before_accept; /* before each accept */
	struct ditto_program on_accept; /* by the accepting thread, after accept */
	struct ditto_program on_adopt;  /* by the serving thread, when it takes the connection over (or directly after on_accept) */
	struct ditto_program on_close;  /* when the peer closed; includes OP_CLOSE and, where seen, OP_EPOLL_DEL */
	uint16_t timers;
	const struct ditto_timer *timer;
	uint64_t body_stack_bytes; /* thread stack size, 0: default */
};

struct ditto_process {
	const char *name;  /* neutral: p0, p1 ... */
	int16_t parent;    /* process index, DITTO_NONE for the first */
	uint16_t count;
	uint16_t roles;
	const uint16_t *role; /* role[0] runs on the main thread */
	uint16_t opens;
	const struct ditto_open_at_start *open_at_start;
};

#include "downstream.h"

struct ditto_body_layout; /* generated with the blocks; see body.h */

#define STORED_AS_IT_IS 256u

struct ditto_service {
	uint32_t version; /* DITTO_TABLES_VERSION */
	uint64_t seed;
	uint32_t print_key;
	uint8_t folds; /* HTTP: digits in paths tell no class, path_print is of the path without them */
	uint8_t starts_empty; /* reads hit what clients have stored, from the first request on; see keys.h */
	uint8_t codec;
	uint16_t classes;
	const struct ditto_class *cls;
	struct ditto_recv recv;
	struct ditto_send send;
	struct ditto_listener listener;
	uint16_t roles;
	const struct ditto_role *role;
	uint16_t processes;
	const struct ditto_process *process;
	uint16_t file_groups;
	const struct ditto_file_group *file_group;
	uint64_t resident_bytes; /* memory touched at start beyond what the runtime and the arenas take */
	uint64_t file_bytes; /* of these, pages of files */
	uint32_t stalls; /* waits a request, in 256ths: see worker_stall */
	uint8_t stalls_in_store; /* reads of the store, where it is large enough */
	uint8_t stalls_computed; /* slow instructions instead */
	uint32_t born_pages; /* touched by each process that is made for a connection */
	uint32_t stored_scale; /* memory that a stored value takes, in STORED_AS_IT_IS-ths of its own size */
	uint32_t fresh_pages; /* not in memory, touched a request, in 65536ths: see fresh_touch */
	const struct ditto_body_layout *body;
	ditto_block_fn on_error; /* after a malformed request */
	uint16_t downstreams;
	const struct ditto_downstream *downstream;
};

extern const struct ditto_service ditto_service;

#endif
