/* SPDX-License-Identifier: Apache-2.0
 *
 * A database with a process for each connection, which waits with an event queue of its own; or with one loop. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_CODEC
#define TEST_CODEC DITTO_CODEC_PGSQL
#endif

#ifndef TEST_HANDOVER
#define TEST_HANDOVER DITTO_HAND_SPAWN_PROCESS
#endif

#ifndef TEST_RECV
#define TEST_RECV .nr = SYS_recvfrom, .bytes = 8192
#endif

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(session, 420);
DIST(one, 1);
DIST(three, 3);
DIST(six, 6);
DIST(long_text, 84);

#if TEST_MYSQL
#define NUMBER_TYPE 3
#define TEXT_TYPE 253
#else
#define NUMBER_TYPE 23
#define TEXT_TYPE 25
#endif

static const struct ditto_column columns[] = {
	{.name_bytes = 8, .type = NUMBER_TYPE, .type_bytes = 4, .size = &six},
	{.name_bytes = 6, .type = TEXT_TYPE, .type_bytes = -1 & 0xffff, .size = &long_text},
	{.name_bytes = 4, .type = TEXT_TYPE, .type_bytes = -1 & 0xffff, .none = DITTO_ALWAYS, .size = &one},
};
static const struct ditto_reply begun[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_SESSION, .size = &session}};
static const struct ditto_reply rows[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_ROWS, .count = &three, .columns = 3, .column = columns,
	 .columns_known = 1}};
static const struct ditto_reply first[] = {
	{.prob = DITTO_ALWAYS, .kind = REPLY_ROWS, .count = &one, .columns = 1, .column = columns}};
static const struct ditto_reply done[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_DONE, .count = &one}};
static const struct ditto_reply failed[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_FAILED}};

static const struct ditto_op serve[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};

#define CLASS(word, print, shape) \
	{.match = {.verb = word, .path_print = print}, .prob = DITTO_ALWAYS, .replies = 1, .reply = shape, .program = {1, serve}}

static const struct ditto_class classes[] = {
	CLASS("SELECT", TEST_PRINT_WIDE, rows),
	CLASS("SELECT", TEST_PRINT_NARROW, first),
	CLASS("UPDATE", DITTO_NONE, done),
	CLASS("BEGIN", DITTO_NONE, done),
	CLASS("DROP", DITTO_NONE, failed),
	CLASS("COPY", TEST_PRINT_COPY, done),
	CLASS("COPY", TEST_PRINT_OUT, first),
	CLASS("Startup", DITTO_NONE, begun),
	CLASS("Parse_SELECT", TEST_PRINT_WIDE, rows),
	CLASS("Bind_SELECT", TEST_PRINT_WIDE, rows),
	CLASS("Bind_SELECT", TEST_PRINT_NARROW, first),
	CLASS("Bind_UPDATE", DITTO_NONE, done),
};

static const struct ditto_op closed[] = {{.kind = OP_CLOSE, .prob = DITTO_ALWAYS}};
#ifndef TEST_LOOP
static const struct ditto_op adopted[] = {{.kind = OP_FCNTL, .prob = DITTO_ALWAYS, .a = 4, .b = 04002}};
#endif

static const struct ditto_role roles[] = {
#ifdef TEST_LOOP
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 32, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE, .on_close = {1, closed}},
#else
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_SELECT, .count = 1, .max_events = 32, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .handover = TEST_HANDOVER, .hand_to = 1},
	{.name = "r1", .kind = DITTO_ROLE_SERVE, .wait = DITTO_WAIT_EPOLL, .receive_first = 1, .on_adopt = {1, adopted},
	 .on_close = {1, closed}},
#endif
};
#ifndef TEST_LOOP
static const uint16_t p0[] = {0, 1};
#else
static const uint16_t p0[] = {0};
#endif
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = sizeof(p0) / sizeof(p0[0]), .role = p0}};

#ifndef TEST_BORN_PAGES
#define TEST_BORN_PAGES 0
#endif
const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 5, .codec = TEST_CODEC, .print_key = 0x1234ABCD,
	.classes = sizeof(classes) / sizeof(classes[0]), .cls = classes,
	.recv = {TEST_RECV},
	.send = {.nr = SYS_sendto, .iovs = 1, .arm = 1},
	.listener = {.backlog = 200, .nonblocking = 1, .accept_nr = SYS_accept},
	.roles = sizeof(roles) / sizeof(roles[0]), .role = roles, .processes = 1, .process = processes,
	.born_pages = TEST_BORN_PAGES,
};
