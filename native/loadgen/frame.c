/* SPDX-License-Identifier: Apache-2.0 */
#include "frame.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define OPAQUE_MARKER 0xd7
#define OPAQUE_SHORT 0xd8 /* and the length of a message that is shorter than the header */
#define FASTCGI_END 3

enum { PHASE_START, PHASE_SKIP, PHASE_CHUNK, PHASE_CHUNK_DATA, PHASE_TRAILER, PHASE_TO_END, PHASE_VALUE };

void frame_begin(struct frame *f, enum framing framing, const struct step *step)
{
	f->phase = PHASE_START;
	f->failed = 0;
	f->closes = 0;
	if (framing == FRAMING_H2)
		return; /* frames go on */
	f->need = framing == FRAMING_BYTES ? step->reply : 0;
	f->pending = 1;
	f->kept = 0;
	f->part = 0;
}

/* Up to and with `mark`, together with what was kept of it.  NULL: not there yet (kept) or, with *bad set, too long. */
static const uint8_t *whole(struct frame *f, const char *mark, size_t mark_len, const uint8_t *p, size_t n, size_t *used,
			    size_t *length, int *bad)
{
	const uint8_t *found;
	size_t before = f->kept, take;

	*bad = 0;
	if (!before && (found = memmem(p, n, mark, mark_len))) {
		*length = (size_t)(found - p) + mark_len;
		*used = *length;
		return p;
	}
	if (!f->line && !(f->line = malloc(FRAME_LINE))) {
		*bad = 1;
		return NULL;
	}
	take = n < FRAME_LINE - before ? n : FRAME_LINE - before;
	memcpy(f->line + before, p, take);
	found = memmem(f->line + (before < mark_len ? 0 : before - mark_len + 1),
		       before + take - (before < mark_len ? 0 : before - mark_len + 1), mark, mark_len);
	if (!found) {
		f->kept = (uint32_t)(before + take);
		*used = take;
		*bad = f->kept == FRAME_LINE;
		return NULL;
	}
	*length = (size_t)(found - f->line) + mark_len;
	*used = *length - before;
	f->kept = 0;
	return f->line;
}

