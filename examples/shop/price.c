/* SPDX-License-Identifier: Apache-2.0
 *
 * Prices: one thread, epoll, GET /price/N.  The price is computed, so it calls nobody.
 *     price PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS 64

static unsigned long price_of(unsigned long product)
{
	unsigned long x = product * 2654435761ul + 12345;

	/* A discount that takes some work. */
	for (int round = 0; round < 2000; round++)
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
	return x % 10000;
}

/* One request a read: clients of this service do not pipeline. */
static int answer(int fd)
{
	char request[2048], body[64], reply[256];
	ssize_t got = read(fd, request, sizeof(request) - 1);
	unsigned long product = 0;
	int length, size;

	if (got <= 0)
		return 0;
	request[got] = '\0';
	sscanf(request, "GET /price/%lu", &product);
	length = snprintf(body, sizeof(body), "{\"product\": %lu, \"price\": %lu}", product, price_of(product));
	size = snprintf(reply, sizeof(reply),
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", length, body);
	return write(fd, reply, size) == size;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), queue = epoll_create1(EPOLL_CLOEXEC), one = 1;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[EVENTS];

	if (argc != 2) {
		fprintf(stderr, "use: %s PORT\n", argv[0]);
		return 2;
	}
	address.sin_port = htons(atoi(argv[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 128) ||
	    epoll_ctl(queue, EPOLL_CTL_ADD, listener, &event)) {
		perror("price");
		return 1;
	}
	for (;;) {
		int ready = epoll_wait(queue, events, EVENTS, -1);

		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;

			if (fd == listener) {
				struct epoll_event added = { .events = EPOLLIN };

				added.data.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
				if (added.data.fd < 0)
					continue;
				setsockopt(added.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
				if (epoll_ctl(queue, EPOLL_CTL_ADD, added.data.fd, &added))
					close(added.data.fd);
			} else if (!answer(fd)) {
				close(fd);
			}
		}
	}
}
