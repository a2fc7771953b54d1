/* SPDX-License-Identifier: Apache-2.0
 *
 * Receiving by the receive policy, and taking requests out of what came.
 */
#include "runtime.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static const struct codec *codec;

void conn_setup(void)
{
	codec = codec_by_id(ditto_service.codec);
}

void conn_forget(struct conn *c)
{
	if (codec->end)
		codec->end(&c->codec);
}

void conn_greet(struct conn *c)
{
	if (!codec->greet || c->dead)
		return;
	codec->greet(&c->codec, &c->out, &c->worker->rng);
	send_until(c, out_end(&c->out), NULL);
}

/* Bytes that a receive asks for.  One more than the original does of a rest: where that comes whole, the receive was not
 * filled, and none has to follow to find that there is nothing more. */
static uint32_t asked(const struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;

	return recv->rest && c->begun ? recv->rest + 1 : recv->bytes;
}

/* Room for a receive: the whole of what it asks for, or what a long unfinished head leaves. */
static int in_room(struct conn *c)
{
	const uint32_t ask = asked(c), least = ask == ditto_service.recv.bytes ? ask / 2 : ask;
	uint32_t kept = c->in_end - c->in_start, capacity;
	uint8_t *in;

	if (c->in && kept == 0 && c->in_cap >= least) {
		c->in_start = c->in_end = 0;
		return 0;
	}
	if (c->in && c->in_cap - c->in_end >= ask)
		return 0;
	if (c->in && c->in_cap - kept >= least && c->in_cap > kept) {
		memmove(c->in, c->in + c->in_start, kept);
		c->in_start = 0;
		c->in_end = kept;
		return 0;
	}
	if (c->backlog && c->in)
		return -1; /* requests wait here already */
	in = (uint8_t *)pool_wake(&c->worker->pool, POOL_IN, (size_t)kept + ask, &capacity);
	if (!in)
		return -1;
	if (c->in) {
		memcpy(in, c->in + c->in_start, kept);
		pool_put(&c->worker->pool, c->in, c->in_cap);
	}
	c->in = in;
	c->in_cap = capacity;
	c->in_start = 0;
	c->in_end = kept;
	return 0;
}

/* Of servers that receive part by part: bytes to ask for; 0: as many as come. */
static uint32_t part_wanted(const struct conn *c)
{
	uint32_t kept = c->in_end - c->in_start, head = ditto_service.recv.head, more;

	if (!head)
		return 0;
	if (kept == head && ditto_service.recv.second)
		return ditto_service.recv.second;
	more = codec->wants ? codec->wants(&c->codec, c->in + c->in_start, kept) : 0;
	return more || kept ? more : head;
}

static int within_request(const struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	uint32_t kept = c->in_end - c->in_start;

	if (!recv->head)
		return 0;
	return codec->wants ? codec->wants(&c->codec, c->in + c->in_start, kept) > 0
			    : kept == recv->head || kept == recv->head + recv->second;
}

/* Receives of what was only looked at (MSG_PEEK): left there, it would be a new request for ever, and reset the connection
 * at its end. */
static ssize_t take_peeked(int fd, uint8_t *to, size_t n)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	const uint8_t *end = recv->lines ? memchr(to, '\n', n) : NULL;

	return syscall(SYS_recvfrom, fd, to, end ? (size_t)(end + 1 - to) : n, recv->flags & ~MSG_PEEK, NULL, NULL);
}

