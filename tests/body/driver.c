/* SPDX-License-Identifier: Apache-2.0
 * driver BLOCK TIMES [abi|time|sys|threads|far]: runs a generated block; prints what the mode found. */
#include "body.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

extern const struct ditto_body_layout layout;
extern void (*const block_table[])(struct ditto_body *);
extern const int block_count;
int abi_call(void (*block)(struct ditto_body *), struct ditto_body *body);

static struct ditto_body body;

static void run(int which, struct ditto_body *b)
{
	if (which >= 0)
		block_table[which](b);
	else
		for (int i = 0; i < block_count; i++)
			block_table[i](b);
}

static void *thread(void *arg)
{
	struct ditto_body *b = aligned_alloc(64, sizeof(*b));

	if (!b || ditto_body_init(b, &layout, 7 + (uintptr_t)arg))
		abort();
	for (int i = 0; i < 200; i++)
		run(-1, b);
	ditto_body_free(b, &layout);
	free(b);
	return NULL;
}

int main(int argc, char **argv)
{
	int which = atoi(argv[1]);
	long times = atol(argv[2]);
	const char *mode = argc > 3 ? argv[3] : "";
	int calls = !strcmp(mode, "sys");
	struct timespec a, b;

	if (ditto_body_init(&body, &layout, 42))
		return 1;
	if (!strcmp(mode, "abi")) {
		int bad = 0;

		for (long i = 0; i < times; i++)
			for (int k = 0; k < block_count; k++)
				bad |= abi_call(block_table[k], &body);
		printf("%d\n", bad);
		return bad != 0;
	}
	if (!strcmp(mode, "far")) {
		/* everything but the pool with the most lines is out of bounds */
		uint64_t begin, end, total = layout.arena_bytes & ~4095ull;
		const void *first = body.far;

		if (!body.widest)
			return 1;
		begin = body.widest->offset & ~4095ull;
		end = (body.widest->offset + (uint64_t)body.widest->lines * body.widest->step * 64 + 4095) & ~4095ull;
		mprotect(body.arena, begin, PROT_NONE);
		if (end < total)
			mprotect(body.arena + end, total - end, PROT_NONE);
		ditto_body_stall(&body, (uint32_t)times);
		/* one cycle: as many reads as it has lines lead back to the first, one fewer does not */
		body.far = first;
		ditto_body_stall(&body, body.widest->lines - 1);
		if (body.far == first && body.widest->lines > 1)
			return 1;
		ditto_body_stall(&body, 1);
		printf("%d\n", body.far != first);
		return 0;
	}
	if (!strcmp(mode, "threads")) {
		pthread_t t[4];

		for (long i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, thread, (void *)i);
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		puts("0");
		return 0;
	}
	for (long i = 0; !strcmp(mode, "time") && i < times; i++)
		run(which, &body);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (long i = 0; i < times; i++) {
		if (calls)
			syscall(SYS_getppid);
		run(which, &body);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (!strcmp(mode, "time") || !strcmp(mode, "sys"))
		printf("%.1f\n", ((b.tv_sec - a.tv_sec) * 1e9 + (b.tv_nsec - a.tv_nsec)) / times);
	ditto_body_free(&body, &layout);
	return 0;
}
