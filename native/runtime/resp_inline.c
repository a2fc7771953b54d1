/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP2: inline requests, words on a line.
 */
#include "resp.h"

#include <string.h>

static int is_space(uint8_t ch)
{
	return ch == ' ' || (ch >= '\t' && ch <= '\r');
}

/* One word of an inline request; returns the position after it, or NULL for quotes that do not match. */
static const uint8_t *inline_word(const uint8_t *p, const uint8_t *end)
{
	uint8_t quote = 0;

	for (; p < end; p++) {
		if (quote) {
			if (*p == '\\' && quote == '"' && p + 1 < end)
				p++;
			else if (*p == '\\' && p + 1 < end && p[1] == '\'')
				p++;
			else if (*p == quote) {
				if (p + 1 < end && !is_space(p[1]))
					return NULL;
				quote = 0;
			}
		} else if (*p == '"' || *p == '\'') {
			quote = *p;
		} else if (is_space(*p)) {
			break;
		}
	}
	return quote ? NULL : p;
}

enum codec_step resp_inline(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	const uint8_t *newline = memchr(p + st->scanned, '\n', n - st->scanned), *end, *at = p;

	if (!newline) {
		if (n > INLINE_LIMIT)
			return resp_fatal(st, req, RESP_E_INLINE_LONG, 0);
		st->scanned = (uint32_t)n;
		return CODEC_MORE;
	}
	if ((size_t)(newline - p) > INLINE_LIMIT)
		return resp_fatal(st, req, RESP_E_INLINE_LONG, 0);
	st->scanned = 0;
	end = newline > p && newline[-1] == '\r' ? newline - 1 : newline;
	*used += (size_t)(newline - p) + 1;
	st->argc = 0;
	st->note_len = 0;
	for (;;) {
		const uint8_t *word;

		while (at < end && is_space(*at))
			at++;
		if (at == end)
			break;
		word = at;
		at = inline_word(at, end);
		if (!at)
			return resp_fatal(st, req, RESP_E_QUOTES, 0);
		if (st->argc == 0)
			resp_take_word(st, word, (size_t)(at - word));
		else if (st->argc == 1) {
			size_t len = (size_t)(at - word);

			if (len > 1 && (*word == '"' || *word == '\'')) {
				word++;
				len -= 2;
			}
			st->note_len = (uint8_t)(len < sizeof(st->note) ? len : sizeof(st->note));
			memcpy(st->note, word, st->note_len);
			st->key_hash = keys_hash(word, len);
			st->value_size = 0;
		}
		if (st->argc == 2) {
			st->value_size = (uint32_t)(at - word);
			st->value = word;
		}
		st->argc++;
	}
	return st->argc ? resp_complete(st, req) : CODEC_MORE;
}
