/* SPDX-License-Identifier: Apache-2.0
 *
 * Four threads, each of which writes and syncs one log for the requests of all that have asked for it. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

static const uint32_t small_value[] = {20}, all_cum[] = {DITTO_ALWAYS}, page_value[] = {8192}, file_value[] = {1 << 20};
static const struct ditto_dist small = {1, small_value, all_cum}, page = {1, page_value, all_cum};
static const struct ditto_dist file_size = {1, file_value, all_cum};

static const struct ditto_reply replies[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_OPAQUE, .size = &small}};
static const struct ditto_op program[] = {
	{.kind = OP_FILE_WRITE, .flags = DITTO_LOG, .prob = DITTO_ALWAYS, .nr = SYS_pwrite64, .a = 8192, .b = 8, .size = &page},
	{.kind = OP_FILE_SYNC, .flags = DITTO_LOG, .prob = DITTO_ALWAYS, .nr = SYS_fdatasync, .b = 8},
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS},
};
static const struct ditto_class classes[] = {
	{.match = {.path_print = DITTO_NONE, .min_bytes = 0, .max_bytes = 65535}, .prob = DITTO_ALWAYS, .replies = 1,
	 .reply = replies, .program = {3, program}},
};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 4, .max_events = 1, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE},
};
static const uint16_t p0[] = {0};
static const struct ditto_open_at_start opens[] = {{0, 8, 2}};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0, .opens = 1, .open_at_start = opens},
};
static const struct ditto_file_group files[] = {{.kind = DITTO_FILE_REGULAR, .depth = 1, .count = 1, .size = &file_size}};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 7, .codec = DITTO_CODEC_OPAQUE, .classes = 1, .cls = classes,
	.recv = {.nr = SYS_read, .bytes = 4096}, .send = {.nr = SYS_write, .iovs = 1, .arm = 1},
	.listener = {.backlog = 128, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 04000},
	.roles = 1, .role = roles, .processes = 1, .process = processes, .file_groups = 1, .file_group = files,
};