static uint64_t digits(const uint8_t *p, const uint8_t *end)
{
	uint64_t v = 0;

	while (p < end && *p == ' ')
		p++;
	for (; p < end && *p >= '0' && *p <= '9' && v < (uint64_t)1 << 50; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	return v;
}

/* --- HTTP/1.1 ------------------------------------------------------------------------------------------ */

/* The value of a header, or NULL; names are compared without case. */
static const uint8_t *header(const uint8_t *head, size_t n, const char *name, const uint8_t **end)
{
	size_t len = strlen(name);
	const uint8_t *p = head, *stop = head + n;

	while ((p = memchr(p, '\n', (size_t)(stop - p))) && ++p + len < stop) {
		if (p[len] == ':' && strncasecmp((const char *)p, name, len) == 0) {
			*end = memchr(p, '\r', (size_t)(stop - p));
			return *end ? p + len + 1 : NULL;
		}
	}
	return NULL;
}

static int has_word(const uint8_t *p, const uint8_t *end, const char *word)
{
	size_t len = strlen(word);

	for (; p && (size_t)(end - p) >= len; p++)
		if (strncasecmp((const char *)p, word, len) == 0)
			return 1;
	return 0;
}

static enum frame_result http_head(struct frame *f, const struct step *step, const uint8_t *head, size_t n)
{
	const uint8_t *value, *end = NULL;
	unsigned status;

	if (n < 13 || memcmp(head, "HTTP/1.", 7) != 0)
		return FRAME_BROKEN;
	status = (unsigned)digits(head + 9, head + 12);
	if (status >= 100 && status < 200)
		return FRAME_MORE; /* the real one follows */
	f->failed = status >= 400;
	value = header(head, n, "connection", &end);
	f->closes = has_word(value, end, "close");
	if ((step->flags & STEP_NOBODY) || status == 204 || status == 304)
		return FRAME_DONE;
	value = header(head, n, "content-length", &end);
	if (value) {
		f->need = digits(value, end);
		f->phase = PHASE_SKIP;
		return f->need ? FRAME_MORE : FRAME_DONE;
	}
	value = header(head, n, "transfer-encoding", &end);
	f->phase = has_word(value, end, "chunked") ? PHASE_CHUNK : PHASE_TO_END;
	if (f->phase == PHASE_TO_END)
		f->closes = 1;
	return FRAME_MORE;
}

static enum frame_result http_chunk(struct frame *f, const uint8_t *line, size_t n)
{
	char text[24] = "";

	memcpy(text, line, n < sizeof(text) - 1 ? n : sizeof(text) - 1);
	if (!strchr("0123456789abcdefABCDEF", text[0]))
		return FRAME_BROKEN;
	f->need = strtoull(text, NULL, 16);
	f->phase = f->need ? PHASE_CHUNK_DATA : PHASE_TRAILER;
	if (f->need)
		f->need += 2;
	return FRAME_MORE;
}

static enum frame_result http_feed(struct frame *f, const struct step *step, const uint8_t *p, size_t n, size_t *used)
{
	const char *mark = f->phase == PHASE_START ? "\r\n\r\n" : "\r\n";
	const uint8_t *line;
	size_t length;
	int bad;

	if (f->phase == PHASE_TO_END) {
		*used = n;
		return FRAME_MORE;
	}
	line = whole(f, mark, strlen(mark), p, n, used, &length, &bad);
	if (!line)
		return bad ? FRAME_BROKEN : FRAME_MORE;
	if (f->phase == PHASE_START)
		return http_head(f, step, line, length);
	if (f->phase == PHASE_CHUNK)
		return http_chunk(f, line, length);
	return length == 2 ? FRAME_DONE : FRAME_MORE; /* a trailer, or the empty line after them */
}

/* --- RESP2 and memcached ------------------------------------------------------------------------------- */

static enum frame_result resp_line(struct frame *f, const uint8_t *line, size_t n)
{
	const uint8_t *end = line + n - 2;
	int none = n > 3 && line[1] == '-';
	uint64_t count = digits(line + 1, end);

	switch (line[0]) {
	case '-':
		f->failed = 1;
		break;
	case '$':
	case '=':
	case '!':
		if (!none) {
			f->need = count + 2;
			f->phase = PHASE_SKIP;
			return FRAME_MORE;
		}
		break;
	case '*':
	case '~':
	case '>':
		f->pending += none ? 0 : count;
		break;
	case '%':
		f->pending += count * 2;
		break;
	case '+':
	case ':':
	case '_':
	case ',':
	case '#':
	case '(':
		break;
	default:
		return FRAME_BROKEN;
	}
	return --f->pending ? FRAME_MORE : FRAME_DONE;
}

static int begins(const uint8_t *line, size_t n, const char *word)
{
	size_t len = strlen(word);

	return n >= len && memcmp(line, word, len) == 0;
}

static enum frame_result memcached_line(struct frame *f, const uint8_t *line, size_t n)
{
	if (begins(line, n, "VALUE ") || begins(line, n, "VA ")) {
		const uint8_t *p = line, *end = line + n - 2;
		int words = begins(line, n, "VA ") ? 1 : 3;

		for (; words && (p = memchr(p, ' ', (size_t)(end - p))); words--)
			p++;
		if (!p)
			return FRAME_BROKEN;
		f->need = digits(p, end) + 2;
		f->phase = line[2] == 'L' ? PHASE_VALUE : PHASE_SKIP;
		return FRAME_MORE;
	}
	if (begins(line, n, "STAT ") || begins(line, n, "ITEM "))
		return FRAME_MORE;
	f->failed = begins(line, n, "ERROR") || begins(line, n, "CLIENT_ERROR") || begins(line, n, "SERVER_ERROR");
	return FRAME_DONE;
}

static enum frame_result line_feed(struct frame *f, enum framing framing, const uint8_t *p, size_t n, size_t *used)
{
	const uint8_t *line;
	size_t length;
	int bad;

	line = whole(f, "\r\n", 2, p, n, used, &length, &bad);
	if (!line)
		return bad ? FRAME_BROKEN : FRAME_MORE;
	return framing == FRAMING_RESP2 ? resp_line(f, line, length) : memcached_line(f, line, length);
}

/* FastCGI: records up to the one that ends the request. */
static enum frame_result fastcgi_head(struct frame *f)
{
	if (f->head[0] != 1)
		return FRAME_BROKEN;
	f->need = ((uint64_t)f->head[4] << 8 | f->head[5]) + f->head[6];
	f->phase = f->head[1] == FASTCGI_END ? PHASE_SKIP : PHASE_VALUE;
	return f->need || f->phase == PHASE_VALUE ? FRAME_MORE : FRAME_DONE;
}

/* Headers of eight bytes; in the clones' own framing it tells the length of the reply, itself included. */
static enum frame_result binary_feed(struct frame *f, enum framing framing, const uint8_t *p, size_t n, size_t *used)
{
	size_t take = OPAQUE_HEAD - f->kept < n ? OPAQUE_HEAD - f->kept : n;
	uint32_t length;

	if (framing == FRAMING_OPAQUE && !f->kept && p[0] > OPAQUE_SHORT && p[0] < OPAQUE_SHORT + OPAQUE_HEAD) {
		*used = 1;
		f->need = p[0] - OPAQUE_SHORT - 1u;
		f->phase = PHASE_SKIP;
		return f->need ? FRAME_MORE : FRAME_DONE;
	}
	memcpy(f->head + f->kept, p, take);
	f->kept += (uint32_t)take;
	*used = take;
	if (f->kept < OPAQUE_HEAD)
		return FRAME_MORE;
	f->kept = 0;
	if (framing == FRAMING_FASTCGI)
		return fastcgi_head(f);
	length = f->head[3] | (uint32_t)f->head[2] << 8 | (uint32_t)f->head[1] << 16 | (uint32_t)f->head[0] << 24;
	if (length < OPAQUE_HEAD || f->head[7] != OPAQUE_MARKER)
		return FRAME_BROKEN;
	f->need = length - OPAQUE_HEAD;
	f->phase = PHASE_SKIP;
	return f->need ? FRAME_MORE : FRAME_DONE;
}

/* Bytes were skipped that a line announced. */
static enum frame_result skipped(struct frame *f, enum framing framing)
{
	switch (f->phase) {
	case PHASE_CHUNK_DATA:
		f->phase = PHASE_CHUNK;
		return FRAME_MORE;
	case PHASE_VALUE:
		f->phase = PHASE_START;
		return FRAME_MORE;
	default:
		f->phase = PHASE_START;
		return framing == FRAMING_RESP2 && --f->pending ? FRAME_MORE : FRAME_DONE;
	}
}

static int of_database(enum framing framing)
{
	return framing == FRAMING_PGSQL || framing == FRAMING_MYSQL;
}

enum frame_result frame_feed(struct frame *f, enum framing framing, const struct step *step, const uint8_t *p, size_t n,
			     size_t *used)
{
	size_t at = 0, took;
	enum frame_result result = FRAME_MORE;

	while (at < n && result == FRAME_MORE) {
		if (f->need && !of_database(framing) && framing != FRAMING_H2) {
			took = f->need < n - at ? (size_t)f->need : n - at;
			f->need -= took;
			at += took;
			if (!f->need)
				result = skipped(f, framing);
			continue;
		}
		if (framing == FRAMING_HTTP1)
			result = http_feed(f, step, p + at, n - at, &took);
		else if (of_database(framing))
			result = frame_sql(f, framing, step, p + at, n - at, &took);
		else if (framing == FRAMING_H2)
			result = frame_h2(f, p + at, n - at, &took);
		else if (framing == FRAMING_OPAQUE || framing == FRAMING_FASTCGI)
			result = binary_feed(f, framing, p + at, n - at, &took);
		else
			result = line_feed(f, framing, p + at, n - at, &took);
		at += took;
	}
	*used = at;
	return result;
}

int frame_at_end(const struct frame *f, enum framing framing)
{
	return framing == FRAMING_HTTP1 && f->phase == PHASE_TO_END;
}
