/* SPDX-License-Identifier: Apache-2.0
 *
 * FastCGI, as a responder: a request is records of its beginning, its parameters and its body.  It ends with the bytes
 * that its length tells, or with its empty last parameters where there are none.  The reply is a head as CGI's and a
 * body, in records of at most the bytes that the class asks for.
 */
#include "codec.h"
#include "reply_frame.h"

#include <string.h>

#define HEADER 8u
#define BEGIN_BODY 8u
#define END_BYTES 16u
#define CONTENT_LIMIT 65535u
#define FULL_RECORD 65528u /* where the class does not tell: the most that needs no padding */
#define SMALL_RECORD 64u
#define WINDOW 232u /* bytes of parameters that tell classes apart: what a recording surely has of them */
#define MOST_PATH 60
#define HEAD_MAX (1u << 20)
#define TYPE_LINE "Content-type: text/html"
#define FILLER_NAME "X-Filler: "

enum { TYPE_BEGIN = 1, TYPE_ABORT, TYPE_END, TYPE_PARAMS, TYPE_STDIN, TYPE_STDOUT, TYPE_VALUES = 9, TYPE_VALUES_RESULT };
enum { PHASE_START, PHASE_PARAMS, PHASE_BODY };
enum { ANSWER_NOT_FOUND = 1, ANSWER_NOTHING, ANSWER_VALUES };

struct param {
	const uint8_t *name, *value;
	uint32_t name_len, value_len;
};

static void fastcgi_setup(const struct ditto_service *service)
{
	verb_classes(service);
}

static int length_at(const uint8_t **p, const uint8_t *end, uint32_t *length)
{
	const uint8_t *at = *p;

	if (at == end || (*at & 0x80 && end - at < 4))
		return 0;
	*length = *at & 0x80 ? (uint32_t)(*at & 0x7f) << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3] : *at;
	*p += *at & 0x80 ? 4 : 1;
	return 1;
}

/* The next parameter of a record; 0 where no whole one is left. */
static int next_param(const uint8_t **p, const uint8_t *end, struct param *param)
{
	if (!length_at(p, end, &param->name_len) || !length_at(p, end, &param->value_len))
		return 0;
	if ((uint64_t)param->name_len + param->value_len > (uint64_t)(end - *p))
		return 0;
	param->name = *p;
	param->value = param->name + param->name_len;
	*p = param->value + param->value_len;
	return 1;
}

static int named(const struct param *param, const char *name)
{
	return param->name_len == strlen(name) && memcmp(param->name, name, param->name_len) == 0;
}

/* A record of parameters: the method, the path and the length of the body.  The path that was asked for goes before the
 * script that serves it. */
static void take_params(struct codec_state *st, const uint8_t *p, size_t n)
{
	const uint8_t *start = p, *end = p + n, *query;
	struct param param, path = {0};

	while (next_param(&p, end, &param)) {
		int seen = p - start <= WINDOW;

		if (named(&param, "CONTENT_LENGTH")) {
			st->key_hash = 0; /* of the body: bytes that are to come */
			for (uint32_t i = 0; i < param.value_len && (uint8_t)(param.value[i] - '0') < 10 && i < 15; i++)
				st->key_hash = st->key_hash * 10 + (uint64_t)(param.value[i] - '0');
		} else if (named(&param, "REQUEST_METHOD") && param.value_len <= sizeof(st->word)) {
			memset(st->word, 0, sizeof(st->word));
			memcpy(st->word, param.value, param.value_len);
		} else if (seen && (named(&param, "REQUEST_URI") || (named(&param, "SCRIPT_NAME") && !path.value))) {
			path = param;
		}
	}
	if (!path.value)
		return;
	query = codec_scan(path.value, path.value + path.value_len, '?', '?');
	if (query - path.value > MOST_PATH)
		query = path.value + MOST_PATH;
	if (query > path.value)
		st->first_len = ditto_path_print(codec_service->print_key, (const char *)path.value, (size_t)(query - path.value));
}

static int class_for(const struct codec_state *st)
{
	const struct verb_entry *entry = verb_find(st->word8);

	if (!entry || entry->first == DITTO_NONE)
		return DITTO_NONE;
	return verb_class_by_print(entry, (int)st->first_len);
}

