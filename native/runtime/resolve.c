/* SPDX-License-Identifier: Apache-2.0
 *
 * The IPv4 address of a host name, from /etc/hosts or a name server: what containers need to find each other.  The C
 * library's own resolver cannot be linked statically without a warning and its shared parts at run time.
 */
#include "link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef HOSTS_FILE
#define HOSTS_FILE "/etc/hosts"
#endif
#ifndef RESOLVER_FILE
#define RESOLVER_FILE "/etc/resolv.conf"
#endif
#ifndef RESOLVER_PORT
#define RESOLVER_PORT 53
#endif

#define SERVERS 3
#define SEARCHES 8
#define NAME_MOST 253
#define TIMEOUT_MS 1000
#define MESSAGE 1500
#define HEADER 12
#define BLANKS " \t\r\n"

struct config {
	struct sockaddr_in server[SERVERS];
	unsigned servers, searches, dots;
	char search[SEARCHES][NAME_MOST + 1];
};

static int in_hosts(const char *name, uint32_t *address)
{
	FILE *file = fopen(HOSTS_FILE, "re");
	char line[1024], *save, *word;
	struct in_addr at;
	int found = -1;

	while (file && found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "#")] = 0;
		word = strtok_r(line, BLANKS, &save);
		if (!word || inet_pton(AF_INET, word, &at) != 1)
			continue;
		while (found && (word = strtok_r(NULL, BLANKS, &save)))
			if (!strcasecmp(word, name)) {
				*address = at.s_addr;
				found = 0;
			}
	}
	if (file)
		fclose(file);
	return found;
}

static void read_search(struct config *config, char **save)
{
	char *word;

	config->searches = 0; /* the last line counts */
	while (config->searches < SEARCHES && (word = strtok_r(NULL, BLANKS, save)))
		snprintf(config->search[config->searches++], NAME_MOST + 1, "%s", word);
}

static void read_config(struct config *config)
{
	FILE *file = fopen(RESOLVER_FILE, "re");
	char line[1024], *save, *word;

	memset(config, 0, sizeof(*config));
	config->dots = 1;
	while (file && fgets(line, sizeof(line), file)) {
		word = strtok_r(line, BLANKS, &save);
		if (!word)
			continue;
		if (!strcmp(word, "search")) {
			read_search(config, &save);
		} else if (!strcmp(word, "options")) {
			while ((word = strtok_r(NULL, BLANKS, &save)))
				if (!strncmp(word, "ndots:", 6))
					config->dots = (unsigned)strtoul(word + 6, NULL, 10);
		} else if (!strcmp(word, "nameserver") && config->servers < SERVERS) {
			struct sockaddr_in *at = &config->server[config->servers];

			word = strtok_r(NULL, BLANKS, &save);
			at->sin_family = AF_INET;
			at->sin_port = htons(RESOLVER_PORT);
			config->servers += word && inet_pton(AF_INET, word, &at->sin_addr) == 1;
		}
	}
	if (file)
		fclose(file);
}

/* The length of a question for the address of a name; 0: it is no name. */
static size_t question(uint8_t *to, const char *name, unsigned number)
{
	static const uint8_t type[4] = {0, 1, 0, 1};
	uint8_t *at = to + HEADER;

	memset(to, 0, HEADER);
	to[0] = (uint8_t)(number >> 8);
	to[1] = (uint8_t)number;
	to[2] = 1; /* recursion desired */
	to[5] = 1;
	while (*name) {
		size_t n = strcspn(name, ".");

		if (n == 0 || n > 63 || at + n + 2 > to + HEADER + NAME_MOST)
			return 0;
		*at++ = (uint8_t)n;
		memcpy(at, name, n);
		at += n;
		name += n + (name[n] == '.');
	}
	*at++ = 0;
	memcpy(at, type, sizeof(type));
	return (size_t)(at - to) + sizeof(type);
}

/* Behind a name, or `n`. */
static size_t skip_name(const uint8_t *p, size_t at, size_t n)
{
	while (at < n) {
		if (p[at] >= 0xc0)
			return at + 2 < n ? at + 2 : n;
		if (p[at] == 0)
			return at + 1;
		at += p[at] + 1u;
	}
	return n;
}

/* The first address among the answers.  0: found, 1: the server says that there is none, -1: no answer to this. */
static int read_answer(const uint8_t *p, size_t n, const uint8_t *asked, size_t asked_n, uint32_t *address)
{
	size_t at = asked_n;

	if (n < asked_n || memcmp(p, asked, 2) || !(p[2] & 0x80) || memcmp(p + HEADER, asked + HEADER, asked_n - HEADER))
		return -1;
	if ((p[3] & 15) != 0 && (p[3] & 15) != 3)
		return -1;
	for (unsigned left = (unsigned)(p[6] << 8 | p[7]); left; left--) {
		size_t length;

		at = skip_name(p, at, n);
		if (at + 10 > n)
			break;
		length = (size_t)(p[at + 8] << 8 | p[at + 9]);
		if (at + 10 + length > n)
			break;
		if (p[at] == 0 && p[at + 1] == 1 && length == 4) {
			memcpy(address, p + at + 10, 4);
			return 0;
		}
		at += 10 + length;
	}
	return 1;
}

static int ask(const struct sockaddr_in *server, const char *name, uint32_t *address)
{
	static unsigned number;
	uint8_t asked[HEADER + NAME_MOST + 8], got[MESSAGE];
	size_t size = question(asked, name, number = number * 25173 + 13849 + (unsigned)getpid());
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), found = -1;

	if (fd >= 0 && size && !connect(fd, (const struct sockaddr *)server, sizeof(*server)) &&
	    send(fd, asked, size, MSG_NOSIGNAL) == (ssize_t)size) {
		struct pollfd set = {.fd = fd, .events = POLLIN};
		ssize_t n = 0;

		while (found < 0 && n >= 0 && poll(&set, 1, TIMEOUT_MS) > 0) {
			n = recv(fd, got, sizeof(got), 0);
			if (n > 0)
				found = read_answer(got, (size_t)n, asked, size, address);
		}
	}
	if (fd >= 0)
		close(fd);
	return found;
}

static int ask_all(const struct config *config, const char *name, uint32_t *address)
{
	int found = -1;

	for (unsigned i = 0; found < 0 && i < config->servers; i++)
		found = ask(&config->server[i], name, address);
	return found ? -1 : 0;
}

int resolve_name(const char *name, uint32_t *address)
{
	static struct config config;
	unsigned dots = 0;
	size_t n = strlen(name);
	char full[2 * NAME_MOST + 2];

	if (in_hosts(name, address) == 0)
		return 0;
	read_config(&config);
	for (const char *p = name; *p; p++)
		dots += *p == '.';
	if (dots >= config.dots && ask_all(&config, name, address) == 0)
		return 0;
	for (unsigned i = 0; n && name[n - 1] != '.' && i < config.searches; i++) {
		snprintf(full, sizeof(full), "%s.%s", name, config.search[i]);
		if (ask_all(&config, full, address) == 0)
			return 0;
	}
	return dots < config.dots ? ask_all(&config, name, address) : -1;
}
