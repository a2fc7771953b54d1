/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads at offsets of a file of 1000 places: half of them to 20, and one in five where the one before ended.  Of the calls
 * after it, two come together and exclude the third. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define PLACE 8192

static const uint32_t small_value[] = {20}, all_cum[] = {DITTO_ALWAYS}, place_value[] = {PLACE}, file_value[] = {1000 * PLACE};
static const uint32_t where_value[] = {20, 1000}, where_cum[] = {0x80000000u, DITTO_ALWAYS};
static const struct ditto_dist small = {1, small_value, all_cum}, place = {1, place_value, all_cum};
static const struct ditto_dist file_size = {1, file_value, all_cum}, where = {2, where_value, where_cum};

static const struct ditto_reply replies[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_OPAQUE, .size = &small}};
static const struct ditto_op program[] = {
	{.kind = OP_FILE_READ, .prob = DITTO_ALWAYS, .nr = SYS_pread64, .a = PLACE, .b = 8, .c = 200, .size = &place, .where = &where},
	{.kind = OP_FILE_SYNC, .flags = DITTO_DRAWS, .prob = 0x66666666u, .nr = SYS_fsync, .b = 8},
	{.kind = OP_FILE_FSTAT, .flags = DITTO_DRAWN, .prob = 0x4ccccccdu, .nr = SYS_fstat, .b = 8, .start = 0x66666666u},
	{.kind = OP_FILE_SEEK, .flags = DITTO_DRAWN, .prob = 0x66666666u, .nr = SYS_lseek, .b = 8},
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS},
};
static const struct ditto_class classes[] = {
	{.match = {.path_print = DITTO_NONE, .min_bytes = 0, .max_bytes = 65535}, .prob = DITTO_ALWAYS, .replies = 1,
	 .reply = replies, .program = {5, program}},
};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE},
};
static const uint16_t p0[] = {0};
static const struct ditto_open_at_start opens[] = {{0, 8, 0}};
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