static enum codec_step complete(struct codec_state *st, struct request *req, unsigned canned)
{
	*req = (struct request){.cls = DITTO_NONE, .canned = (uint8_t)canned, .value_size = st->argc};
	if (!canned) {
		req->cls = (int16_t)class_for(st);
		req->canned = ANSWER_NOT_FOUND;
	}
	if (!st->flags)
		req->flags |= REQ_CLOSE;
	if (req->cls == DITTO_NONE)
		req->flags |= REQ_MALFORMED;
	st->phase = PHASE_START;
	return CODEC_REQUEST;
}

static void begin(struct codec_state *st, unsigned id, const uint8_t *body)
{
	memset(st, 0, sizeof(*st));
	st->argc = id;
	st->flags = body[2] & 1; /* the connection is kept */
	st->first_len = UINT32_MAX; /* no path yet */
	st->phase = PHASE_PARAMS;
}

static enum codec_step fastcgi_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	*used = 0;
	for (;;) {
		const uint8_t *at = p + *used;
		size_t left = n - *used, len, whole;
		unsigned type, id;

		if (st->need) {
			size_t skip = st->need < left ? (size_t)st->need : left;

			st->need -= skip;
			*used += skip;
			if (st->need)
				return CODEC_MORE;
			if (st->phase == PHASE_BODY && !st->key_hash)
				return complete(st, req, 0);
			continue;
		}
		if (left < HEADER)
			return CODEC_MORE;
		type = at[1];
		id = (unsigned)at[2] << 8 | at[3];
		len = (size_t)at[4] << 8 | at[5];
		whole = HEADER + len + at[6];
		if (at[0] != 1) {
			memset(st, 0, sizeof(*st));
			*req = (struct request){.cls = DITTO_NONE, .canned = ANSWER_NOTHING, .flags = REQ_CLOSE | REQ_MALFORMED | REQ_NOREPLY};
			return CODEC_FATAL;
		}
		if (type == TYPE_STDIN || (type == TYPE_PARAMS && (st->phase != PHASE_PARAMS || id != st->argc)) ||
		    type == TYPE_STDOUT || (type == TYPE_ABORT && st->phase == PHASE_START)) {
			*used += HEADER; /* what is not kept is skipped as it comes */
			st->need = whole - HEADER;
			if (type != TYPE_STDIN || st->phase != PHASE_BODY || id != st->argc)
				continue;
			st->key_hash = len && len < st->key_hash ? st->key_hash - len : 0;
			if (!st->need)
				return complete(st, req, 0);
			continue;
		}
		if (left < whole)
			return CODEC_MORE;
		*used += whole;
		if (type == TYPE_BEGIN && len >= BEGIN_BODY) {
			begin(st, id, at + HEADER);
		} else if (type == TYPE_PARAMS && len) {
			take_params(st, at + HEADER, len);
		} else if (type == TYPE_PARAMS) {
			st->phase = PHASE_BODY;
			if (!st->key_hash)
				return complete(st, req, 0);
		} else if (type == TYPE_ABORT) {
			return complete(st, req, ANSWER_NOTHING);
		} else if (type == TYPE_VALUES) {
			*req = (struct request){.cls = DITTO_NONE, .canned = ANSWER_VALUES, .flags = REQ_INTERIM};
			return CODEC_REQUEST;
		}
	}
}

/* A record at a time: its head, then what that tells. */
static uint32_t fastcgi_wants(const struct codec_state *st, const uint8_t *p, size_t n)
{
	size_t whole;

	if (st->need)
		return st->need < UINT32_MAX ? (uint32_t)st->need : UINT32_MAX;
	if (n < HEADER)
		return n || st->phase != PHASE_START ? (uint32_t)(HEADER - n) : 0;
	whole = HEADER + ((size_t)p[4] << 8 | p[5]) + p[6];
	return whole > n ? (uint32_t)(whole - n) : 0;
}

static uint8_t *put(uint8_t *to, const char *text)
{
	size_t n = strlen(text);

	memcpy(to, text, n);
	return to + n;
}

