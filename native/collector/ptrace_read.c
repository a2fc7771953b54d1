/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads what a call moved or named from the memory of a stopped thread; the counterpart of collect_payload.bpf.h.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "common.h"
#include "payload.h"
#include "ptrace.h"

struct user_iov {
	unsigned long long base, len;
};

struct user_msg {
	unsigned long long name, namelen, iov, iovlen;
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
	copy_user(tid, rec, iov[0].base, iov[0].len < moved ? iov[0].len : moved);
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
			moved = small;
		/* fall through */
	case DITTO_PAY_MSG:
		if (peek(tid, &msg, rec->args[1], sizeof(msg)))
			copy_vectors(tid, rec, msg.iov, msg.iovlen, moved);
		return;
	case DITTO_PAY_ADDR_IN:
		len = rec->aux = rec->args[2];
		break;
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
