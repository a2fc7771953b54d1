/* SPDX-License-Identifier: Apache-2.0
 *
 * What is said on a connection of HTTP/2 beside requests and replies: settings, windows, whether anybody is there, and
 * goodbyes.
 */
#include "h2.h"

#include <string.h>

#define SETTING_TABLE 1
#define SETTING_STREAMS 3
#define SETTING_WINDOW 4

static uint8_t *put_word(uint8_t *to, uint32_t v)
{
	uint8_t bytes[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};

	memcpy(to, bytes, 4);
	return to + 4;
}

uint8_t *h2_frame(uint8_t *to, uint32_t length, unsigned type, unsigned flags, uint32_t stream)
{
	uint8_t head[5] = {(uint8_t)(length >> 16), (uint8_t)(length >> 8), (uint8_t)length, (uint8_t)type, (uint8_t)flags};

	memcpy(to, head, sizeof(head));
	return put_word(to + sizeof(head), stream);
}

/* A frame that is due, of one or two words. */
void h2_owe(struct h2_conn *h, unsigned type, uint32_t stream, uint32_t words, uint32_t a, uint32_t b)
{
	uint8_t *to = h->owed + h->owed_bytes;

	to = h2_frame(to, 4 * words, type, 0, stream);
	if (words)
		to = put_word(to, a);
	if (words > 1)
		to = put_word(to, b);
	h->owed_bytes = (uint32_t)(to - h->owed);
}

static int is_held(const struct h2_conn *h)
{
	for (uint32_t i = 0; i < h->streams; i++)
		if (h->stream[i].state == H2_ANSWERING)
			return 1;
	return 0;
}

static enum codec_step take_settings(struct codec_state *st, const uint8_t *p, uint32_t length, struct request *req)
{
	struct h2_conn *h = st->h2;

	if (length % 6 || (p[4] & H2_ACK && length))
		return h2_fatal(st, req, H2_FRAME_SIZE_ERROR);
	if (p[4] & H2_ACK)
		return CODEC_MORE;
	for (const uint8_t *at = p + H2_FRAME; at < p + H2_FRAME + length; at += 6) {
		unsigned setting = (unsigned)at[0] << 8 | at[1];
		uint32_t value = h2_word(at + 2);

		if (setting == SETTING_TABLE)
			h->plain = value < H2_TABLE;
		if (setting != SETTING_WINDOW)
			continue;
		if (value > H2_WINDOW_MAX)
			return h2_fatal(st, req, H2_FLOW_CONTROL_ERROR);
		for (uint32_t i = 0; i < h->streams; i++)
			h->stream[i].window += (int64_t)value - h->stream_window;
		h->stream_window = value;
	}
	h2_frame(h->owed, 0, H2_SETTINGS, H2_ACK, 0);
	h->owed_bytes = H2_FRAME;
	return h2_interim(h, req);
}

static enum codec_step take_update(struct codec_state *st, const uint8_t *p, uint32_t length, struct request *req)
{
	struct h2_conn *h = st->h2;
	uint32_t id = h2_id(p), more = length == 4 ? h2_word(p + H2_FRAME) & H2_WINDOW_MAX : 0;
	struct h2_stream *s = id ? h2_stream_of(h, id) : NULL;
	int64_t *window = id ? (s ? &s->window : NULL) : &h->window;

	if (length != 4)
		return h2_fatal(st, req, H2_FRAME_SIZE_ERROR);
	if (!more)
		return h2_fatal(st, req, H2_PROTOCOL_ERROR);
	if (!window)
		return CODEC_MORE;
	*window += more;
	if (*window > H2_WINDOW_MAX)
		return h2_fatal(st, req, H2_FLOW_CONTROL_ERROR);
	return is_held(h) ? h2_interim(h, req) : CODEC_MORE;
}

/* A frame that is all there and is neither data nor a head. */
enum codec_step h2_control(struct codec_state *st, const uint8_t *p, uint32_t length, struct request *req)
{
	struct h2_conn *h = st->h2;
	uint32_t id = h2_id(p);
	struct h2_stream *s;

	switch (p[3]) {
	case H2_SETTINGS:
		return id ? h2_fatal(st, req, H2_PROTOCOL_ERROR) : take_settings(st, p, length, req);
	case H2_WINDOW_UPDATE:
		return take_update(st, p, length, req);
	case H2_PING:
		if (length != 8 || id)
			return h2_fatal(st, req, id ? H2_PROTOCOL_ERROR : H2_FRAME_SIZE_ERROR);
		if (p[4] & H2_ACK)
			return CODEC_MORE;
		h2_owe(h, H2_PING, 0, 2, h2_word(p + H2_FRAME), h2_word(p + H2_FRAME + 4));
		h->owed[4] = H2_ACK;
		return h2_interim(h, req);
	case H2_RST_STREAM:
		if (length != 4 || !id || id > h->last)
			return h2_fatal(st, req, length == 4 ? H2_PROTOCOL_ERROR : H2_FRAME_SIZE_ERROR);
		s = h2_stream_of(h, id);
		if (s)
			h2_stream_end(h, s);
		return CODEC_MORE;
	case H2_PRIORITY:
		return length == 5 && id ? CODEC_MORE : h2_fatal(st, req, id ? H2_FRAME_SIZE_ERROR : H2_PROTOCOL_ERROR);
	case H2_CONTINUATION:
	case H2_PUSH_PROMISE:
		return h2_fatal(st, req, H2_PROTOCOL_ERROR);
	default: /* a goodbye, and what nobody knows */
		return CODEC_MORE;
	}
}

void h2_greet(struct codec_state *st, struct outbuf *out, struct rng *rng)
{
	uint8_t *to = out_room(out, 3 * H2_FRAME), *start = to;

	(void)st;
	(void)rng;
	if (!to)
		return;
	to = h2_frame(to, 12, H2_SETTINGS, 0, 0);
	to = put_word((memcpy(to, (uint8_t[]){0, SETTING_STREAMS}, 2), to + 2), H2_STREAMS);
	to = put_word((memcpy(to, (uint8_t[]){0, SETTING_WINDOW}, 2), to + 2), H2_WINDOW);
	out->end += (uint32_t)(to - start);
	to = out_room(out, H2_FRAME + 4);
	if (!to)
		return;
	put_word(h2_frame(to, 4, H2_WINDOW_UPDATE, 0, 0), H2_WINDOW - 65535);
	out->end += H2_FRAME + 4;
}
