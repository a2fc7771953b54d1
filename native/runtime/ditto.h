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

#define DITTO_TABLES_VERSION 4
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

/* --- operations --------------------------------------------------------------------------------------
 * A program is a list of operations, run in order for one request (or one timer tick, one accepted connection ...).
 * Each is skipped with probability 1 - prob.  Operations with DITTO_DEFERRED run in a second pass, after all events of
 * the wake-up have been handled, in the order set by ditto_role.deferred_lifo. */
enum ditto_op_kind {
	OP_COMPUTE = 1,   /* run block */
	OP_REPLY,         /* send the codec's reply (all of it, or the part that OP_SENDFILE does not), by ditto_send */
	OP_SENDFILE,      /* send the reply's body from file slot a by sendfile(2); the codec's body size is the file's size */
	OP_RECV_AGAIN,    /* one more receive on the connection; data that arrives is handled as a new receive */
	OP_SETSOCKOPT,    /* on the connection: level a, option b, int value c */
	OP_GETSOCKOPT,    /* level a, option b */
	OP_GETPEERNAME,
	OP_GETSOCKNAME,
	OP_FCNTL,         /* on the connection: command a, argument b */
	OP_IOCTL,         /* on the connection: request a (FIONBIO, FIONREAD), argument b */
	OP_EPOLL_ADD,     /* the connection to the role's epoll set with events a */
	OP_EPOLL_MOD,     /* events a */
	OP_EPOLL_DEL,
	OP_SHUTDOWN,      /* how a */
	OP_CLOSE,         /* the connection (in close programs) */
	OP_FILE_OPEN,     /* open a file of group a into file slot b with flags c */
	OP_FILE_STAT,     /* path stat of a file of group a (nr: stat, lstat, newfstatat, statx, access) */
	OP_FILE_FSTAT,    /* of file slot b (nr: fstat, newfstatat with an empty path, fchmod to what it has) */
	OP_FILE_READ,     /* slot b, size dist; nr: read, pread64, readv, preadv; at a random aligned offset for pread* */
	OP_FILE_WRITE,    /* slot b, size dist; nr: write, pwrite64, writev */
	OP_FILE_SEEK,     /* slot b to offset 0 */
	OP_FILE_SYNC,     /* slot b; nr: fsync or fdatasync */
	OP_FILE_CLOSE,    /* slot b */
	OP_MISC,          /* a call without lasting effect, by nr: getpid, gettid, clock_gettime, getrusage, sched_yield,
	                   * umask-free calls only; others are refused by the generator */
	OP_MMAP,          /* mapping of size dist, anonymous or (a is 1) of file slot b, touched page by page, unmapped by
	                   * the next OP_MUNMAP */
	OP_MUNMAP,
	OP_MADVISE,       /* MADV_DONTNEED on part of the arena's spare area, size dist */
	OP_FUTEX_WAKE,    /* wake of a word nobody waits on (the cost of an uncontended wake) */
	OP_SLEEP,         /* nr: nanosleep or clock_nanosleep, size dist in microseconds */
	OP_NOTIFY,        /* write to the wake-up descriptor (eventfd or pipe) of role a */
	/* Calls to other services; see struct ditto_downstream. */
	OP_SOCKET,        /* a new socket of type and flags a */
	OP_CONNECT,       /* to the address given at start */
	OP_CONNECTED,     /* wait until the connection is there, in the way of the downstream */
	OP_POLL,          /* poll that one descriptor for events a, at most b milliseconds */
	OP_CALL,          /* a request to downstream a of a class drawn from size; its first c bytes (0: all), flags b; a
	                   * connection is taken, or made by the connect program, where the slot has none */
	OP_CALL_MORE,     /* the next c bytes of it (0: the rest), flags b */
	OP_ANSWER,        /* wait for the reply and receive it to its end */
};

enum ditto_op_flags {
	DITTO_DEFERRED = 1, /* run in the pass at the end of the wake-up */
};

/* The upper half of flags tells which connection an operation is for: 0 the client's, k the request's k-th to another
 * service. */
