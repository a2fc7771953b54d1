/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the services are that a clone calls: told at start, or stood in for by processes of its own.
 */
#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

struct address downstream_address[DITTO_DOWNSTREAMS];

/* HOST:PORT with a numeric address, IPv6 in brackets. */
static int parse(const char *text, struct address *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&address->at;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->at;
	const char *colon = strrchr(text, ':');
	char host[64], *end;
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
	if (host[0] != '[' || host[n - 1] != ']')
		return -1;
	host[n - 1] = 0;
	if (inet_pton(AF_INET6, host + 1, &six->sin6_addr) != 1)
		return -1;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	address->size = sizeof(*six);
	return 0;
}

int wiring_option(const char *text)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (end == text || *end != '=' || *text == '-' || number >= ditto_service.downstreams)
		return -1;
	return parse(end + 1, &downstream_address[number]);
}

/* Listening before the fork, so that the first call finds it. */
static void start_stub(unsigned number)
{
	struct sockaddr_in *at = (struct sockaddr_in *)&downstream_address[number].at;
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	pid_t parent = getpid(), child;

	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)at, size) || listen(fd, SOMAXCONN) ||
	    getsockname(fd, (struct sockaddr *)at, &size))
		fail("standing in for a service it calls");
	downstream_address[number].size = size;
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		signal(SIGTERM, SIG_DFL);
		signal(SIGINT, SIG_DFL);
		signal(SIGHUP, SIG_DFL);
		if (getppid() != parent)
			_exit(0);
		stub_serve(number, fd);
	}
	process_keep(child);
	close(fd);
}

void wiring_start(void)
{
	for (unsigned i = 0; i < ditto_service.downstreams && i < DITTO_DOWNSTREAMS; i++)
		if (!downstream_address[i].size)
			start_stub(i);
}
