/* SPDX-License-Identifier: Apache-2.0
 *
 * The text protocol of memcached: requests.  Replies are in memcached_reply.c.
 */
#include "memcached.h"

#include <string.h>

#define LINE_LIMIT 2048u
#define GET_LIMIT 65536u /* get and gat lines hold many keys */
#define KEY_LIMIT 250u
#define ITEM_LIMIT (1u << 30)

enum { PHASE_LINE, PHASE_DATA, PHASE_END };

struct line {
	const uint8_t *word[8]; /* the first words */
	uint32_t len[8];
	uint32_t words;
	const uint8_t *last;
	uint32_t last_len;
};

static const struct {
	unsigned char command;
	const char *word;
	unsigned char role; /* what it does with its key */
} commands[] = {
	{MC_GET, "get", 0}, {MC_GET, "gets", 0}, {MC_GAT, "gat", 0}, {MC_GAT, "gats", 0}, {MC_SET, "set", KEY_STORE},
	{MC_SET, "add", KEY_STORE_NEW}, {MC_SET, "replace", KEY_STORE_OLD},
	{MC_SET, "append", KEY_GROW}, {MC_SET, "prepend", KEY_GROW}, {MC_CAS, "cas", KEY_SWAP},
	{MC_DELETE, "delete", KEY_DROP}, {MC_INCR, "incr", KEY_LOOK}, {MC_INCR, "decr", KEY_LOOK}, {MC_TOUCH, "touch", KEY_LOOK},
	{MC_VERSION, "version", 0}, {MC_STATS, "stats", 0}, {MC_OK, "verbosity", 0}, {MC_OK, "flush_all", 0}, {MC_QUIT, "quit", 0},
	{MC_META_NOOP, "mn", 0}, {MC_META_GET, "mg", KEY_READ}, {MC_META_SET, "ms", KEY_STORE}, {MC_META_DELETE, "md", KEY_DROP},
	{MC_META_ARITHMETIC, "ma", KEY_LOOK}, {MC_META_DEBUG, "me", 0},
};

static int16_t one_get; /* class of a get of one key */

static void memcached_setup(const struct ditto_service *service)
{
	verb_classes(service);
	keys_setup(service->starts_empty);
	memcached_reply_setup();
	for (unsigned i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		struct verb_entry *entry = verb_add(commands[i].word, strlen(commands[i].word));

		if (!entry)
			continue;
		entry->builtin = commands[i].command;
		entry->key_role = commands[i].role;
	}
	one_get = (int16_t)verb_class_for(verb_find((const uint64_t[3]){0x746567}), 2); /* "get" */
}

/* The usual request, complete: "get <key>\r\n", a space after the key or none.  Its length, or 0 for anything else. */
static size_t short_get(const uint8_t *p, size_t n, struct request *req)
{
	const uint8_t *key = p + 4, *end, *line_end;

	if (n < 8 || memcmp(p, "get ", 4) != 0)
		return 0;
	end = codec_scan(key, p + (n < KEY_LIMIT + 6 ? n : KEY_LIMIT + 6), ' ', '\n');
	line_end = end < p + n && *end == ' ' ? end + 2 : end;
	if (line_end >= p + n || line_end[0] != '\n' || line_end[-1] != '\r')
		return 0;
	end = *end == ' ' ? end : end - 1;
	if (end <= key || end - key > (long)KEY_LIMIT)
		return 0;
	memset(req, 0, sizeof(*req));
	req->cls = one_get;
	req->canned = MC_GET;
	req->keys = key;
	req->keys_len = (uint32_t)(end - key);
	req->one_key = 1;
	return (size_t)(line_end - p) + 1;
}

static void split(struct line *line, const uint8_t *p, const uint8_t *end)
{
	line->words = 0;
	line->last_len = 0;
	for (;;) {
		const uint8_t *word;

		while (p < end && *p == ' ')
			p++;
		if (p == end)
			return;
		word = p;
		p = codec_space(p, end);
		line->last = word;
		line->last_len = (uint32_t)(p - word);
		if (line->words < 8) {
			line->word[line->words] = word;
			line->len[line->words] = line->last_len;
		}
		line->words++;
	}
}