int conn_receive_once(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;
	int fd = c->source.fd;
	struct iovec iov;
	struct msghdr message;
	uint32_t part;
	ssize_t n;

	if (in_room(c))
		return -2;
	iov.iov_base = c->in + c->in_end;
	iov.iov_len = c->in_cap - c->in_end;
	if (iov.iov_len > asked(c))
		iov.iov_len = asked(c);
	part = part_wanted(c);
	if (part && iov.iov_len > part)
		iov.iov_len = part;
	do {
		switch (recv->nr) {
		case SYS_recvfrom:
			n = syscall(SYS_recvfrom, fd, iov.iov_base, iov.iov_len, recv->flags, NULL, NULL);
			break;
		case SYS_recvmsg:
			message = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
			n = syscall(SYS_recvmsg, fd, &message, recv->flags);
			break;
		case SYS_readv:
			n = syscall(SYS_readv, fd, &iov, 1);
			break;
		default:
			n = syscall(SYS_read, fd, iov.iov_base, iov.iov_len);
		}
	} while (n < 0 && errno == EINTR);
	if (n > 0 && (recv->flags & MSG_PEEK) && recv->nr == SYS_recvfrom)
		n = take_peeked(fd, iov.iov_base, (size_t)n);
	c->drained = n < 0 && errno == EAGAIN;
	if (n > 0)
		c->in_end += (uint32_t)n;
	else if (c->in_start == c->in_end)
		conn_in_release(c);
	/* that a part came whole tells nothing of what is behind it */
	c->filled = n > 0 && (size_t)n == iov.iov_len && (!part || c->edge);
	return (int)n;
}

static int closes_after(struct conn *c, int cls)
{
	uint32_t chance = ditto_service.cls[cls].closes;

	return chance && (chance == DITTO_ALWAYS || rng_u32(&c->worker->rng) < chance);
}

/* Takes complete requests out of the buffer until it needs more, or too much is waiting already. */
static void take_requests(struct conn *c)
{
	struct request request;
	enum codec_step step;
	size_t used;

	c->backlog = 0;
	while (c->in_start < c->in_end && !c->closing) {
		if (out_bytes(&c->out) > OUT_HIGH || (uint32_t)(c->job_tail - c->job_head) >= JOBS_HIGH) {
			c->backlog = 1;
			return;
		}
		request.note_len = 0;
		step = codec->parse(&c->codec, c->in + c->in_start, c->in_end - c->in_start, &used, &request);
		c->in_start += (uint32_t)used;
		c->begun = step == CODEC_MORE;
		if (c->begun)
			break;
		if (request.cls != DITTO_NONE && closes_after(c, request.cls))
			request.flags |= REQ_CLOSE;
		if (step == CODEC_FATAL || (request.flags & REQ_CLOSE))
			c->closing = 1;
		if (request.flags & REQ_MALFORMED)
			worker_block(c->worker, ditto_service.on_error);
		if (request.flags & REQ_INTERIM) {
			struct reply_parts parts;

			codec->reply(&request, &c->out, &c->worker->rng, &parts);
			continue;
		}
		if (job_add(c, &request)) {
			conn_close(c);
			return;
		}
	}
	if (c->closing)
		c->in_start = c->in_end;
	if (c->in_start == c->in_end && !c->peer)
		conn_in_release(c);
}

/* Requests in the buffer, as far as they can be taken. */
void conn_process(struct conn *c)
{
	do {
		take_requests(c);
		if (c->dead || conn_run(c, 1) != RUN_DONE)
			return;
	} while (c->backlog && c->job_head == c->job_tail && !out_bytes(&c->out));
}

void conn_take_more(struct conn *c)
{
	while (c->more && !c->dead && !c->blocked) {
		c->more = 0;
		conn_process(c);
	}
}

void conn_receive(struct conn *c)
{
	const struct ditto_recv *recv = &ditto_service.recv;

	for (;;) {
		int n;

		c->readable = 0;
		n = conn_receive_once(c);
		if (n == -2) { /* no room: later */
			c->readable = 1;
			return;
		}
		if (n < 0) {
			if (errno != EAGAIN)
				conn_close(c);
			return;
		}
		if (n == 0) {
			c->eof = 1;
			return;
		}
		c->more = 1;
		conn_take_more(c);
		if (c->dead || c->closing || c->eof)
			return;
		if (c->blocked || c->backlog) {
			/* after a short receive, what comes is reported anew */
			c->readable = (c->edge && (c->filled || c->hung_up || recv->until_again)) || !c->worker->waiter;
			return;
		}
		if (recv->until_again || within_request(c))
			continue;
		if ((recv->until_short || c->edge || (recv->rest && c->begun)) && c->filled)
			continue;
		if (c->edge && c->hung_up) /* its end is to be read, and will not be reported again */
			continue;
		return;
	}
}
