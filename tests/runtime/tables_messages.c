/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that passes each request to three workers and answers once it has come back through an eventfd; a timerfd ticks
 * beside.  The workers read a pipe; TEST_WOKEN: they are woken by futex, and only where one waits.  TEST_ONCE: the loop is
 * not told again of what it has not read yet, and looks for events once before it passes a request on.  TEST_ANSWERED: the
 * workers send the replies; TEST_AGAIN: and are told of most requests once more after that; TEST_PARTS: the head of each
 * by itself, and tell the loop. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(body_size, 612);

#ifdef TEST_ANSWERED
#define PASS .nr = SYS_write, .b = DITTO_MESSAGE_BRINGS | DITTO_MESSAGE_ANSWERED, .c = 16
#elif defined TEST_WOKEN
#define PASS .nr = SYS_futex, .b = DITTO_MESSAGE_BRINGS | DITTO_MESSAGE_ONCE
#else
#define PASS .nr = SYS_write, .b = DITTO_MESSAGE_BRINGS, .c = 16
#endif
#ifdef TEST_ONCE
#define BACK DITTO_MESSAGE_ONCE
#else
#define BACK 0
#endif

static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 200, .head_bytes = 200, .size = &body_size}};
static const struct ditto_op answer[] = {
#ifdef TEST_ONCE
	{.kind = OP_YIELD, .prob = DITTO_ALWAYS},
#endif
	{.kind = OP_NOTIFY, .prob = DITTO_ALWAYS, .a = 1, PASS},
	{.kind = OP_AWAIT, .prob = DITTO_ALWAYS},
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS},
#ifdef TEST_AGAIN
	{.kind = OP_NOTIFY, .prob = DITTO_ALWAYS / 10 * 9, .a = 1, PASS},
	{.kind = OP_AWAIT, .prob = DITTO_ALWAYS / 50},
#endif
};
static const struct ditto_class classes[] = {
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = page,
	 .program = {sizeof(answer) / sizeof(answer[0]), answer}},
};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
static const struct ditto_op worked[] = {
	{.kind = OP_MISC, .prob = DITTO_ALWAYS, .nr = SYS_getppid},
#ifdef TEST_PARTS
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS, .nr = SYS_sendto, .a = 1},
#endif
#ifdef TEST_ANSWERED
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS, .nr = SYS_sendto},
#endif
#ifdef TEST_PARTS
	{.kind = OP_NOTIFY, .prob = DITTO_ALWAYS, .nr = SYS_write, .a = 0, .c = 8},
#endif
#ifndef TEST_ANSWERED
	{.kind = OP_NOTIFY, .prob = DITTO_ALWAYS, .nr = SYS_write, .a = 0, .b = BACK, .c = 8},
#endif
};
static const struct ditto_timer work[] = {{.period_ns = 1000000, .program = {sizeof(worked) / sizeof(worked[0]), worked}}};
static const struct ditto_op ticked[] = {{.kind = OP_MISC, .prob = DITTO_ALWAYS, .nr = SYS_getuid}};
static const struct ditto_timer tick[] = {{.period_ns = 10000000, .program = {1, ticked}, .descriptor = 1}};

static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE, .on_close = {1, closed},
	 .inbox = {.nr = SYS_eventfd2, .read_nr = SYS_read, .bytes = 8, .own = 1}, .timers = 1, .timer = tick},
	{.name = "r1", .kind = DITTO_ROLE_WORKER, .wait = DITTO_WAIT_BLOCKING, .count = 3, .hand_to = DITTO_NONE, .timers = 1,
#ifdef TEST_WOKEN
	 .wait_nr = SYS_futex,
#else
	 .inbox = {.nr = SYS_pipe2, .read_nr = SYS_read, .bytes = 16, .each = 16},
#endif
	 .timer = work},
};
static const uint16_t p0[] = {0, 1};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 2, .role = p0},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .codec = DITTO_CODEC_HTTP1, .print_key = 0x1234abcd,
	.classes = 1, .cls = classes,
	.recv = {.nr = SYS_recvfrom, .bytes = 4096},
	.send = {.nr = SYS_sendto, .iovs = 1, .arm = 1},
	.listener = {.backlog = 511, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000},
	.roles = 2, .role = roles, .processes = 1, .process = processes,
};
