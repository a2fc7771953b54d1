/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocking calls: TEST_HANDOVER is DITTO_HAND_SPAWN_THREAD, DITTO_HAND_SPAWN_PROCESS or DITTO_HAND_KEEP.
 * TEST_DATAGRAMS: three threads that block in the receive of datagrams. */
#include "ditto.h"

#include <sys/syscall.h>

#ifndef TEST_HANDOVER
#define TEST_HANDOVER DITTO_HAND_SPAWN_THREAD
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(small, 20);
DIST(large, 5000);
DIST(tiny, 4);

static const struct ditto_reply a[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_OPAQUE, .size = &small}};
static const struct ditto_reply b[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_OPAQUE, .size = &large}};
static const struct ditto_reply c[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_OPAQUE, .size = &tiny}};
static const struct ditto_op serve[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};
static const struct ditto_class classes[] = {
	{.match = {.path_print = DITTO_NONE, .min_bytes = 0, .max_bytes = 99}, .prob = DITTO_ALWAYS / 2, .replies = 1, .reply = a, .program = {1, serve}},
	{.match = {.path_print = DITTO_NONE, .min_bytes = 100, .max_bytes = 1 << 30}, .prob = DITTO_ALWAYS, .replies = 1, .reply = b, .program = {1, serve}},
	{.match = {.path_print = DITTO_NONE, .min_bytes = 5, .max_bytes = 6}, .prob = DITTO_ALWAYS, .replies = 1, .reply = c, .program = {1, serve}},
};
static const struct ditto_op closed[] __attribute__((unused)) = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
static const struct ditto_role roles[] = {
#ifdef TEST_DATAGRAMS
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_BLOCKING, .count = 3, .listens = 1, .hand_to = DITTO_NONE},
#else
	{.name = "r0", .kind = DITTO_ROLE_ACCEPT_SERVE, .count = 3, .listens = 1, .handover = TEST_HANDOVER, .hand_to = 1,
	 .on_close = {1, closed}},
	{.name = "r1", .kind = DITTO_ROLE_SERVE, .count = 1, .on_close = {1, closed}},
#endif
};
#ifdef TEST_DATAGRAMS
#define DATAGRAMS 1
static const uint16_t p0[] = {0};
#else
#define DATAGRAMS 0
static const uint16_t p0[] = {0, 1};
#endif
static const struct ditto_process processes[] = {{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = sizeof(p0) / sizeof(p0[0]), .role = p0}};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 3, .codec = DITTO_CODEC_OPAQUE,
	.classes = 3 - DATAGRAMS, .cls = classes,
	.recv = {.nr = SYS_recvfrom, .bytes = 8192}, .send = {.nr = SYS_sendto, .flags = 0x4000, .iovs = 1},
	.listener = {.backlog = 128, .datagrams = DATAGRAMS, .accept_nr = SYS_accept},
	.roles = sizeof(p0) / sizeof(p0[0]), .role = roles, .processes = 1, .process = processes,
};
