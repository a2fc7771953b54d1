/* SPDX-License-Identifier: Apache-2.0
 *
 * A single event loop with deferred replies, timers and idle threads beside it.  TEST_* macros vary it. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#ifndef TEST_WAIT
#define TEST_WAIT DITTO_WAIT_EPOLL
#endif
#ifndef TEST_SEND
#define TEST_SEND .nr = SYS_write, .per_read = 1, .arm = 1, .iovs = 1
#endif
#ifndef TEST_REPLY_FLAGS
#define TEST_REPLY_FLAGS DITTO_DEFERRED
#endif
#ifndef TEST_RECV
#define TEST_RECV .nr = SYS_read, .bytes = 16384
#endif
#ifndef TEST_EVENTS
#define TEST_EVENTS EPOLLIN
#endif

static volatile unsigned long blocks_run;

__attribute__((unused)) static void block(struct ditto_body *body)
{
	(void)body;
	blocks_run++;
}

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

DIST(two, 2);
#ifdef TEST_SETS
DIST(one, 1);
static const uint32_t half_value[] = {0, 2}, half_cum[] = {DITTO_ALWAYS / 2, DITTO_ALWAYS};
static const struct ditto_dist none_or_two = {2, half_value, half_cum};
#endif
DIST(hundred, 100);
DIST(five, 5);
#ifdef TEST_FUZZ
DIST(big, 300);
#else
DIST(big, 3000000);
#endif

static const struct ditto_reply ok[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_SIMPLE, .size = &two}};
static const struct ditto_reply bulk[] = {
	{.prob = DITTO_ALWAYS / 10, .kind = REPLY_NIL},
	{.prob = DITTO_ALWAYS, .kind = REPLY_BULK, .size = &hundred},
};
static const struct ditto_reply array[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .count = &five, .size = &hundred}};
static const struct ditto_reply scored[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .status = 5, .count = &two, .size = &five}};
static const struct ditto_reply scanned[] = {{.prob = DITTO_ALWAYS / 2, .kind = REPLY_ARRAY, .status = 40, .count = &two, .size = &five},
					   {.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .status = 41, .count = &two, .size = &five}};
static const struct ditto_reply streamed[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .status = 42, .count = &two, .size = &five}};
static const struct ditto_reply map[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .status = 10, .count = &two, .size = &five}};
static const struct ditto_reply huge[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_BULK, .size = &big}};

#ifdef TEST_SETS
static const struct ditto_reply number[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_INTEGER, .size = &one}};
static const struct ditto_reply lowest[] = {{.prob = DITTO_ALWAYS, .kind = REPLY_ARRAY, .count = &none_or_two, .size = &five}};
#define WORD(word, kinds, shapes) {.match = {.verb = word, .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = kinds, .reply = shapes, .program = PROGRAM}
#define SETS WORD("SADD", 1, number), WORD("SREM", 1, number), WORD("SPOP", 2, bulk), WORD("ZADD", 1, number), WORD("ZPOPMIN", 1, lowest), \
	WORD("RPUSH", 1, number), WORD("LPOP", 2, bulk), WORD("GETDEL", 2, bulk), WORD("DEL", 1, number),
#define SET_CLASSES 9
#else
#define SETS
#define SET_CLASSES 0
#endif

static const struct ditto_op serve[] = {
	{.kind = OP_COMPUTE, .prob = DITTO_ALWAYS, .block = block},
	{.kind = OP_REPLY, .prob = DITTO_ALWAYS, .flags = TEST_REPLY_FLAGS},
	{.kind = OP_COMPUTE, .prob = DITTO_ALWAYS, .flags = TEST_REPLY_FLAGS, .block = block},
};

#define PROGRAM {3, serve}

static const struct ditto_class classes[] = {
	{.match = {.verb = "SET", .argc = 3, .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS / 2, .replies = 1, .reply = ok, .program = PROGRAM},
	{.match = {.verb = "GET", .argc = 2, .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = bulk, .program = PROGRAM},
	{.match = {.verb = "LRANGE", .argc = 4, .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = array, .program = PROGRAM},
	{.match = {.verb = "ZRANGE", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = scored, .program = PROGRAM},
	{.match = {.verb = "HGETALL", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = map, .program = PROGRAM},
	{.match = {.verb = "HUGE", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = huge, .program = PROGRAM},
	{.match = {.verb = "SSCAN", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = scanned, .program = PROGRAM},
	{.match = {.verb = "XREAD", .path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 1, .reply = streamed, .program = PROGRAM},
	SETS
};

static const struct ditto_op accepted[] = {
	{.kind = OP_FCNTL, .prob = DITTO_ALWAYS, .a = 3},
	{.kind = OP_FCNTL, .prob = DITTO_ALWAYS, .a = 4, .b = 04002},
	{.kind = OP_SETSOCKOPT, .prob = DITTO_ALWAYS, .a = 6, .b = 1, .c = 1},
	{.kind = OP_EPOLL_ADD, .prob = DITTO_ALWAYS, .a = (int)(TEST_EVENTS)},
#ifdef TEST_COPIES
	{.kind = OP_FCNTL, .prob = DITTO_ALWAYS, .a = 1030, .b = 3},
#endif
};
static const struct ditto_op closed[] = {
	{.kind = OP_EPOLL_DEL, .prob = DITTO_ALWAYS},
	{.kind = OP_CLOSE, .prob = DITTO_ALWAYS},
#ifdef TEST_COPIES
	{.kind = OP_CLOSE, .prob = DITTO_ALWAYS},
#endif
};
static const struct ditto_op tick[] = {
	{.kind = OP_FILE_OPEN, .prob = DITTO_ALWAYS, .a = 0, .b = 0, .nr = SYS_openat},
	{.kind = OP_FILE_READ, .prob = DITTO_ALWAYS, .b = 0, .nr = SYS_read, .size = &hundred},
	{.kind = OP_FILE_CLOSE, .prob = DITTO_ALWAYS, .b = 0},
	{.kind = OP_MISC, .prob = DITTO_ALWAYS, .nr = SYS_getpid},
};
static const struct ditto_timer timers[] = {{.period_ns = 100000000, .program = {4, tick}}};

static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = TEST_WAIT, .count = 1, .max_events = 1024, .timeout_ms = 100,
	 .listens = 1, .listen_events = EPOLLIN, .deferred_lifo = 1, .on_wake = block, .before_wait = block,
	 .on_adopt = {4, accepted}, .on_close = {2, closed}, .timers = 1, .timer = timers},
	{.name = "r1", .kind = DITTO_ROLE_IDLE, .wait_nr = SYS_futex, .count = 3},
};
static const uint16_t p0[] = {0, 1};
static const struct ditto_process processes[] = {{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 2, .role = p0}};
static const struct ditto_file_group files[] = {{.kind = DITTO_FILE_PROC_SELF_STAT, .count = 1}};

#ifndef TEST_FRESH_PAGES
#define TEST_FRESH_PAGES 0
#endif

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 7, .codec = DITTO_CODEC_RESP2,
	.classes = 8 + SET_CLASSES, .cls = classes,
	.recv = {TEST_RECV}, .send = {TEST_SEND},
	.listener = {.backlog = 511, .nonblocking = 1, .accept_nr = SYS_accept4, .accept_flags = 02000000,
		     .accept_until_again = 1},
	.roles = 2, .role = roles, .processes = 1, .process = processes, .file_groups = 1, .file_group = files,
	.resident_bytes = 1 << 20, .fresh_pages = TEST_FRESH_PAGES,
};
