/* SPDX-License-Identifier: Apache-2.0
 *
 * ditto-load: open-loop load on a server.  Prints one JSON object.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "fail.h"
#include "thread.h"

#define MOST_THREADS 256
#define MOST_CONNECTIONS 100000u

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("ditto-load: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(2);
}

static const char *const usage =
	"usage: ditto-load --plan FILE --port P [--host H] [--connections N] [--threads N] [--seconds S] [--warmup S]\n"
	"                  [--drain S] [--requests N] [--arrivals closed|constant|poisson|recorded] [--rate R]\n"
	"                  [--burst ON:OFF] [--rate-file FILE] [--arrivals-file FILE]\n"
	"                  [--each STEPS] (of the plan for each of --requests) [--counts N] (requests a reply; prints them)\n";

static double number(const char *text, const char *name, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		fail("--%s %s: not a number from %g to %g", name, text, least, most);
	return value;
}

static void resolve(struct settings *s, const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	int error = getaddrinfo(host, port, &hints, &found);

	if (error)
		fail("%s:%s: %s", host, port, gai_strerror(error));
	memcpy(&s->address, found->ai_addr, found->ai_addrlen);
	s->address_len = found->ai_addrlen;
	freeaddrinfo(found);
}

/* Lines of "seconds rate", ordered by seconds. */
static void read_rates(struct schedule *schedule, const char *path)
{
	FILE *file = fopen(path, "r");
	struct rate_step *steps = NULL;
	size_t n = 0;
	double from, rate;
	int got;

	if (!file)
		fail("%s: %s", path, strerror(errno));
	while ((got = fscanf(file, "%lf %lf", &from, &rate)) == 2) {
		if (!(from >= 0) || !(rate >= 0) || rate > 1e8 || (n ? from <= steps[n - 1].from : from > 0))
			fail("%s: line %zu: seconds must begin at 0 and rise, rates must not be negative", path, n + 1);
		steps = realloc(steps, (n + 1) * sizeof(*steps));
		if (!steps)
			fail("no memory for %zu rates", n);
		steps[n++] = (struct rate_step){from, rate};
	}
	if (got != EOF || n == 0)
		fail("%s: line %zu: not two numbers, seconds and requests a second", path, n + 1);
	fclose(file);
	schedule->step = steps;
	schedule->steps = n;
}

/* Lines of nanoseconds from the start, ordered. */
static void read_arrivals(struct schedule *schedule, const char *path)
{
	FILE *file = fopen(path, "r");
	uint64_t *times = NULL, at;
	size_t n = 0, room = 0;
	int got;

	if (!file)
		fail("%s: %s", path, strerror(errno));
	while ((got = fscanf(file, "%" SCNu64, &at)) == 1) {
		if (n && at < times[n - 1])
			fail("%s: line %zu: earlier than the one before", path, n + 1);
		if (n == room) {
			room = room ? room * 2 : 4096;
			times = realloc(times, room * sizeof(*times));
			if (!times)
				fail("no memory for %zu arrivals", n);
		}
		times[n++] = at;
	}
	if (got != EOF || n == 0)
		fail("%s: line %zu: not a number of nanoseconds", path, n + 1);
	fclose(file);
	schedule->recorded = times;
	schedule->recorded_count = n;
}

static void set_burst(struct schedule *schedule, const char *text, double rate)
{
	static struct rate_step steps[2];
	double on, off;
	char rest;

	if (sscanf(text, "%lf:%lf%c", &on, &off, &rest) != 2 || !(on > 0) || !(off > 0))
		fail("--burst %s: not ON:OFF in seconds", text);
	steps[0] = (struct rate_step){0, rate * (on + off) / on};
	steps[1] = (struct rate_step){on, 0};
	schedule->step = steps;
	schedule->steps = 2;
	schedule->period = on + off;
}

