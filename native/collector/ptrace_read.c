/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads what a call moved or named from the memory of a stopped thread; the counterpart of collect_payload.bpf.h.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"
#include "payload.h"
#include "ptrace.h"

struct user_iov {
	unsigned long long base, len;
};

struct user_msg {
	unsigned long long name, namelen, iov, iovlen, control, controllen;
};

static bool peek(pid_t tid, void *to, unsigned long long from, size_t len)
{
	struct iovec here = { to, len }, there = { (void *)from, len };

	return from && len && process_vm_readv(tid, &here, 1, &there, 1, 0) == (ssize_t)len;
}

static void copy_user(pid_t tid, struct ditto_rec *rec, unsigned long long from, unsigned long long len)
{
	if (len > DITTO_REC_PAYLOAD)
		len = DITTO_REC_PAYLOAD;
	if (peek(tid, rec->payload, from, len))
		rec->payload_len = len;
}

static void copy_path(pid_t tid, struct ditto_rec *rec, unsigned long long from)
{
	/* The string may end just before a page that is not there: take up to the page's end first. */
	size_t first = 4096 - from % 4096, got = first < DITTO_REC_PAYLOAD ? first : DITTO_REC_PAYLOAD, length;

	if (!peek(tid, rec->payload, from, got))
		return;
	length = strnlen((char *)rec->payload, got);
	if (length == got && got < DITTO_REC_PAYLOAD &&
	    peek(tid, rec->payload + got, from + got, DITTO_REC_PAYLOAD - got)) {
		got = DITTO_REC_PAYLOAD;
		length = strnlen((char *)rec->payload, got);
	}
	if (length == DITTO_REC_PAYLOAD)
		rec->payload[--length] = '\0';
	memset(rec->payload + length, 0, DITTO_REC_PAYLOAD - length);
	rec->payload_len = length + 1;
}

static void copy_vectors(pid_t tid, struct ditto_rec *rec, unsigned long long vectors, unsigned long long count,
			 unsigned long long moved)
{
	struct user_iov iov[DITTO_REC_IOVS] = { 0 };
	size_t wanted = count < DITTO_REC_IOVS ? count : DITTO_REC_IOVS;

	rec->iovcnt = count;
	if (!peek(tid, iov, vectors, wanted * sizeof(iov[0])))
		return;
	for (int i = 0; i < DITTO_REC_IOVS; i++)
		rec->iov[i] = iov[i].len;
	if (!iov[0].len && count > 1)
		iov[0] = iov[1]; /* Erlang's messages begin with an empty vector */
	copy_user(tid, rec, iov[0].base, iov[0].len < moved ? iov[0].len : moved);
}

/* Port and last four bytes of the address of one end; false if it is no TCP socket or has no such end. */
static bool end_of(int fd, bool own, unsigned long long *port, unsigned int *address)
{
	struct sockaddr_in6 name = { 0 };
	struct sockaddr_in *four = (struct sockaddr_in *)&name;
	socklen_t size = sizeof(name);

	if (own ? getsockname(fd, (struct sockaddr *)&name, &size) : getpeername(fd, (struct sockaddr *)&name, &size))
		return false;
	*port = ntohs(name.sin6_port);
	if (name.sin6_family == AF_INET)
		*address = four->sin_addr.s_addr;
	else if (name.sin6_family == AF_INET6)
		memcpy(address, name.sin6_addr.s6_addr + 12, 4);
	else
		return false;
	return true;
}

/* A descriptor of another process as one of this; -1 where that cannot be. */
static int copy_of(pid_t pid, int fd)
{
	int handle = syscall(SYS_pidfd_open, pid, 0), copy;

	if (handle < 0)
		return -1;
	copy = syscall(SYS_pidfd_getfd, handle, fd, 0);
	close(handle);
	return copy;
}

