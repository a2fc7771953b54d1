/* SPDX-License-Identifier: Apache-2.0
 *
 * A codec frames one wire protocol: where a request ends, of what class it is, and what a valid reply looks like.
 * Adding one is one file behind struct codec.
 *
 * parse() is fed the bytes not yet consumed.  It may consume part of a request (payloads are skipped as they come),
 * but it never consumes past the end of one request, and whether the bytes come at once or one by one makes no
 * difference to what is consumed or answered, except that a stored value which came in pieces is later answered with
 * filler.  It leaves at most max_head bytes unconsumed.
 */
#ifndef DITTO_CODEC_H
#define DITTO_CODEC_H

#include <emmintrin.h>
#include <string.h>

#include "ditto.h"
#include "keys.h"
#include "outbuf.h"
#include "rng.h"

enum codec_step {
	CODEC_MORE,    /* all that can be consumed was; more bytes are needed */
	CODEC_REQUEST, /* one request is complete; its reply is due before the next parse() */
	CODEC_FATAL,   /* not this protocol: the request holds the error's reply, after which the connection closes */
};

/* What one connection remembers between two calls of parse(); all zero at first. */
struct codec_state {
	const uint8_t *value; /* the value stored, if the last parse() saw all of it */
	uint32_t scanned; /* unconsumed bytes known to hold no end of line */
	int16_t cls;
	uint8_t phase;
	uint8_t flags;
	uint8_t canned;
	uint8_t word_len;
	uint8_t note_len;
	uint32_t value_size;
	uint64_t need;    /* payload bytes still to be skipped */
	uint32_t argc, arg;
	uint32_t first_len; /* length of the argument being read; RESP: 1 and the commands of a transaction, 0: none */
	uint32_t value_at; /* word that is the value stored; 0: none */
	uint64_t key_hash;
	union {
		char word[24];
		uint64_t word8[3];
	};
	struct h2_conn *h2; /* HTTP/2: streams, windows and tables; NULL before the first byte */
	char note[64]; /* start of an argument that the reply echoes */
};

enum request_flags {
	REQ_NOREPLY = 1,
	REQ_CLOSE = 2,   /* the connection closes after the reply */
	REQ_NOBODY = 4,  /* HEAD: the head alone */
	REQ_OLD = 8,     /* HTTP/1.0 */
	REQ_INTERIM = 16, /* not a request of its own (100 Continue): no program is run */
	REQ_MALFORMED = 32,
	REQ_CAS = 64,    /* gets, gats */
	REQ_RESP3 = 128, /* of a client that asked for version 3 of RESP */
	REQ_RANGE = 64,  /* HTTP: a part is asked for */
	REQ_KNOWN = 128, /* HTTP: only what has changed is asked for */
};

#define REPLY_IN_PART 2

struct request {
	int16_t cls;       /* class index or DITTO_NONE: then `canned` is answered */
	uint8_t canned;    /* a default or error reply; numbers are the codec's own */
	uint8_t flags;
	const uint8_t *keys; /* valid until the next parse() */
	uint32_t keys_len;
	const char *note;
	uint32_t note_len;
	uint32_t bytes;    /* opaque: length of the request; RESP: elements of the reply, where something is counted */
	uint8_t key_role;  /* enum key_role: what the request does with the key of key_hash */
	uint8_t one_key;   /* keys are one */
	uint8_t may_lend;  /* the reply's payload may be left where it is, see reply_parts */
	uint32_t value_size;
	uint64_t key_hash;
	const uint8_t *value; /* valid until the next parse(); NULL where it is not there in one piece */
	struct h2_conn *h2; /* HTTP/2: of its connection */
	uint32_t draw;      /* which of its class' replies it gets, if drawn */
	uint8_t drawn;     /* REPLY_IN_PART: of the file as much as that reply has */
	int64_t file_body; /* bytes of the file that will be the body, DITTO_NONE: the body is filler */
};

/* Where the parts of a reply are: first byte of payload and of the tail, from the start of the reply.  A payload that
 * is lent was not written into the output, where room was left for it. */
struct reply_parts {
	uint32_t head, tail;
	const uint8_t *lent;
	uint64_t body; /* bytes that OP_SENDFILE has to send */
};

