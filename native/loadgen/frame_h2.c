/* SPDX-License-Identifier: Apache-2.0
 *
 * Replies of HTTP/2: frames of several streams, and of the connection, which go on between replies.
 */
#include "frame.h"

#include <string.h>

#define H2_HEAD 9u

enum { TYPE_DATA, TYPE_HEADERS, TYPE_RST_STREAM = 3, TYPE_GOAWAY = 7 };
enum { END_STREAM = 1 };
enum { PART_HEAD, PART_CONTENT };

static uint32_t stream_of(const uint8_t *head)
{
	return ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) & INT32_MAX;
}

static uint32_t length_of(const uint8_t *head)
{
	return (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
}

/* A frame has ended. */
static enum frame_result ended(struct frame *f)
{
	unsigned type = f->head[3];

	f->part = PART_HEAD;
	f->kept = 0;
	if (type == TYPE_GOAWAY)
		f->closes = 1;
	if (stream_of(f->head) != f->stream)
		return FRAME_MORE;
	if (type == TYPE_RST_STREAM)
		f->failed = 1;
	if (type == TYPE_RST_STREAM || ((type == TYPE_DATA || type == TYPE_HEADERS) && f->head[4] & END_STREAM))
		return FRAME_DONE;
	return FRAME_MORE;
}

enum frame_result frame_h2(struct frame *f, const uint8_t *p, size_t n, size_t *used)
{
	size_t take;

	if (f->part == PART_CONTENT) {
		/* the first field of the head of a reply: a status of 400, 404 or 500 by its number */
		if (f->head[3] == TYPE_HEADERS && !f->phase && stream_of(f->head) == f->stream && f->need == length_of(f->head)) {
			f->phase = 1;
			f->failed |= *p >= 0x8c && *p <= 0x8e;
		}
		take = f->need < n ? (size_t)f->need : n;
		f->need -= take;
		*used = take;
		return f->need ? FRAME_MORE : ended(f);
	}
	take = H2_HEAD - f->kept < n ? H2_HEAD - f->kept : n;
	memcpy(f->head + f->kept, p, take);
	f->kept += (uint32_t)take;
	*used = take;
	if (f->kept < H2_HEAD)
		return FRAME_MORE;
	if (length_of(f->head) > 1u << 20 || f->head[3] == 'P')
		return FRAME_BROKEN; /* no frame: an answer in another protocol */
	f->part = PART_CONTENT;
	f->need = length_of(f->head);
	return f->need ? FRAME_MORE : ended(f);
}

void frame_h2_number(uint8_t *request, size_t n, uint32_t stream)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	size_t at = n >= sizeof(preface) - 1 && !memcmp(request, preface, sizeof(preface) - 1) ? sizeof(preface) - 1 : 0;

	for (; n - at >= H2_HEAD; at += H2_HEAD + length_of(request + at)) {
		uint8_t *head = request + at;

		if (stream_of(head)) {
			head[5] = (uint8_t)(stream >> 24);
			head[6] = (uint8_t)(stream >> 16);
			head[7] = (uint8_t)(stream >> 8);
			head[8] = (uint8_t)stream;
		}
		if (length_of(head) > n - at - H2_HEAD)
			return;
	}
}
