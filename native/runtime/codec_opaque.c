/* SPDX-License-Identifier: Apache-2.0
 *
 * The opaque codec, for protocols that have no codec of their own: right sizes, no meaning.
 *
 * A request made for it begins with a header of 8 bytes, inside its size:
 *
 *     u32 length   of the whole request, 8 to 64 MiB, big endian: the first byte is at most 4
 *     u16 class    little endian: index of the request class; 0x8000 and a fingerprint: by the word that the
 *                  request in whose place this is began with, and by size; 0xffff: by size
 *     u8  flags    1: no reply, 2: close after the reply
 *     u8  marker   0xd7
 *
 * and its reply begins with the same header (length of the reply, class of the request).  Shorter ones begin with a
 * byte of 0xd8 + their length; of requests the flags follow, where there is room, and the class is found by size.
 * A connection whose bytes do not have this form is answered receive by receive: one reply for each, of the class
 * whose word and size range fit.
 * A datagram is a request whatever its header says of its length, and its reply has no header.
 */
#include "codec.h"

#include <string.h>

#define HEADER 8u
#define MARKER 0xd7
#define SHORT 0xd8u
#define LENGTH_LIMIT (64u << 20)
#define BY_SIZE 0xffffu
#define BY_WORD 0x8000u
#define WORD_KEY 0u /* as in src/ditto/artifacts/prints.py */
#define WORD_LIMIT 24u

enum { PHASE_START, PHASE_SKIP, PHASE_RAW };
enum { WIRE_NOREPLY = 1, WIRE_CLOSE = 2 };

static void opaque_setup(const struct ditto_service *service)
{
	verb_classes(service);
}

static int is_size(int16_t cls, uint32_t bytes)
{
	const struct ditto_match *match = &codec_service->cls[cls].match;

	return bytes >= match->min_bytes && bytes <= match->max_bytes;
}

static uint32_t width(int16_t cls)
{
	return codec_service->cls[cls].match.max_bytes - codec_service->cls[cls].match.min_bytes;
}

/* By the word's fingerprint (DITTO_NONE: it began with none) and the size, else by one of them; of several sizes by the
 * narrowest. */
static int16_t class_for(int32_t word, uint32_t bytes)
{
	int16_t named = DITTO_NONE, fits = DITTO_NONE, best = DITTO_NONE;
	uint32_t least = UINT32_MAX;

	for (int16_t i = 0; i < (int16_t)codec_service->classes; i++) {
		int is_named = codec_service->cls[i].match.path_print == word, is_fit = is_size(i, bytes);

		if (is_named && is_fit && width(i) < least) {
			least = width(i);
			best = i;
		}
		if (is_named && named == DITTO_NONE)
			named = i;
		if (is_fit && fits == DITTO_NONE)
			fits = i;
	}
	if (best != DITTO_NONE)
		return best;
	if (word != DITTO_NONE && named != DITTO_NONE)
		return named;
	return fits == DITTO_NONE ? 0 : fits;
}

/* Of the word of letters that bytes begin with, as first_word in src/ditto/artifacts/plan.py. */
static int32_t word_of(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n && i <= WORD_LIMIT && ((p[i] | 32u) - 'a' < 26u || (i && p[i] == '_')))
		i++;
	if (i < 2 || i > WORD_LIMIT || i >= n || (p[i] != ' ' && p[i] != '\r' && p[i] != '\n'))
		return DITTO_NONE;
	return (int32_t)ditto_path_print(WORD_KEY, (const char *)p, i);
}

