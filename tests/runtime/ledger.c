/* A server of a protocol that no codec knows: u32 length (big endian, of what follows), u8 kind, data; replies alike,
 * their size by the kind, their kind 128 more. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static uint8_t table[1 << 20], buffer[1 << 16];

static void answer(int fd)
{
	ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
	uint32_t sum = 1, size, wire;

	if (n < 5) {
		close(fd);
		return;
	}
	for (ssize_t i = 5; i < n; i++)
		sum = sum * 31 + buffer[i];
	for (int i = 0; i < (buffer[4] == 1 ? 40 : 200); i++) {
		sum = sum * 1103515245 + 12345;
		sum += table[sum % sizeof(table)]++;
	}
	size = buffer[4] == 1 ? 101 : 1501;
	wire = htonl(size);
	memcpy(buffer, &wire, 4);
	buffer[4] |= 128;
	memset(buffer + 5, 'a' + (int)(sum % 26), size - 1);
	send(fd, buffer, size + 4, MSG_NOSIGNAL);
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[argc - 1]))};
	struct epoll_event event = {.events = EPOLLIN}, got[64];
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, set = epoll_create1(0);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 128))
		return 1;
	event.data.fd = listener;
	epoll_ctl(set, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int n = epoll_wait(set, got, 64, -1);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd != listener) {
				answer(got[i].data.fd);
				continue;
			}
			event.data.fd = accept4(listener, NULL, NULL, 0);
			setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event);
		}
	}
}