struct codec {
	const char *name;
	uint32_t max_head;
	void (*setup)(const struct ditto_service *service);
	enum codec_step (*parse)(struct codec_state *state, const uint8_t *p, size_t n, size_t *used,
				 struct request *request);
	void (*reply)(const struct request *request, struct outbuf *out, struct rng *rng, struct reply_parts *parts);
	/* Whether replies are only ever added to, and may lie in pieces. */
	uint8_t appends;
	/* What the server says first, once a connection; NULL where the client begins. */
	void (*greet)(struct codec_state *state, struct outbuf *out, struct rng *rng);
	/* How many more bytes the part of a request that lies unconsumed in [p, p + n) needs, 0: nothing of one is there,
	 * UINT32_MAX: not known yet.
	 * For servers that receive part by part; NULL where a request has but a head and a rest. */
	uint32_t (*wants)(const struct codec_state *state, const uint8_t *p, size_t n);
	/* Whether what was drawn for a request is a reply that it may get; NULL: any. */
	int (*fits)(const struct request *request);
	/* Turns a reply into an error of the same length, since others may stand behind it already.  Returns -1 where that
	 * cannot be done; NULL: never. */
	int (*fail)(uint8_t *reply, uint32_t length);
	/* The connection has ended; NULL where nothing is kept of it. */
	void (*end)(struct codec_state *state);
};

extern const struct codec codec_opaque, codec_http, codec_resp, codec_memcached, codec_dns, codec_pgsql, codec_mysql, codec_fastcgi,
	codec_h2;

const struct codec *codec_by_id(unsigned id);

/* codec_common.c */
#define REPLY_LIMIT (64u << 20) /* most bytes of filler in one reply; tables that ask for more get this */

extern const struct ditto_service *codec_service;

const struct ditto_reply *codec_shape(int cls, struct rng *rng);
/* The class's shape of this kind, or NULL. */
const struct ditto_reply *codec_shape_of(int cls, unsigned kind);
unsigned codec_digits(char *to, uint64_t value); /* decimal, no terminator; returns the length (at most 20) */

/* Inline, so that a fixed text is a few stores. */
static inline void codec_text(struct outbuf *out, const char *text)
{
	size_t n = strlen(text);
	uint8_t *to = out_room(out, n);

	if (!to)
		return;
	memcpy(to, text, n);
	out->end += (uint32_t)n;
}

uint32_t codec_clamp(uint32_t size);

/* Write filler, or a copy, and return where it ends. */
uint8_t *codec_fill(uint8_t *to, int ch, size_t n);
uint8_t *codec_copy(uint8_t *to, const uint8_t *from, size_t n);

/* Append n bytes to the output, in as many pieces as it takes: those at `from`, or filler where that is NULL. */
void codec_append(struct outbuf *out, const uint8_t *from, size_t n);

/* The first of two bytes in [p, end); end where there is none.  Sixteen bytes at a time. */
static inline const uint8_t *codec_scan(const uint8_t *p, const uint8_t *end, char a, char b)
{
	const __m128i as = _mm_set1_epi8(a), bs = _mm_set1_epi8(b);

	for (; end - p >= 16; p += 16) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
		int found = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, as), _mm_cmpeq_epi8(x, bs)));

		if (found)
			return p + __builtin_ctz((unsigned)found);
	}
	while (p < end && *p != (uint8_t)a && *p != (uint8_t)b)
		p++;
	return p;
}

static inline const uint8_t *codec_space(const uint8_t *p, const uint8_t *end)
{
	return codec_scan(p, end, ' ', ' ');
}

/* The words of the protocol and the classes of the tables, found by up to 24 bytes padded with zeros. */
struct verb_entry {
	uint64_t word8[3];
	int16_t first;   /* first class with this verb, or DITTO_NONE */
	uint8_t builtin; /* the codec's default reply, 0: none */
	uint8_t key_role;
	uint8_t value_at; /* word that is the value stored */
	uint8_t used;
};

#define VERBS 4096 /* a power of two, well above commands plus classes */

struct verb_entry *verb_add(const char *verb, size_t len); /* NULL when the table is full or the word too long */
const struct verb_entry *verb_find(const uint64_t word8[3]);
void verb_classes(const struct ditto_service *service);
int verb_next(int cls); /* the next class with the same verb, or DITTO_NONE */
/* The class of these with the fingerprint or with none; else the first. */
int verb_class_by_print(const struct verb_entry *entry, int print);
int verb_class_for(const struct verb_entry *entry, uint32_t argc); /* class by number of words, or the first */

uint32_t ditto_path_print(uint32_t key, const char *path, size_t len);
uint32_t ditto_fold_print(uint32_t key, const char *path, size_t len); /* of the path without its digits */

#endif
