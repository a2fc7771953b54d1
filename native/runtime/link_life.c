/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to another service: its calls to the kernel, and how it is waited for.
 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

void link_unwatch(struct link *l)
{
	struct worker *w = l->worker;

	if (l->watched && w->waiter)
		w->waiter->remove(w, &l->source);
	l->watched = 0;
}

/* Receives once, a reply's beginning by the operation's call where it names one, and follows the reply.  As the call
 * itself returns. */
long link_receive(struct link *l, const struct ditto_op *op)
{
	int later = l->received && l->to->furthers;
	const struct ditto_recv *recv = later ? &l->to->further[l->received - 1] : &l->to->recv;
	struct link_pool *pool = l->worker->links;
	size_t size = recv->bytes < pool->size ? recv->bytes : pool->size;
	struct iovec iov = {.iov_base = pool->buffer, .iov_len = size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	enum frame_state state;
	long n;

	if (link_blocks(l) && !l->nonblocking)
		link_block(l);
	do {
		switch (op && !later ? op->nr : recv->nr) {
		case SYS_recvfrom:
			n = syscall(SYS_recvfrom, l->source.fd, pool->buffer, size, recv->flags, NULL, NULL);
			break;
		case SYS_recvmsg:
			n = syscall(SYS_recvmsg, l->source.fd, &message, recv->flags);
			break;
		case SYS_readv:
			n = syscall(SYS_readv, l->source.fd, &iov, 1);
			break;
		default:
			n = syscall(SYS_read, l->source.fd, pool->buffer, size);
		}
	} while (n < 0 && errno == EINTR);
	link_unblock(l);
	l->ready = n == (long)size;
	if (n > 0 && l->pending) {
		l->received += l->received < l->to->furthers;
		state = frame_feed(&l->frame, pool->buffer, (size_t)n);
		l->failed |= state == FRAME_BROKEN;
		l->pending = state == FRAME_MORE;
		if (state == FRAME_DONE)
			l->lost = l->frame.error;
	} else if (n == 0 || (n < 0 && errno != EAGAIN)) {
		l->failed = 1; /* for the next request; what has come may still be a whole reply */
		if (n == 0 && l->pending && frame_ends_with_connection(&l->frame))
			l->lost = l->frame.error;
		l->pending = 0;
	} else if (n > 0 && l->to->service->codec == DITTO_CODEC_H2) {
		l->failed |= frame_feed(&l->frame, pool->buffer, (size_t)n) == FRAME_BROKEN || l->frame.closes;
	} else if (n > 0) {
		l->failed = 1; /* nobody asked */
	}
	return n;
}

/* Waits until one of the events is there, in the way of the role.  RUN_BLOCKED: the owner is resumed then. */
enum run link_wait(struct link *l, uint32_t events)
{
	struct worker *w = l->worker;
	uint32_t now = l->watched ? l->source.events : 0, want = now | events;

	if (link_blocks(l)) {
		link_block(l);
		l->failed |= wait_descriptor(l->source.fd, (short)events, -1) != 0;
		link_unblock(l);
		return RUN_DONE;
	}
	if (!(events & EPOLLOUT) && !(now & EPOLLET))
		want &= ~(uint32_t)EPOLLOUT; /* it is writable all the time */
	if (!l->watched && w->waiter->add(w, &l->source, want)) {
		l->failed = 1;
		return RUN_DONE;
	}
	if (l->watched && want != now)
		w->waiter->modify(w, &l->source, want);
	l->watched = 1;
	l->waits = events;
	l->since = link_time_now();
	l->owner->blocked = BLOCKED_LINK;
	return RUN_BLOCKED;
}

static void link_socket(struct link *l, const struct ditto_op *op)
{
	const struct address *address = &downstream_address[l->to - ditto_service.downstream];
	int type = op->a & (SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (l->source.fd >= 0 || !address->size)
		return;
	l->source.fd = (int)syscall(SYS_socket, address->at.ss_family, SOCK_STREAM | type, 0);
	l->nonblocking = (type & SOCK_NONBLOCK) != 0;
	if (l->source.fd >= 0 && !link_blocks(l) && l->worker->waiter != &wait_epoll) /* these sets cost no call */
		l->watched = !l->worker->waiter->add(l->worker, &l->source, EPOLLIN);
}

static void link_connect(struct link *l)
{
	const struct address *address = &downstream_address[l->to - ditto_service.downstream];
	long done;

	if (!l->nonblocking)
		link_block(l);
	done = syscall(SYS_connect, l->source.fd, &address->at, address->size);
	link_unblock(l);
	if (done == 0)
		l->connected = 1;
	else if ((errno == EINPROGRESS && l->nonblocking) || errno == EINTR)
		l->connecting = 1;
	else
		l->failed = 1;
}

static void link_epoll(struct link *l, const struct ditto_op *op)
{
	struct worker *w = l->worker;

	if (w->waiter != &wait_epoll || l->to->blocking)
		return;
	if (op->kind == OP_EPOLL_DEL) {
		link_unwatch(l);
	} else if (l->watched) {
		if (l->source.events != (uint32_t)op->a) /* done already where it was needed */
			w->waiter->modify(w, &l->source, (uint32_t)op->a);
	} else {
		l->watched = !w->waiter->add(w, &l->source, (uint32_t)op->a);
	}
}

/* As long as the original waits.  Shorter times are pieces of a longer wait: it would have asked again. */
#define TIME_OUT_MS 1000

static void link_poll(struct link *l, const struct ditto_op *op)
{
	int state;

	if (op->b && !l->pending && !l->setting_up)
		return; /* its call was left out by chance: nothing would come */
	link_block(l);
	state = wait_descriptor(l->source.fd, (short)op->a, op->b);
	link_unblock(l);
	if (state == 0) {
		l->ready = (op->a & EPOLLIN) != 0;
	} else if (state == 1 && op->b >= TIME_OUT_MS && l->pending && (op->a & EPOLLIN)) {
		l->failed = 1;
		l->pending = 0;
	}
}

/* One more receive, which usually finds nothing; it never blocks. */
static void link_probe(struct link *l, const struct ditto_op *op)
{
	if (l->nonblocking)
		link_receive(l, op);
	else if (recv(l->source.fd, l->worker->links->buffer, 1, MSG_DONTWAIT | MSG_PEEK) == 0)
		l->failed = 1;
}

/* Any operation on a link but the three of a call.  RUN_BLOCKED: the same one again when its owner is resumed. */
enum run link_plain(struct link *l, const struct ditto_op *op)
{
	switch (op->kind) {
	case OP_SOCKET:
		link_socket(l, op);
		return RUN_DONE;
	case OP_CONNECT:
		if (l->source.fd >= 0 && !l->connected && !l->connecting)
			link_connect(l);
		return RUN_DONE;
	case OP_CONNECTED:
		if (!l->connecting || l->failed)
			return RUN_DONE;
		if (!l->ready && link_wait(l, EPOLLOUT) == RUN_BLOCKED)
			return RUN_BLOCKED;
		l->ready = 0;
		l->connected = 1;
		return RUN_DONE;
	case OP_POLL:
		if (l->source.fd >= 0)
			link_poll(l, op);
		return RUN_DONE;
	case OP_RECV_AGAIN:
		if (l->source.fd >= 0 && !l->failed)
			link_probe(l, op);
		return RUN_DONE;
	case OP_EPOLL_ADD:
	case OP_EPOLL_MOD:
	case OP_EPOLL_DEL:
		if (l->source.fd >= 0)
			link_epoll(l, op);
		return RUN_DONE;
	default:
		break;
	}
	if (l->source.fd < 0)
		return RUN_DONE;
	socket_op(l->source.fd, op);
	if (op->kind == OP_FCNTL && op->a == F_SETFL)
		l->nonblocking = (op->b & O_NONBLOCK) != 0;
	else if (op->kind == OP_IOCTL && (uint32_t)op->a == FIONBIO)
		l->nonblocking = op->b != 0;
	return RUN_DONE;
}
