/* SPDX-License-Identifier: Apache-2.0
 *
 * Far reads of a store of VALUES values of 1000 bytes, of which a request makes two; prints slots
 * on the round | those that a walk as long finds | steps that stay within 4 pages | whether a value that is read
 * leads to the same slot each time and further without | reads of the blocks' pool of 40 wanted, where the store is larger and
 * where it is smaller | whether waits have moved on along the round. */
#include <stdio.h>
#include <stdlib.h>

#include "codec_standin.h"
#include "keys.c"
#include "touched.c"
#include "values.c"

#define VALUES 20000u
#ifndef COMPUTED
#define COMPUTED 0
#endif

const struct ditto_service ditto_service = {
	.version = DITTO_TABLES_VERSION, .stalls = 512, .stalls_in_store = IN_STORE,
	.stalls_computed = COMPUTED};
struct options options;
static uint32_t of_pool;

void ditto_body_stall(struct ditto_body *body, uint32_t reads)
{
	(void)body;
	of_pool += reads;
}

void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t key(uint32_t n)
{
	return keys_mix(n, 1);
}

static uint32_t pool_reads(struct worker *w, uint32_t lines)
{
	struct ditto_body_pool pool = {.lines = lines};

	w->body.widest = &pool;
	of_pool = 0;
	for (int i = 0; i < 20; i++)
		worker_stall(w);
	return of_pool;
}

int main(void)
{
	static uint8_t value[1000], seen[VALUES * 80];
	static struct worker w;
	uint32_t found = 0, near = 0, at, first, second;
	const uint8_t *read;
	uint32_t size;

	keys_setup(1);
	for (uint32_t n = 0; n < VALUES; n++)
		keys_store(key(n), value, sizeof(value));
	printf("%u", values_slots());
	if (!values_slots()) {
		puts("");
		return 0;
	}
	at = values_walk(0, 1, 12345);
	for (uint32_t i = 0; i < VALUES; i++) {
		uint32_t next = values_walk(at, 1, 0);

		found += !seen[next];
		seen[next] = 1;
		near += (next > at ? next - at : at - next) < 4 * 4096 / UNIT;
		at = next;
	}
	keys_read(key(7), &read, &size);
	first = values_walk(at, 3, 0);
	second = values_walk(first, 3, 0);
	keys_read(key(7), &read, &size);
	printf(" | %u | %u | %d %d", found, near, values_walk(second, 3, 0) == first, second != first);
	printf(" | %u", pool_reads(&w, VALUES - 1));
	printf(" %u | %d\n", pool_reads(&w, VALUES), w.stored != 0);
	keys_forget();
	return values_slots() != 0;
}
