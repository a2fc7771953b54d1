/* SPDX-License-Identifier: Apache-2.0
 *
 * What the codecs share: the table of verbs, numbers and filler.
 */
#include "codec.h"

#include <string.h>

const struct ditto_service *codec_service;

static struct verb_entry verbs[VERBS];
static int16_t next_same[UINT16_MAX + 1]; /* next class with the same verb */

const struct codec *codec_by_id(unsigned id)
{
	switch (id) {
	case DITTO_CODEC_HTTP1:
		return &codec_http;
	case DITTO_CODEC_RESP2:
		return &codec_resp;
	case DITTO_CODEC_MEMCACHED:
		return &codec_memcached;
	case DITTO_CODEC_DNS:
		return &codec_dns;
	case DITTO_CODEC_PGSQL:
		return &codec_pgsql;
	case DITTO_CODEC_MYSQL:
		return &codec_mysql;
	case DITTO_CODEC_FASTCGI:
		return &codec_fastcgi;
	case DITTO_CODEC_H2:
		return &codec_h2;
	default:
		return &codec_opaque;
	}
}

static uint32_t verb_slot(const uint64_t word8[3])
{
	return (uint32_t)(((word8[0] ^ (word8[1] << 1) ^ (word8[2] << 2)) * 0x9E3779B97F4A7C15ULL) >> 52) & (VERBS - 1);
}

static int same_word(const struct verb_entry *entry, const uint64_t word8[3])
{
	return entry->word8[0] == word8[0] && entry->word8[1] == word8[1] && entry->word8[2] == word8[2];
}

const struct verb_entry *verb_find(const uint64_t word8[3])
{
	uint32_t at = verb_slot(word8);

	for (; verbs[at].used; at = (at + 1) & (VERBS - 1))
		if (same_word(&verbs[at], word8))
			return &verbs[at];
	return NULL;
}

struct verb_entry *verb_add(const char *verb, size_t len)
{
	uint64_t word8[3] = {0, 0, 0};
	uint32_t at, tried;

	if (len == 0 || len > sizeof(word8))
		return NULL;
	memcpy(word8, verb, len);
	at = verb_slot(word8);
	for (tried = 0; tried < VERBS - 1; tried++, at = (at + 1) & (VERBS - 1)) {
		if (!verbs[at].used) {
			memcpy(verbs[at].word8, word8, sizeof(word8));
			verbs[at].first = DITTO_NONE;
			verbs[at].used = 1;
			return &verbs[at];
		}
		if (same_word(&verbs[at], word8))
			return &verbs[at];
	}
	return NULL;
}

void verb_classes(const struct ditto_service *service)
{
	codec_service = service;
	memset(verbs, 0, sizeof(verbs));
	for (int i = service->classes - 1; i >= 0; i--) {
		const char *verb = service->cls[i].match.verb;
		struct verb_entry *entry = verb ? verb_add(verb, strlen(verb)) : NULL;

		next_same[i] = DITTO_NONE;
		if (!entry)
			continue;
		next_same[i] = entry->first;
		entry->first = (int16_t)i;
	}
}

int verb_next(int cls)
{
	return next_same[cls];
}

int verb_class_by_print(const struct verb_entry *entry, int print)
{
	for (int i = entry->first; i != DITTO_NONE; i = next_same[i]) {
		int own = codec_service->cls[i].match.path_print;

		if (own == print || own == DITTO_NONE)
			return i;
	}
	return entry->first;
}

int verb_class_for(const struct verb_entry *entry, uint32_t argc)
{
	for (int i = entry->first; i != DITTO_NONE; i = next_same[i])
		if (codec_service->cls[i].match.argc == 0 || codec_service->cls[i].match.argc == argc)
			return i;
	return entry->first;
}