static uint32_t load32(const uint8_t *p)
{
	return p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

/* The length of a message that is shorter than a header, by its first byte; 0 of any other. */
static uint32_t short_length(const uint8_t *p)
{
	return p[0] > SHORT && p[0] < SHORT + HEADER ? p[0] - SHORT : 0;
}

/* Its length, as far as it can be told by the bytes that are there; 0: not yet. */
static uint32_t length_of(const uint8_t *p, size_t n)
{
	return n && short_length(p) ? short_length(p) : n >= 4 ? load32(p) : 0;
}

/* Whether the bytes that are there can begin a header. */
static int plausible(const uint8_t *p, size_t n)
{
	if (n && short_length(p)) {
		for (size_t i = 1; i < n && i < short_length(p); i++)
			if (i == 1 ? p[1] > (WIRE_NOREPLY | WIRE_CLOSE) : p[i])
				return 0;
		return 1;
	}
	if ((n && p[0] > LENGTH_LIMIT >> 24) || (n >= 4 && (load32(p) < HEADER || load32(p) > LENGTH_LIMIT)))
		return 0;
	if (n >= 6 && (p[4] | p[5] << 8) >= codec_service->classes && !((p[5] << 8) & BY_WORD))
		return 0;
	if (n >= 7 && p[6] > (WIRE_NOREPLY | WIRE_CLOSE))
		return 0;
	return n < 8 || p[7] == MARKER;
}

/* The class that a header asks for. */
static int16_t class_asked(const uint8_t *p)
{
	uint32_t cls = short_length(p) ? BY_SIZE : p[4] | (uint32_t)p[5] << 8;

	return cls == BY_SIZE ? class_for(DITTO_NONE, length_of(p, HEADER)) : cls & BY_WORD ? class_for((int32_t)(cls & 0xfff), load32(p))
										 : (int16_t)cls;
}

static enum codec_step datagram(const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	int headed = n >= HEADER && !short_length(p) && plausible(p, n);

	*used = n;
	*req = (struct request){.cls = headed ? class_asked(p) : class_for(word_of(p, n), (uint32_t)n), .bytes = (uint32_t)n};
	if (headed && (p[6] & WIRE_NOREPLY))
		req->flags |= REQ_NOREPLY;
	return CODEC_REQUEST;
}

static enum codec_step opaque_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				    struct request *req)
{
	*used = 0;
	if (codec_service->listener.datagrams)
		return datagram(p, n, used, req);
	if (st->phase == PHASE_START) {
		if (!plausible(p, n)) {
			st->phase = PHASE_RAW; /* and so it stays */
		} else {
			st->first_len = length_of(p, n);
			if (n < HEADER && (!st->first_len || n < st->first_len))
				return CODEC_MORE;
			st->cls = class_asked(p);
			st->flags = st->first_len >= HEADER ? p[6] : st->first_len > 1 ? p[1] : 0;
			st->need = st->first_len;
			st->phase = PHASE_SKIP;
		}
	}
	if (st->phase == PHASE_RAW) {
		*used = n;
		*req = (struct request){.cls = class_for(word_of(p, n), (uint32_t)n), .bytes = (uint32_t)n};
		return CODEC_REQUEST;
	}
	if (n < st->need) {
		st->need -= n;
		*used = n;
		return CODEC_MORE;
	}
	*used = (size_t)st->need;
	st->need = 0;
	st->phase = PHASE_START;
	*req = (struct request){.cls = st->cls, .bytes = st->first_len, .canned = 1};
	if (st->flags & WIRE_NOREPLY)
		req->flags |= REQ_NOREPLY;
	if (st->flags & WIRE_CLOSE)
		req->flags |= REQ_CLOSE;
	return CODEC_REQUEST;
}

/* What is missing of a request whose header, or the length in it, is there: of servers that receive it part by part. */
static uint32_t opaque_wants(const struct codec_state *st, const uint8_t *p, size_t n)
{
	uint32_t length = st->phase == PHASE_START && plausible(p, n) ? length_of(p, n) : 0;

	if (st->phase == PHASE_SKIP)
		return n < st->need ? (uint32_t)(st->need - n) : 0;
	if (st->phase == PHASE_START && !length && n && n < 4 && plausible(p, n))
		return UINT32_MAX;
	return length > n ? length - (uint32_t)n : 0;
}

static void opaque_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	const struct ditto_reply *shape = codec_shape(req->cls, rng);
	uint32_t size = codec_clamp(dist_draw(shape->size, rng, HEADER)), first;
	uint8_t *to;

	parts->head = 0;
	parts->tail = 0;
	parts->body = 0;
	if (req->flags & REQ_NOREPLY)
		return;
	if (req->canned && !size)
		size = 1;
	if (req->file_body != DITTO_NONE) {
		parts->body = (uint64_t)req->file_body;
		size = req->canned ? HEADER : 0;
	}
	first = out->piece && size > out->piece ? out->piece : size;
	to = out_room(out, first);
	if (!to)
		return;
	codec_fill(to, 'x', first);
	if (req->canned && size < HEADER) {
		*to = (uint8_t)(SHORT + size);
	} else if (req->canned) {
		uint32_t whole = size + (uint32_t)parts->body;
		uint8_t header[HEADER] = {(uint8_t)(whole >> 24), (uint8_t)(whole >> 16), (uint8_t)(whole >> 8),
					  (uint8_t)whole, (uint8_t)req->cls, (uint8_t)((uint16_t)req->cls >> 8),
					  0, MARKER};

		memcpy(to, header, HEADER);
		parts->head = HEADER;
	}
	out->end += first;
	codec_append(out, NULL, size - first);
	parts->tail = size;
}

const struct codec codec_opaque = {
	.name = "opaque", .max_head = HEADER, .setup = opaque_setup, .parse = opaque_parse, .reply = opaque_reply,
	.wants = opaque_wants, .appends = 1,
};
