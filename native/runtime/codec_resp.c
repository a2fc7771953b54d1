/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP, the protocol of Redis, in both its versions: multibulk requests; inline ones are in resp_inline.c, replies in
 * resp_reply.c.
 * Arguments after the first are skipped by their length; the first is the command.
 */
#include "codec.h"
#include "resp.h"
#include "resp_commands.h"

#include <string.h>

#define BULK_LIMIT (512u << 20)
#define KEY_LIMIT 512u /* longer keys are not looked at */

enum { PHASE_START, PHASE_LENGTH, PHASE_DATA, PHASE_SKIP };

static void resp_setup(const struct ditto_service *service)
{
	verb_classes(service);
	keys_setup(service->starts_empty);
	for (unsigned i = 0; i < sizeof(resp_commands) / sizeof(resp_commands[0]); i++) {
		const char *p = resp_commands[i].words;

		while (*p) {
			size_t n = strcspn(p, " ");
			struct verb_entry *entry = verb_add(p, n);

			if (entry)
				entry->builtin = resp_commands[i].reply;
			p += n;
			p += *p == ' ';
		}
	}
	for (unsigned i = 0; i < sizeof(resp_keyed) / sizeof(resp_keyed[0]); i++) {
		struct verb_entry *entry = verb_add(resp_keyed[i].word, strlen(resp_keyed[i].word));

		if (entry) {
			entry->key_role = resp_keyed[i].role;
			entry->value_at = resp_keyed[i].value_at;
		}
	}
}

enum codec_step resp_fatal(struct codec_state *st, struct request *req, unsigned error, char got)
{
	memset(st, 0, sizeof(*st));
	st->note[0] = got;
	req->cls = DITTO_NONE;
	req->canned = (uint8_t)error;
	req->flags = REQ_CLOSE | REQ_MALFORMED;
	req->key_role = KEY_NONE;
	req->note = st->note;
	req->note_len = 1;
	return CODEC_FATAL;
}

/* Reads "<digits>\r\n" after the type byte.  Returns bytes up to the line's end, 0 when it is not there yet, or -1. */
static int line_number(const uint8_t *p, size_t n, int64_t *value)
{
	int64_t v = 0;
	size_t i = 1;
	int negative = 0;

	if (i < n && p[i] == '-') {
		negative = 1;
		i++;
	}
	for (; i < n && (uint8_t)(p[i] - '0') < 10 && i < 19u + (unsigned)negative; i++)
		v = v * 10 + (p[i] - '0');
	if (i >= n)
		return 0;
	if (p[i] != '\r' || i == 1u + (unsigned)negative) {
		/* the whole line must be there before it is called wrong, so that pieces give the same answer */
		const uint8_t *cr = memchr(p, '\r', n);

		if (cr ? (size_t)(cr - p) > INLINE_LIMIT : n > INLINE_LIMIT)
			return -2;
		return cr && (size_t)(cr - p) + 1 < n ? -1 : 0;
	}
	if (i + 1 >= n)
		return 0;
	*value = negative ? -v : v;
	return (int)i + 2;
}

/* Upper case in each of the eight bytes. */
static uint64_t upper8(uint64_t x)
{
	uint64_t low = x & 0x7f7f7f7f7f7f7f7fULL;
	uint64_t from_a = low + 0x1f1f1f1f1f1f1f1fULL, past_z = low + 0x0505050505050505ULL;

	return x ^ ((from_a & ~past_z & ~x & 0x8080808080808080ULL) >> 2);
}

void resp_take_word(struct codec_state *st, const uint8_t *p, size_t n)
{
	st->word8[0] = st->word8[1] = st->word8[2] = 0;
	st->word_len = n > sizeof(st->word) ? 0 : (uint8_t)n;
	for (size_t i = 0; i < st->word_len; i++)
		st->word[i] = (char)p[i];
	for (unsigned i = 0; i < 3; i++)
		st->word8[i] = upper8(st->word8[i]);
}

/* "<type>d\r\n" or "<type>dd\r\n": the number, or -1 for anything else; *p moves past it. */
static inline int short_number(const uint8_t **p, uint8_t type)
{
	const uint8_t *q = *p;
	unsigned tens = (unsigned)q[1] - '0', ones;

	if (q[0] != type || tens > 9)
		return -1;
	if (q[2] == '\r') {
		*p = q + 4;
		return q[3] == '\n' ? (int)tens : -1;
	}
	ones = (unsigned)q[2] - '0';
	if (ones > 9 || q[3] != '\r' || q[4] != '\n')
		return -1;
	*p = q + 5;
	return (int)(tens * 10 + ones);
}

/* The usual request, short and complete: the command and its arguments in one go.  CODEC_MORE: take the long way. */
static enum codec_step short_request(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				     struct request *req)
{
	const uint8_t *at = p, *end = p + n;
	const struct verb_entry *entry;
	int argc, len;

