/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies of HTTP/2: a head, data, and in gRPC trailers, each of the wanted size as far as its format allows.  Data that
 * the client's windows do not take yet is held back on its stream.
 */
#include "h2.h"

#include <string.h>

#define HEAD_MAX 8192u
#define TRAILER_MAX 1024u
#define PREFIX 5u     /* of a gRPC message: compressed or not, and its length */
#define FIELD_HEAD 7u /* of the message's one field: at most */
#define FILLER_NAME "x-filler"
#define TYPE_NAME 31u /* indexes of the static table */
#define STATUS_NAME 8u
#define STATUS_OK 0x88u     /* a field by its index: status 200, */
#define STATUS_FAILED 0x8eu /* and 500, which no other reply is written with */
#define EMPTY_FIELD 0xbbu /* "vary", without a value */
#define STATUS_FIELD "grpc-status"
#define UNIMPLEMENTED 12u
#define OWN_TABLE 62u

static uint8_t *put(uint8_t *to, const char *text)
{
	size_t n = strlen(text);

	memcpy(to, text, n);
	return to + n;
}

static uint8_t *put_text(uint8_t *to, const char *text)
{
	*to++ = (uint8_t)strlen(text);
	return put(to, text);
}

/* A field that is alike in all replies: it is written once, and by its place in the table from then on. */
static uint8_t *put_again(struct h2_conn *h, uint8_t *to, uint8_t *place, uint8_t name, const char *name_text, const char *value)
{
	if (*place) {
		*to++ = (uint8_t)(0x80 | (OWN_TABLE + h->own - *place));
		return to;
	}
	if (name)
		*to++ = h->plain ? 0x0f : 0x40 | name;
	else
		*to++ = h->plain ? 0x00 : 0x40;
	if (name && h->plain)
		*to++ = (uint8_t)(name - 15);
	if (!name)
		to = put_text(to, name_text);
	if (!h->plain)
		*place = ++h->own;
	return put_text(to, value);
}

static uint8_t *put_grpc_status(struct h2_conn *h, uint8_t *to, unsigned status)
{
	char digits[3] = {(char)('0' + status % 10), 0, 0};

	if (!status)
		return put_again(h, to, &h->own_status, 0, STATUS_FIELD, "0");
	if (status > 9) {
		digits[0] = (char)('0' + status / 10 % 10);
		digits[1] = (char)('0' + status % 10);
	}
	*to++ = 0;
	return put_text(put_text(to, STATUS_FIELD), digits);
}

static uint8_t *put_status(uint8_t *to, unsigned status)
{
	if (status == 200) {
		*to++ = STATUS_OK;
		return to;
	}
	*to++ = STATUS_NAME; /* written out */
	*to++ = 3;
	*to++ = (uint8_t)('0' + status / 100 % 10);
	*to++ = (uint8_t)('0' + status / 10 % 10);
	*to++ = (uint8_t)('0' + status % 10);
	return to;
}

/* A frame of headers around the block that was written behind room for its head: filled up to the wanted size by a field
 * of filler, or where there is no room for one, by fields of a byte (some clients do not know padding). */
static uint8_t *end_headers(uint8_t *frame, uint8_t *to, uint32_t wanted, unsigned flags, uint32_t stream)
{
	uint32_t block = (uint32_t)(to - frame) - H2_FRAME, rest = wanted > H2_FRAME + block ? wanted - H2_FRAME - block : 0;
	const uint32_t overhead = 3 + sizeof(FILLER_NAME) - 1; /* with a length of one byte */

	flags |= H2_END_HEADERS;
	if (rest >= overhead) {
		uint32_t n = rest - overhead, long_one = n >= 127;

		*to++ = 0;
		to = put_text(to, FILLER_NAME);
		if (long_one) {
			uint32_t v;

			n = n < 256 ? n - 1 : n - 2; /* for its own length; the lengths between take one more */
			n = n < 127 ? 127 : n;
			*to++ = 127;
			v = n - 127;
			for (; v >= 128; v >>= 7)
				*to++ = (uint8_t)(v | 128);
			*to++ = (uint8_t)v;
		} else {
			*to++ = (uint8_t)n;
		}
		to = codec_fill(to, 'x', n);
	} else if (rest) {
		memset(to, EMPTY_FIELD, rest);
		to += rest;
	}
	h2_frame(frame, (uint32_t)(to - frame) - H2_FRAME, H2_HEADERS, flags, stream);
	return to;
}

/* What a gRPC message begins with: its length, and that of the one field that it is, which nobody knows, so that whoever
 * decodes it gets an empty message.  Returns the bytes; *total with all of it. */
static uint32_t message_head(uint8_t *to, uint32_t n)
{
	uint32_t at = PREFIX, length, bytes = 1;

	to[0] = 0;
	to[1] = (uint8_t)(n >> 24);
	to[2] = (uint8_t)(n >> 16);
	to[3] = (uint8_t)(n >> 8);
	to[4] = (uint8_t)n;
	if (n < 2)
		return at;
	to[at++] = n < 3 ? 0x7a : 0xfa; /* field 15, or 2047, of bytes */
	if (n >= 3)
		to[at++] = 0x7f;
	length = n - (at - PREFIX) - 1;
	while (length >= 1u << (7 * bytes)) {
		bytes++;
		length--;
	}
	for (uint32_t i = 0; i < bytes; i++)
		to[at++] = (uint8_t)((length >> (7 * i) & 127) | (i + 1 < bytes ? 128 : 0));
	return at;
}

