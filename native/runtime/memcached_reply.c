/* SPDX-License-Identifier: Apache-2.0
 *
 * The text protocol of memcached: replies.
 */
#include "memcached.h"
#include "reply_frame.h"

#include <string.h>

#define FILLER_BYTES 65536u

/* Writes a number of so many digits; a single digit is 0. */
static uint8_t *put_digits(uint8_t *to, uint32_t digits)
{
	if (digits > 19)
		digits = 19;
	if (digits <= 1) {
		*to++ = '0';
		return to;
	}
	memset(to, '1', digits);
	return to + digits;
}

struct value {
	const uint8_t *key;
	uint32_t key_len, size;
	const uint8_t *bytes; /* NULL: filler */
	uint8_t cas, lend;
};

static void put_value(const struct value *value, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng,
		      struct reply_parts *parts)
{
	uint32_t size = value->size, key_len = value->key_len;
	uint8_t *start = out_room(out, (size_t)size + key_len + 64), *to = start;

	if (!start)
		return;
	memcpy(to, "VALUE ", 6);
	to += 6;
	memcpy(to, value->key, key_len);
	to += key_len;
	*to++ = ' ';
	to = put_digits(to, dist_draw(shape->second, rng, 1));
	*to++ = ' ';
	to += codec_digits((char *)to, size);
	if (value->cas) {
		*to++ = ' ';
		*to++ = '1';
	}
	*to++ = '\r';
	*to++ = '\n';
	if (!parts->head)
		parts->head = (uint32_t)(to - start);
	if (value->lend && value->bytes) {
		parts->lent = value->bytes;
		to += size;
	} else {
		to = value->bytes ? codec_copy(to, value->bytes, size) : codec_fill(to, 'x', size);
	}
	*to++ = '\r';
	*to++ = '\n';
	out->end += (uint32_t)(to - start);
}

/* What values that nobody stored are made of: sent from here as stored ones are from theirs. */
static uint8_t filler[FILLER_BYTES];

void memcached_reply_setup(void)
{
	memset(filler, 'x', sizeof(filler));
}

/* Each key is a hit or a miss of its own. */
static void put_values(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	const struct ditto_reply *hit = codec_shape_of(req->cls, REPLY_VALUE);
	const uint8_t *p = req->keys, *end = p + req->keys_len;
	uint64_t before = out_end(out), total = 0;

	while (p < end) {
		const struct ditto_reply *shape = hit;
		struct value value = {.key = p, .cas = req->flags & REQ_CAS};
		enum key_state state = KEY_UNKNOWN;

		p = req->one_key ? end : codec_space(p, end);
		value.key_len = (uint32_t)(p - value.key);
		value.lend = req->may_lend && total == 0 && p == end;
		if (hit)
			state = keys_read(keys_hash(value.key, value.key_len), &value.bytes, &value.size);
		if (state == KEY_UNKNOWN) {
			shape = codec_shape(req->cls, rng);
			value.size = dist_draw(shape->size, rng, 0);
		}
		value.size = codec_clamp(value.size);
		if (value.lend && !value.bytes && value.size <= sizeof(filler))
			value.bytes = filler;
		if (value.key_len && state != KEY_ABSENT && shape->kind == REPLY_VALUE && total + value.size <= REPLY_LIMIT) {
			put_value(&value, shape, out, rng, parts);
			total += value.size;
		}
		while (p < end && *p == ' ')
			p++;
	}
	parts->tail = (uint32_t)(out_end(out) - before);
	if (parts->tail >= 2 && parts->head)
		parts->tail -= 2; /* the value's end of line goes with END */
	codec_text(out, "END\r\n");
}