static enum arrivals arrivals_of(const char *name)
{
	static const char *const names[] = {"closed", "constant", "poisson", "recorded"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum arrivals)i;
	fail("--arrivals %s: not closed, constant, poisson or recorded", name);
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void print(const struct settings *s, const struct result *r, double cpu)
{
	printf("{\"connections\":%u,\"threads\":%u,\"seconds\":%.6f", s->connections, s->threads,
	       r->received > 1 ? (double)(r->last_ns - r->first_ns) / 1e9 : 0.0);
	printf(",\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"broken\":%" PRIu64
	       ",\"unanswered\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"cpu_seconds\":%.6f",
	       r->sent, r->received, r->failed, r->broken, r->unanswered, r->unsent, r->bytes, cpu);
	printf(",\"late_p99_ns\":%" PRIu64, r->late.total ? histogram_percentile(&r->late, 99) : 0);
	printf(",\"corrected\":");
	histogram_print(&r->corrected, stdout);
	printf(",\"uncorrected\":");
	histogram_print(&r->uncorrected, stdout);
	printf("}\n");
	if (s->counts > 0)
		printf("requests: %.0f\n", (double)r->received * s->counts);
}

static void run(struct settings *s)
{
	struct thread *thread = calloc(s->threads, sizeof(*thread));
	struct result *all = calloc(1, sizeof(*all));
	pthread_barrier_t ready;
	double cpu;
	uint64_t start;

	if (!thread || !all)
		fail("no memory for %u threads", s->threads);
	pthread_barrier_init(&ready, NULL, s->threads + 1);
	for (unsigned i = 0; i < s->threads; i++) {
		thread[i].number = i;
		thread[i].connections = s->connections / s->threads + (i < s->connections % s->threads);
		thread[i].settings = s;
		thread[i].ready = &ready;
		if (pthread_create(&thread[i].thread, NULL, thread_main, &thread[i]))
			fail("no thread: %s", strerror(errno));
	}
	pthread_barrier_wait(&ready);
	cpu = cpu_seconds();
	start = now_ns() + 1000000;
	for (unsigned i = 0; i < s->threads; i++)
		thread[i].start_ns = start;
	pthread_barrier_wait(&ready);
	for (unsigned i = 0; i < s->threads; i++) {
		const struct result *one = &thread[i].result;

		pthread_join(thread[i].thread, NULL);
		histogram_merge(&all->corrected, &one->corrected);
		histogram_merge(&all->uncorrected, &one->uncorrected);
		histogram_merge(&all->late, &one->late);
		if (one->received && (!all->received || one->first_ns < all->first_ns))
			all->first_ns = one->first_ns;
		if (one->last_ns > all->last_ns)
			all->last_ns = one->last_ns;
		all->sent += one->sent;
		all->received += one->received;
		all->failed += one->failed;
		all->broken += one->broken;
		all->unanswered += one->unanswered;
		all->unsent += one->unsent;
		all->bytes += one->bytes;
	}
	print(s, all, cpu_seconds() - cpu);
	if (s->plan.framing >= FRAMING_DATAGRAM && all->sent && !all->received)
		fail("no connection to the server: no reply to any of %" PRIu64 " datagrams", all->sent);
	if (s->counts > 0 && all->sent && !all->received) /* as a client that would find its server broken */
		fail("no reply to any of %" PRIu64 " requests", all->sent);
	free(thread);
	free(all);
}

enum { O_PLAN = 1, O_HOST, O_PORT, O_CONNECTIONS, O_THREADS, O_SECONDS, O_WARMUP, O_DRAIN, O_REQUESTS, O_ARRIVALS,
	      O_RATE, O_BURST, O_RATE_FILE, O_ARRIVALS_FILE, O_EACH, O_COUNTS };

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"plan", 1, 0, O_PLAN}, {"host", 1, 0, O_HOST}, {"port", 1, 0, O_PORT}, {"connections", 1, 0, O_CONNECTIONS},
		{"threads", 1, 0, O_THREADS}, {"seconds", 1, 0, O_SECONDS}, {"warmup", 1, 0, O_WARMUP}, {"drain", 1, 0, O_DRAIN},
		{"requests", 1, 0, O_REQUESTS}, {"arrivals", 1, 0, O_ARRIVALS}, {"rate", 1, 0, O_RATE}, {"burst", 1, 0, O_BURST},
		{"rate-file", 1, 0, O_RATE_FILE}, {"arrivals-file", 1, 0, O_ARRIVALS_FILE}, {"each", 1, 0, O_EACH},
		{"counts", 1, 0, O_COUNTS}, {0, 0, 0, 0},
	};
	static struct settings s = {.connections = 1, .threads = 1, .drain_ns = 1000000000, .silence_ns = 60000000000};
	static struct rate_step one;
	const char *plan = NULL, *host = "127.0.0.1", *port = NULL, *burst = NULL, *rates = NULL, *times = NULL;
	double rate = 0, seconds = 10, warmup = 0, each = 1;
	int option;

	signal(SIGPIPE, SIG_IGN);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case O_PLAN: plan = optarg; break;
		case O_HOST: host = optarg; break;
		case O_PORT: port = optarg; break;
		case O_CONNECTIONS: s.connections = (unsigned)number(optarg, "connections", 1, MOST_CONNECTIONS); break;
		case O_THREADS: s.threads = (unsigned)number(optarg, "threads", 1, MOST_THREADS); break;
		case O_SECONDS: seconds = number(optarg, "seconds", 0.001, 1e6); break;
		case O_WARMUP: warmup = number(optarg, "warmup", 0, 1e6); break;
		case O_DRAIN: s.drain_ns = s.silence_ns = (uint64_t)(number(optarg, "drain", 0, 3600) * 1e9); break;
		case O_REQUESTS: s.requests = (uint64_t)number(optarg, "requests", 1, 1e15); break;
		case O_ARRIVALS: s.schedule.arrivals = arrivals_of(optarg); break;
		case O_RATE: rate = number(optarg, "rate", 1e-6, 1e8); break;
		case O_BURST: burst = optarg; break;
		case O_RATE_FILE: rates = optarg; break;
		case O_ARRIVALS_FILE: times = optarg; break;
		case O_EACH: each = number(optarg, "each", 1e-6, 1e6); break;
		case O_COUNTS: s.counts = number(optarg, "counts", 1e-6, 1e6); break;
		default: fputs(usage, stderr); return 2;
		}
	}
	if (!plan || !port || optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	if (s.threads > s.connections)
		s.threads = s.connections;
	one = (struct rate_step){0, rate};
	s.schedule.step = &one;
	s.schedule.steps = 1;
	if (rates)
		read_rates(&s.schedule, rates);
	else if (burst)
		set_burst(&s.schedule, burst, rate);
	if (times)
		read_arrivals(&s.schedule, times);
	if (s.schedule.arrivals == ARRIVALS_RECORDED && !times)
		fail("recorded arrivals need --arrivals-file");
	if ((s.schedule.arrivals == ARRIVALS_CONSTANT || s.schedule.arrivals == ARRIVALS_POISSON) && !rates && rate <= 0)
		fail("give a --rate or a --rate-file");
	if (s.requests && s.schedule.arrivals != ARRIVALS_CLOSED)
		fail("--requests is for a closed loop; a rate is bounded by --seconds");
	if (s.requests)
		s.requests = (uint64_t)((double)s.requests * each + 0.5);
	s.warmup_ns = s.requests ? 0 : (uint64_t)(warmup * 1e9);
	s.measured_ns = (uint64_t)(seconds * 1e9);
	resolve(&s, host, port);
	plan_read(&s.plan, plan);
	run(&s);
	return 0;
}
