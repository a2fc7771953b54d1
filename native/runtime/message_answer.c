/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies that the thread sends which a request was passed to.  It only reads what its own thread has made ready, and leaves
 * the connection alone after that: its own thread finds out when the client's next request comes.
 */
#include "message.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* What conn.answer says. */
enum { ANSWER_NONE = 0, ANSWER_WANTED, ANSWER_SENT_NOW, ANSWER_SENT };

void message_want_answer(struct conn *c, struct job *job)
{
	send_own(c, job);
	c->answered = (uint32_t)(job->end - out_sent(&c->out));
	c->answer_head = job->length == c->answered && job->head < job->length ? job->head : 0;
	c->answer_sent = 0;
	atomic_store(&c->answer, ANSWER_WANTED);
}

void message_answer(struct worker *w, const struct ditto_op *op)
{
	struct conn *c = w->passed;
	struct iovec iov;
	uint32_t sent, most;
	size_t part;
	long n;
	int last;

	if (!c || atomic_load(&c->answer) != ANSWER_WANTED)
		return;
	last = !op->a || !c->answer_head;
	most = last ? c->answered : c->answer_head;
	sent = c->answer_sent;
	if (last) {
		w->passed = NULL;
		atomic_store(&c->answer, ANSWER_SENT_NOW);
	}
	do {
		part = most - sent;
		iov.iov_base = out_span(&c->out, sent, &part);
		iov.iov_len = part;
		if (op->nr == SYS_sendto)
			n = syscall(SYS_sendto, c->source.fd, iov.iov_base, iov.iov_len, MSG_NOSIGNAL, NULL, 0);
		else if (op->nr == SYS_writev)
			n = syscall(SYS_writev, c->source.fd, &iov, 1);
		else
			n = syscall(SYS_write, c->source.fd, iov.iov_base, iov.iov_len);
		if (n > 0)
			sent += (uint32_t)n;
		else if (errno != EAGAIN || wait_descriptor(c->source.fd, POLLOUT, -1))
			break;
	} while (sent < most);
	if (!last) {
		c->answer_head = 0;
		c->answer_sent = sent;
		return;
	}
	c->answered = sent; /* an error is its own thread's */
	atomic_store(&c->answer, ANSWER_SENT);
}

int message_answered(struct conn *c)
{
	if (atomic_load(&c->answer) == ANSWER_NONE)
		return 1;
	if (atomic_load(&c->answer) == ANSWER_WANTED)
		return 0;
	while (atomic_load(&c->answer) != ANSWER_SENT) /* its client was faster than the return of the send */
		__builtin_ia32_pause();
	out_took(&c->out, c->answered);
	atomic_store(&c->answer, ANSWER_NONE);
	c->passed = 0;
	return 1;
}
