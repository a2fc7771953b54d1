/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the reply of a service that is called in HTTP/2 ends: with its stream.
 */
#include "h2.h"
#include "reply_frame.h"

#include <string.h>

#define FAILED_STATUS 0x8e /* how a clone begins the head of an error, see h2_reply.c */

/* A frame has ended. */
static enum frame_state ended(struct reply_frame *f)
{
	unsigned type = f->line[3];

	f->kept = 0;
	if (type == H2_DATA)
		f->length += h2_length(f->line);
	if (type == H2_GOAWAY)
		f->closes = 1;
	if (h2_id(f->line) != f->stream || !f->pending)
		return FRAME_MORE;
	if (type == H2_RST_STREAM)
		f->error = 1;
	if (type != H2_RST_STREAM && !((type == H2_DATA || type == H2_HEADERS) && f->line[4] & H2_END_STREAM))
		return FRAME_MORE;
	f->pending = 0;
	return FRAME_DONE;
}

enum frame_state frame_feed_h2(struct reply_frame *f, const uint8_t *p, size_t n)
{
	enum frame_state state = FRAME_MORE;

	while (n) {
		size_t took;

		if (f->kept == H2_FRAME) {
			if (f->line[3] == H2_HEADERS && f->need == h2_length(f->line) && *p == FAILED_STATUS &&
			    h2_id(f->line) == f->stream)
				f->error = 1;
			took = f->need < n ? (size_t)f->need : n;
			f->need -= took;
		} else {
			took = H2_FRAME - f->kept < n ? H2_FRAME - f->kept : n;
			memcpy(f->line + f->kept, p, took);
			f->kept += (uint32_t)took;
			f->need = f->kept == H2_FRAME ? h2_length(f->line) : 0;
			if (f->kept == H2_FRAME && (f->need > H2_FRAME_MAX || f->line[3] == 'P'))
				return FRAME_BROKEN;
		}
		p += took;
		n -= took;
		if (f->kept == H2_FRAME && !f->need && ended(f) == FRAME_DONE)
			state = FRAME_DONE;
	}
	return state;
}