/* FNV-1a over key and path, folded to 12 bits: tells paths (and statements) apart without telling what they are. */
static inline uint32_t print_of(uint32_t key, const char *path, size_t len, int folds)
{
	uint32_t hash = 2166136261u;

	for (int i = 0; i < 4; i++)
		hash = (hash ^ (key >> (8 * i) & 0xff)) * 16777619u;
	for (size_t i = 0; i < len; i++)
		if (!folds || (uint8_t)(path[i] - '0') > 9)
			hash = (hash ^ (uint8_t)path[i]) * 16777619u;
	return (hash ^ hash >> 12 ^ hash >> 24) & 0xfff;
}

uint32_t ditto_path_print(uint32_t key, const char *path, size_t len)
{
	return print_of(key, path, len, 0);
}

uint32_t ditto_fold_print(uint32_t key, const char *path, size_t len)
{
	return print_of(key, path, len, 1);
}

const struct ditto_reply *codec_shape(int cls, struct rng *rng)
{
	const struct ditto_class *c = &codec_service->cls[cls];
	uint32_t u;
	unsigned i;

	if (c->replies <= 1)
		return c->reply;
	u = rng_u32(rng);
	for (i = 0; i + 1u < c->replies && u > c->reply[i].prob; i++)
		;
	return &c->reply[i];
}

const struct ditto_reply *codec_shape_of(int cls, unsigned kind)
{
	const struct ditto_class *c = &codec_service->cls[cls];

	for (unsigned i = 0; i < c->replies; i++)
		if (c->reply[i].kind == kind)
			return &c->reply[i];
	return NULL;
}

unsigned codec_digits(char *to, uint64_t value)
{
	char text[20];
	unsigned n = 0, small = (unsigned)value;

	if (value < 10) {
		to[0] = (char)('0' + small);
		return 1;
	}
	if (value < 100) {
		to[0] = (char)('0' + small / 10);
		to[1] = (char)('0' + small % 10);
		return 2;
	}
	if (value < 10000) { /* most lengths */
		unsigned high = small / 100, low = small % 100;

		if (high >= 10)
			to[n++] = (char)('0' + high / 10);
		to[n++] = (char)('0' + high % 10);
		to[n++] = (char)('0' + low / 10);
		to[n++] = (char)('0' + low % 10);
		return n;
	}
	do {
		text[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	for (unsigned i = 0; i < n; i++)
		to[i] = text[n - 1 - i];
	return n;
}

uint32_t codec_clamp(uint32_t size)
{
	return size > REPLY_LIMIT ? REPLY_LIMIT : size;
}

/* Called through a pointer, and in pieces: for what it knows the size of, the compiler puts a string instruction in
 * place of the call, and for large sizes the C library uses one too.  Those count as a store an iteration, which no copy
 * loop of the original does. */
static void *(*const volatile set_bytes)(void *, int, size_t) = memset;
static void *(*const volatile copy_bytes)(void *, const void *, size_t) = memcpy;

uint8_t *codec_fill(uint8_t *to, int ch, size_t n)
{
	while (n) {
		size_t piece = n < 1024 ? n : 1024;

		set_bytes(to, ch, piece);
		to += piece;
		n -= piece;
	}
	return to;
}

uint8_t *codec_copy(uint8_t *to, const uint8_t *from, size_t n)
{
	while (n) {
		size_t piece = n < 1024 ? n : 1024;

		copy_bytes(to, from, piece);
		to += piece;
		from += piece;
		n -= piece;
	}
	return to;
}

void codec_append(struct outbuf *out, const uint8_t *from, size_t n)
{
	while (n) {
		size_t part = !out->piece || n < out->piece ? n : out->piece;
		uint8_t *to;

		if (out_splits(out, part) && out->end < out->piece)
			part = out->piece - out->end;
		to = out_room(out, part);
		if (!to)
			return;
		if (from) {
			codec_copy(to, from, part);
			from += part;
		} else {
			codec_fill(to, 'x', part);
		}
		out->end += (uint32_t)part;
		n -= part;
	}
}
