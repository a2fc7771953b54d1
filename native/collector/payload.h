/* SPDX-License-Identifier: Apache-2.0 OR (GPL-2.0-only OR BSD-2-Clause)
 *
 * What each system call leaves in a record's payload, and which calls are hot (left out in STRUCTURE mode).
 * One table for both collectors, so that their recordings cannot drift apart.
 */
#ifndef DITTO_PAYLOAD_H
#define DITTO_PAYLOAD_H

#include <asm/unistd.h>

#define DITTO_NR_MAX 512 /* a power of two: the index is masked */

enum ditto_pay_kind {
	DITTO_PAY_NONE = 0,
	DITTO_PAY_BUF,      /* ret bytes at args[arg] */
	DITTO_PAY_IOV,      /* ret bytes over the vectors at args[1], args[2] of them */
	DITTO_PAY_MSG,      /* ret bytes over the msghdr at args[1], and the descriptors that pass with them in args[3] to
	                     * args[5]; for the mmsg calls, its first message */
	DITTO_PAY_MMSG,
	DITTO_PAY_ADDR_IN,  /* a sockaddr of args[2] bytes at args[1] */
	DITTO_PAY_ADDR_OUT, /* a sockaddr at args[1], its length behind args[2] */
	DITTO_PAY_SENDTO,   /* the bytes; aux: the length of the address at args[4], if there is one */
	DITTO_PAY_RECVFROM, /* the same, the length behind args[5] */
	DITTO_PAY_PATH,     /* a string at args[arg] */
	DITTO_PAY_EPOLL,    /* ret events of 12 bytes at args[1] */
	DITTO_PAY_POLL,     /* args[1] entries of 8 bytes at args[0] */
	DITTO_PAY_OPT_IN,   /* args[4] bytes at args[3] */
	DITTO_PAY_OPT_OUT,  /* as many bytes at args[3] as args[4] points at says */
	DITTO_PAY_FIXED,    /* len bytes at args[arg] */
	DITTO_PAY_CONNECT,  /* as ADDR_IN, and the ends of the connection in args[4] and args[5] */
	DITTO_PAY_ACCEPT,   /* as ADDR_OUT, and the ends of the new connection there */
};

struct ditto_pay_spec {
	unsigned char kind;
	unsigned char arg;
	unsigned char len;
	unsigned char hot; /* DITTO_HOT_UNLESS_PASSING: but for those calls that pass descriptors */
};

#define DITTO_HOT_UNLESS_PASSING 2

#define PAY(k, a, l, h) { DITTO_PAY_##k, a, l, h }