static uint8_t *put_header(uint8_t *to, unsigned type, unsigned id, size_t len, size_t padding)
{
	uint8_t header[HEADER] = {1, (uint8_t)type, (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(len >> 8), (uint8_t)len,
				  (uint8_t)padding, 0};

	memcpy(to, header, HEADER);
	return to + HEADER;
}

/* The head into `to`, of `wanted` bytes where that is possible; returns its end. */
static uint8_t *put_head(uint8_t *to, unsigned status, uint32_t wanted)
{
	uint8_t *start = to;
	size_t rest;

	if (status != 200) {
		char line[] = "Status: 000 Status\r\n";

		line[8] = (char)('0' + status / 100 % 10);
		line[9] = (char)('0' + status / 10 % 10);
		line[10] = (char)('0' + status % 10);
		to = put(to, line);
	}
	to = put(to, TYPE_LINE);
	rest = (size_t)(to - start) + 4 < wanted ? wanted - (size_t)(to - start) - 4 : 0;
	if (rest > 2 + sizeof(FILLER_NAME)) { /* a line end, the name, and something behind it */
		to = put(to, "\r\n" FILLER_NAME);
		rest -= 2 + sizeof(FILLER_NAME) - 1;
		to = codec_fill(to, 'x', rest);
	} else {
		memset(to, ' ', rest);
		to += rest;
	}
	return put(to, "\r\n\r\n");
}

/* Output of so many bytes moved apart into records, from behind; it lies where it would without any. */
static uint8_t *into_records(uint8_t *output, size_t n, size_t limit, unsigned id)
{
	size_t records = n ? (n + limit - 1) / limit : 0, each = HEADER + limit + (-limit & 7);
	uint8_t *end = output;

	for (size_t i = records; i-- > 0;) {
		size_t len = i + 1 == records ? n - i * limit : limit, padding = -len & 7;
		uint8_t *to = output + i * each;

		memmove(to + HEADER, output + i * limit, len);
		put_header(to, TYPE_STDOUT, id, len, padding);
		memset(to + HEADER + len, 0, padding);
		if (i + 1 == records)
			end = to + HEADER + len + padding;
	}
	return end;
}

static void fastcgi_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	uint32_t head = 0, size = 0;
	unsigned status = 404, id = req->value_size;
	size_t limit = FULL_RECORD, room;
	uint8_t *start, *to;

	parts->head = parts->tail = 0;
	parts->body = 0;
	if (req->flags & REQ_NOREPLY)
		return;
	if (req->cls != DITTO_NONE) {
		const struct ditto_reply *shape = codec_shape(req->cls, rng);
		uint32_t asked = dist_draw(shape->count, rng, 0);

		status = shape->status ? shape->status : 200;
		head = shape->head_bytes < HEAD_MAX ? shape->head_bytes : HEAD_MAX;
		size = codec_clamp(dist_draw(shape->size, rng, 0));
		limit = asked && asked <= CONTENT_LIMIT ? asked : limit;
	}
	limit = limit > SMALL_RECORD ? limit : SMALL_RECORD;
	room = (size_t)head + size + 64; /* of the output; each record may need padding */
	start = to = out_room(out, room + (room / limit + 2) * (HEADER + 7) + END_BYTES);
	if (!to)
		return;
	if (req->cls == DITTO_NONE && req->canned == ANSWER_VALUES) {
		out->end += (uint32_t)(put_header(to, TYPE_VALUES_RESULT, 0, 0, 0) - start);
		return;
	}
	if (req->cls != DITTO_NONE || req->canned == ANSWER_NOT_FOUND) {
		to = put_head(to, status, head);
		parts->head = (uint32_t)(to - start) + HEADER;
		to = codec_fill(to, 'x', size);
		to = into_records(start, (size_t)(to - start), limit, id);
		parts->tail = (uint32_t)(to - start);
		if (parts->head > parts->tail)
			parts->head = parts->tail;
	}
	to = put_header(to, TYPE_END, id, END_BYTES - HEADER, 0);
	memset(to, 0, END_BYTES - HEADER);
	out->end += (uint32_t)(to + END_BYTES - HEADER - start);
}

/* An error's head over the beginning of the output; what is left of that is its body. */
static int fastcgi_fail(uint8_t *reply, uint32_t length)
{
	const size_t head = sizeof(FAILED_FASTCGI) - 1;

	if (length < HEADER || reply[1] != TYPE_STDOUT || ((size_t)reply[4] << 8 | reply[5]) < head)
		return -1;
	memcpy(reply + HEADER, FAILED_FASTCGI, head);
	return 0;
}

const struct codec codec_fastcgi = {
	.name = "fastcgi", .max_head = HEADER + CONTENT_LIMIT + 255, .setup = fastcgi_setup, .parse = fastcgi_parse,
	.reply = fastcgi_reply, .wants = fastcgi_wants, .fail = fastcgi_fail,
};
