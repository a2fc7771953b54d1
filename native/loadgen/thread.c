/* SPDX-License-Identifier: Apache-2.0 */
#include "thread.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fail.h"
#include "run.h"

#define EVENTS 256
#define LOOK_NS 3500 /* how long a closed loop looks for replies before it sleeps */
#define GATHER_FROM 8 /* requests under way from which on it lets replies gather */
#define LEAST_NAP_NS 4000u
#define MOST_NAP_NS 100000u

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

void tick(struct run *r)
{
	uint64_t now = now_ns();

	r->now = now > r->thread->start_ns ? now - r->thread->start_ns : 0;
}

uint64_t end_of(const struct run *r)
{
	return r->settings->warmup_ns + r->settings->measured_ns;
}

int more(const struct run *r)
{
	if (r->most)
		return r->result->sent < r->most;
	return r->now < end_of(r);
}

/* Sends what is due, as far as there are connections for it.  In a closed loop that is after all replies of a wait were
 * taken: a server that is told of several requests at once waits less often. */
static void send_due(struct run *r)
{
	struct conn *c;

	if (r->closed) {
		for (; more(r) && (c = conn_free(r)); tick(r)) {
			c->state = CONN_BUSY;
			conn_begin(r, c, r->now);
		}
		return;
	}
	while (r->due <= r->now && r->due < end_of(r) && (c = conn_free(r))) {
		uint64_t intended = r->due;

		r->due = schedule_next(&r->schedule);
		c->state = CONN_BUSY;
		conn_begin(r, c, intended);
	}
}

/* A closed loop's server pays for waking a generator that sleeps, with time that it does not serve requests in: it is
 * not to sleep while the next reply is about to come. */
static int look(const struct run *r, struct epoll_event *events)
{
	uint64_t began = now_ns();
	int n;

	do {
		n = epoll_wait(r->wait_set, events, EVENTS, 0);
	} while (n == 0 && now_ns() < began + LOOK_NS);
	return n;
}

/* With many requests under way there is no hurry: while a part of their replies gathers, the server has the others to
 * answer, and nobody to wake.  How long that takes is found by how many there are afterwards. */
static int gather(struct run *r, struct epoll_event *events)
{
	unsigned waiting = r->thread->connections - r->idle_count;
	struct timespec nap = {.tv_nsec = (long)r->nap_ns};
	int n;

	if (waiting < GATHER_FROM)
		return look(r, events);
	if (r->nap_ns >= LEAST_NAP_NS)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	n = epoll_wait(r->wait_set, events, EVENTS, 0);
	if (4 * (unsigned)n > 3 * waiting)
		r->nap_ns /= 2;
	else if (4 * (unsigned)n < waiting && r->nap_ns < MOST_NAP_NS)
		r->nap_ns += LEAST_NAP_NS / 4 + r->nap_ns / 8;
	return n ? n : look(r, events);
}

static void handle(struct run *r, const struct epoll_event *events, int n)
{
	tick(r);
	for (int i = 0; i < n; i++)
		conn_event(r, events[i].data.ptr, events[i].events);
}

static int sleep_ns(const struct run *r, struct epoll_event *events, uint64_t ns)
{
	struct timespec limit = {.tv_sec = (time_t)(ns / 1000000000ull), .tv_nsec = (long)(ns % 1000000000ull)};
	static int old_kernel;

	if (!old_kernel) {
		int n = (int)syscall(SYS_epoll_pwait2, r->wait_set, events, EVENTS, &limit, NULL, 0);

		if (n >= 0 || errno != ENOSYS)
			return n;
		old_kernel = 1;
	}
	return epoll_wait(r->wait_set, events, EVENTS, (int)((ns + 999999) / 1000000));
}

static void wait_ns(struct run *r, uint64_t ns)
{
	struct epoll_event events[EVENTS];
	int n = r->closed ? gather(r, events) : 0;

	handle(r, events, n > 0 ? n : sleep_ns(r, events, ns));
	if (r->closed) { /* what came meanwhile; requests are sent together afterwards */
		n = epoll_wait(r->wait_set, events, EVENTS, 0);
		handle(r, events, n);
	}
}

