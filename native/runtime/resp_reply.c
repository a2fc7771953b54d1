/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP: replies.
 */
#include "resp.h"

#include <string.h>

#define NUMBER_BYTES 24 /* what is this short may be a number, and clients read it as one */
#define DOUBLE_BYTES 17

void resp_put_bulk(struct outbuf *out, const uint8_t *text, uint32_t size)
{
	int splits = out_splits(out, (size_t)size + 24);
	uint8_t *start = out_room(out, splits ? 24 : (size_t)size + 24), *to = start;

	if (!start)
		return;
	*to++ = '$';
	to += codec_digits((char *)to, size);
	*to++ = '\r';
	*to++ = '\n';
	if (splits) {
		out->end += (uint32_t)(to - start);
		codec_append(out, text, size);
		codec_text(out, "\r\n");
		return;
	}
	if (text) {
		to = codec_copy(to, text, size);
	} else {
		to = codec_fill(to, size <= NUMBER_BYTES ? '1' : 'x', size);
	}
	*to++ = '\r';
	*to++ = '\n';
	out->end += (uint32_t)(to - start);
}

/* "<type><filler of size bytes>\r\n", beginning with text where it fits. */
static void put_line(struct outbuf *out, char type, const char *text, uint32_t size, char filler)
{
	uint8_t *to = out_room(out, (size_t)size + 3);
	size_t n = strlen(text);

	if (!to)
		return;
	*to++ = (uint8_t)type;
	memset(to, filler, size);
	memcpy(to, text, n < size ? n : size);
	to[size] = '\r';
	to[size + 1] = '\n';
	out->end += size + 3;
}

void resp_put_none(const struct request *req, struct outbuf *out)
{
	codec_text(out, req->flags & REQ_RESP3 ? "_\r\n" : "$-1\r\n");
}

/* A number with a point: the first version of the protocol has none of its own. */
static void put_double(const struct request *req, struct outbuf *out, uint32_t size)
{
	if (req->flags & REQ_RESP3)
		put_line(out, ',', "", size < 1 ? 1 : size > DOUBLE_BYTES ? DOUBLE_BYTES : size, '1');
	else
		resp_put_bulk(out, NULL, size);
}

/* The line before the elements of an array, or of what the first version of the protocol has as one. */
void resp_put_opening(const struct request *req, struct outbuf *out, unsigned mark, uint32_t count, size_t room)
{
	static const char marks[] = "*%~>";
	uint8_t *to = out_room(out, room < 24 ? 24 : room);
	unsigned n;

	if (!to)
		return;
	if (mark > 3 || !(req->flags & REQ_RESP3)) {
		count *= mark == 1 ? 2 : 1;
		mark = 0;
	}
	to[0] = (uint8_t)marks[mark];
	n = 1 + codec_digits((char *)to + 1, count);
	to[n] = '\r';
	to[n + 1] = '\n';
	out->end += n + 2;
}

void resp_put_element(const struct request *req, struct outbuf *out, unsigned kind, uint32_t size)
{
	uint32_t part = size / (kind == RESP_ENTRY ? 3 : 2);

	switch (kind) {
	case RESP_INTEGER:
		put_line(out, ':', "", size < 1 ? 1 : size > 18 ? 18 : size, '1');
		return;
	case RESP_SIMPLE:
		put_line(out, '+', "OK", size < 1 ? 1 : size < 65536 ? size : 65536, 'x');
		return;
	case RESP_DOUBLE:
		put_double(req, out, size);
		return;
	case RESP_NONE:
		resp_put_none(req, out);
		return;
	case RESP_SCORED:
		part = part < DOUBLE_BYTES ? part : DOUBLE_BYTES;
		codec_text(out, "*2\r\n");
		resp_put_bulk(out, NULL, size - part);
		put_double(req, out, part);
		return;
	case RESP_ENTRY:
		codec_text(out, "*2\r\n");
		resp_put_bulk(out, NULL, part);
		codec_text(out, "*2\r\n");
		resp_put_bulk(out, NULL, part);
		resp_put_bulk(out, NULL, size - 2 * part);
		return;
	case RESP_PAIR:
		codec_text(out, "*2\r\n");
		resp_put_bulk(out, NULL, part);
		resp_put_bulk(out, NULL, size - part);
		return;
	default:
		resp_put_bulk(out, NULL, size);
	}
}

