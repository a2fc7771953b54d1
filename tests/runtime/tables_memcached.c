/* SPDX-License-Identifier: Apache-2.0
 *
 * An acceptor that hands connections in turn to worker threads through a queue and an eventfd. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_THREADS
#define TEST_THREADS 4
#endif
#ifndef TEST_NOTIFY
#define TEST_NOTIFY SYS_eventfd2
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(kilobyte, 1024);
DIST(one, 1);
DIST(four, 4);

static const struct ditto_reply got[] = {
	{.prob = DITTO_ALWAYS / 5, .kind = REPLY_MISS},
	{.prob = DITTO_ALWAYS, .kind = REPLY_VALUE, .size = &kilobyte, .second = &one},
};
static const struct ditto_reply set[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_STORED}};
static const struct ditto_reply incr[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_NUMBER, .size = &four}};

static const struct ditto_reply added[] = {{.prob = DITTO_ALWAYS / 2, .kind = REPLY_STORED}, {.prob = DITTO_ALWAYS, .kind = REPLY_NOT_STORED}};
static const struct ditto_reply deleted[] = {{.prob = 0, .kind = REPLY_DELETED}, {.prob = DITTO_ALWAYS, .kind = REPLY_NOT_FOUND}};
static const struct ditto_reply counted[] = {{.prob = DITTO_ALWAYS / 2, .kind = REPLY_VALUE, .size = &four}, {.prob = DITTO_ALWAYS, .kind = REPLY_NOT_FOUND}};
static const struct ditto_reply touched[] = {{.prob = 0, .kind = REPLY_TOUCHED}, {.prob = DITTO_ALWAYS, .kind = REPLY_NOT_FOUND}};

static const struct ditto_op serve[] = {
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS},
	{.kind = OP_RECV_AGAIN, .prob = DITTO_ALWAYS},
};

static const struct ditto_class classes[] = {
	{.match = {.verb = "get", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS / 10 * 9, .replies = 2, .reply = got, .program = {2, serve}},
	{.match = {.verb = "gets", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS / 10 * 9, .replies = 2, .reply = got, .program = {2, serve}},
	{.match = {.verb = "set", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = set, .program = {2, serve}},
	{.match = {.verb = "add", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = added, .program = {2, serve}},
	{.match = {.verb = "append", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = added, .program = {2, serve}},
	{.match = {.verb = "delete", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = deleted, .program = {2, serve}},
	{.match = {.verb = "touch", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = touched, .program = {2, serve}},
	{.match = {.verb = "mg", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = got, .program = {2, serve}},
	{.match = {.verb = "ms", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = set, .program = {2, serve}},
	{.match = {.verb = "md", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = deleted, .program = {2, serve}},
	{.match = {.verb = "ma", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = counted, .program = {2, serve}},
	{.match = {.verb = "incr", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = incr, .program = {2, serve}},
};

static const struct ditto_op adopted[] = {{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = EPOLLIN}};
static const struct ditto_op closed[] = {
	{.kind = OP_EPOLL_DEL, .prob = DITTO_ALWAYS},
	{.kind = OP_CLOSE, .prob = DITTO_ALWAYS},
};
static const struct ditto_op tick[] = {{.kind = OP_MISC, .prob = DITTO_ALWAYS, .nr = SYS_getpid}};
static const struct ditto_timer second[] = {{.period_ns = 1000000000, .program = {1, tick}}};

static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 32, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .handover = DITTO_HAND_QUEUE, .hand_to = 1},
	{.name = "r1", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = TEST_THREADS, .max_events = 32,
	 .timeout_ms = -1, .notify_nr = TEST_NOTIFY, .on_adopt = {1, adopted}, .on_close = {2, closed}},
	{.name = "r2", .kind = DITTO_ROLE_PERIODIC, .wait_nr = SYS_clock_nanosleep, .count = 1, .timers = 1, .timer = second},
};
static const uint16_t p0[] = {0, 1, 2};
static const struct ditto_process processes[] = {{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 3, .role = p0}};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 11, .codec = DITTO_CODEC_MEMCACHED,
	.classes = 12, .cls = classes,
	.recv = {.nr = SYS_read, .bytes = 2048},
	.send = {.nr = SYS_sendmsg, .iovs = 3, .arm = 1},
	.listener = {.backlog = 1024, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000,
		     .accept_until_again = 1},
	.roles = 3, .role = roles, .processes = 1, .process = processes,
};
