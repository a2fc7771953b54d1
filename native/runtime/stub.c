/* SPDX-License-Identifier: Apache-2.0
 *
 * A stand-in for a service that the clone calls: it knows the requests that the clone makes, and answers each with a
 * reply of the size, and after the time, that were observed.  It computes nothing.
 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INPUT 65536u
#define EVENTS 256
#define SOON_US 40 /* a reply that is due within this leaves at once: waking up takes as long */

struct caller {
	int fd;
	uint8_t closing, writing, dead;
	struct codec_state codec;
	struct outbuf out;
	uint8_t *in;
	uint32_t in_end;
	uint64_t due;         /* when the reply leaves; 0: nothing is waiting */
	uint32_t at;          /* place in the heap */
	struct caller *next;  /* dead: to be freed */
};

static struct pool pool;
static struct rng rng;
static const struct codec *codec;
static const struct ditto_downstream *self;
static int set = -1;

/* Callers by the time their reply is due, the first on top. */
static struct caller **heap;
static uint32_t heap_n, heap_cap;
static struct caller *dead;

static void place(uint32_t at, struct caller *c)
{
	heap[at] = c;
	c->at = at;
}

static void sift(uint32_t at, struct caller *c)
{
	while (at && heap[(at - 1) / 2]->due > c->due) {
		place(at, heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	for (uint32_t child = 2 * at + 1; child < heap_n; child = 2 * at + 1) {
		if (child + 1 < heap_n && heap[child + 1]->due < heap[child]->due)
			child++;
		if (heap[child]->due >= c->due)
			break;
		place(at, heap[child]);
		at = child;
	}
	place(at, c);
}

static void heap_add(struct caller *c)
{
	if (heap_n == heap_cap) {
		heap_cap = heap_cap ? 2 * heap_cap : 256;
		heap = realloc(heap, heap_cap * sizeof(*heap));
		if (!heap)
			fail("memory of a stand-in");
	}
	sift(heap_n++, c);
}

static void heap_remove(struct caller *c)
{
	struct caller *last = heap[--heap_n];

	if (last != c)
		sift(c->at, last);
	c->due = 0;
}

static void hang_up(struct caller *c)
{
	if (c->dead)
		return;
	if (c->due)
		heap_remove(c);
	close(c->fd);
	c->dead = 1;
	c->next = dead;
	dead = c;
}

static void watch(struct caller *c, int how, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	epoll_ctl(set, how, c->fd, &event);
}

/* Sends what there is, as far as the caller takes it. */
static void send_reply(struct caller *c)
{
	while (c->out.start < c->out.end) {
		ssize_t n = send(c->fd, c->out.buf + c->out.start, c->out.end - c->out.start, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			if (!c->writing)
				watch(c, EPOLL_CTL_MOD, EPOLLOUT);
			c->writing = 1;
			return;
		}
		if (n < 0) {
			hang_up(c);
			return;
		}
		c->out.start += (uint32_t)n;
	}
	out_reset(&c->out);
	if (c->writing)
		watch(c, EPOLL_CTL_MOD, EPOLLIN);
	c->writing = 0;
	if (c->closing)
		hang_up(c);
}

static void answer(struct caller *c, struct request *request)
{
	const struct ditto_service *service = self->service;
	struct reply_parts parts = {.lent = NULL};
	uint32_t delay = 0;

	request->file_body = DITTO_NONE;
	request->drawn = 0;
	request->may_lend = 0;
	if (request->cls != DITTO_NONE) {
		delay = dist_draw(self->call[request->cls].delay_us, &rng, 0);
		if (rng_chance(&rng, service->cls[request->cls].closes) && service->cls[request->cls].closes)
			request->flags |= REQ_CLOSE;
	}
	codec->reply(request, &c->out, &rng, &parts);
	c->closing |= (request->flags & REQ_CLOSE) != 0;
	if (c->out.failed) {
		hang_up(c);
	} else if (delay > SOON_US) {
		c->due = now_ns() + (uint64_t)delay * 1000;
		heap_add(c);
	} else {
		send_reply(c);
	}
}

static void take_requests(struct caller *c)
{
	uint32_t at = 0;

	while (at < c->in_end && !c->due && !c->writing && !c->closing && !c->dead) {
		struct request request;
		size_t used;
		enum codec_step step;

		request.note_len = 0;
		step = codec->parse(&c->codec, c->in + at, c->in_end - at, &used, &request);
		at += (uint32_t)used;
		if (step == CODEC_MORE)
			break;
		if (step == CODEC_FATAL)
			request.flags |= REQ_CLOSE;
		answer(c, &request);
	}
	if (c->dead)
		return;
	memmove(c->in, c->in + at, c->in_end - at);
	c->in_end -= at;
}

static void receive(struct caller *c)
{
	ssize_t n;

	if (c->in_end == INPUT) {
		if (!c->due && !c->writing)
			hang_up(c); /* no request of the clone has such a head */
		return;
	}
	n = recv(c->fd, c->in + c->in_end, INPUT - c->in_end, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		hang_up(c);
		return;
	}
	c->in_end += n > 0 ? (uint32_t)n : 0;
	take_requests(c);
}

static void accept_all(int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct caller *c = calloc(1, sizeof(*c));

		if (!c || !(c->in = malloc(INPUT))) {
			free(c);
			close(fd);
			continue;
		}
		c->fd = fd;
		c->out.pool = &pool;
		watch(c, EPOLL_CTL_ADD, EPOLLIN);
		if (codec->greet) {
			codec->greet(&c->codec, &c->out, &rng);
			send_reply(c);
		}
	}
}

static void send_due(void)
{
	uint64_t now = heap_n ? now_ns() : 0;

	while (heap_n && heap[0]->due <= now + SOON_US * 1000) {
		struct caller *c = heap[0];

		heap_remove(c);
		send_reply(c);
		if (!c->dead)
			take_requests(c);
	}
}

static int wait_events(struct epoll_event *events)
{
	struct timespec left = {0, 0};
	uint64_t now;
	int n;

	if (!heap_n)
		return epoll_wait(set, events, EVENTS, -1);
	now = now_ns();
	if (heap[0]->due > now) {
		left.tv_sec = (time_t)((heap[0]->due - now) / 1000000000u);
		left.tv_nsec = (long)((heap[0]->due - now) % 1000000000u);
	}
	n = (int)syscall(SYS_epoll_pwait2, set, events, EVENTS, &left, NULL, 8);
	if (n < 0 && errno == ENOSYS) /* before Linux 5.11: to the millisecond */
		n = epoll_wait(set, events, EVENTS, (int)(left.tv_sec * 1000 + left.tv_nsec / 1000000));
	return n;
}

void stub_serve(unsigned downstream, int listener)
{
	struct epoll_event events[EVENTS];
	struct caller accepting = {.fd = listener};

	self = &ditto_service.downstream[downstream];
	codec = codec_by_id(self->service->codec);
	codec->setup(self->service);
	rng_seed(&rng, options.seed ^ rng_mix(downstream + 1));
	set = epoll_create1(EPOLL_CLOEXEC);
	if (set < 0)
		fail("wait set of a stand-in");
	fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
	watch(&accepting, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int n = wait_events(events);

		for (int i = 0; i < n; i++) {
			struct caller *c = events[i].data.ptr;

			if (c == &accepting)
				accept_all(listener);
			else if (!c->dead && c->writing)
				send_reply(c);
			else if (!c->dead)
				receive(c);
			if (c != &accepting && !c->dead && !c->writing && !c->due && c->in_end)
				take_requests(c);
		}
		send_due();
		while (dead) {
			struct caller *c = dead;

			dead = c->next;
			if (codec->end)
				codec->end(&c->codec);
			out_release(&c->out);
			free(c->in);
			free(c);
		}
	}
}
