/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the reply of a service that is called in HTTP/2 ends: with its stream.
 */
#include "reply_frame.h"

#include <string.h>

#define FRAME_HEAD 9u
#define FRAME_MAX 16384u
#define FAILED_STATUS 0x8e /* how a clone begins the head of an error, see h2_reply.c */

enum { TYPE_DATA, TYPE_HEADERS, TYPE_RST_STREAM = 3, TYPE_GOAWAY = 7, END_STREAM = 1 };

static uint32_t length_of(const uint8_t *head)
{
	return (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
}

static uint32_t stream_of(const uint8_t *head)
{
	return ((uint32_t)head[5] << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8]) & INT32_MAX;
}

/* A frame has ended. */
static enum frame_state ended(struct reply_frame *f)
{
	unsigned type = f->line[3];

	f->kept = 0;
	if (type == TYPE_DATA)
		f->length += length_of(f->line);
	if (type == TYPE_GOAWAY)
		f->closes = 1;
	if (stream_of(f->line) != f->stream || !f->pending)
		return FRAME_MORE;
	if (type == TYPE_RST_STREAM)
		f->error = 1;
	if (type != TYPE_RST_STREAM && !((type == TYPE_DATA || type == TYPE_HEADERS) && f->line[4] & END_STREAM))
		return FRAME_MORE;
	f->pending = 0;
	return FRAME_DONE;
}

enum frame_state frame_feed_h2(struct reply_frame *f, const uint8_t *p, size_t n)
{
	enum frame_state state = FRAME_MORE;

	while (n) {
		size_t took;

		if (f->kept == FRAME_HEAD) {
			if (f->line[3] == TYPE_HEADERS && f->need == length_of(f->line) && *p == FAILED_STATUS &&
			    stream_of(f->line) == f->stream)
				f->error = 1;
			took = f->need < n ? (size_t)f->need : n;
			f->need -= took;
		} else {
			took = FRAME_HEAD - f->kept < n ? FRAME_HEAD - f->kept : n;
			memcpy(f->line + f->kept, p, took);
			f->kept += (uint32_t)took;
			f->need = f->kept == FRAME_HEAD ? length_of(f->line) : 0;
			if (f->kept == FRAME_HEAD && (f->need > FRAME_MAX || f->line[3] == 'P'))
				return FRAME_BROKEN;
		}
		p += took;
		n -= took;
		if (f->kept == FRAME_HEAD && !f->need && ended(f) == FRAME_DONE)
			state = FRAME_DONE;
	}
	return state;
}
