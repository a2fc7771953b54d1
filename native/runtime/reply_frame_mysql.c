/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a reply of the MySQL protocol ends: packets that tell their length, of which the first byte tells what they are.
 * The session was begun without CLIENT_DEPRECATE_EOF, so that definitions and rows end with a packet of their own.
 */
#include "reply_frame.h"

#include <string.h>

#define HEADER 4u
#define LOOKED_AT 9u /* bytes of a packet: as far as the counts in the reply to a statement that is prepared */
#define LONGEST 0xffffffu /* a packet of such a length goes on in the next */
#define QUERY 0x03
#define PREPARE 0x16
#define DONE 0x00
#define LOCAL_FILE 0xfb
#define END 0xfe
#define FAILURE 0xff

enum { FIRST, LATER, LAST };

static uint32_t length_of(const struct reply_frame *f)
{
	return f->line[0] | (uint32_t)f->line[1] << 8 | (uint32_t)f->line[2] << 16;
}

static uint32_t head_bytes(const struct reply_frame *f)
{
	uint32_t length = f->kept < HEADER ? 0 : length_of(f);

	return HEADER + (length < LOOKED_AT ? length : LOOKED_AT);
}

/* The first packet of a reply: what comes after it, in ends to be seen. */
static enum frame_state first(struct reply_frame *f)
{
	const uint8_t *packet = f->line + HEADER;

	f->phase = LATER;
	f->pending = 2; /* definitions, then rows */
	if (f->nobody != QUERY && f->nobody != PREPARE) { /* part of a session's beginning */
		f->phase = LAST;
		return *packet == FAILURE ? FRAME_BROKEN : FRAME_MORE;
	}
	if (*packet == LOCAL_FILE)
		return FRAME_BROKEN;
	if (*packet == DONE && f->nobody == PREPARE && length_of(f) >= LOOKED_AT)
		f->pending = (unsigned)(packet[5] || packet[6]) + (packet[7] || packet[8]);
	else if (*packet == DONE || *packet == FAILURE)
		f->pending = 0;
	if (!f->pending)
		f->phase = LAST;
	return FRAME_MORE;
}

static enum frame_state packet_begins(struct reply_frame *f)
{
	uint32_t length = length_of(f), looked_at = f->kept - HEADER;
	enum frame_state state = FRAME_MORE;
	int goes_on = f->chunked;

	f->kept = 0;
	f->need = length - looked_at;
	f->chunked = length == LONGEST;
	if (goes_on)
		return FRAME_MORE;
	if (!length)
		return FRAME_BROKEN;
	if (f->phase == FIRST)
		state = first(f);
	else if (f->line[HEADER] == FAILURE || (f->line[HEADER] == END && length < LOOKED_AT && !--f->pending))
		f->phase = LAST;
	return state;
}

enum frame_state frame_feed_mysql(struct reply_frame *f, const uint8_t *p, size_t n)
{
	enum frame_state state = FRAME_MORE;

	while (n && state == FRAME_MORE) {
		size_t took = f->need ? (size_t)f->need : head_bytes(f) - f->kept;

		took = took < n ? took : n;
		if (f->need) {
			f->need -= took;
		} else {
			memcpy(f->line + f->kept, p, took);
			f->kept += (uint32_t)took;
			if (f->kept >= HEADER && f->kept == head_bytes(f))
				state = packet_begins(f);
		}
		if (state == FRAME_MORE && !f->need && !f->kept && f->phase == LAST && !f->chunked)
			state = FRAME_DONE;
		p += took;
		n -= took;
	}
	return state;
}
