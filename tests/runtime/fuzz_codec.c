/* SPDX-License-Identifier: Apache-2.0
 *
 * A fuzzer for one codec:  fuzz_codec [--runs N] [--seconds S] [--seed X]
 *
 * Inputs are mutated from a few valid ones.  Each is parsed twice, in one piece and in random pieces, always from
 * heap buffers of exactly the right size, so that a sanitizer sees every byte read too far; consumption, classes and
 * replies must be the same both ways.
 */
#include "codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INPUT_MAX 16384
#define REQUESTS_MAX 4096

extern const struct ditto_service ditto_service;

static const char *const seeds[5][14] = {
	{"\x0c\0\0\0\0\0\0\xd7""abcd", "\x08\0\0\0\xff\xff\x01\xd7", "nothing at all", "\x10\0\0\0\x01\0\x02\xd7""12345678"},
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HEAD /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
	 "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
	 "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
	 "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
	 "GET http://a/b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n",
	 "GET / HTTP/2.0\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\nHost: a\n\n", "PUT /p HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"},
	{"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n", "*3\r\n$3\r\nset\r\n$1\r\na\r\n$3\r\nxyz\r\n", "PING\r\n", "ECHO \"a b\"\r\n",
	 "*1\r\n$4\r\nPING\r\n", "*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", "*-1\r\n", "*0\r\n", "*3\r\n$6\r\nCONFIG\r\n$3\r\nGET\r\n$4\r\nsave\r\n",
	 "*4\r\n$6\r\nLRANGE\r\n$1\r\na\r\n$1\r\n0\r\n$2\r\n99\r\n", "QUIT\r\n", "*2\r\n$4\r\nHUGE\r\n$70\r\n0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
	 "SET a 'b\\'c' \"d\\x41\"\r\n", "*2\r\n$10\r\nNOTACOMMAND\r\n"},
	{"get a b c\r\n", "gets key1 key2\r\n", "set k 0 0 5\r\nhello\r\n", "set k 0 0 5 noreply\r\nhello\r\nget k\r\n",
	 "cas k 0 -1 2 77\r\nab\r\n", "delete k\r\n", "incr k 5\r\n", "touch k 100\r\n", "gat 10 a b\r\n", "version\r\nstats\r\n",
	 "verbosity 1\r\nflush_all 0 noreply\r\n", "quit\r\n", "mn\r\nmg k v\r\nms k 3 T0\r\nabc\r\n", "add k 1 2 1073741825\r\nxx"},
	/* each after its length */
	{"\0\x1e" "\0\7\1\0\0\1\0\0\0\0\0\0" "\4host\7example\0" "\0\1\0\1", "\0\x0c" "\0\7\1\0\0\0\0\0\0\0\0\0",
	 "\0\x11" "\0\7\1\0\0\1\0\0\0\0\0\0" "\0" "\0\x1c\0\1", "\0\x10" "\0\7\x28\0\0\1\0\0\0\0\0\0" "\x7f" "abc", "\0\0"},
};

