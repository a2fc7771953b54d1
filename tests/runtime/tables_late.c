/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that answers what it received only after a further wait that does not block, and wakes a helping thread with
 * each request, which asks for the time of its own. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_ROUNDS
#define TEST_ROUNDS 1
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(body_size, 612);

static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 200, .head_bytes = 200, .size = &body_size}};
static const struct ditto_op answer[] = {
	{.kind = OP_FUTEX_WAKE, .prob = DITTO_ALWAYS, .a = 2},
#ifdef TEST_AGAIN
	{.kind = OP_EPOLL_DEL, .prob = DITTO_ALWAYS},
#endif
	{.kind = OP_REPLY, .flags = DITTO_DEFERRED, .prob = DITTO_ALWAYS, .a = 1},
	{.kind = OP_REPLY, .flags = DITTO_DEFERRED, .prob = DITTO_ALWAYS},
#ifdef TEST_AGAIN
	{.kind = OP_RECV_AGAIN, .flags = DITTO_DEFERRED, .prob = DITTO_ALWAYS},
#endif
};
static const struct ditto_class classes[] = {
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = page,
	 .program = {sizeof(answer) / sizeof(answer[0]), answer}, .rounds = TEST_ROUNDS},
};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
static const struct ditto_op helped[] = {{.kind = OP_MISC, .prob = DITTO_ALWAYS, .nr = SYS_getppid}};
static const struct ditto_timer help[] = {{.period_ns = 1000000, .program = {1, helped}}};

static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE, .deferred_late = 1, .on_close = {1, closed}},
	{.name = "r1", .kind = DITTO_ROLE_HELPER, .wait_nr = SYS_futex, .count = 2, .hand_to = DITTO_NONE, .timers = 1,
	 .timer = help},
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
