/* SPDX-License-Identifier: Apache-2.0
 *
 * The MySQL client protocol: requests.  Any user may come in with any password; encryption is not offered.
 */
#include "mysql.h"

#include <string.h>

#define HEADER 4u
#define LOGIN 32u /* bytes of the answer to a greeting before names */
#define LOGIN_LIMIT 65536u

enum { PHASE_LOGIN, PHASE_LOGIN_SKIP, PHASE_HEAD, PHASE_SKIP, PHASE_REST };
enum { COM_QUIT = 1, COM_INIT_DB = 2, COM_QUERY = 3, COM_FIELD_LIST = 4, COM_STATISTICS = 9, COM_PING = 14,
       COM_CHANGE_USER = 17, COM_STMT_PREPARE = 22, COM_STMT_EXECUTE = 23, COM_STMT_SEND_LONG_DATA = 24,
       COM_STMT_CLOSE = 25, COM_STMT_RESET = 26, COM_SET_OPTION = 27, COM_STMT_FETCH = 28, COM_RESET_CONNECTION = 31 };

/* How codec_state is used: canned, cls and word tell of the request in progress, value_at counts its parameters, argc
 * is the number of the statement prepared last and arg the class of its executions, flags hold my_facts, key_hash is the
 * connection's own number. */

static struct {
	const char *word;
	int16_t cls;
	uint8_t command, canned;
} words[] = {
	{"Terminate", 0, COM_QUIT, MY_NOTHING}, {"Use", 0, COM_INIT_DB, MY_FINE}, {"Fields", 0, COM_FIELD_LIST, MY_END},
	{"Statistics", 0, COM_STATISTICS, MY_STATISTICS}, {"Ping", 0, COM_PING, MY_FINE},
	{"User", 0, COM_CHANGE_USER, MY_FINE}, {"Data", 0, COM_STMT_SEND_LONG_DATA, MY_NOTHING},
	{"Close", 0, COM_STMT_CLOSE, MY_NOTHING}, {"Reset", 0, COM_STMT_RESET, MY_FINE},
	{"Option", 0, COM_SET_OPTION, MY_END}, {"Fetch", 0, COM_STMT_FETCH, MY_END},
	{"Renew", 0, COM_RESET_CONNECTION, MY_FINE}, {"Startup", 0, 0, MY_STARTUP}, {"Bind", 0, 0, MY_EXECUTE},
};
static int16_t startup, bound;

static void mysql_setup(const struct ditto_service *service)
{
	const size_t count = sizeof(words) / sizeof(words[0]);

	verb_classes(service);
	for (size_t i = 0; i < count; i++)
		words[i].cls = sql_word(words[i].word);
	startup = words[count - 2].cls;
	bound = words[count - 1].cls;
}

static enum codec_step complete(struct codec_state *st, struct request *req)
{
	*req = (struct request){.cls = st->cls, .canned = st->canned, .value_size = st->flags, .note = st->word,
				.note_len = (uint32_t)strnlen(st->word, sizeof(st->word)), .keys_len = st->value_at};
	if (st->canned == MY_NOTHING)
		req->flags = REQ_NOREPLY;
	if (st->canned == MY_PREPARE) {
		req->key_hash = st->argc;
		req->bytes = st->arg;
	}
	return CODEC_REQUEST;
}

static enum codec_step fatal(struct codec_state *st, struct request *req)
{
	memset(st, 0, sizeof(*st));
	*req = (struct request){.cls = DITTO_NONE, .canned = MY_BAD, .flags = REQ_CLOSE | REQ_MALFORMED};
	return CODEC_FATAL;
}

static uint32_t little(const uint8_t *p, unsigned bytes)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value |= (uint32_t)p[i] << (8 * i);
	return value;
}

static enum codec_step login(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	uint32_t size;

	if (n < HEADER)
		return CODEC_MORE;
	size = little(p, 3);
	if (size < LOGIN || size > LOGIN_LIMIT || p[3] > 3)
		return fatal(st, req);
	if (n < HEADER + LOGIN)
		return CODEC_MORE;
	st->flags = little(p + HEADER, 4) & MY_DEPRECATE_EOF ? MY_NO_ENDS : 0;
	if (!(p[HEADER] & 1) && (little(p + HEADER + 28, 4) & MY_CACHE_METADATA))
		st->flags |= MY_CACHED;
	st->canned = MY_STARTUP;
	st->cls = startup;
	st->key_hash = sql_connection();
	st->need = size - LOGIN;
	st->phase = PHASE_LOGIN_SKIP;
	*used = HEADER + LOGIN;
	return CODEC_MORE;
}

static uint32_t marks(const uint8_t *p, size_t n)
{
	uint32_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += p[i] == '?';
	return found;
}

