/* SPDX-License-Identifier: Apache-2.0
 *
 * Four threads that share their connections and wait for events themselves, one at a time.  TEST_DISPATCH: a thread of
 *  its own waits for them, takes each connection out of the wait set, and gives it to whichever is free; TEST_MUTES: it
 * leaves it there for no events, TEST_LEVEL: as it was; TEST_TOLD: it is told of replies by a pipe; TEST_LINGERS: threads
 * poll before they receive, and after three of four requests for the next of that connection.  TEST_CROWD: all
 * four wait at once, by the flags that it is (one shot or edge), and accept; TEST_ACCEPTS: a fifth thread accepts.
 * TEST_ONCE: connections are watched for one report, and asked for again by chance. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

#ifndef TEST_BYTES
#define TEST_BYTES 612
#endif

DIST(body_size, TEST_BYTES);

static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 200, .head_bytes = 200, .size = &body_size}};
static const struct ditto_op answer[] = {
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS},
#ifndef TEST_LINGERS
	{.kind = OP_RECV_AGAIN, .prob = DITTO_ALWAYS, .nr = SYS_read},
#endif
#ifdef TEST_MUTES
	{.kind = OP_EPOLL_MOD, .prob = DITTO_ALWAYS / 2, .a = EPOLLIN},
#elif defined TEST_DISPATCH && !defined TEST_LEVEL && !defined TEST_LINGERS
	{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = EPOLLIN},
#endif
#ifdef TEST_TOLD
	{.kind = OP_NOTIFY, .prob = DITTO_ALWAYS, .nr = SYS_write, .a = 0, .c = 1},
#endif
#ifdef TEST_ONCE
	{.kind = OP_EPOLL_MOD, .prob = DITTO_ALWAYS / 2, .a = (int)EPOLLONESHOT},
	{.kind = OP_EPOLL_MOD, .prob = DITTO_ALWAYS / 3, .a = (int)(EPOLLIN | EPOLLONESHOT)},
#endif
#ifdef TEST_CROWD
	{.kind = OP_EPOLL_MOD, .prob = DITTO_ALWAYS, .a = (int)(EPOLLIN | TEST_CROWD)},
#endif
};
static const struct ditto_class classes[] = {
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = page,
	 .program = {sizeof(answer) / sizeof(answer[0]), answer}},
};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};

#ifdef TEST_MUTES
#define TEST_REPORTED .mutes = 1
#elif defined TEST_LEVEL
#define TEST_REPORTED .mutes = 0
#else
#define TEST_REPORTED .unwatches = 1
#endif

#ifdef TEST_DISPATCH
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_DISPATCH, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = 1, TEST_REPORTED,
#ifdef TEST_TOLD
	 .inbox = {.nr = SYS_pipe2, .read_nr = SYS_read, .bytes = 8192, .own = 1},
#endif
	 .on_close = {1, closed}},
	{.name = "r1", .kind = DITTO_ROLE_SHARED, .wait = DITTO_WAIT_EPOLL, .count = 4, .max_events = 1, .timeout_ms = -1,
#ifdef TEST_LINGERS
	 .asks_nr = SYS_poll, .lingers = 49152,
#endif
	 .hand_to = DITTO_NONE, .on_close = {1, closed}},
};
static const uint16_t p0[] = {0, 1};
#elif defined TEST_CROWD
static const struct ditto_op adopted[] = {{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = (int)(EPOLLIN | TEST_CROWD)}};
static const struct ditto_role roles[] = {
#ifdef TEST_ACCEPTS
	{.name = "r0", .kind = DITTO_ROLE_DISPATCH, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 1, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = 1, .crowd = 1, .listen_wait = DITTO_WAIT_EPOLL,
	 .on_accept = {1, adopted}, .on_close = {1, closed}},
#endif
	{.name = "r1", .kind = DITTO_ROLE_SHARED, .wait = DITTO_WAIT_EPOLL, .count = 4, .max_events = 16, .timeout_ms = -1,
#ifndef TEST_ACCEPTS
	 .listens = 1, .listen_events = EPOLLIN | EPOLLONESHOT, .on_accept = {1, adopted},
#endif
	 .hand_to = DITTO_NONE, .polls = 1, .crowd = 1, .on_close = {1, closed}},
};
static const uint16_t p0[] = {
	0,
#ifdef TEST_ACCEPTS
	1,
#endif
};
#else
#ifdef TEST_ONCE
#define TEST_WATCHED (EPOLLIN | EPOLLONESHOT)
#define TEST_LISTENED (EPOLLIN | EPOLLONESHOT)
#else
#define TEST_WATCHED (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define TEST_LISTENED (EPOLLIN | EPOLLET)
#endif
static const struct ditto_op adopted[] = {
	{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = (int)(TEST_WATCHED)},
};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_SHARED, .wait = DITTO_WAIT_EPOLL_PWAIT, .count = 4, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = TEST_LISTENED, .hand_to = DITTO_NONE, .polls = 1, .polls_first = 1, .running = 2,
	 .on_accept = {1, adopted}, .on_close = {1, closed}},
};
static const uint16_t p0[] = {0};
#endif
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = sizeof(p0) / sizeof(p0[0]), .role = p0},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .codec = DITTO_CODEC_HTTP1, .print_key = 0x1234abcd,
	.classes = 1, .cls = classes,
	.recv = {.nr = SYS_read, .bytes = 4096},
	.send = {.nr = SYS_write, .iovs = 1, .arm = 1},
	.listener = {.backlog = 511, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000, .accept_until_again = 1},
	.roles = sizeof(roles) / sizeof(roles[0]), .role = roles, .processes = 1, .process = processes,
};
