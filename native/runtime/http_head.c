/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1: the head of a request, its first line and its headers.
 */
#include "http.h"

#include <string.h>

enum { SEEN_HOST = 1, SEEN_LENGTH = 2, SEEN_CHUNKED = 4, SEEN_EXPECT = 8, SEEN_CLOSE = 16, SEEN_KEEP = 32, SEEN_RANGE = REQ_RANGE, SEEN_KNOWN = REQ_KNOWN };

static uint8_t by_path; /* some class asks for a path */
static uint8_t name_char[256]; /* what header names are made of */

static const char methods[][8] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"};

void http_head_setup(const struct ditto_service *service)
{
	verb_classes(service);
	by_path = 0;
	for (unsigned ch = '!'; ch < 127; ch++)
		name_char[ch] = !strchr("\"(),/:;<=>?@[\\]{}", (int)ch);
	for (unsigned i = 0; i < service->classes; i++)
		by_path |= service->cls[i].match.path_print != DITTO_NONE;
	for (unsigned i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		struct verb_entry *entry = verb_add(methods[i], strnlen(methods[i], sizeof(methods[i])));

		if (entry)
			entry->builtin = 1;
	}
}

enum codec_step http_fatal(struct codec_state *st, struct request *req, unsigned canned)
{
	memset(st, 0, sizeof(*st));
	*req = (struct request){.cls = DITTO_NONE, .canned = (uint8_t)canned, .flags = REQ_CLOSE | REQ_MALFORMED};
	return CODEC_FATAL;
}

static int same(const uint8_t *p, size_t n, const char *lower)
{
	if (n && (*p | 32) != (uint8_t)*lower)
		return 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t ch = p[i];

		if ((uint8_t)(ch - 'A') < 26)
			ch |= 32;
		if (ch != (uint8_t)lower[i])
			return 0;
	}
	return 1;
}

static int has_token(const uint8_t *p, const uint8_t *end, const char *token, size_t len)
{
	while (p < end) {
		const uint8_t *word;

		while (p < end && (*p == ' ' || *p == '\t' || *p == ','))
			p++;
		word = p;
		while (p < end && *p != ' ' && *p != '\t' && *p != ',')
			p++;
		if ((size_t)(p - word) == len && same(word, len, token))
			return 1;
	}
	return 0;
}

