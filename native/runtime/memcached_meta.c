/* SPDX-License-Identifier: Apache-2.0
 *
 * The meta commands of memcached: replies.
 */
#include "memcached.h"

#include <string.h>

/* Flags that are answered by a word of their own. */
#define FOUND "bcfhklOst"
#define MISSED "bkO"

/* Whether a flag is among the words after the key. */
static int has_flag(const struct request *req, uint8_t letter)
{
	const uint8_t *p = (const uint8_t *)req->note, *end = p + req->note_len;

	while ((p = codec_space(p, end)) < end) {
		while (p < end && *p == ' ')
			p++;
		if (p < end && *p == letter)
			return 1;
	}
	return 0;
}

/* What the client asked to be told, in its order; told: what there is to tell. */
static uint8_t *put_flags(const struct request *req, uint8_t *to, uint32_t size, const char *told)
{
	const uint8_t *key = (const uint8_t *)req->note, *p = key, *end = p + req->note_len, *key_end = codec_space(key, end);

	while ((p = codec_space(p, end)) < end) {
		const uint8_t *word;

		while (p < end && *p == ' ')
			p++;
		word = p;
		if (word == end || !strchr(told, *word))
			continue;
		*to++ = ' ';
		*to++ = *word;
		if (*word == 'k')
			to = codec_copy(to, key, (size_t)(key_end - key));
		else if (*word == 'O')
			to = codec_copy(to, word + 1, (size_t)(codec_space(word, end) - word - 1));
		else if (*word == 's')
			to += codec_digits((char *)to, size);
		else if (*word == 't') {
			*to++ = '-';
			*to++ = '1';
		} else if (*word != 'b')
			*to++ = '0';
	}
	return to;
}

static void put_word(const struct request *req, const char *word, uint32_t size, const char *told, struct outbuf *out)
{
	uint8_t *start = out_room(out, 2 * (size_t)req->note_len + 64), *to = start;

	if (!start)
		return;
	*to++ = (uint8_t)word[0];
	*to++ = (uint8_t)word[1];
	to = put_flags(req, to, size, told);
	*to++ = '\r';
	*to++ = '\n';
	out->end += (uint32_t)(to - start);
}

static void put_found(const struct request *req, const uint8_t *value, uint32_t size, int is_number, struct outbuf *out)
{
	uint8_t *start = out_room(out, (size_t)size + 2 * (size_t)req->note_len + 64), *to = start;

	if (!start)
		return;
	*to++ = 'V';
	*to++ = 'A';
	*to++ = ' ';
	to += codec_digits((char *)to, size);
	to = put_flags(req, to, size, FOUND);
	*to++ = '\r';
	*to++ = '\n';
	to = value ? codec_copy(to, value, size) : codec_fill(to, is_number ? '1' : 'x', size);
	*to++ = '\r';
	*to++ = '\n';
	out->end += (uint32_t)(to - start);
}

void memcached_meta(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	const uint8_t *value = NULL;
	uint32_t size = 0;
	enum key_state state = req->key_role == KEY_READ ? keys_read(req->key_hash, &value, &size) : KEY_UNKNOWN;
	const struct ditto_reply *found = codec_shape_of(req->cls, REPLY_VALUE);
	int quiet = has_flag(req, 'q'), valued = has_flag(req, 'v');
	unsigned kind = shape->kind;

	if (req->canned == MC_META_NOOP) {
		codec_text(out, "MN\r\n");
		return;
	}
	if (state == KEY_ABSENT)
		kind = REPLY_MISS;
	else if (state == KEY_PRESENT || kind == REPLY_VALUE)
		kind = valued ? REPLY_VALUE : REPLY_STORED;
	switch (kind) {
	case REPLY_MISS:
		if (!quiet)
			put_word(req, "EN", 0, MISSED, out);
		return;
	case REPLY_VALUE:
		if (state != KEY_PRESENT)
			size = found ? dist_draw(found->size, rng, 1) : 1;
		put_found(req, value, codec_clamp(size), req->canned == MC_META_ARITHMETIC, out);
		return;
	case REPLY_NOT_FOUND:
		if (!quiet || req->canned == MC_META_SET)
			put_word(req, "NF", 0, MISSED, out);
		return;
	case REPLY_NOT_STORED:
		put_word(req, "NS", 0, MISSED, out);
		return;
	case REPLY_EXISTS:
		put_word(req, "EX", 0, MISSED, out);
		return;
	default:
		if (!quiet || req->canned == MC_META_GET)
			put_word(req, "HD", size, FOUND, out);
	}
}