/* Data as far as the windows take it, then the end of the stream.  Returns whether the stream has ended. */
static int send_data(struct h2_conn *h, struct h2_stream *s, struct outbuf *out, uint32_t *tail)
{
	while (s->left || s->messages) {
		uint8_t head[PREFIX + FIELD_HEAD];
		uint32_t begun = 0, most = H2_FRAME_MAX, length;
		int64_t window = h->window < s->window ? h->window : s->window;
		uint8_t *to;

		if (!s->left && s->grpc)
			begun = message_head(head, s->message - PREFIX);
		if (window < (int64_t)begun || window <= 0)
			return 0;
		if (!s->left) {
			s->messages--;
			s->left = s->message;
		}
		most = window < (int64_t)most ? (uint32_t)window : most;
		length = s->left < most ? s->left : most;
		to = out_room(out, H2_FRAME + length);
		if (!to)
			return 0;
		s->left -= length;
		h->window -= length;
		s->window -= length;
		to = h2_frame(to, length, H2_DATA, !s->grpc && !s->left && !s->messages ? H2_END_STREAM : 0, s->id);
		memcpy(to, head, begun);
		codec_fill(to + begun, 'x', length - begun);
		out->end += H2_FRAME + length;
	}
	*tail = out->end;
	if (s->grpc) {
		uint8_t *to = out_room(out, H2_FRAME + TRAILER_MAX + 64), *end;

		if (!to)
			return 0;
		end = end_headers(to, put_grpc_status(h, to + H2_FRAME, s->status), s->trailer, H2_END_STREAM, s->id);
		out->end += (uint32_t)(end - to);
	}
	return 1;
}

static void flush(struct h2_conn *h, struct outbuf *out)
{
	uint32_t tail;

	for (uint32_t i = 0; i < h->streams;) {
		struct h2_stream *s = &h->stream[i];

		if (s->state == H2_ANSWERING && s->id != h->answered && send_data(h, s, out, &tail))
			h2_stream_end(h, s);
		else
			i++;
	}
}

/* The shape of the reply to a stream: sizes of its parts. */
static uint32_t shape_stream(const struct request *req, struct h2_stream *s, struct rng *rng, unsigned *status)
{
	const struct ditto_reply *shape;
	uint32_t size, count;

	s->messages = s->left = s->trailer = 0;
	s->status = s->grpc ? UNIMPLEMENTED : 0;
	*status = s->grpc ? 200 : 404;
	if (req->cls == DITTO_NONE)
		return 0;
	shape = codec_shape(req->cls, rng);
	size = codec_clamp(dist_draw(shape->size, rng, 0));
	count = dist_draw(shape->count, rng, 1);
	s->trailer = dist_draw(shape->second, rng, 0);
	s->trailer = s->trailer < TRAILER_MAX ? s->trailer : TRAILER_MAX;
	if (s->grpc) {
		s->status = shape->kind == REPLY_GRPC ? shape->status : 0;
		if (!s->status && size < PREFIX)
			size = PREFIX; /* a call that succeeds has a message, if an empty one */
		count = count < size / PREFIX ? count : size / PREFIX;
	} else {
		*status = shape->kind == REPLY_H2 && shape->status ? shape->status : 200;
		count = size && !s->head_only;
	}
	s->messages = count;
	s->message = count ? size / count : 0;
	if (s->grpc && s->message == PREFIX + 1)
		s->message = PREFIX; /* no field is of one byte */
	return shape->head_bytes < HEAD_MAX ? shape->head_bytes : HEAD_MAX;
}

static void answer(const struct request *req, struct h2_stream *s, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	struct h2_conn *h = req->h2;
	uint32_t start = out->end, wanted, tail = 0;
	unsigned status;
	uint8_t *frame, *to;
	int only;

	wanted = shape_stream(req, s, rng, &status);
	only = !s->messages && (!s->grpc || s->status);
	frame = out_room(out, H2_FRAME + HEAD_MAX + 128);
	if (!frame)
		return;
	to = frame + H2_FRAME;
	if (h->plain && !h->small_told)
		*to++ = 0x20; /* no table is used */
	h->small_told = h->plain;
	to = put_status(to, status);
	to = put_again(h, to, &h->own_type[s->grpc], TYPE_NAME, NULL, s->grpc ? "application/grpc" : "text/plain");
	if (only && s->grpc)
		to = put_grpc_status(h, to, s->status);
	to = end_headers(frame, to, wanted, only ? H2_END_STREAM : 0, s->id);
	out->end += (uint32_t)(to - frame);
	if (only || send_data(h, s, out, &tail))
		h2_stream_end(h, s);
	parts->head = (uint32_t)(to - frame);
	parts->tail = tail > start ? tail - start : out->end - start;
}

void h2_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	struct h2_conn *h = req->h2;
	struct h2_stream *s;
	uint8_t *to;

	parts->head = parts->tail = 0;
	parts->body = 0;
	if (!h)
		return;
	if (h->owed_bytes) {
		to = out_room(out, h->owed_bytes);
		if (!to)
			return;
		memcpy(to, h->owed, h->owed_bytes);
		out->end += h->owed_bytes;
		h->owed_bytes = 0;
	}
	if (req->flags & (REQ_INTERIM | REQ_CLOSE) && req->cls == DITTO_NONE) {
		flush(h, out);
		return;
	}
	s = h2_stream_of(h, h->answered);
	h->answered = 0;
	if (s)
		answer(req, s, out, rng, parts);
}

int h2_fail(uint8_t *reply, uint32_t length)
{
	if (length < H2_FRAME + 2 || reply[3] != H2_HEADERS)
		return -1;
	if (reply[H2_FRAME] != STATUS_OK)
		return -1;
	reply[H2_FRAME] = STATUS_FAILED;
	return 0;
}
