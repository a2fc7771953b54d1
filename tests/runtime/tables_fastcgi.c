/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes that serve one FastCGI connection at a time, received record by record: a page in one record, a longer one in
 * several, an error.  Closing drains what the web server still says. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(page_size, 1651);
DIST(wide_size, 20000);
DIST(record, 8184);
DIST(none, 0);

static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_FASTCGI, .status = 200, .head_bytes = 43, .size = &page_size}};
static const struct ditto_reply wide[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_FASTCGI, .status = 200, .head_bytes = 100, .size = &wide_size, .count = &record}};
static const struct ditto_reply failed[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_FASTCGI, .status = 500, .head_bytes = 60, .size = &none}};

static const struct ditto_op plain[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};
static const struct ditto_class classes[] = {
	{.match = {.verb = "GET", .path_print = TEST_PRINT_CHUNKED}, .prob = 1, .replies = 1, .reply = wide, .program = {1, plain}},
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = 2, .replies = 1, .reply = page, .program = {1, plain}},
	{.match = {.verb = "POST", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = failed, .program = {1, plain}},
};
static const struct ditto_op closed[] = {
	{.kind = OP_SHUTDOWN, .prob = DITTO_ALWAYS, .a = 1},
	{.kind = OP_DRAIN, .prob = DITTO_ALWAYS, .nr = SYS_recvfrom, .a = 8},
	{.kind = OP_DRAIN, .prob = DITTO_ALWAYS, .nr = SYS_recvfrom, .a = 8},
	{.kind = OP_CLOSE, .prob = DITTO_ALWAYS},
};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_ACCEPT_SERVE, .wait = DITTO_WAIT_POLL, .wait_nr = SYS_poll, .count = 1, .timeout_ms = -1,
	 .max_events = 64, .listens = 1, .listen_events = EPOLLIN, .listen_wait = DITTO_WAIT_BLOCKING, .accept_first = 1,
	 .hand_to = DITTO_NONE, .on_close = {4, closed}},
};
static const uint16_t p0[] = {0};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .print_key = 0x1234ABCDu, .codec = DITTO_CODEC_FASTCGI, .classes = 3,
	.cls = classes, .recv = {.nr = SYS_read, .bytes = 16384, .head = 8}, .send = {.nr = SYS_write, .iovs = 1, .arm = 1},
	.listener = {.backlog = 128, .accept_nr = SYS_accept}, .roles = 1, .role = roles, .processes = 1, .process = processes,
};
