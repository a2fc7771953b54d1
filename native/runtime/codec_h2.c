/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/2 without TLS, as clients speak it that know of it beforehand; gRPC is a use of it.  A request is a head and
 * maybe data on a stream of its own, and complete with the frame that ends the stream.  What else clients say is
 * answered between requests.  Heads are read in h2_hpack.c, replies written in h2_reply.c.
 */
#include "h2.h"

#include <stdlib.h>
#include <string.h>

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#define PREFACE_BYTES (sizeof(PREFACE) - 1)

enum { PHASE_PREFACE, PHASE_FRAME, PHASE_DATA };

static void h2_setup(const struct ditto_service *service)
{
	verb_classes(service);
	h2_huffman_setup();
}

struct h2_stream *h2_stream_of(struct h2_conn *h, uint32_t id)
{
	for (uint32_t i = 0; i < h->streams; i++)
		if (h->stream[i].id == id)
			return &h->stream[i];
	return NULL;
}

void h2_stream_end(struct h2_conn *h, struct h2_stream *s)
{
	size_t behind = (size_t)(h->stream + h->streams - (s + 1));

	memmove(s, s + 1, behind * sizeof(*s)); /* the others keep their order */
	h->streams--;
}

enum codec_step h2_fatal(struct codec_state *st, struct request *req, unsigned error)
{
	struct h2_conn *h = st->h2;

	*req = (struct request){.cls = DITTO_NONE, .flags = REQ_CLOSE | REQ_MALFORMED, .h2 = h};
	if (h) {
		h->owed_bytes = 0;
		h->streams = 0;
		h2_owe(h, H2_GOAWAY, 0, 2, h->last, error);
	}
	return CODEC_FATAL;
}

/* What is owed, and what was held back and may go now, is sent. */
enum codec_step h2_interim(struct h2_conn *h, struct request *req)
{
	*req = (struct request){.cls = DITTO_NONE, .flags = REQ_INTERIM, .h2 = h};
	return CODEC_REQUEST;
}

static enum codec_step complete(struct h2_conn *h, struct h2_stream *s, struct request *req)
{
	s->state = H2_ANSWERING;
	h->answered = s->id;
	*req = (struct request){.cls = s->cls, .flags = s->cls == DITTO_NONE ? REQ_MALFORMED : 0, .h2 = h};
	return CODEC_REQUEST;
}

static int class_of(const struct h2_head *head)
{
	for (int i = head->method; i != DITTO_NONE; i = verb_next(i)) {
		int own = codec_service->cls[i].match.path_print;

		if (own == head->print || own == DITTO_NONE)
			return i;
	}
	return head->method;
}

/* Bytes of a head with its continuations.  0: not all there yet; -1: too long, -2: other frames between them. */
static int64_t block_bytes(const uint8_t *p, size_t n)
{
	uint32_t id = h2_id(p);
	size_t at = 0;

	for (;;) {
		const uint8_t *frame = p + at;

		if (n - at < H2_FRAME)
			return 0;
		if (at && (frame[3] != H2_CONTINUATION || h2_id(frame) != id))
			return -2;
		at += H2_FRAME + (size_t)h2_length(frame);
		if (at > H2_BLOCK_MAX)
			return -1;
		if (at > n)
			return 0;
		if (frame[4] & H2_END_HEADERS)
			return (int64_t)at;
	}
}

static enum codec_step take_head(struct codec_state *st, const uint8_t *p, size_t n, struct request *req)
{
	struct h2_conn *h = st->h2;
	uint32_t id = h2_id(p);
	struct h2_stream *s = h2_stream_of(h, id);
	struct h2_head head;
	int error = h2_head_read(&h->table, p, p + n, &head);

	if (error)
		return h2_fatal(st, req, (unsigned)error);
	if (!(id & 1))
		return h2_fatal(st, req, H2_PROTOCOL_ERROR);
	if (s) { /* trailers */
		if (s->state != H2_READING || !(p[4] & H2_END_STREAM))
			return h2_fatal(st, req, H2_PROTOCOL_ERROR);
		return complete(h, s, req);
	}
	if (id <= h->last)
		return CODEC_MORE; /* it was ended from here */
	h->last = id;
	if (h->streams == H2_STREAMS) {
		h2_owe(h, H2_RST_STREAM, id, 1, H2_REFUSED_STREAM, 0);
		return h2_interim(h, req);
	}
	s = &h->stream[h->streams++];
	*s = (struct h2_stream){.id = id, .window = h->stream_window, .cls = (int16_t)class_of(&head), .grpc = head.grpc,
				.head_only = head.head_only};
	return p[4] & H2_END_STREAM ? complete(h, s, req) : CODEC_MORE;
}