	if (n < 16)
		return CODEC_MORE;
	argc = short_number(&at, '*');
	if (argc < 2 || end - at < 12) /* one word alone goes the long way, it may be a PING */
		return CODEC_MORE;
	len = short_number(&at, '$');
	if (len < 1 || len > 8 || end - at < 10)
		return CODEC_MORE;
	memcpy(&st->word8[0], at, 8);
	st->word8[0] = upper8(st->word8[0] & (~0ULL >> (64 - 8 * len)));
	st->word8[1] = st->word8[2] = 0;
	at += len + 2;
	entry = verb_find(st->word8);
	if (!entry || entry->first == DITTO_NONE || entry->builtin >= RESP_D_AGREED || st->first_len)
		return CODEC_MORE; /* default replies may need an argument */
	req->key_role = entry->key_role;
	req->key_hash = 0;
	req->value_size = 0;
	req->value = NULL;
	for (int i = 1; i < argc; i++) {
		if (end - at < 6)
			return CODEC_MORE;
		len = short_number(&at, '$');
		if (len < 0 || end - at < len + 2)
			return CODEC_MORE;
		if (i == 1 && entry->key_role)
			req->key_hash = keys_hash(at, (size_t)len);
		else if (i == entry->value_at) {
			req->value_size = (uint32_t)len;
			req->value = at;
		}
		at += len + 2;
	}
	req->cls = (int16_t)verb_class_for(entry, (uint32_t)argc);
	req->canned = RESP_NO_DEFAULT;
	req->flags = (entry->builtin == RESP_D_QUIT ? REQ_CLOSE : 0) | st->flags;
	*used = (size_t)(at - p);
	return CODEC_REQUEST;
}

/* The default replies that look at the next argument. */
static int wants_note(const struct verb_entry *entry)
{
	if (!entry)
		return 0;
	return entry->builtin == RESP_D_HELLO || entry->builtin == RESP_D_SUBSCRIBE ||
	       (entry->first == DITTO_NONE && entry->builtin >= RESP_D_PING && entry->builtin <= RESP_D_CLIENT);
}

static enum codec_step resp_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				  struct request *req)
{
	size_t at = 0;
	int64_t value = 0;
	int len;

	*used = 0;
	st->value = NULL;
	if (st->phase == PHASE_START && short_request(st, p, n, used, req) == CODEC_REQUEST)
		return CODEC_REQUEST;
	for (;;) {
		switch (st->phase) {
		case PHASE_START:
			if (at == n)
				return CODEC_MORE;
			if (p[at] != '*') {
				size_t before = *used;
				enum codec_step step = resp_inline(st, p + at, n - at, used, req);

				if (step != CODEC_MORE || *used == before)
					return step;
				at = *used; /* an empty line: nothing to answer */
				continue;
			}
			len = line_number(p + at, n - at, &value);
			if (len == 0)
				return CODEC_MORE;
			if (len < 0 || value > (int64_t)ARGS_LIMIT)
				return resp_fatal(st, req, len == -2 ? RESP_E_MULTIBULK_LONG : RESP_E_MULTIBULK, 0);
			at += (size_t)len;
			*used = at;
			if (value <= 0)
				continue;
			st->argc = (uint32_t)value;
			st->arg = 0;
			st->note_len = 0;
			st->value_at = 0;
			st->key_hash = 0;
			st->value_size = 0;
			st->phase = PHASE_LENGTH;
			/* fall through */
		case PHASE_LENGTH:
			if (at == n)
				return CODEC_MORE;
			if (p[at] != '$')
				return resp_fatal(st, req, RESP_E_DOLLAR, (char)p[at]);
			len = line_number(p + at, n - at, &value);
			if (len == 0)
				return CODEC_MORE;
			if (len < 0 || value < 0 || value > (int64_t)BULK_LIMIT)
				return resp_fatal(st, req, len == -2 ? RESP_E_BULK_LONG : RESP_E_BULK, 0);
			at += (size_t)len;
			*used = at;
			st->need = (uint64_t)value + 2;
			st->phase = PHASE_SKIP;
			if (st->arg == 0) {
				if ((uint64_t)value <= sizeof(st->word))
					st->phase = PHASE_DATA;
				else
					st->word_len = 0;
			} else if (st->arg == 1 && (uint64_t)value <= KEY_LIMIT) {
				const struct verb_entry *entry = st->word_len ? verb_find(st->word8) : NULL;

				if ((entry && entry->key_role) || ((uint64_t)value <= sizeof(st->note) && wants_note(entry)))
					st->phase = PHASE_DATA;
			}
			if (st->value_at && st->arg == st->value_at)
				st->value_size = (uint32_t)value;
			continue;
		case PHASE_DATA: /* short and wanted: taken when all of it is there */
			if (n - at < st->need)
				return CODEC_MORE;
			if (st->arg == 0) {
				const struct verb_entry *entry;

				resp_take_word(st, p + at, (size_t)st->need - 2);
				entry = st->word_len ? verb_find(st->word8) : NULL;
				st->value_at = entry ? entry->value_at : 0;
			} else {
				size_t size = (size_t)st->need - 2;

				st->key_hash = keys_hash(p + at, size);
				st->note_len = (uint8_t)(size < sizeof(st->note) ? size : sizeof(st->note));
				memcpy(st->note, p + at, st->note_len);
			}
			/* fall through */
		default:
			if (n - at < st->need) {
				st->need -= n - at;
				*used = n;
				return CODEC_MORE;
			}
			if (st->value_at && st->arg == st->value_at && st->need == (uint64_t)st->value_size + 2)
				st->value = p + at;
			at += (size_t)st->need;
			*used = at;
			st->need = 0;
			if (++st->arg == st->argc)
				return resp_complete(st, req);
			st->phase = PHASE_LENGTH;
		}
	}
}

const struct codec codec_resp = {
	.name = "resp2",
	.max_head = INLINE_LIMIT + 1,
	.setup = resp_setup,
	.parse = resp_parse,
	.reply = resp_reply,
	.appends = 1,
	.fail = resp_fail,
};