/* Of binary protocols: with their lengths. */
#define B(text) {text, sizeof(text) - 1}
#define PG_START "\0\0\0\x11\0\3\0\0user\0a\0\0\0"
#define FC_BEGIN "\1\1\0\1\0\x08\0\0\0\1\0\0\0\0\0\0"
#define FC_GET "\1\4\0\1\0\x24\0\0\x0e\3REQUEST_METHODGET\x0b\4REQUEST_URI/a?b"
#define FC_LAST "\1\4\0\1\0\0\0\0"
#define MY_LOGIN "\x26\0\0\1\x05\xa2\x0f\x01\0\0\0\1\x21\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0user\0\0"
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" "\0\0\0\4\0\0\0\0\0"
#define H2_TYPE "\x5f\x10" "application/grpc"
static const struct {
	const char *bytes;
	uint32_t n;
} binary_seeds[4][14] = {
	{B(PG_START), B(PG_START "Q\0\0\0\x0dSELECT 1\0"), B("\0\0\0\x08\x04\xd2\x16\x2f" PG_START),
	 B("P\0\0\0\x13s\0SELECT $1\0\0\0\0"), B("B\0\0\0\x0d\0s\0\0\0\0\0\0\0"), B("D\0\0\0\6P\0E\0\0\0\x09\0\0\0\0\1"),
	 B("D\0\0\0\7Ss\0S\0\0\0\4"), B("Q\0\0\0\x0a""BEGIN\0Q\0\0\0\x0b""COMMIT\0"), B("Q\0\0\0\5\0H\0\0\0\4"),
	 B("X\0\0\0\4"), B("\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\1\0\0\0\2"), B("F\0\0\0\x08""abcdS\0\0\0\4"),
	 B("C\0\0\0\7Ss\0S\0\0\0\4"), B("Q\0\0\0\x26UPDATE t SET a = 'x' WHERE b = 1\0z")},
	{B(MY_LOGIN), B(MY_LOGIN "\x09\0\0\0\3SELECT 1"), B("\x0b\0\0\0\x16SELECT b ?"), B("\x0a\0\0\0\x17\0\0\1\0\0\1\0\0\0"),
	 B("\x0a\0\0\0\x17\xff\xff\xff\xff\0\1\0\0\0"), B("\5\0\0\0\x19\1\0\1\0\1\0\0\0\x0e"), B("\1\0\0\0\1"),
	 B("\4\0\0\1abcd\1\0\0\0\x0e"), B("\6\0\0\0\3""BEGIN\7\0\0\0\3""COMMIT"), B("\0\0\0\0"), B("\1\0\0\0\x63"),
	 B("\1\0\0\0\x09\3\0\0\0\2db"), B("\1\0\0\0\x1f\2\0\0\0\x1b\0"), B("\x13\0\0\0\3UPDATE t SET a = 1")},
	{B(FC_BEGIN FC_GET FC_LAST), B(FC_BEGIN FC_GET FC_LAST "\1\5\0\1\0\0\0\0"), B(FC_BEGIN "\1\4\0\1\0\x1c\5\0\x0e\1CONTENT_LENGTH5\x09\0AUTH_TYPE\0\0\0\0\0"
	 FC_GET FC_LAST "\1\5\0\1\0\5\3\0hello\0\0\0\1\5\0\1\0\0\0\0"), B("\1\1\0\2\0\x08\0\0\0\1\1\0\0\0\0\0" "\1\4\0\2\0\0\0\0"),
	 B(FC_BEGIN "\1\2\0\1\0\0\0\0"), B("\1\x09\0\0\0\x11\0\0\x0f\0FCGI_MPXS_CONNS"), B(FC_BEGIN "\1\4\0\2\0\1\0\0x" FC_GET FC_LAST),
	 B("\1\5\0\1\0\4\4\0abcd\0\0\0\0"), B("\1\x63\0\1\0\1\0\0x"), B("\2\1\0\1\0\x08\0\0"),
	 B(FC_BEGIN "\1\4\0\1\0\x18\0\0\x80\0\0\x0b\x80\0\0\5SCRIPT_NAME/page" FC_LAST), B(FC_BEGIN "\1\4\0\1\0\7\0\0\xff\xff\xff\xff\x01xx" FC_LAST),
	 B(FC_BEGIN FC_LAST), B(FC_GET FC_LAST)},
	{B(H2_PREFACE), B("\0\0\3\1\5\0\0\0\1\x82\x84\x86"), B("\0\0\x16\1\4\0\0\0\3\x83\x44\1/" H2_TYPE "\0\0\6\0\1\0\0\0\3\0\0\0\0\1x"),
	 B("\0\0\x08\6\0\0\0\0\0" "12345678"), B("\0\0\4\x08\0\0\0\0\0\0\0\x10\0"), B("\0\0\4\x08\0\0\0\0\3\0\0\1\0"),
	 B("\0\0\6\4\0\0\0\0\0\0\4\0\0\0\x20"), B("\0\0\6\4\0\0\0\0\0\0\1\0\0\0\0"), B("\0\0\2\1\1\0\0\0\5\x82\x84" "\0\0\1\x09\4\0\0\0\5\x86"),
	 B("\0\0\4\1\x0d\0\0\0\7\0\x83\xbe\xbf"), B("\0\0\x08\1\x25\0\0\0\x09\0\0\0\3\x10\x82\x84\x86"), B("\0\0\4\3\0\0\0\0\1\0\0\0\x08"),
	 B("\0\0\x0f\1\5\0\0\0\x0b\x82\x86\x44\x8b\x60\xf5\x1e\x31\x7f\xff\xff\xff\xff\xff\xff\xff" "\0\0\x0a\1\5\0\0\0\x0d\x82\x86\x44\x83\x60\xd5\x48\xbe\xbe\xbe"),
	 B("\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0" "\0\0\1\x63\0\0\0\0\0x")},
};

