/* SPDX-License-Identifier: Apache-2.0
 *
 * A parent that waits for signals and worker processes that share its listener; replies with a file by sendfile, a log
 * that grows.  TEST_BODY: bodies are filler instead.  TEST_REST: what goes on behind a full buffer is asked for at once. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_WORKERS
#define TEST_WORKERS 2
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(body_size, 612);
DIST(other_size, 40);
DIST(log_line, 90);

static const struct ditto_reply chunked[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP_CHUNKED, .status = 200, .head_bytes = 200, .size = &body_size}};
static const struct ditto_reply posted[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 201, .head_bytes = 150, .size = &other_size}};
static const struct ditto_reply unchanged[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 304, .head_bytes = 100}};

#ifdef TEST_MIXED /* half of the pages are files, the others what was posted */
#ifndef TEST_OTHER
#define TEST_OTHER 201
#endif
#define TEST_FILE .prob = DITTO_ALWAYS / 2, .start = 0, .draw = 3
static const struct ditto_reply pages[] = {
	{.prob = DITTO_ALWAYS / 2, .kind = REPLY_HTTP, .status = 200, .head_bytes = 238, .size = &body_size},
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = TEST_OTHER, .head_bytes = 150, .size = &other_size}};
#else
static const struct ditto_reply page[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_HTTP, .status = 200, .head_bytes = 238, .size = &body_size}};
#define TEST_FILE .prob = DITTO_ALWAYS
#endif
#ifndef TEST_HEAD
#define TEST_HEAD DITTO_ALWAYS
#endif

static const struct ditto_op file_page[] = {
	{.kind = OP_FILE_OPEN, .prob = DITTO_ALWAYS, .a = 0, .b = 0, .c = 04000, .nr = SYS_openat},
	{.kind = OP_FILE_FSTAT, .prob = DITTO_ALWAYS, .b = 0, .nr = SYS_newfstatat},
	{.kind = OP_REPLY, .prob = TEST_HEAD},
#ifndef TEST_BODY
	{.kind = OP_SENDFILE, TEST_FILE, .a = 0},
#endif
	{.kind = OP_FILE_WRITE, .prob = DITTO_ALWAYS, .b = 8, .nr = SYS_write, .size = &log_line},
	{.kind = OP_FILE_CLOSE, .prob = DITTO_ALWAYS, .b = 0},
	{.kind = OP_SETSOCKOPT, .prob = DITTO_ALWAYS, .a = 6, .b = 1, .c = 1},
};
static const struct ditto_op plain[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};

static const struct ditto_class classes[] = {
	{.match = {.verb = "GET", .path_print = TEST_PRINT_CHUNKED}, .prob = 1, .replies = 1, .reply = chunked, .program = {1, plain}},
	{.match = {.verb = "GET", .path_print = TEST_PRINT_304}, .prob = 1, .replies = 1, .reply = unchanged, .program = {1, plain}},
#ifdef TEST_MIXED
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = pages, .reply_draw = 3,
#else
	{.match = {.verb = "GET", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = page,
#endif
	 .program = {sizeof(file_page) / sizeof(file_page[0]), file_page}},
	{.match = {.verb = "POST", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = posted, .program = {1, plain}},
};

static const struct ditto_op adopted[] = {
	{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = (int)(EPOLLIN | EPOLLRDHUP | EPOLLET)},
};
static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};

static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_IDLE, .wait_nr = SYS_rt_sigsuspend, .count = 1},
	{.name = "r1", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 512, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN | EPOLLEXCLUSIVE, .on_adopt = {1, adopted}, .on_close = {1, closed}},
};
static const uint16_t p0[] = {0}, p1[] = {1};
static const struct ditto_open_at_start opens[] = {{.group = 1, .slot = 8, .flags = 02001}};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0},
	{.name = "p1", .parent = 0, .count = TEST_WORKERS, .roles = 1, .role = p1, .opens = 1, .open_at_start = opens},
};
static const struct ditto_file_group files[] = {
	{.kind = DITTO_FILE_REGULAR, .depth = 2, .count = 3, .size = &body_size},
	{.kind = DITTO_FILE_REGULAR, .append = 1, .count = 1},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .codec = DITTO_CODEC_HTTP1, .print_key = 0x1234abcd,
	.classes = 4, .cls = classes,
#ifdef TEST_REST
	.recv = {.nr = SYS_recvfrom, .bytes = 1024, .rest = 16384},
#else
	.recv = {.nr = SYS_recvfrom, .bytes = 1024, .until_short = 1},
#endif
	.send = {.nr = SYS_writev, .iovs = 1, .arm = 1},
	.listener = {.backlog = 511, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000},
	.roles = 2, .role = roles, .processes = 2, .process = processes, .file_groups = 2, .file_group = files,
};
