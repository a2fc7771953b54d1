/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs: what is done for a request, a connection or a tick.  A part of ditto.h, which includes it.
 */
#ifndef DITTO_PROGRAM_H
#define DITTO_PROGRAM_H

#include "ditto.h"

/* --- operations --------------------------------------------------------------------------------------
 * A program is a list of operations, run in order for one request (or one timer tick, one accepted connection ...).
 * Each is skipped with probability 1 - prob.  Operations with DITTO_DEFERRED run in a second pass, after all events of
 * the wake-up have been handled, in the order set by ditto_role.deferred_lifo. */
enum ditto_op_kind {
	OP_COMPUTE = 1,   /* run block */
	OP_REPLY,         /* send the codec's reply (all of it, or the part that OP_SENDFILE does not), by ditto_send; with
	                   * a 1 its head alone, and the rest by another; with b 1 by the call nr, the rest as ditto_send */
	OP_SENDFILE,      /* send the reply's body from file slot a by sendfile(2); the codec's body size is the file's size,
	                   * or drawn from size where that is given */
	OP_RECV_AGAIN,    /* one more receive on the connection; data that arrives is handled as a new receive */
	OP_DRAIN,         /* receive up to a bytes that are dropped (in close programs); nr: read, else recvfrom */
	OP_SETSOCKOPT,    /* on the connection: level a, option b, int value c */
	OP_GETSOCKOPT,    /* level a, option b */
	OP_GETPEERNAME,
	OP_GETSOCKNAME,
	OP_FCNTL,         /* on the connection: command a, argument b */
	OP_IOCTL,         /* on the connection: request a (FIONBIO, FIONREAD), argument b */
	OP_EPOLL_ADD,     /* the connection to the role's epoll set with events a */
	OP_EPOLL_MOD,     /* events a */
	OP_EPOLL_DEL,
	OP_WRITABLE,      /* wait until the connection can be sent on, if it is watched for that: some servers reply only then */
	OP_SHUTDOWN,      /* how a */
	OP_CLOSE,         /* the connection (in close programs) */
	OP_FILE_OPEN,     /* open a file of group a into file slot b with flags c */
	OP_FILE_STAT,     /* path stat of a file of group a (nr: stat, lstat, newfstatat, statx, access) */
	OP_FILE_FSTAT,    /* of file slot b (nr: fstat, newfstatat with an empty path; fchmod, fchown, ftruncate, fallocate, flock,
	                   * fadvise64 to what it has) */
	OP_FILE_READ,     /* slot b, size dist; nr: read, pread64, readv, preadv; for pread* at a multiple of a bytes drawn
	                   * from where, or with a chance of c in 1000 where the access before ended */
	OP_FILE_WRITE,    /* slot b, size dist; nr: write, writev, pwrite64, pwritev; pwrite* as pread*; in each_batch without one */
	OP_FILE_SEEK,     /* slot b to offset 0 */
	OP_FILE_SYNC,     /* slot b; nr: fsync, fdatasync, or sync_file_range, which begins to write all of it */
	OP_FILE_CLOSE,    /* slot b */
	OP_FILE_WATCH,    /* slot b is offered to the wait set, which refuses files: runtimes find out so what it is */
	OP_MISC,          /* a call without lasting effect, by nr: getpid, gettid, clock_gettime, getrusage, sched_yield,
	                   * umask-free calls only; others are refused by the generator */
	OP_BATCH,         /* ask for the role's each_batch, and add size to the bytes that it writes */
	OP_MMAP,          /* mapping of size dist, anonymous or (a is 1) of file slot b, touched page by page (unless a is 2),
	                   * unmapped by the next OP_MUNMAP */
	OP_MUNMAP,
	OP_MADVISE,       /* MADV_DONTNEED on part of the arena's spare area, size dist */
	OP_FUTEX_WAKE,    /* wake of a word nobody waits on (the cost of an uncontended wake), or of a thread of the
	                   * helper role a - 1 where a is not 0 */
	OP_SLEEP,         /* nr: nanosleep or clock_nanosleep, size dist in microseconds */
	OP_NOTIFY,        /* a message of c bytes to the inbox of role a, told by nr (a send, or futex), flags b of enum
	                   * ditto_message_flags; to a role without one a write to its wake-up descriptor */
	OP_AWAIT,         /* wait until the request has come back from those it was passed to */
	OP_YIELD,         /* let the thread look for events once, without blocking, before the request goes on */
	/* Calls to other services; see struct ditto_downstream. */
	OP_SOCKET,        /* a new socket of type and flags a */
	OP_CONNECT,       /* to the address given at start */
	OP_CONNECTED,     /* wait until the connection is there, in the way of the downstream */
	OP_POLL,          /* poll that one descriptor for events a, at most b milliseconds */
	OP_CALL,          /* a request to downstream a of a class drawn from size; its first c bytes (0: all), flags b; a
	                   * connection is taken, or made by the connect program, where the slot has none */
	OP_CALL_MORE,     /* the next c bytes of it (0: the rest), flags b */
	OP_ANSWER,        /* wait for the reply and receive it to its end */
	OP_FORK,          /* a copy of the process, which runs the timers of role a (child) and ends */
};

enum ditto_message_flags {
	DITTO_MESSAGE_BRINGS = 1, /* the request passes with it, to come back */
	DITTO_MESSAGE_ONCE = 2,   /* no write is made while an earlier one is not read, and nobody woken where none waits */
	DITTO_MESSAGE_QUIET = 4,  /* sent with MSG_NOSIGNAL */
	DITTO_MESSAGE_ANSWERED = 8, /* whoever gets the request sends its reply, by OP_REPLY, and tells nobody */
};

enum ditto_op_flags {
	DITTO_DEFERRED = 1, /* run in the pass at the end of the wake-up */
	DITTO_DRAWS = 2,    /* the first of those that share a number drawn by chance: run if it lies in prob from start on */
	DITTO_DRAWN = 4,    /* another of those */
	DITTO_EVEN = 8,     /* its own draw is even: as often in each few requests of the class as in all */
	DITTO_LOG = 0x1000, /* not made where the write and sync of another request have done it: see log.c */
};

/* The second four bits of flags tell which connection an operation is for: 0 the client's, k the request's k-th to another
 * service. */
#define DITTO_LINK(k) ((k) << 4)
#define DITTO_LINK_OF(flags) ((flags) >> 4 & 15u)
#define DITTO_LINKS 8

struct ditto_op {
	uint8_t kind;
	uint16_t flags;
	uint16_t nr; /* x86-64 syscall number to use, where the kind leaves a choice */
	uint32_t prob;
	int32_t a, b, c;
	const struct ditto_dist *size;
	ditto_block_fn block;
	const struct ditto_dist *where; /* places of a read or write at an offset, hottest first, each with those before it */
	uint32_t start;
	uint32_t draw; /* which of its request's own draws: run if that lies in prob from start on; 0: none */
};

struct ditto_program {
	uint16_t n;
	const struct ditto_op *op;
};

#endif
