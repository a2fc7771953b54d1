/* SPDX-License-Identifier: Apache-2.0
 *
 * A clone: a synthetic service made of tables and blocks, without code or data of any other program.
 */
#include "link.h"
#include "worker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

struct options options = {.host = "127.0.0.1", .port = 0, .data = NULL, .skeleton = 0, .stub = -1, .patience = 30, .seed = 0};
int listener_fd = -1;

static const char usage[] =
	"usage: clone --port P [--host H] [--data DIR] [--downstream N=HOST:PORT]\n"
	"             [--patience S] [--skeleton] [--seed S]\n"
	"\n"
	"  --port P     TCP port to listen on; 0 lets the kernel choose (it is printed)\n"
	"  --host H     IPv4 or IPv6 address to listen on (default 127.0.0.1)\n"
	"  --data DIR   where the clone makes its own files, which stay there; default: a temporary\n"
	"               directory, removed at the end\n"
	"  --downstream N=HOST:PORT\n"
	"               where the service that it calls as number N is (an IPv4 or [IPv6] address, or a name,\n"
	"               which is asked for again and again); one that is not told is stood in for by a process\n"
	"               of the clone's own\n"
	"  --patience S how many seconds a call to a service may wait before the request is answered with an\n"
	"               error (default 30; 0: for ever)\n"
	"  --stub N     be that stand-in instead, on --port\n"
	"  --skeleton   leave out all synthetic computing: system calls and protocol only\n"
	"  --check      connect to a clone that runs, and end: 0 if it accepts (for health checks)\n"
	"  --seed S     seed of every random choice (default: the seed of the tables)\n"
	"\n"
	"example: clone --port 6379\n";

void fail(const char *what)
{
	int error = errno;

	dprintf(2, "clone: %s: %s\n", what, strerror(error));
	process_end_all();
	files_remove();
	_exit(1);
}

static void end_signal(int number)
{
	(void)number;
	process_end_all();
	files_remove();
	_exit(0);
}

static uint64_t number_or_die(const char *name, const char *text, uint64_t most)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = text ? strtoull(text, &end, 0) : 0;
	if (!text || !*text || *text == '-' || *end || errno || value > most) {
		dprintf(2, "clone: %s needs a number up to %llu\n", name, (unsigned long long)most);
		_exit(2);
	}
	return value;
}

static void read_options(int argc, char **argv)
{
	int port_given = 0;

	options.seed = ditto_service.seed;
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			dprintf(1, "%s", usage);
			_exit(0);
		} else if (!strcmp(argv[i], "--skeleton")) {
			options.skeleton = 1;
			continue;
		} else if (!strcmp(argv[i], "--check")) {
			options.check = 1;
			continue;
		} else if (!strcmp(argv[i], "--port")) {
			options.port = (int)number_or_die("--port", value, 65535);
			port_given = 1;
		} else if (!strcmp(argv[i], "--seed")) {
			options.seed = number_or_die("--seed", value, UINT64_MAX);
		} else if (!strcmp(argv[i], "--patience")) {
			options.patience = (unsigned)number_or_die("--patience", value, 86400);
		} else if (!strcmp(argv[i], "--stub")) {
			options.stub = (int)number_or_die("--stub", value, DITTO_DOWNSTREAMS - 1);
		} else if (!strcmp(argv[i], "--downstream") && value) {
			if (wiring_option(value)) {
				dprintf(2, "clone: --downstream %s is not N=HOST:PORT with N below %u, the services it calls\n",
					value, ditto_service.downstreams);
				_exit(2);
			}
		} else if (!strcmp(argv[i], "--host") && value) {
			options.host = value;
		} else if (!strcmp(argv[i], "--data") && value) {
			options.data = value;
		} else {
			dprintf(2, "clone: unknown or incomplete option %s\n%s", argv[i], usage);
			_exit(2);
		}
		i++;
	}
	if (!port_given) {
		dprintf(2, "clone: --port is missing\n%s", usage);
		_exit(2);
	}
}