static int number(const struct line *line, unsigned index, uint64_t *value)
{
	uint64_t v = 0;

	if (index >= line->words || line->len[index] == 0 || line->len[index] > 19)
		return -1;
	for (uint32_t i = 0; i < line->len[index]; i++) {
		uint8_t digit = (uint8_t)(line->word[index][i] - '0');

		if (digit > 9)
			return -1;
		v = v * 10 + digit;
	}
	*value = v;
	return 0;
}

static int signed_number(struct line *line, unsigned index)
{
	uint64_t value;

	if (index < line->words && line->len[index] > 1 && line->word[index][0] == '-') {
		line->word[index]++;
		line->len[index]--;
	}
	return number(line, index, &value);
}

static enum codec_step say(struct request *req, unsigned canned)
{
	req->cls = DITTO_NONE;
	req->key_role = KEY_NONE;
	req->canned = (uint8_t)canned;
	if (canned >= MC_E_GENERIC)
		req->flags |= REQ_MALFORMED;
	return CODEC_REQUEST;
}

static enum codec_step fatal(struct codec_state *st, struct request *req, unsigned canned)
{
	memset(st, 0, sizeof(*st));
	req->flags = REQ_CLOSE;
	say(req, canned);
	return CODEC_FATAL;
}

static int keys_fit(const uint8_t *p, uint32_t n)
{
	uint32_t run = 0;

	if (n <= KEY_LIMIT)
		return 1;
	for (uint32_t i = 0; i < n; i++) {
		run = p[i] == ' ' ? 0 : run + 1;
		if (run > KEY_LIMIT)
			return 0;
	}
	return 1;
}

/* Storage commands: the data block follows, whatever becomes of it. */
static enum codec_step storage(struct codec_state *st, struct request *req, struct line *line, const struct verb_entry *entry)
{
	unsigned command = entry->builtin, size_at = command == MC_META_SET ? 2 : 4, least = command == MC_CAS ? 6 : size_at + 1;
	uint64_t bytes, unique;

	if (line->words < least)
		return say(req, MC_E_GENERIC);
	if (line->len[1] > KEY_LIMIT || number(line, size_at, &bytes))
		return say(req, MC_E_FORMAT);
	if (command != MC_META_SET && (signed_number(line, 2) || signed_number(line, 3)))
		return say(req, MC_E_FORMAT);
	if ((command == MC_CAS && number(line, 5, &unique)) || bytes > 1ull << 40)
		return say(req, MC_E_FORMAT);
	st->canned = (uint8_t)command;
	st->cls = req->cls;
	st->flags = req->flags;
	if (bytes > ITEM_LIMIT) {
		st->cls = DITTO_NONE;
		st->canned = MC_E_LARGE;
	}
	st->arg = entry->key_role;
	st->note_len = req->note_len < sizeof(st->note) ? (uint8_t)req->note_len : 0;
	memcpy(st->note, req->note ? req->note : st->note, st->note_len);
	st->need = bytes;
	st->value_size = (uint32_t)bytes;
	st->key_hash = keys_hash(line->word[1], line->len[1]);
	st->phase = PHASE_DATA;
	return CODEC_MORE;
}