/* One header line.  Returns 0 or the error to answer. */
static unsigned header_line(const uint8_t *p, const uint8_t *end, unsigned *seen, uint64_t *length)
{
	const uint8_t *name = p, *value;
	uint64_t v = 0;
	size_t n;

	while (p < end && name_char[*p])
		p++;
	n = (size_t)(p - name);
	if (n == 0 || p == end || *p != ':')
		return HTTP_400;
	for (value = p + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (memchr(value, 0, (size_t)(end - value)))
		return HTTP_400;
	if (n == 4 && same(name, 4, "host")) {
		*seen |= SEEN_HOST;
	} else if (n == 10 && same(name, 10, "connection")) {
		if (has_token(value, end, "close", 5))
			*seen |= SEEN_CLOSE;
		if (has_token(value, end, "keep-alive", 10))
			*seen |= SEEN_KEEP;
	} else if (n == 6 && same(name, 6, "expect")) {
		if (end - value == 12 && same(value, 12, "100-continue"))
			*seen |= SEEN_EXPECT;
	} else if (n == 14 && same(name, 14, "content-length")) {
		if (value == end || end - value > 18)
			return HTTP_400;
		for (; value < end; value++) {
			if ((uint8_t)(*value - '0') > 9)
				return HTTP_400;
			v = v * 10 + (uint64_t)(*value - '0');
		}
		if ((*seen & SEEN_LENGTH) && v != *length)
			return HTTP_400;
		*seen |= SEEN_LENGTH;
		*length = v;
	} else if (n == 5 && same(name, 5, "range")) {
		*seen |= SEEN_RANGE;
	} else if ((n == 13 && same(name, 13, "if-none-match")) || (n == 17 && same(name, 17, "if-modified-since"))) {
		*seen |= SEEN_KNOWN;
	} else if (n == 17 && same(name, 17, "transfer-encoding")) {
		if (end - value != 7 || !same(value, 7, "chunked"))
			return HTTP_501;
		if (*seen & SEEN_CHUNKED)
			return HTTP_400;
		*seen |= SEEN_CHUNKED;
	}
	return 0;
}

static int class_for(struct codec_state *st, const uint8_t *path, const uint8_t *end)
{
	const struct verb_entry *entry = verb_find(st->word8);
	uint64_t get[3] = {0, 0, 0};
	int wanted;

	if (!entry)
		return DITTO_NONE;
	if (entry->first == DITTO_NONE && memcmp(st->word, "HEAD", 5) == 0) {
		memcpy(get, "GET", 3);
		entry = verb_find(get);
	}
	if (!entry || entry->first == DITTO_NONE || !by_path)
		return entry ? entry->first : DITTO_NONE;
	if (end - path > 8 && (same(path, 7, "http://") || same(path, 8, "https://"))) { /* absolute form */
		path = memchr(path + 8, '/', (size_t)(end - path - 8));
		if (!path)
			path = end;
	}
	for (const uint8_t *p = path; p < end; p++)
		if (*p == '?' || *p == '#')
			end = p;
	wanted = (int)(codec_service->folds ? ditto_fold_print : ditto_path_print)(codec_service->print_key, (const char *)path,
										   (size_t)(end - path));
	return verb_class_by_print(entry, wanted);
}

/* The request line.  Returns 0 or the error. */
static unsigned request_line(struct codec_state *st, const uint8_t *p, const uint8_t *end)
{
	const uint8_t *method = p, *path, *version;

	while (p < end && *p != ' ')
		p++;
	st->word_len = (uint8_t)(p - method <= 24 ? p - method : 0);
	if (p == end || p == method)
		return HTTP_400;
	for (const uint8_t *q = method; q < p; q++)
		if (!((uint8_t)(*q - 'A') < 26 || *q == '_' || *q == '-'))
			return HTTP_400;
	if (!st->word_len)
		return HTTP_501;
	st->word8[0] = st->word8[1] = st->word8[2] = 0;
	for (unsigned i = 0; i < st->word_len; i++)
		st->word[i] = (char)method[i];
	path = ++p;
	while (p < end && *p > ' ' && *p != 127)
		p++;
	if (p == path || p == end || *p != ' ')
		return HTTP_400;
	version = p + 1;
	if (end - version != 8 || memcmp(version, "HTTP/", 5) || version[6] != '.' || (uint8_t)(version[5] - '0') > 9 ||
	    (uint8_t)(version[7] - '0') > 9)
		return HTTP_400;
	if (version[5] != '1')
		return HTTP_505;
	st->flags = version[7] == '0' ? REQ_OLD : 0;
	if (memcmp(st->word, "HEAD", 5) == 0)
		st->flags |= REQ_NOBODY;
	st->cls = (int16_t)class_for(st, path, p);
	st->canned = HTTP_404;
	if (st->cls == DITTO_NONE && !verb_find(st->word8))
		st->canned = HTTP_501;
	return 0;
}

/* The end of the head: position after the empty line, or NULL. */
static const uint8_t *head_end(struct codec_state *st, const uint8_t *p, size_t n)
{
	size_t at = st->scanned;

	for (;;) {
		const uint8_t *newline = memchr(p + at, '\n', n - at);
		size_t next;

		if (!newline) {
			st->scanned = (uint32_t)n;
			return NULL;
		}
		next = (size_t)(newline - p) + 1;
		if (next < n && p[next] == '\n')
			return p + next + 1;
		if (next + 1 < n && p[next] == '\r' && p[next + 1] == '\n')
			return p + next + 2;
		if (next >= n || (next + 1 >= n && p[next] == '\r')) {
			st->scanned = (uint32_t)(next - 1); /* this line end may turn out to be the last */
			return NULL;
		}
		at = next;
	}
}

enum codec_step http_head(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	const uint8_t *end, *line, *newline;
	unsigned seen = 0, error;
	uint64_t length = 0;

	newline = memchr(p, '\n', n > LINE_LIMIT ? LINE_LIMIT + 1 : n);
	if (!newline && n > LINE_LIMIT)
		return http_fatal(st, req, HTTP_414);
	end = newline ? head_end(st, p, n) : NULL;
	if (end ? (size_t)(end - p) > HEAD_LIMIT : n > HEAD_LIMIT)
		return http_fatal(st, req, HTTP_431);
	if (!end)
		return CODEC_MORE;
	st->scanned = 0;
	*used += (size_t)(end - p);
	error = request_line(st, p, newline > p && newline[-1] == '\r' ? newline - 1 : newline);
	for (line = newline + 1; !error && line < end; line = newline + 1) {
		const uint8_t *last;

		newline = memchr(line, '\n', (size_t)(end - line));
		last = newline > line && newline[-1] == '\r' ? newline - 1 : newline;
		if (last > line)
			error = header_line(line, last, &seen, &length);
	}
	if (!error && !(st->flags & REQ_OLD) && !(seen & SEEN_HOST))
		error = HTTP_400;
	if (!error && (seen & SEEN_CHUNKED) && ((seen & SEEN_LENGTH) || (st->flags & REQ_OLD)))
		error = HTTP_400;
	if (!error && length > BODY_LIMIT)
		error = HTTP_413;
	if (error)
		return http_fatal(st, req, error);
	if ((seen & SEEN_CLOSE) || ((st->flags & REQ_OLD) && !(seen & SEEN_KEEP)))
		st->flags |= REQ_CLOSE;
	st->need = length;
	st->flags |= (uint8_t)(seen & (SEEN_RANGE | SEEN_KNOWN));
	st->phase = seen & SEEN_CHUNKED ? PHASE_CHUNK : PHASE_BODY;
	st->argc = 0; /* KiB of chunks so far */
	if ((seen & SEEN_EXPECT) && !(st->flags & REQ_OLD) && ((seen & SEEN_CHUNKED) || length)) {
		*req = (struct request){.cls = DITTO_NONE, .canned = HTTP_100, .flags = REQ_INTERIM};
		return CODEC_REQUEST;
	}
	return CODEC_MORE;
}
