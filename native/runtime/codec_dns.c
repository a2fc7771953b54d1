/* SPDX-License-Identifier: Apache-2.0
 *
 * DNS: over datagrams each is a message; on connections a message follows its length in two bytes.  The reply repeats
 * the question and holds as many records, of as many bytes together, as the class asks for: addresses where they have
 * an address' size, else text.
 */
#include "codec.h"

#include <string.h>

#define HEADER 12u
#define RECORD 12u /* a record's name (a reference to the question), type, class, lifetime and length */
#define MESSAGE_LIMIT 65535u

enum { ANSWER_OK, ANSWER_MALFORMED, ANSWER_OTHER };
enum { TYPE_A = 1, TYPE_NULL = 10, TYPE_TEXT = 16, TYPE_AAAA = 28 };

static unsigned load16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint8_t *store16(uint8_t *to, unsigned value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
	return to + 2;
}

/* Where the first question ends; 0 where it is none. */
static size_t question_end(const uint8_t *p, size_t n)
{
	size_t at = HEADER;

	while (at < n && p[at]) {
		if (p[at] > 63)
			return 0;
		at += p[at] + 1u;
	}
	at += 5; /* the root, type and class */
	return at <= n && at - HEADER <= 259 ? at : 0;
}

static void dns_setup(const struct ditto_service *service)
{
	verb_classes(service);
}

static enum codec_step dns_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	size_t prefix = codec_service->listener.datagrams ? 0 : 2, bytes = n, end;

	(void)st;
	*used = 0;
	if (prefix) {
		if (n < prefix || n < prefix + load16(p))
			return CODEC_MORE;
		bytes = load16(p);
		p += prefix;
	}
	*used = prefix + bytes;
	*req = (struct request){.cls = 0, .bytes = (uint32_t)bytes, .note = (const char *)p, .note_len = HEADER};
	if (bytes < HEADER || p[2] & 0x80) { /* an answer, or nothing at all: no reply */
		req->flags = REQ_NOREPLY | REQ_MALFORMED;
		req->cls = DITTO_NONE;
		return CODEC_REQUEST;
	}
	end = load16(p + 4) == 1 ? question_end(p, bytes) : 0;
	if (p[2] & 0x78 || !end) {
		req->canned = p[2] & 0x78 ? ANSWER_OTHER : ANSWER_MALFORMED;
		req->flags = REQ_MALFORMED;
		req->cls = DITTO_NONE;
		return CODEC_REQUEST;
	}
	req->note_len = (uint32_t)end;
	return CODEC_REQUEST;
}

/* A record of so many bytes about the question's name. */
static uint8_t *record(uint8_t *to, unsigned asked, size_t bytes)
{
	size_t data = bytes > RECORD ? bytes - RECORD : 0;
	unsigned type = data ? TYPE_TEXT : TYPE_NULL;

	if ((asked == TYPE_A && data == 4) || (asked == TYPE_AAAA && data == 16))
		type = asked;
	to = store16(to, 0xc000 | HEADER);
	to = store16(to, type);
	to = store16(to, 1);
	to = store16(to, 0);
	to = store16(to, 300);
	to = store16(to, (unsigned)data);
	if (type != TYPE_TEXT) {
		memset(to, 10, data);
		return to + data;
	}
	while (data) { /* strings of up to 255 bytes, each after its length */
		size_t part = data - 1 < 255 ? data - 1 : 255;

		*to++ = (uint8_t)part;
		to = codec_fill(to, 'x', part);
		data -= part + 1;
	}
	return to;
}

static void dns_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	const uint8_t *asked = (const uint8_t *)req->note;
	size_t prefix = codec_service->listener.datagrams ? 0 : 2, size = 0, room;
	unsigned code = req->canned == ANSWER_OTHER ? 4 : 1, answers = 0, others = 0, records;
	uint8_t *start, *to;

	parts->head = parts->tail = 0;
	parts->body = 0;
	if (req->flags & REQ_NOREPLY)
		return;
	if (req->cls != DITTO_NONE) {
		const struct ditto_reply *shape = codec_shape(req->cls, rng);

		code = shape->status & 15;
		answers = dist_draw(shape->count, rng, 0) & 0xff;
		others = dist_draw(shape->second, rng, 0) & 0xff;
		size = dist_draw(shape->size, rng, 0);
	}
	records = answers + others;
	if (size < (size_t)records * RECORD)
		size = (size_t)records * RECORD;
	if (size > MESSAGE_LIMIT - req->note_len - RECORD)
		size = MESSAGE_LIMIT - req->note_len - RECORD;
	if (!records && size >= RECORD)
		records = 1; /* something beside: it goes to the additional ones */
	room = prefix + req->note_len + (records ? size : 0);
	start = to = out_room(out, room);
	if (!to)
		return;
	if (prefix)
		to = store16(to, (unsigned)(room - prefix));
	memcpy(to, asked, req->note_len);
	to[2] = (uint8_t)(0x80 | (asked[2] & 0x79));
	to[3] = (uint8_t)(0x80 | code);
	store16(to + 4, req->note_len > HEADER);
	store16(to + 6, answers);
	store16(to + 8, others);
	store16(to + 10, records - answers - others);
	to += req->note_len;
	for (unsigned left = records; left; left--) {
		size_t bytes = left == 1 ? size : size / left;

		to = record(to, load16(asked + req->note_len - 4), bytes);
		size -= bytes;
	}
	out->end += (uint32_t)room;
	parts->head = parts->tail = (uint32_t)(to - start);
}

/* "Server failure" in place of the code. */
static int dns_fail(uint8_t *reply, uint32_t length)
{
	uint32_t at = codec_service->listener.datagrams ? 3 : 5;

	if (length <= at)
		return -1;
	reply[at] = (uint8_t)((reply[at] & 0xf0) | 2);
	return 0;
}

const struct codec codec_dns = {
	.name = "dns", .max_head = MESSAGE_LIMIT + 2, .setup = dns_setup, .parse = dns_parse, .reply = dns_reply,
	.fail = dns_fail,
};