/* The address of the options; its size. */
static socklen_t address_of(struct sockaddr_storage *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, options.host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)options.port);
		return sizeof(*four);
	}
	if (inet_pton(AF_INET6, options.host, &six->sin6_addr) != 1) {
		dprintf(2, "clone: --host: %s is no address\n", options.host);
		files_remove();
		_exit(2);
	}
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)options.port);
	return sizeof(*six);
}

/* Whether something accepts connections there. */
static int answers(void)
{
	struct sockaddr_storage address;
	socklen_t size = address_of(&address);
	int datagrams = ditto_service.listener.datagrams;
	int fd = socket(address.ss_family, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (datagrams) /* nobody has to answer, but the port is taken */
		return fd >= 0 && bind(fd, (struct sockaddr *)&address, size) != 0 && errno == EADDRINUSE;
	return fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0;
}

int listener_open(void)
{
	const struct ditto_listener *table = &ditto_service.listener;
	struct sockaddr_storage address;
	socklen_t size = address_of(&address);
	int on = 1, fd, type = table->datagrams ? SOCK_DGRAM : SOCK_STREAM;

	fd = socket(address.ss_family, type | SOCK_CLOEXEC | (table->nonblocking ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		fail("socket");
	if (!table->datagrams) /* with datagrams it would let two servers have the port */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (table->reuseport)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	for (unsigned i = 0; i < table->sockopts; i++)
		socket_op(fd, &table->sockopt[i]);
	if (bind(fd, (struct sockaddr *)&address, size) || (!table->datagrams && listen(fd, table->backlog)))
		fail("listening");
	return fd;
}

unsigned listener_port(int fd)
{
	struct sockaddr_in6 address;
	socklen_t size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &size))
		return 0;
	return ntohs(address.sin6_port); /* the same place in both families */
}

/* With reuseport every thread has a socket of its own, and datagram servers may share a port: another instance would go
 * unnoticed.  A socket without such options finds out first. */
static void check_free(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
	int on = 1, fd;

	if (!(ditto_service.listener.reuseport || ditto_service.listener.datagrams) || inet_pton(AF_INET, options.host, &address.sin_addr) != 1)
		return;
	fd = socket(AF_INET, (ditto_service.listener.datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (!ditto_service.listener.datagrams)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		fail("listening");
	if (options.port == 0)
		options.port = (int)listener_port(fd);
	close(fd);
}

static void stand_in(void)
{
	int fd;

	if (options.stub >= ditto_service.downstreams) {
		dprintf(2, "clone: --stub %d: it calls %u services, numbered from 0\n", options.stub, ditto_service.downstreams);
		_exit(2);
	}
	fd = listener_open();
	dprintf(1, "standing in on %s port %u\n", options.host, listener_port(fd));
	stub_serve((unsigned)options.stub, fd);
}

int main(int argc, char **argv)
{
	struct rlimit limit;
	struct sigaction action;

	read_options(argc, argv);
	if (options.check)
		return !answers();
	if (ditto_service.version != DITTO_TABLES_VERSION) {
		dprintf(2, "clone: its tables have version %u, this runtime reads version %d; generate the clone again\n",
			ditto_service.version, DITTO_TABLES_VERSION);
		return 2;
	}
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN); /* processes that served a connection leave no trace */
	memset(&action, 0, sizeof(action));
	action.sa_handler = end_signal;
	sigfillset(&action.sa_mask);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	if (options.stub >= 0)
		stand_in();
	codec_by_id(ditto_service.codec)->setup(&ditto_service);
	conn_setup();
	job_setup();
	check_free();
	if (!ditto_service.listener.reuseport) {
		listener_fd = listener_open();
		options.port = (int)listener_port(listener_fd);
	}
	passages_open();
	files_create();
	wiring_start();
	dprintf(1, "listening on %s %sport %d\n", options.host, ditto_service.listener.datagrams ? "datagram " : "", options.port);
	process_run(0, 0);
}
