/* SPDX-License-Identifier: Apache-2.0
 *
 * Feeds replies to the reader of frames.
 *
 *     feed_frame CODEC NOBODY PIECE < reply    prints at which piece of so many bytes it ended, or what it said
 *     feed_frame fuzz RUNS SEED                random bytes and damaged replies; ends with 0
 */
#include "ditto.h"
#include "reply_frame.h"
#include "rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const samples[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"*3\r\n$3\r\nabc\r\n:5\r\n*1\r\n$-1\r\n", "VALUE k 0 5\r\nhello\r\nEND\r\n", "\x10\0\0\0\0\0\0\xd7xxxxxxxx",
	"\1\6\0\1\0\x05\3\0hello\0\0\0\1\3\0\1\0\x08\0\0\0\0\0\0\0\0\0\0",
	"\1\0\0\1\1\4\0\0\2\3def\5\0\0\3\xfe\0\0\2\0\2\0\0\4\1a\5\0\0\5\xfe\0\0\2\0",
	"\0\0\4\x08\0\0\0\0\0\0\0\1\0\0\0\1\1\4\0\0\0\1\x88\0\0\5\0\1\0\0\0\1hello",
};

static int fuzz(long runs, uint64_t seed)
{
	struct reply_frame f = {0};
	struct rng rng;

	rng_seed(&rng, rng_mix(seed));
	for (long run = 0; run < runs; run++) {
		const char *sample = samples[rng_below(&rng, sizeof(samples) / sizeof(samples[0]))];
		size_t n = 8 + rng_below(&rng, 300), length = sample[0] == 0x10 ? 16 : sample[0] == 1 ? 32 : !sample[0] ? 37 : strlen(sample);
		uint8_t *p = malloc(n); /* of exactly this size, so that a read past it is found */

		for (size_t i = 0; i < n; i++)
			p[i] = rng_below(&rng, 8) && i < length ? (uint8_t)sample[i] : "\r\n0$*HTVE: 7\xff"[rng_below(&rng, 14)];
		f.stream = 0;
		frame_begin(&f, run % 7 == 6 ? DITTO_CODEC_MYSQL : run % 5 ? rng_below(&rng, 4) : run % 2 ? DITTO_CODEC_FASTCGI : DITTO_CODEC_H2, run % 7 == 6 ? (int)rng_below(&rng, 2) * 0x13 + 3 : (int)rng_below(&rng, 2));
		for (size_t at = 0, piece; at < n; at += piece) {
			piece = 1 + rng_below(&rng, 40);
			piece = piece < n - at ? piece : n - at;
			if (frame_feed(&f, p + at, piece) != FRAME_MORE)
				break;
		}
		free(p);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static uint8_t data[1 << 20];
	struct reply_frame f = {0};
	enum frame_state state = FRAME_MORE;
	size_t n, piece, at = 0;

	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		return fuzz(atol(argv[2]), strtoull(argv[3], NULL, 10));
	if (argc != 4)
		return 2;
	piece = (size_t)atol(argv[3]);
	n = fread(data, 1, sizeof(data), stdin);
	frame_begin(&f, (unsigned)atoi(argv[1]), atoi(argv[2]));
	while (at < n && state == FRAME_MORE) {
		size_t take = piece < n - at ? piece : n - at;

		state = frame_feed(&f, data + at, take);
		at += take;
	}
	if (state == FRAME_BROKEN)
		printf("broken\n");
	else if (state == FRAME_MORE)
		printf("%s\n", frame_ends_with_connection(&f) ? "to the end" : "more");
	else
		printf("%zu\n", at);
	return 0;
}
