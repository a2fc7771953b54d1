/* SPDX-License-Identifier: Apache-2.0
 *
 * All framings here but the opaque one, FastCGI's records and PostgreSQL's messages are lines that tell how many bytes to
 * skip, so there is one reader of lines.  What comes after the end of a reply is dropped: nobody asked for it.
 */
#include "reply_frame.h"

#include "ditto.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BINARY_HEAD 8u
#define OPAQUE_MARKER 0xd7
#define OPAQUE_SHORT 0xd8 /* and its length: of a message shorter than the header, see codec_opaque.c */
#define MESSAGE_HEAD 5u
#define FASTCGI_END 3
#define FASTCGI_OUTPUT 6
#define MOST_VALUES (1u << 24) /* nested replies of more are no protocol but an attack */

enum { PHASE_FIRST, PHASE_HEAD, PHASE_BODY, PHASE_CHUNK, PHASE_CHUNK_DATA, PHASE_TRAILER, PHASE_TO_END, PHASE_VALUE };

void frame_begin(struct reply_frame *f, unsigned codec, int nobody)
{
	if (codec == DITTO_CODEC_H2 && f->stream) { /* frames go on between replies */
		f->stream += 2;
		f->pending = 1;
		f->error = 0;
		return;
	}
	memset(f, 0, offsetof(struct reply_frame, line));
	f->stream = codec == DITTO_CODEC_H2;
	f->codec = (uint8_t)codec;
	f->nobody = (uint8_t)nobody;
	f->pending = 1;
}

int frame_ends_with_connection(const struct reply_frame *f)
{
	return f->codec == DITTO_CODEC_HTTP1 && f->phase == PHASE_TO_END;
}