static enum codec_step command_line(struct codec_state *st, struct request *req, const uint8_t *p,
				    const uint8_t *end)
{
	const struct verb_entry *entry = NULL;
	struct line line;
	unsigned command;
	uint64_t value;

	memset(req, 0, sizeof(*req));
	split(&line, p, end);
	if (line.words && line.len[0] <= sizeof(st->word)) {
		st->word8[0] = st->word8[1] = st->word8[2] = 0;
		for (uint32_t i = 0; i < line.len[0]; i++)
			st->word[i] = (char)line.word[0][i];
		entry = verb_find(st->word8);
	}
	if (!entry || !entry->builtin)
		return say(req, MC_E_GENERIC);
	command = entry->builtin;
	req->cls = (int16_t)verb_class_for(entry, line.words);
	req->canned = (uint8_t)command;
	if (command == MC_GET || command == MC_GAT) {
		unsigned first = command == MC_GET ? 1 : 2;

		if (line.words <= first)
			return say(req, MC_E_GENERIC);
		if (command == MC_GAT && signed_number(&line, 1))
			return say(req, MC_E_EXPTIME);
		req->keys = line.word[first];
		req->keys_len = (uint32_t)(end - req->keys);
		if (line.len[0] == 4)
			req->flags |= REQ_CAS;
		return keys_fit(req->keys, req->keys_len) ? CODEC_REQUEST : say(req, MC_E_FORMAT);
	}
	if (line.words > 1 && line.last_len == 7 && memcmp(line.last, "noreply", 7) == 0)
		req->flags |= REQ_NOREPLY;
	if (line.words > 1 && line.len[1] > KEY_LIMIT)
		return say(req, MC_E_FORMAT);
	if (line.words > 1 && entry->key_role) {
		req->key_role = entry->key_role;
		req->key_hash = keys_hash(line.word[1], line.len[1]);
		req->note = (const char *)line.word[1];
		req->note_len = (uint32_t)(end - line.word[1]);
	}
	switch (command) {
	case MC_SET:
	case MC_CAS:
	case MC_META_SET:
		return storage(st, req, &line, entry);
	case MC_DELETE:
	case MC_META_GET:
	case MC_META_DELETE: case MC_META_ARITHMETIC: case MC_META_DEBUG:
		return line.words < 2 ? say(req, MC_E_GENERIC) : CODEC_REQUEST;
	case MC_INCR:
		if (line.words < 3)
			return say(req, MC_E_GENERIC);
		return number(&line, 2, &value) ? say(req, MC_E_DELTA) : CODEC_REQUEST;
	case MC_TOUCH:
		if (line.words < 3)
			return say(req, MC_E_GENERIC);
		return signed_number(&line, 2) ? say(req, MC_E_EXPTIME) : CODEC_REQUEST;
	case MC_STATS:
		req->note_len = line.words > 1 && line.len[1] == 5 && memcmp(line.word[1], "reset", 5) == 0;
		return CODEC_REQUEST;
	case MC_QUIT:
		req->flags |= REQ_CLOSE | REQ_NOREPLY;
		return CODEC_REQUEST;
	default:
		return CODEC_REQUEST;
	}
}

static enum codec_step parse_line(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				  struct request *req)
{
	const uint8_t *newline;
	size_t limit;

	if (n == 0)
		return CODEC_MORE;
	if (*p == 0x80 || *p == 0x81) /* the binary protocol is not spoken here */
		return fatal(st, req, MC_E_GENERIC);
	limit = *p == 'g' ? GET_LIMIT : LINE_LIMIT;
	newline = memchr(p + st->scanned, '\n', n - st->scanned);
	if (newline ? (size_t)(newline - p) > limit : n > limit)
		return fatal(st, req, MC_E_LINE);
	if (!newline) {
		st->scanned = (uint32_t)n;
		return CODEC_MORE;
	}
	st->scanned = 0;
	*used += (size_t)(newline - p) + 1;
	return command_line(st, req, p, newline > p && newline[-1] == '\r' ? newline - 1 : newline);
}

static enum codec_step memcached_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				       struct request *req)
{
	size_t at;

	*used = 0;
	st->value = NULL;
	if (st->phase == PHASE_LINE) {
		enum codec_step step;

		if (!st->scanned && (at = short_get(p, n, req))) {
			*used = at;
			return CODEC_REQUEST;
		}
		step = parse_line(st, p, n, used, req);

		if (step != CODEC_MORE || st->phase == PHASE_LINE)
			return step;
	}
	at = *used;
	if (st->phase == PHASE_DATA) {
		if (n - at < st->need) {
			st->need -= n - at;
			*used = n;
			return CODEC_MORE;
		}
		if (st->need == st->value_size)
			st->value = p + at;
		at += (size_t)st->need;
		*used = at;
		st->need = 0;
		st->phase = PHASE_END;
	}
	if (n - at < 2)
		return CODEC_MORE;
	*used = at + 2;
	st->phase = PHASE_LINE;
	*req = (struct request){.cls = st->cls, .canned = st->canned, .flags = st->flags, .key_role = (uint8_t)st->arg,
				.key_hash = st->key_hash, .value = st->value, .value_size = st->value_size, .note = st->note,
				.note_len = st->note_len};
	if (p[at] != '\r' || p[at + 1] != '\n')
		return say(req, MC_E_CHUNK);
	return CODEC_REQUEST;
}

const struct codec codec_memcached = {
	.name = "memcached",
	.max_head = GET_LIMIT + 1,
	.setup = memcached_setup,
	.parse = memcached_parse,
	.reply = memcached_reply,
	.fail = memcached_fail,
};