/* What stands before the array within; returns the kind of its elements. */
static unsigned put_outer(const struct request *req, unsigned status, struct outbuf *out)
{
	if (status == RESP_STREAMED) {
		codec_text(out, req->flags & REQ_RESP3 ? "%1\r\n$3\r\nkey\r\n" : "*1\r\n*2\r\n$3\r\nkey\r\n");
		return RESP_ENTRY;
	}
	codec_text(out, status == RESP_ENDED ? "*2\r\n$1\r\n0\r\n" : "*2\r\n$4\r\n1024\r\n");
	return RESP_BULK;
}

void resp_put_shape(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	uint32_t size = codec_clamp(dist_draw(shape->size, rng, 2)), count, line = size < 65536 ? size : 65536;
	unsigned mark = shape->status / 10, kind = shape->status % 10;

	switch (shape->kind) {
	case REPLY_ERROR:
		put_line(out, '-', "ERR ", line < 4 ? 4 : line, 'x');
		return;
	case REPLY_INTEGER:
		resp_put_element(req, out, shape->status ? RESP_DOUBLE : RESP_INTEGER, size);
		return;
	case REPLY_BULK:
		resp_put_bulk(out, NULL, size);
		return;
	case REPLY_NIL:
		resp_put_none(req, out);
		return;
	case REPLY_ARRAY:
		count = req->canned == RESP_D_EXEC ? req->bytes : dist_draw(shape->count, rng, 0);
		if (count > ARGS_LIMIT)
			count = ARGS_LIMIT;
		if (shape->status >= RESP_GOES_ON) {
			kind = put_outer(req, shape->status, out);
			mark = 0;
		}
		{
			/* room for all of it at once, or for a piece, so that nothing is moved when it grows */
			uint64_t all = (uint64_t)count * ((uint64_t)size + 16) + 24, most = out->piece ? out->piece : REPLY_LIMIT;

			resp_put_opening(req, out, mark, count, all < most ? (size_t)all : out->piece);
		}
		count *= mark == 1 ? 2 : 1;
		for (uint64_t total = 0; count && !out->failed; count--) {
			if (total + size > REPLY_LIMIT)
				size = 0; /* the count must be right; the rest is empty */
			resp_put_element(req, out, kind, size);
			total += size;
			size = codec_clamp(dist_draw(shape->size, rng, 2));
		}
		return;
	default:
		put_line(out, '+', size == 4 ? "PONG" : "OK", line < 1 ? 1 : line, 'x');
		return;
	}
}

static int note_is(const struct request *req, const char *word)
{
	size_t n = strlen(word);

	if (req->note_len != n)
		return 0;
	for (size_t i = 0; i < n; i++)
		if ((req->note[i] & ~32) != word[i])
			return 0;
	return 1;
}

/* What a connection has agreed on, and what it counts. */
static void put_agreed(const struct request *req, struct outbuf *out, struct rng *rng)
{
	const struct ditto_reply *shape;

	switch (req->canned) {
	case RESP_D_HELLO:
		resp_put_opening(req, out, 1, 7, 0);
		codec_text(out, "$6\r\nserver\r\n$5\r\nclone\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n");
		codec_text(out, req->flags & REQ_RESP3 ? ":3\r\n" : ":2\r\n");
		codec_text(out, "$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n");
		codec_text(out, "$7\r\nmodules\r\n*0\r\n");
		return;
	case RESP_D_EXEC:
		shape = req->cls == DITTO_NONE ? NULL : codec_shape(req->cls, rng);
		if (shape && (shape->kind == REPLY_ARRAY || shape->kind == REPLY_NIL)) {
			resp_put_shape(req, shape, out, rng);
			return;
		}
		resp_put_opening(req, out, 0, req->bytes, 0);
		for (uint32_t n = 0; n < req->bytes && !out->failed; n++)
			resp_put_element(req, out, RESP_INTEGER, 1);
		return;
	case RESP_D_SUBSCRIBE:
		for (uint32_t n = 1; n <= req->bytes && !out->failed; n++) {
			resp_put_opening(req, out, 3, 3, 0);
			resp_put_bulk(out, (const uint8_t *)"subscribe", 9);
			resp_put_bulk(out, (const uint8_t *)req->note, req->note_len);
			resp_put_element(req, out, RESP_INTEGER, 1);
		}
		return;
	case RESP_D_MESSAGE:
		resp_put_opening(req, out, 3, 3, 0);
		resp_put_bulk(out, (const uint8_t *)"message", 7);
		resp_put_bulk(out, (const uint8_t *)req->note, req->note_len);
		resp_put_bulk(out, req->value, codec_clamp(req->value_size));
		return;
	default:
		codec_text(out, req->canned == RESP_D_QUEUED ? "+QUEUED\r\n" : "+OK\r\n");
	}
}