static uint64_t number(const uint8_t *p, int base)
{
	uint64_t v = 0;

	while (*p == ' ')
		p++;
	for (;; p++) {
		unsigned digit = (unsigned)*p - '0';

		if (digit > 9)
			digit = base == 16 && (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (unsigned)(*p | 32) - 'a' + 10 : 99;
		if (digit > 15 || v >> 50)
			return v;
		v = v * (unsigned)base + digit;
	}
}

static int begins(const uint8_t *line, const char *word)
{
	return strncasecmp((const char *)line, word, strlen(word)) == 0;
}

/* Whether a line is such an error, as far as its length let it be written; filled up with spaces. */
static int is_failure(const uint8_t *line, const char *text)
{
	size_t n = strlen((const char *)line), most = strlen(text);

	while (n && line[n - 1] == ' ')
		n--;
	return n > 1 && n <= most && !memcmp(line, text, n);
}

static enum frame_state head_ended(struct reply_frame *f, unsigned status)
{
	if (status >= 100 && status < 200) { /* the real one follows */
		f->phase = PHASE_FIRST;
		return FRAME_MORE;
	}
	if (f->nobody || status == 204 || status == 304)
		return FRAME_DONE;
	if (f->chunked) {
		f->phase = PHASE_CHUNK;
	} else if (f->measured) {
		f->phase = PHASE_BODY;
		f->need = f->length;
		return f->need ? FRAME_MORE : FRAME_DONE;
	} else {
		f->phase = PHASE_TO_END;
		f->closes = 1;
	}
	return FRAME_MORE;
}

static enum frame_state http_line(struct reply_frame *f, const uint8_t *line)
{
	switch (f->phase) {
	case PHASE_FIRST:
		if (!begins(line, "HTTP/1."))
			return FRAME_BROKEN;
		f->pending = number(line + 8, 10); /* the status */
		f->error = line[7] && line[8] && is_failure(line + 9, FAILED_HTTP);
		f->chunked = f->measured = 0;
		f->phase = PHASE_HEAD;
		return FRAME_MORE;
	case PHASE_HEAD:
		if (!*line)
			return head_ended(f, (unsigned)f->pending);
		if (begins(line, "content-length:")) {
			f->length = number(line + 15, 10);
			f->measured = 1;
		} else if (begins(line, "transfer-encoding:") && strcasestr((const char *)line, "chunked")) {
			f->chunked = 1;
		} else if (begins(line, "connection:") && strcasestr((const char *)line, "close")) {
			f->closes = 1;
		}
		return FRAME_MORE;
	case PHASE_CHUNK:
		f->need = number(line, 16);
		f->phase = f->need ? PHASE_CHUNK_DATA : PHASE_TRAILER;
		f->need += f->need ? 2 : 0;
		return FRAME_MORE;
	default:
		return *line ? FRAME_MORE : FRAME_DONE; /* a trailer, or the empty line after them */
	}
}

static enum frame_state resp_line(struct reply_frame *f, const uint8_t *line)
{
	int none = line[0] && line[1] == '-';
	uint64_t count = line[0] ? number(line + 1, 10) : 0;

	f->error |= is_failure(line, FAILED_RESP);
	switch (line[0]) {
	case '$':
	case '=':
	case '!':
		if (!none) {
			f->need = count + 2;
			f->phase = PHASE_VALUE;
			return FRAME_MORE;
		}
		break;
	case '*':
	case '~':
	case '>':
	case '%':
		f->pending += none ? 0 : line[0] == '%' ? 2 * count : count;
		if (f->pending > MOST_VALUES)
			return FRAME_BROKEN;
		break;
	case '+':
	case '-':
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

static enum frame_state memcached_line(struct reply_frame *f, const uint8_t *line)
{
	const char *at = (const char *)line;

	f->error |= is_failure(line, FAILED_MEMCACHED);
	if (begins(line, "VALUE ")) {
		for (int words = 3; words && at; words--)
			at = (at = strchr(at, ' ')) ? at + 1 : NULL;
		if (!at)
			return FRAME_BROKEN;
		f->need = number((const uint8_t *)at, 10) + 2;
		f->phase = PHASE_VALUE;
		return FRAME_MORE;
	}
	return begins(line, "STAT ") ? FRAME_MORE : FRAME_DONE;
}

static enum frame_state take_line(struct reply_frame *f)
{
	uint32_t n = f->kept;

	while (n && (f->line[n - 1] == '\n' || f->line[n - 1] == '\r'))
		n--;
	f->line[n] = 0;
	f->kept = 0;
	if (f->codec == DITTO_CODEC_HTTP1)
		return http_line(f, f->line);
	return f->codec == DITTO_CODEC_RESP2 ? resp_line(f, f->line) : memcached_line(f, f->line);
}

/* Of what is left, the bytes up to the end of a line; the line is complete if there is one. */
static size_t keep_line(struct reply_frame *f, const uint8_t *p, size_t n, int *whole)
{
	const uint8_t *end = memchr(p, '\n', n);
	size_t took = end ? (size_t)(end - p) + 1 : n, room = FRAME_LINE - 1 - f->kept;

	memcpy(f->line + f->kept, p, took < room ? took : room);
	f->kept += (uint32_t)(took < room ? took : room);
	*whole = end != NULL;
	return took;
}

/* Bytes of a head that are looked at: of FastCGI's first record the beginning of its output too. */
static uint32_t head_bytes(const struct reply_frame *f)
{
	uint32_t output, error = sizeof(FAILED_FASTCGI) - 1;

	if (f->codec == DITTO_CODEC_PGSQL)
		return MESSAGE_HEAD;
	if (f->codec != DITTO_CODEC_FASTCGI || f->phase != PHASE_FIRST || f->length || f->kept < BINARY_HEAD)
		return BINARY_HEAD;
	output = (uint32_t)f->line[4] << 8 | f->line[5];
	return f->line[1] == FASTCGI_OUTPUT && output >= error ? BINARY_HEAD + error : BINARY_HEAD;
}

static enum frame_state record_head(struct reply_frame *f, uint32_t kept)
{
	f->need = ((uint64_t)f->line[4] << 8 | f->line[5]) + f->line[6] - (kept - BINARY_HEAD);
	f->error |= kept > BINARY_HEAD && !memcmp(f->line + BINARY_HEAD, FAILED_FASTCGI, kept - BINARY_HEAD);
	f->length = 1; /* the next is not the first */
	f->phase = f->line[1] == FASTCGI_END ? PHASE_BODY : PHASE_VALUE;
	if (f->line[0] != 1)
		return FRAME_BROKEN;
	if (f->need)
		return FRAME_MORE;
	if (f->phase == PHASE_BODY)
		return FRAME_DONE;
	f->phase = PHASE_FIRST;
	return FRAME_MORE;
}

/* Bytes were skipped that a line announced. */
static enum frame_state skipped(struct reply_frame *f)
{
	if (f->phase == PHASE_CHUNK_DATA) {
		f->phase = PHASE_CHUNK;
		return FRAME_MORE;
	}
	if (f->phase != PHASE_VALUE)
		return FRAME_DONE;
	f->phase = PHASE_FIRST;
	return f->codec == DITTO_CODEC_RESP2 && !--f->pending ? FRAME_DONE : FRAME_MORE;
}

/* A reply ends with the message that says that the server is ready. */
static enum frame_state message_head(struct reply_frame *f)
{
	uint32_t length = (uint32_t)f->line[1] << 24 | (uint32_t)f->line[2] << 16 | (uint32_t)f->line[3] << 8 | f->line[4];

	if (length < 4)
		return FRAME_BROKEN;
	f->need = length - 4;
	f->phase = f->line[0] == 'Z' ? PHASE_BODY : PHASE_VALUE;
	if (!f->need)
		return skipped(f);
	return FRAME_MORE;
}

static size_t keep_header(struct reply_frame *f, const uint8_t *p, size_t n, enum frame_state *state)
{
	uint32_t wanted = head_bytes(f), length, kept;
	size_t took = wanted - f->kept < n ? wanted - f->kept : n;

	if (f->codec == DITTO_CODEC_OPAQUE && !f->kept && *p > OPAQUE_SHORT && *p < OPAQUE_SHORT + BINARY_HEAD) {
		f->need = *p - OPAQUE_SHORT - 1u;
		*state = f->need ? FRAME_MORE : FRAME_DONE;
		return 1;
	}
	memcpy(f->line + f->kept, p, took);
	f->kept += (uint32_t)took;
	if (f->kept < head_bytes(f))
		return took;
	kept = f->kept;
	f->kept = 0;
	if (f->codec == DITTO_CODEC_FASTCGI) {
		*state = record_head(f, kept);
		return took;
	}
	if (f->codec == DITTO_CODEC_PGSQL) {
		*state = message_head(f);
		return took;
	}
	length = f->line[3] | (uint32_t)f->line[2] << 8 | (uint32_t)f->line[1] << 16 | (uint32_t)f->line[0] << 24;
	f->need = length - BINARY_HEAD;
	*state = length < BINARY_HEAD || f->line[7] != OPAQUE_MARKER ? FRAME_BROKEN : f->need ? FRAME_MORE : FRAME_DONE;
	return took;
}

static int is_binary(const struct reply_frame *f)
{
	return f->codec == DITTO_CODEC_OPAQUE || f->codec == DITTO_CODEC_FASTCGI || f->codec == DITTO_CODEC_PGSQL;
}

enum frame_state frame_feed(struct reply_frame *f, const uint8_t *p, size_t n)
{
	enum frame_state state = FRAME_MORE;
	int whole;

	if (f->codec == DITTO_CODEC_H2)
		return frame_feed_h2(f, p, n);
	if (f->codec == DITTO_CODEC_MYSQL)
		return frame_feed_mysql(f, p, n);
	while (n && state == FRAME_MORE) {
		size_t took = n;

		if (f->need) {
			took = f->need < n ? (size_t)f->need : n;
			f->need -= took;
			if (!f->need)
				state = skipped(f);
		} else if (is_binary(f)) {
			took = keep_header(f, p, n, &state);
		} else if (!frame_ends_with_connection(f)) {
			took = keep_line(f, p, n, &whole);
			if (whole)
				state = take_line(f);
		}
		p += took;
		n -= took;
	}
	return state;
}