static unsigned busy(const struct run *r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < r->thread->connections; i++)
		n += r->conn[i].state == CONN_BUSY;
	return n;
}

static void setup(struct run *r)
{
	const struct plan *plan = &r->settings->plan;
	unsigned n = r->thread->connections;

	r->conn = calloc(n, sizeof(*r->conn));
	r->idle = calloc(n, sizeof(*r->idle));
	r->buffer = malloc(BUFFER_BYTES);
	r->wait_set = epoll_create1(EPOLL_CLOEXEC);
	if (!r->conn || !r->idle || !r->buffer || r->wait_set < 0)
		fail("no memory for %u connections", n);
	for (unsigned i = 0; i < n; i++)
		conn_setup(r, &r->conn[i], &plan->script[(r->thread->number + (uint64_t)i * r->settings->threads) % plan->scripts]);
}

/* All connections up and opened, for two seconds at most. */
static void connect_first(struct run *r)
{
	uint64_t began = now_ns();

	r->thread->start_ns = began;
	while (r->idle_count < r->thread->connections && r->now < 2000000000ull) {
		tick(r);
		conn_dial_all(r);
		wait_ns(r, 5000000);
	}
	if (!r->idle_count || (r->conn[0].brief && r->conn[0].state != CONN_IDLE))
		fail("no connection to the server, or no reply to what opens one");
	conn_settle(r);
}

/* A load of so many requests would wait for ever for a server that answers otherwise than the plan tells. */
static void give_up(struct run *r)
{
	uint64_t heard = r->result->received + r->result->failed + r->result->broken;

	if (heard != r->heard) {
		r->heard = heard;
		r->heard_ns = r->now;
	} else if (r->now > r->heard_ns + r->settings->silence_ns) {
		fail("no reply for %g s, %u requests are under way: the server has stopped, or its replies are not as long as"
		     " those that were recorded", (double)r->settings->silence_ns / 1e9, busy(r));
	}
}

void *thread_main(void *argument)
{
	struct thread *thread = argument;
	const struct settings *s = thread->settings;
	struct run run = {.thread = thread, .settings = s, .schedule = s->schedule, .result = &thread->result}, *r = &run;
	uint64_t end, limit;

	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul); /* due times are short of the usual 50 us apart */
	setup(r);
	connect_first(r);
	pthread_barrier_wait(thread->ready);
	pthread_barrier_wait(thread->ready); /* the start was set in between */
	schedule_start(&r->schedule, thread->number, s->threads);
	r->closed = s->schedule.arrivals == ARRIVALS_CLOSED;
	r->most = s->requests / s->threads + (thread->number < s->requests % s->threads);
	r->due = r->closed ? 0 : schedule_next(&r->schedule);
	end = s->requests ? NEVER : end_of(r);
	limit = s->requests ? NEVER : end + s->drain_ns;
	r->retry = NEVER;
	for (tick(r); r->now < limit; tick(r)) {
		uint64_t until = r->now < end ? end : limit;

		if (by_datagrams(r))
			datagram_give_up(r);
		conn_dial_all(r);
		send_due(r);
		if (s->requests)
			give_up(r);
		if (r->closed ? !more(r) && !busy(r) : r->now >= end && !busy(r))
			break;
		if (!r->closed && r->idle_count && r->due < until)
			until = r->due;
		if (r->retry < until)
			until = r->retry;
		if (by_datagrams(r) && r->look < until)
			until = r->look;
		wait_ns(r, until == NEVER ? 1000000000ull : until > r->now ? until - r->now : 0);
	}
	r->result->unanswered = busy(r);
	for (; !r->closed && r->due < end_of(r); r->due = schedule_next(&r->schedule))
		r->result->unsent += r->due >= s->warmup_ns;
	for (unsigned i = 0; i < thread->connections; i++) {
		if (r->conn[i].fd >= 0)
			close(r->conn[i].fd);
		free(r->conn[i].frame.line);
	}
	close(r->wait_set);
	free(r->conn);
	free(r->idle);
	free(r->buffer);
	return NULL;
}