bool passes(pid_t tid, unsigned long long message, struct ditto_rec *rec)
{
	struct user_msg msg;
	struct {
		unsigned long long len;
		int level, type, first;
	} control;

	if (!peek(tid, &msg, message, sizeof(msg)) || !msg.control || msg.controllen < 16 ||
	    !peek(tid, &control, msg.control, 20) || control.level != SOL_SOCKET || control.type != SCM_RIGHTS ||
	    control.len < 20 || control.len > msg.controllen)
		return false;
	if (rec) {
		struct stat facts;
		int copy = copy_of(rec->pid, control.first);

		if (copy < 0)
			return false;
		rec->args[3] = (control.len - 16) / 4;
		rec->args[4] = control.first;
		rec->args[5] = fstat(copy, &facts) ? 0 : facts.st_ino;
		close(copy);
	}
	return true;
}

/* As fill_ends of collect_payload.bpf.h, on a copy of the descriptor. */
static void ends_read(struct ditto_rec *rec, long long fd)
{
	unsigned long long own_port = 0, other_port = 0;
	unsigned int own = 0, other = 0;
	int copy, type = 0;
	socklen_t size = sizeof(type);

	rec->args[4] = rec->args[5] = 0;
	copy = copy_of(rec->pid, (int)fd);
	if (copy < 0)
		return;
	if (!getsockopt(copy, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_STREAM &&
	    end_of(copy, true, &own_port, &own)) {
		/* A connection that is still being made has no other end to ask for yet: it was named in the call. */
		if (!end_of(copy, false, &other_port, &other) && rec->payload_len >= 8) {
			struct sockaddr_in6 name = { 0 };

			memcpy(&name, rec->payload, rec->payload_len < sizeof(name) ? rec->payload_len : sizeof(name));
			other_port = ntohs(name.sin6_port);
			memcpy(&other, name.sin6_family == AF_INET ? (char *)rec->payload + 4 :
								     (char *)name.sin6_addr.s6_addr + 12, 4);
		}
		rec->args[4] = own_port | other_port << 16 | 1ull << 32;
		rec->args[5] = own | (unsigned long long)other << 32;
	}
	close(copy);
}

void payload_read(pid_t tid, struct ditto_rec *rec)
{
	const struct ditto_pay_spec *spec = &ditto_pay[rec->nr % DITTO_NR_MAX];
	unsigned long long moved = rec->ret > 0 ? rec->ret : 0, len = 0, at = rec->args[spec->arg];
	struct user_msg msg;
	unsigned int small = 0;

	switch (spec->kind) {
	case DITTO_PAY_BUF:
		len = moved;
		break;
	case DITTO_PAY_IOV:
		copy_vectors(tid, rec, rec->args[1], rec->args[2], moved);
		return;
	case DITTO_PAY_MMSG:
		if (moved && peek(tid, &small, rec->args[1] + 56, sizeof(small)))
			rec->aux = moved = small;
		/* fall through */
	case DITTO_PAY_MSG:
		if (peek(tid, &msg, rec->args[1], sizeof(msg)))
			copy_vectors(tid, rec, msg.iov, msg.iovlen, moved);
		if (spec->kind == DITTO_PAY_MSG) {
			rec->args[3] = rec->args[4] = rec->args[5] = 0;
			if (rec->ret >= 0)
				passes(tid, at, rec);
		}
		return;
	case DITTO_PAY_CONNECT:
		len = rec->aux = rec->args[2];
		copy_user(tid, rec, at, len);
		ends_read(rec, (int)rec->args[0]);
		return;
	case DITTO_PAY_ADDR_IN:
		len = rec->aux = rec->args[2];
		break;
	case DITTO_PAY_ACCEPT:
		if (rec->ret >= 0)
			ends_read(rec, rec->ret);
		/* fall through */
	case DITTO_PAY_ADDR_OUT:
		if (rec->ret < 0 || !peek(tid, &small, rec->args[2], sizeof(small)))
			return;
		len = rec->aux = small;
		break;
	case DITTO_PAY_SENDTO:
		len = moved;
		if (rec->args[4])
			rec->aux = rec->args[5];
		break;
	case DITTO_PAY_RECVFROM:
		len = moved;
		if (rec->ret >= 0 && rec->args[4] && peek(tid, &small, rec->args[5], sizeof(small)))
			rec->aux = small;
		break;
	case DITTO_PAY_PATH:
		copy_path(tid, rec, at);
		return;
	case DITTO_PAY_EPOLL:
		rec->aux = moved;
		len = moved > 5 ? 60 : moved * 12;
		break;
	case DITTO_PAY_POLL:
		len = rec->args[1] > 8 ? 64 : rec->args[1] * 8;
		break;
	case DITTO_PAY_OPT_IN:
		len = (unsigned int)rec->args[4];
		break;
	case DITTO_PAY_OPT_OUT:
		if (rec->ret < 0 || !peek(tid, &small, rec->args[4], sizeof(small)))
			return;
		len = small;
		break;
	case DITTO_PAY_FIXED:
		len = spec->len;
		break;
	default:
		return;
	}
	copy_user(tid, rec, at, len);
}

/* The first bytes of a message in several vectors, one behind the other; how many. */
static size_t gather(pid_t tid, const struct user_msg *msg, unsigned char *to, size_t room)
{
	size_t total = 0;

	for (unsigned long long i = 0; i < msg->iovlen && total < room; i++) {
		struct user_iov iov;
		size_t n;

		if (!peek(tid, &iov, msg->iov + i * sizeof(iov), sizeof(iov)))
			break;
		n = iov.len < room - total ? iov.len : room - total;
		if (n && !peek(tid, to + total, iov.base, n))
			break;
		total += n;
	}
	return total;
}

bool payload_more(pid_t tid, const struct ditto_rec *call, unsigned int part, struct ditto_rec *rec)
{
	const struct ditto_pay_spec *spec = &ditto_pay[call->nr % DITTO_NR_MAX];
	unsigned char whole[DITTO_REC_PAYLOAD * (DITTO_REC_MORE_MAX + 1)];
	unsigned long long moved = call->ret > 0 ? call->ret : 0, at = part * DITTO_REC_PAYLOAD;
	struct user_iov first = { call->args[1], moved };
	struct user_msg msg;

	switch (spec->kind) {
	case DITTO_PAY_MSG:
		if (!peek(tid, &msg, call->args[1], sizeof(msg)) || !peek(tid, &first, msg.iov, sizeof(first)))
			return false;
		if (msg.iovlen > 1) {
			size_t total = gather(tid, &msg, whole, sizeof(whole)), n;

			total = total < moved ? total : moved;
			at = call->payload_len + (part - 1) * DITTO_REC_PAYLOAD;
			if (!call->payload_len || at >= total)
				return false;
			n = total - at < DITTO_REC_PAYLOAD ? total - at : DITTO_REC_PAYLOAD;
			memcpy(rec->payload, whole + at, n);
			rec->payload_len = n;
			return true;
		}
		break;
	case DITTO_PAY_IOV:
		if (!peek(tid, &first, call->args[1], sizeof(first)))
			return false;
		break;
	case DITTO_PAY_BUF:
	case DITTO_PAY_SENDTO:
	case DITTO_PAY_RECVFROM:
		break;
	default:
		return false;
	}
	if (first.len > moved)
		first.len = moved;
	if (call->payload_len < DITTO_REC_PAYLOAD || at >= first.len)
		return false;
	copy_user(tid, rec, first.base + at, first.len - at);
	return rec->payload_len > 0;
}

bool thread_facts(pid_t tid, pid_t *pid, pid_t *parent, char comm[16])
{
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	*pid = *parent = 0;
	memset(comm, 0, 16);
	while (fgets(line, sizeof(line), file)) {
		sscanf(line, "Tgid: %d", pid);
		sscanf(line, "PPid: %d", parent);
		sscanf(line, "Name: %15[^\n]", comm);
	}
	fclose(file);
	return *pid != 0;
}