static void put_stats(const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	uint32_t count = dist_draw(shape->count, rng, 1);

	for (uint32_t i = 0; i < count && i < 4096; i++) {
		uint32_t size = dist_draw(shape->size, rng, 1), n;
		uint8_t *to;

		n = size > 1024 ? 1024 : size ? size : 1;
		to = out_room(out, n + 16);
		if (!to)
			return;
		memcpy(to, "STAT x ", 7);
		memset(to + 7, '1', n);
		memcpy(to + 7 + n, "\r\n", 2);
		out->end += n + 9;
	}
	codec_text(out, "END\r\n");
}

static void put_number(const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	uint8_t *start = out_room(out, 24), *to;

	if (!start)
		return;
	to = put_digits(start, dist_draw(shape->size, rng, 1));
	*to++ = '\r';
	*to++ = '\n';
	out->end += (uint32_t)(to - start);
}

static void put_version(const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	uint32_t size = dist_draw(shape->size, rng, 5);
	uint8_t *to;

	size = size < 5 ? 5 : size > 256 ? 256 : size;
	to = out_room(out, size + 10);
	if (!to)
		return;
	memcpy(to, "VERSION ", 8);
	memset(to + 8, '0', size);
	memcpy(to + 8, "1.0.0", 5);
	memcpy(to + 8 + size, "\r\n", 2);
	out->end += size + 10;
}

static void put_shape(const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	static const char *const texts[] = {
		[REPLY_MISS] = "END\r\n",	  [REPLY_STORED] = "STORED\r\n",       [REPLY_NOT_STORED] = "NOT_STORED\r\n",
		[REPLY_EXISTS] = "EXISTS\r\n",	  [REPLY_NOT_FOUND] = "NOT_FOUND\r\n", [REPLY_DELETED] = "DELETED\r\n",
		[REPLY_TOUCHED] = "TOUCHED\r\n", [REPLY_OK] = "OK\r\n",
	};

	switch (shape->kind) {
	case REPLY_NUMBER:
		put_number(shape, out, rng);
		break;
	case REPLY_VERSION:
		put_version(shape, out, rng);
		break;
	case REPLY_STATS:
		put_stats(shape, out, rng);
		break;
	default:
		if (shape->kind < sizeof(texts) / sizeof(texts[0]) && texts[shape->kind])
			codec_text(out, texts[shape->kind]);
		else
			codec_text(out, "ERROR\r\n");
	}
}

static void put_canned(const struct request *req, struct outbuf *out)
{
	static const char *const texts[] = {
		[MC_GET] = "END\r\n",
		[MC_GAT] = "END\r\n",
		[MC_SET] = "STORED\r\n",
		[MC_CAS] = "NOT_FOUND\r\n",
		[MC_DELETE] = "NOT_FOUND\r\n",
		[MC_INCR] = "NOT_FOUND\r\n",
		[MC_TOUCH] = "NOT_FOUND\r\n",
		[MC_VERSION] = "VERSION 1.0.0\r\n",
		[MC_STATS] = "STAT threads 1\r\nEND\r\n",
		[MC_OK] = "OK\r\n",
		[MC_META_NOOP] = "MN\r\n",
		[MC_META_GET] = "EN\r\n",
		[MC_META_SET] = "NS\r\n",
		[MC_META_DELETE] = "NF\r\n",
		[MC_META_ARITHMETIC] = "NF\r\n",
		[MC_META_DEBUG] = "EN\r\n",
		[MC_E_GENERIC] = "ERROR\r\n",
		[MC_E_FORMAT] = "CLIENT_ERROR bad command line format\r\n",
		[MC_E_LINE] = "CLIENT_ERROR line too long\r\n",
		[MC_E_CHUNK] = "CLIENT_ERROR bad data chunk\r\n",
		[MC_E_DELTA] = "CLIENT_ERROR invalid numeric delta argument\r\n",
		[MC_E_EXPTIME] = "CLIENT_ERROR invalid exptime argument\r\n",
		[MC_E_LARGE] = "SERVER_ERROR object too large for cache\r\n",
	};

	if (req->canned == MC_STATS && req->note_len)
		codec_text(out, "RESET\r\n");
	else if (texts[req->canned])
		codec_text(out, texts[req->canned]);
}