static const char *const tokens[] = {
	"\r\n", "\n", "\r", " ", "$", "*", "-1", "0", "noreply", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "\r\n\r\n",
	"HTTP/1.1", "ffffffff", "99999999999999999999", "2147483648", "\"", "'", "\\", ":", "Connection: close\r\n", "GET ", "get ",
	"Expect: 100-continue\r\n", "*1000\r\n", "$0\r\n", "\x80", "\xd7",
};

struct outcome {
	size_t used;
	unsigned requests, fatal;
	uint64_t hash; /* of classes and replies */
};

static struct rng rng;
static const struct codec *codec;
static unsigned codec_id;

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 1099511628211ull;
	return h;
}

/* The first bytes of a reply, in whatever pieces they lie. */
static uint64_t hash_out(uint64_t h, const struct outbuf *out)
{
	size_t most = out_bytes(out) < 512 ? (size_t)out_bytes(out) : 512;

	for (size_t at = 0, n; at < most; at += n) {
		const uint8_t *from;

		n = most - at;
		from = out_span(out, at, &n);
		h = hash_bytes(h, from, n);
	}
	return h;
}

/* Feeds the input; pieces: cut at random, and replies lie in pieces where they may.  The reply generator is seeded the same for both ways. */
static struct outcome feed(const uint8_t *input, size_t n, int pieces)
{
	struct outcome o = {0, 0, 0, 1469598103934665603ull};
	struct codec_state state;
	struct pool pool = {0};
	struct rng replies;
	size_t have = 0;

	memset(&state, 0, sizeof(state));
	keys_forget();
	rng_seed(&replies, 5);
	while (!o.fatal && o.requests < REQUESTS_MAX) {
		uint8_t *exact;
		size_t end = n, from;

		if (pieces && have < n)
			end = have + 1 + rng_below(&rng, rng_u32(&rng) & 1 ? 3 : (uint32_t)(n - have));
		if (end > n)
			end = n;
		have = end;
		exact = malloc(have - o.used ? have - o.used : 1);
		memcpy(exact, input + o.used, have - o.used);
		from = o.used;
		while (o.requests < REQUESTS_MAX && o.used < have) {
			struct request request;
			struct outbuf out = {.pool = &pool, .piece = pieces && codec->appends ? 64 : 0};
			struct reply_parts parts = {.lent = NULL};
			size_t used = 0, left = have - o.used;
			uint8_t *rest = malloc(left); /* exact for every call */
			enum codec_step step;

			memcpy(rest, exact + (o.used - from), left);
			memset(&request, 0xa5, sizeof(request)); /* as on the stack: what is used must be set */
			request.note_len = 0;
			step = codec->parse(&state, rest, left, &used, &request);
			if (used > left) {
				fprintf(stderr, "consumed %zu of %zu bytes\n", used, left);
				abort();
			}
			o.used += used;
			if (step == CODEC_MORE) {
				if (left - used > codec->max_head) {
					fprintf(stderr, "%zu bytes left unconsumed\n", left - used);
					abort();
				}
				free(rest);
				break;
			}
			request.file_body = DITTO_NONE;
			request.may_lend = (uint8_t)(o.requests & 1);
			codec->reply(&request, &out, &replies, &parts);
			if (parts.head > out_bytes(&out) || parts.tail > out_bytes(&out))
				abort();
			if (parts.lent) {
				if (parts.head > parts.tail)
					abort();
				memcpy(out.buf + parts.head, parts.lent, parts.tail - parts.head);
			}
			if (codec_id != DITTO_CODEC_OPAQUE)
				o.hash = hash_out(o.hash, &out);
			o.hash = hash_bytes(o.hash, &request.cls, sizeof(request.cls));
			if (codec->fail && out.end && !out.waiting && !codec->fail(out.buf, out.end) && codec_id == DITTO_CODEC_FASTCGI &&
			    memcmp(out.buf + 8, "Status: 502 ", 12)) {
				fprintf(stderr, "no error in place of the reply\n");
				abort();
			}
			out_release(&out);
			free(rest);
			o.requests++;
			if (step == CODEC_FATAL || (request.flags & REQ_CLOSE)) {
				o.fatal = 1;
				break;
			}
		}
		free(exact);
		if (have == n)
			break;
	}
	if (codec->end)
		codec->end(&state);
	return o;
}

