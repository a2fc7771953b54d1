/* SPDX-License-Identifier: Apache-2.0 OR (GPL-2.0-only OR BSD-2-Clause)
 *
 * The record that both collectors (eBPF and ptrace) write, one after the other, to a native recording.
 *
 * File layout, little endian:
 *   struct ditto_rec_header            once
 *   struct ditto_rec                   until end of file
 * src/ditto/artifacts/records.py reads the same layout with a numpy dtype; a test compares sizes and offsets.
 * Change DITTO_REC_VERSION with any change here.
 */
#ifndef DITTO_RECORD_H
#define DITTO_RECORD_H

#ifndef __VMLINUX_H__
#include <stdint.h>
typedef uint8_t ditto_u8;
typedef uint16_t ditto_u16;
typedef uint32_t ditto_u32;
typedef uint64_t ditto_u64;
typedef int64_t ditto_s64;
#else
typedef __u8 ditto_u8;
typedef __u16 ditto_u16;
typedef __u32 ditto_u32;
typedef __u64 ditto_u64;
typedef __s64 ditto_s64;
#endif

#define DITTO_REC_MAGIC 0x43455244u /* "DREC" */
#define DITTO_REC_VERSION 1u
#define DITTO_REC_PAYLOAD 64
#define DITTO_REC_IOVS 4
#define DITTO_REC_MORE_MAX 3

enum ditto_rec_kind {
	DITTO_REC_SYSCALL = 1, /* one call, written when it returned */
	DITTO_REC_BIRTH = 2,   /* pid/tid: the new task; args[0] parent tid (0: it ran before the recording),
				  args[1] parent pid, args[2] clone flags or 0; payload: its name (16 bytes) */
	DITTO_REC_EXIT = 3,    /* pid/tid ended; ret: exit code where known; args[0]: the signal that killed it, or 0 */
	DITTO_REC_EXEC = 4,    /* pid ran a new program; payload: first bytes of its file name */
	DITTO_REC_FAULT = 5,   /* args[0]: page faults of this thread since its last FAULT record, as getrusage
				  counts them; args[1]: of these, major ones */
	DITTO_REC_BLOCK = 6,   /* block I/O issued: args[0] bytes, args[1] 1 for write, args[2] nanoseconds to completion or 0 */
	DITTO_REC_MARK = 7,    /* the recorder changed mode; nr: new mode */
	DITTO_REC_MORE = 8,    /* with --more N: the next bytes, in payload, of what the thread's last call moved (first
				  vector; of a message all, one behind the other); up to N records a call, each but the
				  last full, and one more behind a first vector that does not fill its payload */
	/* BIRTH, EXIT and EXEC are recorded in every mode.  A call in flight when it began to be seen (at a MARK or the
	 * BIRTH of its thread) is recorded at its return with wall_ns counted from then: t_ns - wall_ns is that moment.
	 * A result of -512 to -516 is the kernel's own: the call was interrupted and is made again. */
};

enum ditto_rec_mode {
	DITTO_MODE_OFF = 0,
	DITTO_MODE_STRUCTURE = 1, /* all but the hot calls (read, write, send*, recv*, waits, futex): set-up is seen cheaply */
	DITTO_MODE_ALL = 2,
};

struct ditto_rec_header {
	ditto_u32 magic;
	ditto_u32 version;
	ditto_u32 record_size;  /* sizeof(struct ditto_rec) */
	ditto_u32 clock_id;     /* CLOCK_MONOTONIC (1) */
	ditto_u64 start_ns;     /* when the recording began */
	char collector[16];     /* "ebpf" or "ptrace", zero padded */
};

struct ditto_rec {
	ditto_u64 t_ns;    /* when the call returned (CLOCK_MONOTONIC) */
	ditto_u64 wall_ns; /* from entry to return */
	ditto_u64 cpu_ns;  /* of that, time on a CPU; equal to wall_ns if the thread was never switched out; ptrace: 0 */
	ditto_s64 ret;     /* result, or -errno */
	ditto_u64 args[6];
	ditto_u64 run_ns;  /* the thread's CPU time since it was first seen, at t_ns; ptrace: 0 */
	ditto_u32 pid;     /* process (thread group) */
	ditto_u32 tid;
	ditto_u16 kind;    /* enum ditto_rec_kind */
	ditto_u16 nr;      /* x86-64 syscall number */
	ditto_u32 nvcsw;   /* the thread's voluntary switches since first seen, at t_ns */
	ditto_u32 nivcsw;  /* and involuntary ones */
	ditto_u32 iovcnt;  /* readv/writev/sendmsg/recvmsg: number of vectors, else 0 */
	ditto_u32 iov[DITTO_REC_IOVS]; /* lengths of the first vectors */
	ditto_u32 payload_len; /* bytes used in payload */
	ditto_u32 aux;     /* epoll_wait: max events are args[2]; here the events returned of listed payload; accept: address length */
	/* What payload holds, by call:
	 *   read, recv*, write, send*, readv, writev, sendmsg, recvmsg, pread*, pwrite*: the first bytes moved (first vector)
	 *   accept*, connect of TCP: args[4] is the socket's own port | the other's << 16 | 1 << 32, args[5] its own address |
	 *     the other's << 32 (the last four bytes of each, as they are in memory); args[4] is 0 for other sockets
	 *   sendmsg, recvmsg: args[3] is the number of descriptors that passed with the message (SCM_RIGHTS), args[4] the
	 *     first of them as this process has it, args[5] the inode of what it stands for, the same for both sides
	 *   accept*, connect, bind, getpeername, getsockname, sendto/recvfrom with address on UDP: the sockaddr
	 *   open*, stat-like calls with a path: the first bytes of the path
	 *   epoll_wait/pwait: the returned struct epoll_event (12 bytes each), as many as fit; epoll_ctl: its struct epoll_event
	 *   poll: the struct pollfd (8 bytes each), as many as fit
	 *   setsockopt, getsockopt: the option value; nanosleep, clock_nanosleep, timerfd_settime: the timespec/itimerspec
	 *   pipe*, socketpair: the two descriptors; ioctl: the first 4 bytes behind args[2], if it is an address
	 *   sendfile: the offset (8 bytes) after the call, if one was given; select, pselect6: the set of readable ones
	 *   sendmmsg, recvmmsg: aux is the bytes of the first message, as the payload is
	 *   sendto, recvfrom: aux is the address length if payload is the address, else 0
	 */
	ditto_u8 payload[DITTO_REC_PAYLOAD];
};

#endif