static void put_drawn(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	if (req->canned >= MC_META_NOOP && req->canned <= MC_META_DEBUG)
		memcached_meta(req, shape, out, rng);
	else
		put_shape(shape, out, rng);
}

static int fails(unsigned kind)
{
	return kind == REPLY_NOT_STORED || kind == REPLY_NOT_FOUND;
}

/* The class' reply of the kind that there is for a key like this, or the one that was drawn. */
static const struct ditto_reply *fitting(const struct request *req, const struct ditto_reply *drawn, int failing)
{
	static const uint8_t kinds[] = {REPLY_NOT_STORED, REPLY_NOT_FOUND, REPLY_STORED, REPLY_DELETED, REPLY_TOUCHED, REPLY_NUMBER, REPLY_VALUE};
	static const struct ditto_reply texts[] = {{.kind = REPLY_NOT_STORED}, {.kind = REPLY_NOT_FOUND}};
	const struct ditto_reply *shape;

	if (fails(drawn->kind) == failing)
		return drawn;
	for (unsigned i = 0; i < sizeof(kinds); i++)
		if (fails(kinds[i]) == failing && (shape = codec_shape_of(req->cls, kinds[i])))
			return shape;
	return failing ? &texts[req->key_role == KEY_DROP || req->key_role == KEY_LOOK || req->key_role == KEY_SWAP] : drawn;
}

/* A request that depends on whether its key is there, which the store's history tells where it is known; what is stored
 * follows from the reply. */
static void put_change(const struct request *req, struct outbuf *out, struct rng *rng)
{
	const uint8_t *value = NULL;
	uint32_t size = 0;
	enum key_state state = keys_read(req->key_hash, &value, &size);
	const struct ditto_reply *shape = NULL;
	int done = state == KEY_UNKNOWN || (state == KEY_PRESENT) == (req->key_role != KEY_STORE_NEW);

	if (req->cls != DITTO_NONE) {
		shape = codec_shape(req->cls, rng);
		if (state != KEY_UNKNOWN)
			shape = fitting(req, shape, !done);
		done = !fails(shape->kind) && shape->kind != REPLY_EXISTS;
	}
	if (done && req->key_role == KEY_GROW)
		keys_store(req->key_hash, NULL, codec_clamp(size + req->value_size));
	else if (done && req->key_role != KEY_LOOK && req->key_role != KEY_DROP)
		keys_store(req->key_hash, req->value, req->value_size);
	else if (req->key_role == KEY_DROP)
		keys_drop(req->key_hash);
	if (req->flags & REQ_NOREPLY)
		return;
	if (shape)
		put_drawn(req, shape, out, rng);
	else
		put_canned(req, out);
}

void memcached_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	parts->head = parts->tail = 0;
	parts->body = 0;
	if (req->key_role == KEY_STORE) {
		keys_store(req->key_hash, req->value, req->value_size);
	} else if (req->key_role && req->key_role != KEY_READ) {
		put_change(req, out, rng);
		return;
	}
	if (req->flags & REQ_NOREPLY)
		return;
	if (req->cls == DITTO_NONE)
		put_canned(req, out);
	else if (req->keys)
		put_values(req, out, rng, parts);
	else
		put_drawn(req, codec_shape(req->cls, rng), out, rng);
}

/* One line of the reply's length, where that is enough for the word. */
int memcached_fail(uint8_t *reply, uint32_t length)
{
	uint32_t text = sizeof(FAILED_MEMCACHED) - 1;

	if (length < sizeof("SERVER_ERROR \r\n") - 1)
		return -1;
	memset(reply, ' ', length - 2);
	memcpy(reply, FAILED_MEMCACHED, text < length - 2 ? text : length - 2);
	reply[length - 2] = '\r';
	reply[length - 1] = '\n';
	return 0;
}
