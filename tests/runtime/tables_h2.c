/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2: two gRPC methods, one with a message and one with several, a failing one, pages large and small. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_RECV
#define TEST_RECV .nr = SYS_recvmsg, .bytes = 8192, .until_short = 1
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(message, 205);
DIST(list, 3000);
DIST(five, 5);
DIST(trailer, 10);
DIST(page_size, 612);
DIST(large_size, 300000);

static const struct ditto_reply one[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_GRPC, .head_bytes = 12, .size = &message, .second = &trailer}};
static const struct ditto_reply several[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_GRPC, .head_bytes = 78, .size = &list, .count = &five, .second = &trailer}};
static const struct ditto_reply failing[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_GRPC, .status = 5, .head_bytes = 40}};
static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_H2, .status = 200, .head_bytes = 120, .size = &page_size}};
static const struct ditto_reply large[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_H2, .status = 200, .head_bytes = 60, .size = &large_size}};

static const struct ditto_op plain[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};
static const struct ditto_class classes[] = {
	{.match = {.verb = "POST", .path_print = TEST_PRINT_METHOD}, .prob = 1, .replies = 1, .reply = one, .program = {1, plain}},
	{.match = {.verb = "POST", .path_print = TEST_PRINT_STREAM}, .prob = 2, .replies = 1, .reply = several, .program = {1, plain}},
	{.match = {.verb = "POST", .path_print = DITTO_NONE}, .prob = 3, .replies = 1, .reply = failing, .program = {1, plain}},
	{.match = {.verb = "GET", .path_print = TEST_PRINT_CHUNKED}, .prob = 4, .replies = 1, .reply = large, .program = {1, plain}},
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = page, .program = {1, plain}},
};

static const struct ditto_op adopted[] = {{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = (int)(EPOLLIN | EPOLLRDHUP | EPOLLET)}};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 100, .timeout_ms = -1, .listens = 1,
	 .listen_events = EPOLLIN, .on_adopt = {1, adopted}, .on_close = {1, closed}},
};
static const uint16_t p0[] = {0};
static const struct ditto_process processes[] = {{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0}};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .print_key = 0x1234ABCDu, .codec = DITTO_CODEC_H2, .classes = 5, .cls = classes,
	.recv = {TEST_RECV}, .send = {.nr = SYS_sendmsg, .flags = 0x4000, .iovs = 3, .arm = 1},
	.listener = {.backlog = 128, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000}, .roles = 1, .role = roles,
	.processes = 1, .process = processes,
};
