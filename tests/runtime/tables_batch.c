/* SPDX-License-Identifier: Apache-2.0
 *
 * A loop that writes to a log once for all requests of a wake-up, before it answers them; reads of it ask for nothing. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(two, 2);
DIST(logged, 45);
DIST(page, 4096);

static const struct ditto_reply ok[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_SIMPLE, .size = &two}};
static const struct ditto_op stores[] = {
	{.kind = OP_BATCH, .prob = DITTO_ALWAYS, .size = &logged},
	{.kind = OP_REPLY, .flags = DITTO_DEFERRED, .prob = DITTO_ALWAYS},
};
static const struct ditto_op reads[] = {{.kind = OP_REPLY, .flags = DITTO_DEFERRED, .prob = DITTO_ALWAYS}};
static const struct ditto_class classes[] = {
	{.match = {.verb = "SET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS / 2, .replies = 1, .reply = ok,
	 .program = {2, stores}},
	{.match = {.verb = "PING", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = ok,
	 .program = {1, reads}},
};
static const struct ditto_op batch[] = {
	{.kind = OP_FILE_WRITE, .prob = DITTO_ALWAYS, .nr = SYS_write, .b = 8},
	{.kind = OP_FILE_FSTAT, .prob = DITTO_ALWAYS, .nr = SYS_flock, .b = 8},
	{.kind = OP_FILE_FSTAT, .prob = DITTO_ALWAYS, .nr = SYS_fadvise64, .b = 8},
	{.kind = OP_FILE_SYNC, .prob = DITTO_ALWAYS, .nr = SYS_fdatasync, .b = 8},
};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE, .each_batch = {4, batch}, .on_close = {1, closed}},
};
static const uint16_t p0[] = {0};
static const struct ditto_open_at_start opens[] = {{0, 8, 02001}};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0, .opens = 1, .open_at_start = opens},
};
static const struct ditto_file_group files[] = {
	{.kind = DITTO_FILE_REGULAR, .depth = 1, .append = 1, .count = 1, .size = &page},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 3, .codec = DITTO_CODEC_RESP2, .classes = 2, .cls = classes,
	.recv = {.nr = SYS_read, .bytes = 16384},
	.send = {.nr = SYS_sendto, .iovs = 1, .arm = 1},
	.listener = {.backlog = 511, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000},
	.roles = 1, .role = roles, .processes = 1, .process = processes, .file_groups = 1, .file_group = files,
};