/* Of the statement's text what is there; sets the verb and what becomes of a transaction. */
static void statement(struct codec_state *st, const char *prefix, const uint8_t *p, size_t n, int whole)
{
	int state;

	st->cls = sql_class(prefix, p, n, st->word);
	if (*prefix)
		return;
	state = sql_transaction(st->word, p, n, whole);
	if (state >= 0)
		st->flags = (uint8_t)(state ? st->flags | MY_IN_TRANSACTION : st->flags & ~MY_IN_TRANSACTION);
}

static void execute(struct codec_state *st, const uint8_t *p, size_t n)
{
	uint32_t number = n >= 4 ? little(p, 4) : 0;
	const char *verb;

	if (number == UINT32_MAX) /* the one prepared last */
		number = st->argc;
	st->cls = sql_recall(st->key_hash, (const uint8_t *)&number, sizeof(number)).cls;
	if (st->cls == DITTO_NONE)
		st->cls = bound;
	verb = sql_verb(st->cls);
	memcpy(st->word, verb, strnlen(verb, sizeof(st->word) - 1));
	st->canned = MY_EXECUTE;
}

/* A command of which the head is there. */
static void command(struct codec_state *st, const uint8_t *p, size_t n, int whole)
{
	char verb[SQL_VERB];

	memset(st->word, 0, sizeof(st->word));
	st->value_at = 0;
	st->cls = DITTO_NONE;
	st->canned = MY_UNKNOWN;
	if (!n)
		return;
	switch (*p) {
	case COM_QUERY:
		statement(st, "", p + 1, n - 1, whole);
		st->cls = sql_class_of_text(p + 1, n - 1, st->word);
		st->canned = MY_QUERY;
		break;
	case COM_STMT_PREPARE:
		st->arg = (uint16_t)sql_class("Bind_", p + 1, n - 1, verb);
		if ((int16_t)st->arg == DITTO_NONE)
			st->arg = (uint16_t)sql_class("Parse_", p + 1, n - 1, verb);
		st->argc++; /* statements of a connection are numbered from 1, as the clients expect that recorded theirs */
		sql_remember(st->key_hash, (const uint8_t *)&st->argc, sizeof(st->argc),
			     (struct sql_statement){(int16_t)st->arg, 0});
		statement(st, "Parse_", p + 1, n - 1, whole);
		st->value_at = marks(p + 1, n - 1);
		st->canned = MY_PREPARE;
		break;
	case COM_STMT_EXECUTE:
		execute(st, p + 1, n - 1);
		break;
	default:
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (words[i].command == *p) {
				st->cls = words[i].cls;
				st->canned = words[i].canned;
			}
	}
}

static enum codec_step head(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	uint32_t size, part;

	if (n < HEADER)
		return CODEC_MORE;
	size = little(p, 3);
	if (p[3]) { /* the rest of a request in several packets */
		*used = HEADER;
		st->need = size;
		st->phase = PHASE_REST;
		return CODEC_MORE;
	}
	part = size < SQL_HEAD ? size : SQL_HEAD;
	if (n < HEADER + (size_t)part)
		return CODEC_MORE;
	*used = HEADER + (size_t)part;
	command(st, p + HEADER, part, part == size);
	if (size && p[HEADER] == COM_QUIT) {
		*req = (struct request){.cls = st->cls, .canned = MY_NOTHING, .flags = REQ_CLOSE | REQ_NOREPLY};
		return CODEC_REQUEST;
	}
	st->need = size - part;
	st->phase = PHASE_SKIP;
	return CODEC_MORE;
}

static enum codec_step mysql_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				   struct request *req)
{
	*used = 0;
	for (;;) {
		const uint8_t *at = p + *used;
		size_t left = n - *used, took = 0;
		enum codec_step step = CODEC_MORE;

		if (st->phase == PHASE_LOGIN)
			step = login(st, at, left, &took, req);
		else if (st->phase == PHASE_HEAD)
			step = head(st, at, left, &took, req);
		*used += took;
		if (step != CODEC_MORE || st->phase == PHASE_LOGIN || st->phase == PHASE_HEAD)
			return step;
		left -= took;
		took = left < st->need ? left : (size_t)st->need;
		if (st->canned == MY_PREPARE && st->phase == PHASE_SKIP)
			st->value_at += marks(p + *used, took);
		*used += took;
		st->need -= took;
		if (st->need)
			return CODEC_MORE;
		if (st->phase != PHASE_REST) {
			st->phase = PHASE_HEAD;
			return complete(st, req);
		}
		st->phase = PHASE_HEAD;
	}
}

const struct codec codec_mysql = {
	.name = "mysql", .max_head = SQL_HEAD + HEADER, .setup = mysql_setup, .parse = mysql_parse, .reply = mysql_reply,
	.greet = mysql_greet,
};