static const struct ditto_pay_spec ditto_pay[DITTO_NR_MAX] = {
	[__NR_read] = PAY(BUF, 1, 0, 1),
	[__NR_write] = PAY(BUF, 1, 0, 1),
	[__NR_pread64] = PAY(BUF, 1, 0, 1),
	[__NR_pwrite64] = PAY(BUF, 1, 0, 1),
	[__NR_readv] = PAY(IOV, 1, 0, 1),
	[__NR_writev] = PAY(IOV, 1, 0, 1),
	[__NR_preadv] = PAY(IOV, 1, 0, 1),
	[__NR_pwritev] = PAY(IOV, 1, 0, 1),
	[__NR_preadv2] = PAY(IOV, 1, 0, 1),
	[__NR_pwritev2] = PAY(IOV, 1, 0, 1),
	[__NR_sendmsg] = PAY(MSG, 1, 0, DITTO_HOT_UNLESS_PASSING),
	[__NR_recvmsg] = PAY(MSG, 1, 0, DITTO_HOT_UNLESS_PASSING),
	[__NR_sendmmsg] = PAY(MMSG, 1, 0, 1),
	[__NR_recvmmsg] = PAY(MMSG, 1, 0, 1),
	[__NR_sendto] = PAY(SENDTO, 1, 0, 1),
	[__NR_recvfrom] = PAY(RECVFROM, 1, 0, 1),
	[__NR_sendfile] = PAY(FIXED, 2, 8, 1),

	[__NR_epoll_wait] = PAY(EPOLL, 1, 0, 1),
	[__NR_epoll_pwait] = PAY(EPOLL, 1, 0, 1),
	[__NR_epoll_pwait2] = PAY(EPOLL, 1, 0, 1),
	[__NR_poll] = PAY(POLL, 0, 0, 1),
	[__NR_ppoll] = PAY(POLL, 0, 0, 1),
	[__NR_select] = PAY(FIXED, 1, 64, 1),
	[__NR_pselect6] = PAY(FIXED, 1, 64, 1),
	[__NR_futex] = PAY(NONE, 0, 0, 1),
	[__NR_io_uring_enter] = PAY(NONE, 0, 0, 1),
	[__NR_io_getevents] = PAY(NONE, 0, 0, 1),
	[__NR_sched_yield] = PAY(NONE, 0, 0, 1),
	[__NR_clock_gettime] = PAY(NONE, 0, 0, 1),
	[__NR_gettimeofday] = PAY(NONE, 0, 0, 1),
	[__NR_time] = PAY(NONE, 0, 0, 1),

	[__NR_accept] = PAY(ACCEPT, 1, 0, 0),
	[__NR_accept4] = PAY(ACCEPT, 1, 0, 0),
	[__NR_getpeername] = PAY(ADDR_OUT, 1, 0, 0),
	[__NR_getsockname] = PAY(ADDR_OUT, 1, 0, 0),
	[__NR_connect] = PAY(CONNECT, 1, 0, 0),
	[__NR_bind] = PAY(ADDR_IN, 1, 0, 0),
	[__NR_setsockopt] = PAY(OPT_IN, 3, 0, 0),
	[__NR_getsockopt] = PAY(OPT_OUT, 3, 0, 0),
	[__NR_ioctl] = PAY(FIXED, 2, 4, 0),
	[__NR_epoll_ctl] = PAY(FIXED, 3, 12, 0),
	[__NR_nanosleep] = PAY(FIXED, 0, 16, 0),
	[__NR_clock_nanosleep] = PAY(FIXED, 2, 16, 0),
	[__NR_timerfd_settime] = PAY(FIXED, 2, 32, 0),
	[__NR_pipe] = PAY(FIXED, 0, 8, 0),
	[__NR_pipe2] = PAY(FIXED, 0, 8, 0),
	[__NR_socketpair] = PAY(FIXED, 3, 8, 0),

	[__NR_open] = PAY(PATH, 0, 0, 0),
	[__NR_creat] = PAY(PATH, 0, 0, 0),
	[__NR_openat] = PAY(PATH, 1, 0, 0),
	[__NR_openat2] = PAY(PATH, 1, 0, 0),
	[__NR_stat] = PAY(PATH, 0, 0, 0),
	[__NR_lstat] = PAY(PATH, 0, 0, 0),
	[__NR_newfstatat] = PAY(PATH, 1, 0, 0),
	[__NR_statx] = PAY(PATH, 1, 0, 0),
	[__NR_statfs] = PAY(PATH, 0, 0, 0),
	[__NR_access] = PAY(PATH, 0, 0, 0),
	[__NR_faccessat] = PAY(PATH, 1, 0, 0),
	[__NR_faccessat2] = PAY(PATH, 1, 0, 0),
	[__NR_readlink] = PAY(PATH, 0, 0, 0),
	[__NR_readlinkat] = PAY(PATH, 1, 0, 0),
	[__NR_truncate] = PAY(PATH, 0, 0, 0),
	[__NR_chdir] = PAY(PATH, 0, 0, 0),
	[__NR_mkdir] = PAY(PATH, 0, 0, 0),
	[__NR_mkdirat] = PAY(PATH, 1, 0, 0),
	[__NR_rmdir] = PAY(PATH, 0, 0, 0),
	[__NR_unlink] = PAY(PATH, 0, 0, 0),
	[__NR_unlinkat] = PAY(PATH, 1, 0, 0),
	[__NR_rename] = PAY(PATH, 0, 0, 0),
	[__NR_renameat] = PAY(PATH, 1, 0, 0),
	[__NR_renameat2] = PAY(PATH, 1, 0, 0),
	[__NR_chmod] = PAY(PATH, 0, 0, 0),
	[__NR_chown] = PAY(PATH, 0, 0, 0),
	[__NR_execve] = PAY(PATH, 0, 0, 0),
};

#undef PAY
#endif
