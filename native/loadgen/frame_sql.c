/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the replies of databases end: PostgreSQL's with the message that it is ready, MySQL's by the number of their
 * packets.
 */
#include "frame.h"

#include <string.h>

#define PG_HEAD 5u
#define MY_HEAD 4u
#define MY_LOOK 9u  /* bytes of a packet's body that tell what it is */

enum { COM_QUERY = 3, COM_STMT_PREPARE = 22, COM_STMT_EXECUTE = 23 };
enum { PART_FIRST, PART_COUNTED, PART_DEFINITIONS, PART_ROWS };

/* Collects the first `want` bytes of a message; 1 once they are there. */
static int collect(struct frame *f, size_t want, const uint8_t *p, size_t n, size_t *used)
{
	size_t take = want - f->kept < n - *used ? want - f->kept : n - *used;

	memcpy(f->head + f->kept, p + *used, take);
	f->kept += (uint32_t)take;
	*used += take;
	return f->kept == want;
}

static int skip(struct frame *f, size_t n, size_t *used)
{
	size_t take = f->need < n - *used ? (size_t)f->need : n - *used;

	f->need -= take;
	*used += take;
	return f->need == 0;
}

/* --- PostgreSQL ------------------------------------------------------------------------------------------ */

static int asks_for_encryption(const struct step *step)
{
	static const uint8_t head[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16};

	return step->bytes == 8 && memcmp(step->request, head, sizeof(head)) == 0;
}

static enum frame_result pgsql(struct frame *f, const struct step *step, const uint8_t *p, size_t n, size_t *used)
{
	uint32_t size;

	if (asks_for_encryption(step)) {
		*used = 1;
		return *p == 'N' ? FRAME_DONE : FRAME_BROKEN;
	}
	if (f->kept < PG_HEAD) {
		if (!collect(f, PG_HEAD, p, n, used))
			return FRAME_MORE;
		size = (uint32_t)f->head[1] << 24 | (uint32_t)f->head[2] << 16 | (uint32_t)f->head[3] << 8 | f->head[4];
		if (size < 4)
			return FRAME_BROKEN;
		f->need = size - 4;
		f->failed |= f->head[0] == 'E';
	}
	if (!skip(f, n, used))
		return FRAME_MORE;
	f->kept = 0;
	return f->head[0] == 'Z' ? FRAME_DONE : FRAME_MORE;
}

/* --- MySQL ----------------------------------------------------------------------------------------------- */

static unsigned little16(const uint8_t *p)
{
	return p[0] | (unsigned)p[1] << 8;
}

static uint64_t encoded(const uint8_t *p)
{
	if (p[0] == 0xfc)
		return little16(p + 1);
	return p[0] == 0xfd ? little16(p + 1) | (uint64_t)p[3] << 16 : p[0];
}

/* What follows a reply's first packet; size: bytes of its body. */
static enum frame_result mysql_first(struct frame *f, const struct step *step, const uint8_t *body, uint32_t size)
{
	int command = step->bytes > MY_HEAD && step->request[3] == 0 ? step->request[MY_HEAD] : 0;
	unsigned ends = step->flags & STEP_NO_ENDS ? 0 : 1;

	if (body[0] == 0xff) {
		f->failed = 1;
		return FRAME_DONE;
	}
	if (command == COM_STMT_PREPARE) {
		unsigned columns = little16(body + 5), parameters = little16(body + 7);

		f->pending = columns + parameters + (columns ? ends : 0) + (parameters ? ends : 0);
		f->part = PART_COUNTED;
		return f->pending ? FRAME_MORE : FRAME_DONE;
	}
	if ((command != COM_QUERY && command != COM_STMT_EXECUTE) || body[0] == 0)
		return FRAME_DONE;
	f->pending = encoded(body) + ends;
	if (size == 2 && body[1] == 0) /* the client knows the columns already */
		f->pending = ends;
	f->part = f->pending ? PART_DEFINITIONS : PART_ROWS;
	return FRAME_MORE;
}

static enum frame_result mysql_packet(struct frame *f, const struct step *step, const uint8_t *body, uint32_t size)
{
	switch (f->part) {
	case PART_FIRST:
		return mysql_first(f, step, body, size);
	case PART_COUNTED:
		return --f->pending ? FRAME_MORE : FRAME_DONE;
	case PART_DEFINITIONS:
		if (--f->pending == 0)
			f->part = PART_ROWS;
		return FRAME_MORE;
	default:
		f->failed |= body[0] == 0xff;
		if (body[0] == 0xff || (body[0] == 0xfe && (size < MY_LOOK || (step->flags & STEP_NO_ENDS))))
			return FRAME_DONE;
		return FRAME_MORE;
	}
}

static enum frame_result mysql(struct frame *f, const struct step *step, const uint8_t *p, size_t n, size_t *used)
{
	uint32_t size, look;

	if (f->kept < MY_HEAD && !collect(f, MY_HEAD, p, n, used))
		return FRAME_MORE;
	size = (uint32_t)f->head[0] | (uint32_t)f->head[1] << 8 | (uint32_t)f->head[2] << 16;
	look = size < MY_LOOK ? size : MY_LOOK;
	if (f->kept < MY_HEAD + look) {
		if (!collect(f, MY_HEAD + look, p, n, used))
			return FRAME_MORE;
		f->need = size - look;
	}
	if (!skip(f, n, used))
		return FRAME_MORE;
	f->kept = 0;
	memset(f->head + MY_HEAD + look, 0, MY_LOOK - look);
	return mysql_packet(f, step, f->head + MY_HEAD, size);
}

enum frame_result frame_sql(struct frame *f, enum framing framing, const struct step *step, const uint8_t *p, size_t n,
			    size_t *used)
{
	*used = 0;
	return framing == FRAMING_PGSQL ? pgsql(f, step, p, n, used) : mysql(f, step, p, n, used);
}
