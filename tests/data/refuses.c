/*
 * A server that ends when it finds itself under Valgrind, unless told otherwise: refuses PORT [tolerant].
 * It answers each request of Redis' protocol that comes in one piece with +OK, after some work on it.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TABLE 4096

struct entry {
	uint64_t hash;
	uint32_t uses;
	char text[52];
};

static struct entry table[TABLE];
static char line[512];

static uint64_t hash_of(const char *data, size_t n)
{
	uint64_t h = 1469598103934665603u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)data[i]) * 1099511628211u;
	return h;
}

static int order(const void *a, const void *b)
{
	return *(const unsigned char *)a - *(const unsigned char *)b;
}

static void work(const char *data, size_t n)
{
	uint64_t h = hash_of(data, n);
	char sorted[128];

	for (int round = 0; round < 6; round++) {
		struct entry *e = &table[(h >> (round * 7)) % TABLE];

		if (e->hash != h) {
			e->hash = h;
			snprintf(e->text, sizeof e->text, "%016llx:%zu", (unsigned long long)h, n);
		}
		e->uses++;
		snprintf(line, sizeof line, "%s seen %u times in round %d", e->text, e->uses, round);
		h = hash_of(line, strlen(line)) ^ h;
	}
	n = n < sizeof sorted ? n : sizeof sorted;
	memcpy(sorted, data, n);
	qsort(sorted, n, 1, order);
	table[h % TABLE].hash ^= hash_of(sorted, n);
}

static int serve(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0), queue = epoll_create1(0), one = 1;
	struct epoll_event wanted = {.events = EPOLLIN, .data.fd = listener}, ready[64];

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128))
		return 1;
	epoll_ctl(queue, EPOLL_CTL_ADD, listener, &wanted);
	for (;;) {
		int n = epoll_wait(queue, ready, 64, -1);

		for (int i = 0; i < n; i++) {
			int fd = ready[i].data.fd;
			char data[4096];
			ssize_t got;

			if (fd == listener) {
				wanted.data.fd = accept(listener, NULL, NULL);
				epoll_ctl(queue, EPOLL_CTL_ADD, wanted.data.fd, &wanted);
				continue;
			}
			got = read(fd, data, sizeof data);
			if (got <= 0) {
				close(fd);
				continue;
			}
			work(data, (size_t)got);
			if (write(fd, "+OK\r\n", 5) != 5)
				close(fd);
		}
	}
}

int main(int argc, char **argv)
{
	const char *preloaded = getenv("LD_PRELOAD");

	if (preloaded && strstr(preloaded, "vgpreload") && (argc < 3 || strcmp(argv[2], "tolerant") != 0)) {
		fprintf(stderr, "no debugger, please\n");
		return 9;
	}
	return serve(atoi(argv[1]));
}