/* The head of data: what it takes of windows is given back in large pieces. */
static enum codec_step take_data(struct codec_state *st, const uint8_t *p, uint32_t length, struct request *req)
{
	struct h2_conn *h = st->h2;
	uint32_t id = h2_id(p);
	struct h2_stream *s = h2_stream_of(h, id);

	if (id > h->last || !(id & 1))
		return h2_fatal(st, req, H2_PROTOCOL_ERROR);
	st->need = length;
	st->phase = PHASE_DATA;
	st->argc = id;
	st->flags = p[4] & H2_END_STREAM;
	h->received += length;
	if (s)
		s->received += length;
	if (h->received >= H2_WINDOW / 2) {
		h2_owe(h, H2_WINDOW_UPDATE, 0, 1, h->received, 0);
		h->received = 0;
	}
	if (s && s->received >= H2_WINDOW / 2 && !st->flags) {
		h2_owe(h, H2_WINDOW_UPDATE, id, 1, s->received, 0);
		s->received = 0;
	}
	return h->owed_bytes ? h2_interim(h, req) : CODEC_MORE;
}

static enum codec_step data_ended(struct codec_state *st, struct request *req)
{
	struct h2_stream *s = h2_stream_of(st->h2, st->argc);

	st->phase = PHASE_FRAME;
	if (!(st->flags & H2_END_STREAM) || !s || s->state != H2_READING)
		return CODEC_MORE;
	return complete(st->h2, s, req);
}

static enum codec_step take_frame(struct codec_state *st, const uint8_t *p, size_t n, size_t *took, struct request *req)
{
	uint32_t length = n < H2_FRAME ? 0 : h2_length(p);
	int64_t bytes = H2_FRAME + (int64_t)length;

	*took = 0;
	if (n < H2_FRAME)
		return CODEC_MORE;
	if (length > H2_FRAME_MAX)
		return h2_fatal(st, req, H2_FRAME_SIZE_ERROR);
	if (p[3] == H2_DATA) {
		*took = H2_FRAME;
		return take_data(st, p, length, req);
	}
	if (p[3] == H2_HEADERS)
		bytes = block_bytes(p, n);
	if (bytes < 0)
		return h2_fatal(st, req, bytes == -1 ? H2_CALM : H2_PROTOCOL_ERROR);
	if (!bytes || (size_t)bytes > n)
		return CODEC_MORE;
	*took = (size_t)bytes;
	return p[3] == H2_HEADERS ? take_head(st, p, (size_t)bytes, req) : h2_control(st, p, length, req);
}

static enum codec_step begin(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	struct h2_conn *h = st->h2;

	if (!h) {
		h = st->h2 = calloc(1, sizeof(*h));
		if (!h)
			return h2_fatal(st, req, 0);
		h->table.limit = H2_TABLE;
		h->window = h->stream_window = 65535;
	}
	if (memcmp(p, PREFACE, n < PREFACE_BYTES ? n : PREFACE_BYTES))
		return h2_fatal(st, req, H2_PROTOCOL_ERROR);
	if (n < PREFACE_BYTES)
		return CODEC_MORE;
	*used = PREFACE_BYTES;
	st->phase = PHASE_FRAME;
	return CODEC_MORE;
}

static enum codec_step h2_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	enum codec_step step = CODEC_MORE;
	size_t took;

	*used = 0;
	if (st->phase == PHASE_PREFACE)
		step = begin(st, p, n, used, req);
	while (step == CODEC_MORE && st->phase != PHASE_PREFACE) {
		if (st->phase == PHASE_DATA) {
			took = st->need < n - *used ? (size_t)st->need : n - *used;
			st->need -= took;
			*used += took;
			if (st->need)
				return CODEC_MORE;
			step = data_ended(st, req);
			continue;
		}
		step = take_frame(st, p + *used, n - *used, &took, req);
		*used += took;
		if (!took)
			break;
	}
	return step;
}

/* A frame at a time: its head, then what that tells. */
static uint32_t h2_wants(const struct codec_state *st, const uint8_t *p, size_t n)
{
	size_t at = 0;

	if (st->phase == PHASE_DATA)
		return st->need < UINT32_MAX ? (uint32_t)st->need : UINT32_MAX;
	if (!n)
		return 0;
	if (st->phase == PHASE_PREFACE)
		return UINT32_MAX;
	while (n - at >= H2_FRAME) {
		size_t end = at + H2_FRAME + h2_length(p + at);

		if (end > n)
			return (uint32_t)(end - n);
		at = end;
	}
	return (uint32_t)(H2_FRAME - (n - at));
}

static void h2_end(struct codec_state *st)
{
	free(st->h2);
	st->h2 = NULL;
}

const struct codec codec_h2 = {
	.name = "h2", .max_head = H2_BLOCK_MAX + H2_FRAME, .setup = h2_setup, .parse = h2_parse, .reply = h2_reply, .greet = h2_greet,
	.wants = h2_wants, .fail = h2_fail, .end = h2_end,
};
