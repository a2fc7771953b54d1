/* SPDX-License-Identifier: Apache-2.0
 *
 * A server of DNS: one answer with an address, or no such name with one record of authority.  Over datagrams;
 * TEST_STREAM (and the fuzzer): over connections. */
#include "ditto.h"

#include <sys/epoll.h>
#include <sys/syscall.h>

#define DIST(name, ...) \
	static const uint32_t name##_value[] = {__VA_ARGS__}; \
	static const uint32_t name##_cum[] = {DITTO_ALWAYS}; \
	static const struct ditto_dist name = {1, name##_value, name##_cum}

#if defined(TEST_STREAM) || defined(TEST_FUZZ)
#define DATAGRAMS 0
#else
#define DATAGRAMS 1
#endif

DIST(none, 0);
DIST(one, 1);
DIST(address, 16);
DIST(authority, 300);

static const struct ditto_reply answers[] = {
	{.prob = DITTO_ALWAYS / 10 * 9, .kind = REPLY_DNS, .status = 0, .count = &one, .second = &none, .size = &address},
	{.prob = DITTO_ALWAYS, .kind = REPLY_DNS, .status = 3, .count = &none, .second = &one, .size = &authority},
};
static const struct ditto_op answer[] = {{.kind = OP_REPLY, .prob = DITTO_ALWAYS}};
static const struct ditto_class classes[] = {
	{.match = {.path_print = DITTO_NONE}, .prob = DITTO_ALWAYS, .replies = 2, .reply = answers, .program = {1, answer}},
};
static const struct ditto_role roles[] = {
	{.name = "r0", .kind = DITTO_ROLE_LOOP, .wait = DITTO_WAIT_EPOLL, .count = 1, .max_events = 64, .timeout_ms = -1,
	 .listens = 1, .listen_events = EPOLLIN, .hand_to = DITTO_NONE},
};
static const uint16_t p0[] = {0};
static const struct ditto_process processes[] = {
	{.name = "p0", .parent = DITTO_NONE, .count = 1, .roles = 1, .role = p0},
};

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .seed = 9, .codec = DITTO_CODEC_DNS, .classes = 1, .cls = classes,
#ifdef TEST_LAST
	.recv = {.nr = SYS_recvmmsg, .bytes = 2048, .flags = 0x40, .until_again = 1, .batch = 8, .enough = 10},
	.send = {.nr = SYS_sendmmsg, .iovs = 1, .arm = 1},
#else
	.recv = {.nr = SYS_recvfrom, .bytes = 65552, .flags = 0x40, .until_again = 1},
	.send = {.nr = SYS_sendto, .iovs = 1, .arm = 1},
#endif
	.listener = {.backlog = 128, .nonblocking = 1, .datagrams = DATAGRAMS, .accept_nr = SYS_accept4, .accept_flags = 04000,
#ifdef TEST_LAST
		     .answers_last = 1, .rewatches = 1,
#endif
	},
	.roles = 1, .role = roles, .processes = 1, .process = processes,
};
