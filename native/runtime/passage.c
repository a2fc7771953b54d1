/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections that pass from process to process: whoever accepts sends the descriptor over a socket pair (SCM_RIGHTS) to
 * one that serves.  The pairs are made before the first fork, so that all processes have them.
 */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES 4096u

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static struct ends {
	int sends, takes;
} *pair[UINT8_MAX];
static unsigned pairs[UINT8_MAX];

/* Processes that have threads of a role. */
static unsigned processes_of(unsigned role)
{
	unsigned found = 0;

	for (unsigned p = 0; p < ditto_service.processes; p++)
		for (unsigned r = 0; r < ditto_service.process[p].roles; r++)
			if (ditto_service.process[p].role[r] == role)
				found += ditto_service.process[p].count;
	return found;
}

void passages_open(void)
{
	for (unsigned role = 0; role < ditto_service.roles && role < UINT8_MAX; role++) {
		const struct ditto_role *table = &ditto_service.role[role];
		unsigned most = table->passage.own ? processes_of(role) : 1;

		if (!table->passage.bytes || !most)
			continue;
		pair[role] = calloc(most, sizeof(**pair));
		for (; pair[role] && pairs[role] < most; pairs[role]++) {
			int ends[2];

			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
				fail("socket pair");
			if (table->kind == DITTO_ROLE_LOOP)
				fcntl(ends[1], F_SETFL, O_NONBLOCK);
			pair[role][pairs[role]] = (struct ends){ends[0], ends[1]};
		}
	}
}

int passage_end(unsigned role, unsigned instance)
{
	return role < UINT8_MAX && pairs[role] ? pair[role][instance % pairs[role]].takes : -1;
}

void passage_give(unsigned role, int fd)
{
	static _Atomic unsigned turn;
	static char message[MESSAGE_BYTES];
	union control control = {.head = {.cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = message};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

	if (role < UINT8_MAX && pairs[role]) {
		iov.iov_len = ditto_service.role[role].passage.bytes;
		if (iov.iov_len > sizeof(message))
			iov.iov_len = sizeof(message);
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		while (syscall(SYS_sendmsg, pair[role][turn++ % pairs[role]].sends, &m, MSG_NOSIGNAL) < 0 && errno == EINTR)
			;
	}
	close(fd);
}

/* The descriptor of a connection, or -1. */
static int take(const struct worker *w, int from)
{
	char message[MESSAGE_BYTES];
	union control control;
	struct iovec iov = {.iov_base = message, .iov_len = w->role->passage.bytes};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	int fd;

	if (iov.iov_len > sizeof(message))
		iov.iov_len = sizeof(message);
	if (syscall(SYS_recvmsg, from, &m, w->role->passage.flags) <= 0 || m.msg_controllen < CMSG_LEN(sizeof(fd)) ||
	    control.head.cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	return fd;
}

void passage_ready(struct worker *w)
{
	int fd;

	do {
		fd = take(w, w->notify.fd);
		if (fd >= 0)
			worker_adopt(w, fd);
	} while (fd >= 0 && w->role->passage.again);
}

void passage_main(struct worker *w)
{
	w->listener.fd = w->notify.fd; /* what serve_listen_wait looks at */
	for (;;) {
		int fd;

		serve_listen_wait(w);
		fd = take(w, w->notify.fd);
		if (fd >= 0)
			serve_connection(w, fd);
		else if (errno != EINTR)
			idle_main(w);
	}
}