#define DITTO_LINK(k) ((k) << 4)
#define DITTO_LINKS 8

struct ditto_op {
	uint8_t kind;
	uint8_t flags;
	uint16_t nr; /* x86-64 syscall number to use, where the kind leaves a choice */
	uint32_t prob;
	int32_t a, b, c;
	const struct ditto_dist *size;
	ditto_block_fn block;
};

struct ditto_program {
	uint16_t n;
	const struct ditto_op *op;
};

/* File slots 0..7 belong to a request and are closed when it ends; slots 8..15 are opened once a process, at start
 * (logs, data files), by ditto_process.open_at_start. */
#define DITTO_SLOTS 16
#define DITTO_SLOT_PERSISTENT 8

enum ditto_file_kind {
	DITTO_FILE_REGULAR = 0, /* made by the clone in its data directory, filled with filler */
	DITTO_FILE_PROC_SELF_STAT,
	DITTO_FILE_PROC_SELF_STATUS,
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

enum ditto_codec_id { DITTO_CODEC_OPAQUE = 0, DITTO_CODEC_HTTP1, DITTO_CODEC_RESP2, DITTO_CODEC_MEMCACHED };

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
};

struct ditto_reply {
	uint32_t prob; /* cumulative within the class; the last is DITTO_ALWAYS */
	uint8_t kind;
	uint16_t status;    /* HTTP status */
	uint32_t head_bytes; /* HTTP: bytes of status line and headers together, met exactly where at all possible */
	const struct ditto_dist *count; /* array elements */
	const struct ditto_dist *size;  /* payload: bulk or element size, value size, body size, digits of a number,
	                                 * text of a simple string; for REPLY_OPAQUE the whole reply */
	const struct ditto_dist *second; /* memcached: digits of the flags field */
};

/* How a request is recognised as of this class.
 * RESP2 and memcached: verb (public command word, upper case for RESP, lower case for memcached) and, if argc is
 * not 0, the number of words.  HTTP: verb is the method; path_print is a 12-bit keyed fingerprint of the path without
 * query (ditto_path_print in codec_http.c, key ditto_service.print_key), DITTO_NONE for any.  Opaque: size range.
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
};

struct ditto_class {
	struct ditto_match match;
	uint32_t prob; /* share of requests, for synthetic load and for the opaque codec; cumulative */
	uint16_t replies;
	const struct ditto_reply *reply;
	struct ditto_program program; /* run once the request is complete */
	const struct ditto_dist *request_bytes;
	const struct ditto_send *send; /* NULL: as the service */
	uint32_t closes; /* chance in 2^32 - 1 that the connection is closed after the reply */
};

/* --- network ----------------------------------------------------------------------------------------- */

struct ditto_recv {
	uint16_t nr;        /* read, recvfrom, recvmsg, readv */
	uint32_t bytes;     /* buffer size asked for */
	int32_t flags;      /* recvfrom/recvmsg flags */
	uint8_t until_again; /* after handling what was received, receive again until EAGAIN */
	uint8_t until_short; /* receive again only if the buffer was filled */
};

struct ditto_listener {
	int32_t backlog;
	uint8_t nonblocking;
	uint8_t reuseport;   /* one socket a thread or process with SO_REUSEPORT, as the original */
	uint16_t accept_nr;  /* accept or accept4 */
	int32_t accept_flags;
	uint8_t accept_until_again; /* accept until EAGAIN, else once a wake-up */
	uint16_t sockopts;   /* set on the listener before listen */
	const struct ditto_op *sockopt;
};

/* --- threads and processes --------------------------------------------------------------------------- */

enum ditto_wait { DITTO_WAIT_EPOLL = 1, DITTO_WAIT_EPOLL_PWAIT, DITTO_WAIT_POLL, DITTO_WAIT_SELECT, DITTO_WAIT_BLOCKING };

