/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the services are that a clone calls: told at start, or stood in for by processes of its own.
 */
#include "link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define NAME_BYTES 254
#define AGAIN_MS 250    /* after a name that has no address yet */
#define REFRESH_MS 5000 /* services that come back elsewhere */
#define AT_START_MS 1000

struct address *downstream_address;
static char (*names)[NAME_BYTES]; /* one a downstream, empty where an address was told */

/* HOST:PORT, IPv6 in brackets; a name is left for later, its port kept. */
static int parse(const char *text, struct address *address, char *name)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&address->at;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->at;
	const char *colon = strrchr(text, ':');
	char host[NAME_BYTES], *end;
	unsigned long port;
	size_t n;

	if (!colon || !colon[1] || colon[1] == '-')
		return -1;
	port = strtoul(colon + 1, &end, 10);
	n = (size_t)(colon - text);
	if (*end || port == 0 || port > 65535 || n == 0 || n >= sizeof(host))
		return -1;
	memcpy(host, text, n);
	host[n] = 0;
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		address->size = sizeof(*four);
		return 0;
	}
	if (host[0] != '[' || host[n - 1] != ']') {
		if (host[strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")] || host[0] == '.')
			return -1;
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		memcpy(name, host, n + 1);
		return 0;
	}
	host[n - 1] = 0;
	if (inet_pton(AF_INET6, host + 1, &six->sin6_addr) != 1)
		return -1;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	address->size = sizeof(*six);
	return 0;
}

/* Shared with the process that looks names up. */
static void make_room(void)
{
	size_t size = DITTO_DOWNSTREAMS * (sizeof(*downstream_address) + NAME_BYTES);

	if (downstream_address)
		return;
	downstream_address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (downstream_address == MAP_FAILED)
		fail("memory for addresses");
	names = (void *)(downstream_address + DITTO_DOWNSTREAMS);
}

int wiring_option(const char *text)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (end == text || *end != '=' || *text == '-' || number >= ditto_service.downstreams)
		return -1;
	make_room();
	names[number][0] = 0;
	return parse(end + 1, &downstream_address[number], names[number]);
}

/* A child that ends with the clone; 0 in it. */
static pid_t fork_beside(void)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		fail("fork");
	if (child) {
		process_keep(child);
		return child;
	}
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	if (getppid() != parent)
		_exit(0);
	return 0;
}

static void sleep_ms(long ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* Whether every name has an address. */
static int look_up(int *told)
{
	int all = 1;

	for (unsigned i = 0; i < ditto_service.downstreams; i++) {
		struct sockaddr_in *at = (struct sockaddr_in *)&downstream_address[i].at;
		uint32_t found;

		if (!names[i][0])
			continue;
		if (resolve_name(names[i], &found) == 0) {
			__atomic_store_n(&at->sin_addr.s_addr, found, __ATOMIC_RELAXED);
			__atomic_store_n(&downstream_address[i].size, sizeof(*at), __ATOMIC_RELEASE);
		} else if (!downstream_address[i].size) {
			all = 0;
			if (told && !*told)
				dprintf(2, "clone: %s has no address yet: asking again\n", names[i]);
		}
	}
	if (told)
		*told |= !all;
	return all;
}

/* In a process of its own, for a loop that asks for a name stands still until the answer is there.  Services that have no
 * address yet, or another one after they were started again, are found without anybody's help. */
static void start_looking_up(void)
{
	int told = 0;

	if (fork_beside() == 0)
		for (;;)
			sleep_ms(look_up(&told) ? REFRESH_MS : AGAIN_MS);
}

static int any_name(int without_address)
{
	for (unsigned i = 0; i < ditto_service.downstreams; i++)
		if (names[i][0] && !(without_address && downstream_address[i].size))
			return 1;
	return 0;
}

/* Listening before the fork, so that the first call finds it. */
static void start_stub(unsigned number)
{
	struct sockaddr_in *at = (struct sockaddr_in *)&downstream_address[number].at;
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)at, size) || listen(fd, SOMAXCONN) ||
	    getsockname(fd, (struct sockaddr *)at, &size))
		fail("standing in for a service it calls");
	downstream_address[number].size = size;
	if (fork_beside() == 0)
		stub_serve(number, fd);
	close(fd);
}

void wiring_start(void)
{
	if (!ditto_service.downstreams)
		return;
	make_room();
	for (unsigned i = 0; i < ditto_service.downstreams; i++)
		if (!downstream_address[i].size && !names[i][0])
			start_stub(i);
	if (!any_name(0))
		return;
	start_looking_up();
	for (int waited = 0; waited < AT_START_MS && any_name(1); waited += 10)
		sleep_ms(10);
}