static size_t mutate(uint8_t *input)
{
	size_t n = 0;
	unsigned parts = 1 + rng_below(&rng, 4), changes = rng_below(&rng, 6);

	while (parts--) {
		/* what everything else of HTTP/2 needs before it */
		unsigned k = codec_id == DITTO_CODEC_H2 && !n && rng_below(&rng, 16) ? 0 : rng_below(&rng, 14);
		const char *seed = codec_id < DITTO_CODEC_PGSQL ? seeds[codec_id][k]
								       : binary_seeds[codec_id - DITTO_CODEC_PGSQL][k].bytes;
		size_t len;

		if (!seed)
			continue;
		if (codec_id >= DITTO_CODEC_PGSQL)
			len = binary_seeds[codec_id - DITTO_CODEC_PGSQL][k].n;
		else if (codec_id == DITTO_CODEC_DNS)
			len = 2u + ((unsigned)(uint8_t)seed[0] << 8 | (uint8_t)seed[1]);
		else
			len = codec_id == DITTO_CODEC_OPAQUE && k != 2 ? (k == 1 ? 8 : k == 3 ? 16 : 12) : strlen(seed);
		memcpy(input + n, seed, len);
		n += len;
	}
	while (changes-- && n) {
		size_t at = rng_below(&rng, (uint32_t)n), len;
		const char *token;

		switch (rng_below(&rng, 7)) {
		case 0:
			input[at] = (uint8_t)rng_u32(&rng);
			break;
		case 1:
			input[at] ^= (uint8_t)(1u << rng_below(&rng, 8));
			break;
		case 2: /* remove */
			len = 1 + rng_below(&rng, 8);
			len = len > n - at ? n - at : len;
			memmove(input + at, input + at + len, n - at - len);
			n -= len;
			break;
		case 3: /* repeat */
			len = 1 + rng_below(&rng, rng_u32(&rng) % 64 ? 16 : 4000);
			len = len > n - at ? n - at : len;
			if (n + len > INPUT_MAX / 2)
				break;
			memmove(input + at + len, input + at, n - at);
			n += len;
			break;
		case 4:
		case 5: /* insert a token */
			token = tokens[rng_below(&rng, sizeof(tokens) / sizeof(tokens[0]))];
			len = strlen(token);
			if (n + len > INPUT_MAX / 2)
				break;
			memmove(input + at + len, input + at, n - at);
			memcpy(input + at, token, len);
			n += len;
			break;
		default: /* a long run, rarely */
			if (rng_below(&rng, 200) || n > 64)
				break;
			memset(input + n, 'a' + (int)rng_below(&rng, 26), 9000);
			n += 9000;
		}
	}
	return n;
}

static void compare(const uint8_t *input, size_t n, uint64_t run)
{
	struct outcome whole = feed(input, n, 0), cut = feed(input, n, 1);
	int raw = codec_id == DITTO_CODEC_OPAQUE && whole.hash != cut.hash; /* answered receive by receive */

	if (whole.used != cut.used || (!raw && (whole.requests != cut.requests || whole.hash != cut.hash))) {
		fprintf(stderr, "run %llu: whole: %zu bytes %u requests, in pieces: %zu bytes %u requests\n",
			(unsigned long long)run, whole.used, whole.requests, cut.used, cut.requests);
		fwrite(input, 1, n, stderr);
		abort();
	}
}

int main(int argc, char **argv)
{
	uint64_t runs = 100000, seed = 1;
	double seconds = 3600;
	time_t began = time(NULL);
	static uint8_t input[INPUT_MAX + 10000];
	uint64_t run;

	codec_id = ditto_service.codec;
	codec = codec_by_id(codec_id);
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--runs"))
			runs = strtoull(argv[i + 1], NULL, 10);
		else if (!strcmp(argv[i], "--seconds"))
			seconds = strtod(argv[i + 1], NULL);
		else if (!strcmp(argv[i], "--seed"))
			seed = strtoull(argv[i + 1], NULL, 10);
		else
			return 2;
	}
	codec->setup(&ditto_service);
	rng_seed(&rng, seed);
	for (run = 0; run < runs; run++) {
		if (run % 1024 == 0 && difftime(time(NULL), began) >= seconds)
			break;
		compare(input, mutate(input), run);
	}
	printf("%s: %llu inputs\n", codec->name, (unsigned long long)run);
	return 0;
}