enum ditto_role_kind {
	DITTO_ROLE_LOOP = 1, /* waits for events, handles them, waits again; may accept, may serve connections */
	DITTO_ROLE_PERIODIC, /* sleeps for timer[0].period_ns by wait_nr, runs timer[0].program, again */
	DITTO_ROLE_IDLE,     /* waits for ever (wait_nr: futex, rt_sigsuspend, wait4, pause) */
	DITTO_ROLE_SERVE,    /* serves one connection with blocking calls, then ends (thread or process a connection) */
	DITTO_ROLE_ACCEPT_SERVE, /* accepts with a blocking call, serves that connection to its end, accepts again */
};

enum ditto_handover {
	DITTO_HAND_KEEP = 0,   /* the acceptor serves the connection itself */
	DITTO_HAND_QUEUE,      /* to the threads of role hand_to, in turn, through a queue and an eventfd or pipe write */
	DITTO_HAND_SPAWN_THREAD,  /* a new thread of role hand_to for each connection */
	DITTO_HAND_SPAWN_PROCESS, /* a new process */
};

struct ditto_timer {
	uint64_t period_ns;
	uint32_t requests; /* 0, or it runs once in so many requests of its thread, whatever the clock says */
	struct ditto_program program;
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
	uint8_t handover;
	int16_t hand_to;     /* role index */
	uint16_t notify_nr;  /* eventfd2, pipe2, or 0: how hand_to is woken */
	uint16_t connection_limit; /* 0: none */
	uint8_t deferred_lifo;
	struct ditto_program each_wake; /* calls made after each return of the wait, before the first event */
	struct ditto_program each_wait; /* and right before the wait */
	ditto_block_fn on_wake;    /* after each return of the wait, before the first event */
	ditto_block_fn before_wait; /* at the end of each wake-up */
	/* Threads that serve one connection at a time (accept_serve): */
	uint8_t listen_wait;   /* enum ditto_wait: how the next connection is waited for, 0 or blocking: in the accept */
	uint8_t accept_first;  /* the wait comes only after an accept that found none */
	uint8_t receive_first; /* the wait for a request comes only after a receive that found none */
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

/* --- calls to other services ---------------------------------------------------------------------------
 * A downstream is called in the framing of its own codec, by requests that the generator has made of the classes and
 * sizes that were observed, so that a clone of the called service, or the stand-in that `service` describes, recognises
 * them.  Where it listens is told at start, never compiled in. */
#define DITTO_DOWNSTREAMS 16

enum ditto_pool {
	DITTO_POOL_REQUEST = 1, /* a connection for each request, closed at its end */
	DITTO_POOL_CONNECTION,  /* kept by the client's connection as long as that lasts */
	DITTO_POOL_THREAD,      /* kept by the thread for its next request */
};

struct ditto_request {
	uint32_t length;
	const uint8_t *bytes;
	uint8_t nobody; /* the reply is a head alone */
};

struct ditto_call_class {
	uint16_t requests;
	const struct ditto_request *request; /* one is drawn; all are equally likely */
	const struct ditto_dist *delay_us;   /* how long the stand-in waits with its reply; may be NULL */
};

struct ditto_service;

struct ditto_downstream {
	uint8_t pool;
	uint8_t blocking; /* replies are waited for by the receive itself, not in the wait set */
	struct ditto_recv recv;
	struct ditto_program connect;        /* makes a connection: OP_SOCKET, OP_CONNECT, and what else was seen */
	const struct ditto_call_class *call; /* one for each class of service */
	const struct ditto_service *service; /* codec, classes and replies of the stand-in; nothing else of it is used */
};

struct ditto_body_layout; /* generated with the blocks; see body.h */

struct ditto_service {
	uint32_t version; /* DITTO_TABLES_VERSION */
	uint64_t seed;
	uint32_t print_key;
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
	uint32_t stalls; /* far reads a request, in 256ths: see ditto_body_stall */
	const struct ditto_body_layout *body;
	ditto_block_fn on_error; /* after a malformed request */
	uint16_t downstreams;
	const struct ditto_downstream *downstream;
};

extern const struct ditto_service ditto_service;

#endif