void resp_put_canned(const struct request *req, struct outbuf *out)
{
	static const char *const texts[] = {
		[RESP_D_OK] = "+OK\r\n",
		[RESP_D_QUIT] = "+OK\r\n",
		[RESP_D_INT] = ":1\r\n",
		[RESP_D_EMPTY] = "*0\r\n",
		[RESP_D_BULK] = "$1\r\n1\r\n",
		[RESP_D_SCAN] = "*2\r\n$1\r\n0\r\n*0\r\n",
		[RESP_D_TIME] = "*2\r\n$1\r\n0\r\n$1\r\n0\r\n",
		[RESP_D_TYPE] = "+none\r\n",
		[RESP_D_INFO] = "$19\r\n# Server\r\nrole:x\r\n\r\n",
		[RESP_D_UNKNOWN] = "-ERR unknown command\r\n",
		[RESP_E_MULTIBULK] = "-ERR Protocol error: invalid multibulk length\r\n",
		[RESP_E_MULTIBULK_LONG] = "-ERR Protocol error: too big mbulk count string\r\n",
		[RESP_E_BULK] = "-ERR Protocol error: invalid bulk length\r\n",
		[RESP_E_BULK_LONG] = "-ERR Protocol error: too big bulk count string\r\n",
		[RESP_E_INLINE_LONG] = "-ERR Protocol error: too big inline request\r\n",
		[RESP_E_QUOTES] = "-ERR Protocol error: unbalanced quotes in request\r\n",
	};
	char text[48] = "-ERR Protocol error: expected '$', got '?'\r\n";

	switch (req->canned) {
	case RESP_D_PING:
		if (req->note_len == 0)
			codec_text(out, "+PONG\r\n");
		else
			resp_put_bulk(out, (const uint8_t *)req->note, req->note_len);
		break;
	case RESP_D_NIL:
		resp_put_none(req, out);
		break;
	case RESP_D_ECHO:
		resp_put_bulk(out, (const uint8_t *)req->note, req->note_len);
		break;
	case RESP_D_CONFIG:
		codec_text(out, note_is(req, "GET") ? "*2\r\n$1\r\nx\r\n$0\r\n\r\n" : "+OK\r\n");
		break;
	case RESP_D_CLIENT:
		codec_text(out, note_is(req, "ID") ? ":1\r\n" : "+OK\r\n");
		break;
	case RESP_E_DOLLAR:
		if (req->note[0] > ' ' && req->note[0] < 127)
			text[40] = req->note[0];
		codec_text(out, text);
		break;
	default:
		codec_text(out, texts[req->canned]);
	}
}

/* The reply to a read of one key: as the store's history has it, where that is known and the class has such replies. */
static void put_read(const struct request *req, struct outbuf *out, struct rng *rng)
{
	const struct ditto_reply *hit = codec_shape_of(req->cls, REPLY_BULK);
	const uint8_t *value = NULL;
	uint32_t size = 0;
	enum key_state state = hit ? keys_read(req->key_hash, &value, &size) : KEY_UNKNOWN;

	if (state == KEY_PRESENT)
		resp_put_bulk(out, value, codec_clamp(size));
	else if (state == KEY_ABSENT)
		resp_put_none(req, out);
	else
		resp_put_shape(req, codec_shape(req->cls, rng), out, rng);
	if (req->key_role == KEY_TAKE)
		keys_drop(req->key_hash);
}

void resp_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	uint64_t before = out_end(out);

	parts->body = 0;
	if (req->key_role == KEY_STORE)
		keys_store(req->key_hash, req->value, req->value_size);
	else if (req->key_role > KEY_STORE)
		resp_keep(req);
	if (req->canned >= RESP_D_AGREED)
		put_agreed(req, out, rng);
	else if (req->key_role == KEY_POP || req->key_role == KEY_DRAW)
		resp_put_popped(req, out, rng);
	else if (req->cls == DITTO_NONE)
		resp_put_canned(req, out);
	else if (req->key_role == KEY_READ || req->key_role == KEY_TAKE)
		put_read(req, out, rng);
	else
		resp_put_shape(req, codec_shape(req->cls, rng), out, rng);
	parts->head = 0;
	parts->tail = (uint32_t)(out_end(out) - before);
}
