/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1: requests, with their bodies.  Heads are in http_head.c, replies in http_reply.c.
 */
#include "http.h"

#include <string.h>

static enum codec_step complete(struct codec_state *st, struct request *req)
{
	st->phase = PHASE_HEAD;
	*req = (struct request){.cls = st->cls, .canned = st->canned, .flags = st->flags};
	return CODEC_REQUEST;
}

/* "<hex>[;extension]\r\n".  Returns the line's length, 0: not there yet, -1: an error, -2: too large. */
static int chunk_line(const uint8_t *p, size_t n, uint64_t *size)
{
	const uint8_t *newline = memchr(p, '\n', n > 1024 ? 1024 : n);
	uint64_t v = 0;
	size_t i = 0;

	if (!newline)
		return n >= 1024 ? -1 : 0;
	for (;; i++) {
		uint8_t ch = p[i] | 32, digit;

		if ((uint8_t)(p[i] - '0') <= 9)
			digit = (uint8_t)(p[i] - '0');
		else if ((uint8_t)(ch - 'a') < 6)
			digit = (uint8_t)(ch - 'a' + 10);
		else
			break;
		v = v << 4 | digit;
		if (v > BODY_LIMIT)
			return -2;
	}
	if (i == 0 || (p[i] != '\n' && p[i] != ';' && p[i] != ' ' && !(p[i] == '\r' && p[i + 1] == '\n')))
		return -1;
	*size = v;
	return (int)(newline - p) + 1;
}

static enum codec_step http_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				  struct request *req)
{
	enum codec_step step;
	const uint8_t *newline;
	uint64_t size = 0;
	int len;

	*used = 0;
	for (;;) {
		const uint8_t *at = p + *used;
		size_t left = n - *used;

		switch (st->phase) {
		case PHASE_HEAD:
			if (left && !st->scanned && (*at == '\n' || (left > 1 && *at == '\r' && at[1] == '\n'))) {
				*used += *at == '\n' ? 1 : 2; /* empty lines before a request */
				continue;
			}
			step = http_head(st, at, left, used, req);
			if (step != CODEC_MORE || st->phase == PHASE_HEAD)
				return step;
			continue;
		case PHASE_BODY:
		case PHASE_CHUNK_DATA:
			if (left < st->need) {
				st->need -= left;
				*used = n;
				return CODEC_MORE;
			}
			*used += (size_t)st->need;
			st->need = 0;
			if (st->phase == PHASE_BODY)
				return complete(st, req);
			st->phase = PHASE_CHUNK_END;
			continue;
		case PHASE_CHUNK:
			len = chunk_line(at, left, &size);
			if (len == 0)
				return CODEC_MORE;
			st->argc += len < 0 ? 0 : (uint32_t)(size >> 10) + 1;
			if (len < 0 || st->argc > BODY_LIMIT >> 10)
				return http_fatal(st, req, len == -1 ? HTTP_400 : HTTP_413);
			*used += (size_t)len;
			st->need = size;
			st->phase = size ? PHASE_CHUNK_DATA : PHASE_TRAILER;
			continue;
		case PHASE_CHUNK_END:
			if (left < 2)
				return CODEC_MORE;
			if (at[0] != '\r' || at[1] != '\n')
				return http_fatal(st, req, HTTP_400);
			*used += 2;
			st->phase = PHASE_CHUNK;
			continue;
		default: /* trailer: lines up to an empty one */
			newline = memchr(at, '\n', left > LINE_LIMIT ? LINE_LIMIT : left);
			if (!newline)
				return left >= LINE_LIMIT ? http_fatal(st, req, HTTP_431) : CODEC_MORE;
			*used += (size_t)(newline - at) + 1;
			if (newline == at || (newline == at + 1 && *at == '\r'))
				return complete(st, req);
		}
	}
}

const struct codec codec_http = {
	.name = "http1", .max_head = HEAD_LIMIT + 1, .setup = http_head_setup, .parse = http_parse, .reply = http_reply,
	.fits = http_fits, .fail = http_fail,
};
