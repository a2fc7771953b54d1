/* SPDX-License-Identifier: Apache-2.0
 *
 * PostgreSQL's wire protocol, version 3: requests.  Any user may come in without a password; encryption is refused.
 *
 * The messages of an extended query are answered one by one, into the output; the program of the class runs when the
 * Sync comes that ends them, and sends everything.
 */
#include "pgsql.h"

#include <string.h>

#define STARTUP_LIMIT 10000u
#define MESSAGE_LIMIT (1u << 30)
#define CANCEL 80877102u
#define SECURE 80877103u
#define SECURE_GSS 80877104u
#define VERSION 3u

enum { PHASE_UNTYPED, PHASE_UNTYPED_SKIP, PHASE_HEAD, PHASE_SKIP };

/* How codec_state is used: canned, cls and note tell of the message in progress; argc is the class of the batch plus
 * one, arg that of the statement bound last plus one, flags hold pg_facts, key_hash is the connection's number. */

static int16_t secure, startup, terminate, sync_class, flush, execute, describe, copied;

static void pgsql_setup(const struct ditto_service *service)
{
	verb_classes(service);
	secure = sql_word("Secure");
	startup = sql_word("Startup");
	terminate = sql_word("Terminate");
	sync_class = sql_word("Sync");
	flush = sql_word("Flush");
	execute = sql_word("Execute");
	describe = sql_word("Describe");
	copied = sql_word("Copy");
}

static enum codec_step complete(struct codec_state *st, struct request *req)
{
	*req = (struct request){.cls = st->cls, .canned = st->canned, .value_size = st->flags, .note = st->word,
				.note_len = (uint32_t)strnlen(st->word, sizeof(st->word)), .value = NULL};
	req->keys_len = st->value_at; /* parameters of a statement that is described, or rows asked for */
	switch (st->canned) {
	case PG_PARSE:
	case PG_BIND:
	case PG_DESCRIBE_STATEMENT:
	case PG_DESCRIBE_PORTAL:
	case PG_EXECUTE:
	case PG_CLOSE:
		req->flags = REQ_INTERIM;
		break;
	case PG_SYNC:
		req->cls = st->argc ? (int16_t)(st->argc - 1) : sync_class;
		st->argc = 0;
		break;
	case PG_NOTHING:
		req->flags = REQ_NOREPLY;
		break;
	default:
		break;
	}
	st->flags &= (uint8_t)~PG_EMPTY;
	return CODEC_REQUEST;
}

static enum codec_step fatal(struct codec_state *st, struct request *req, unsigned canned)
{
	memset(st, 0, sizeof(*st));
	*req = (struct request){.cls = DITTO_NONE, .canned = (uint8_t)canned, .flags = REQ_CLOSE | REQ_MALFORMED};
	return CODEC_FATAL;
}

/* A connection's first messages have no type.  CODEC_MORE with need set: the rest of it is to be skipped. */
static enum codec_step untyped(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	uint32_t size, code;

	if (n < 8)
		return CODEC_MORE;
	size = sql_get32(p);
	code = sql_get32(p + 4);
	if (size < 8 || size > STARTUP_LIMIT)
		return fatal(st, req, PG_BAD_STARTUP);
	*used = 8;
	st->cls = DITTO_NONE;
	memset(st->word, 0, sizeof(st->word));
	if (code == SECURE || code == SECURE_GSS) {
		st->canned = PG_SECURE;
		st->cls = secure;
	} else if (code == CANCEL) {
		*req = (struct request){.cls = DITTO_NONE, .canned = PG_NOTHING, .flags = REQ_CLOSE | REQ_NOREPLY};
		return CODEC_REQUEST;
	} else if (code >> 16 == VERSION) {
		st->canned = PG_STARTUP;
		st->cls = startup;
		st->key_hash = sql_connection();
	} else {
		return fatal(st, req, PG_BAD_STARTUP);
	}
	st->need = size - 8;
	st->phase = PHASE_UNTYPED_SKIP;
	return CODEC_MORE;
}

static void of_batch(struct codec_state *st, int16_t cls)
{
	if (!st->argc && cls != DITTO_NONE)
		st->argc = (uint32_t)cls + 1;
}

static void verb_of(struct codec_state *st, int cls)
{
	const char *verb = sql_verb(cls);

	memset(st->word, 0, sizeof(st->word));
	memcpy(st->word, verb, strnlen(verb, sizeof(st->word) - 1));
}

static void transaction(struct codec_state *st, const uint8_t *query, size_t n, int whole)
{
	int state = sql_transaction(st->word, query, n, whole);

	if (state >= 0)
		st->flags = (uint8_t)(state ? st->flags | PG_IN_TRANSACTION : st->flags & ~PG_IN_TRANSACTION);
}

static uint32_t parameters_of(const uint8_t *query, size_t n)
{
	uint32_t most = 0;

	for (size_t i = 0; i + 1 < n; i++) {
		uint32_t number = 0;

		if (query[i] != '$')
			continue;
		for (size_t k = i + 1; k < n && (uint8_t)(query[k] - '0') < 10 && number < 256; k++)
			number = number * 10 + (uint32_t)(query[k] - '0');
		most = number > most && number < 256 ? number : most;
	}
	return most;
}

/* The statement's class is that of its executions: the batch that only prepares it is of another. */
static void parse_message(struct codec_state *st, const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, 0, n);
	size_t name = end ? (size_t)(end - p) : n;
	const uint8_t *query = end ? end + 1 : p + n;
	size_t left = n - (size_t)(query - p);
	struct sql_statement statement;
	char verb[SQL_VERB];

	st->canned = PG_PARSE;
	of_batch(st, sql_class("Parse_", query, left, verb));
	statement.cls = sql_class("Bind_", query, left, verb);
	if (statement.cls == DITTO_NONE)
		statement.cls = sql_class("Parse_", query, left, verb);
	statement.parameters = (uint8_t)parameters_of(query, left);
	sql_remember(st->key_hash, p, name, statement);
	memcpy(st->word, verb, sizeof(st->word));
}

static void bind_message(struct codec_state *st, const uint8_t *p, size_t n)
{
	const uint8_t *name = memchr(p, 0, n), *end;
	int16_t cls;

	st->canned = PG_BIND;
	name = name ? name + 1 : p + n;
	end = memchr(name, 0, n - (size_t)(name - p));
	cls = sql_recall(st->key_hash, name, (size_t)((end ? end : p + n) - name)).cls;
	if (cls == DITTO_NONE)
		cls = sql_word("Bind");
	of_batch(st, cls);
	st->arg = (uint32_t)(cls + 1);
}

static void describe_message(struct codec_state *st, const uint8_t *p, size_t n)
{
	const uint8_t *end = n > 1 ? memchr(p + 1, 0, n - 1) : NULL;

	st->canned = PG_DESCRIBE_PORTAL;
	st->cls = (int16_t)st->arg - 1;
	if (n && *p == 'S') {
		struct sql_statement s = sql_recall(st->key_hash, p + 1, (size_t)((end ? end : p + n) - (p + 1)));

		st->canned = PG_DESCRIBE_STATEMENT;
		st->cls = s.cls;
		st->value_at = s.parameters;
	}
	of_batch(st, describe);
}

static void execute_message(struct codec_state *st, const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, 0, n);

	st->canned = PG_EXECUTE;
	st->cls = (int16_t)st->arg - 1;
	verb_of(st, st->cls);
	if (end && (size_t)(p + n - end) >= 5)
		st->value_at = sql_get32(end + 1);
	transaction(st, p, 0, 1);
	of_batch(st, execute);
}

static void query_message(struct codec_state *st, const uint8_t *p, size_t n, int whole)
{
	size_t blank = 0;

	st->canned = PG_QUERY;
	st->cls = sql_class_of_text(p, n, st->word);
	transaction(st, p, n, whole);
	while (blank < n && (p[blank] <= ' ' || p[blank] == ';'))
		blank++;
	if (whole && blank == n)
		st->flags |= PG_EMPTY;
}

/* A message of which the head is there: what it asks for.  Returns 0 for a type that there is not. */
static int message(struct codec_state *st, uint8_t type, const uint8_t *p, size_t n, int whole)
{
	memset(st->word, 0, sizeof(st->word));
	st->cls = DITTO_NONE;
	st->value_at = 0;
	switch (type) {
	case 'Q':
		query_message(st, p, n, whole);
		break;
	case 'P':
		parse_message(st, p, n);
		break;
	case 'B':
		bind_message(st, p, n);
		break;
	case 'D':
		describe_message(st, p, n);
		break;
	case 'E':
		execute_message(st, p, n);
		break;
	case 'C':
		st->canned = PG_CLOSE;
		break;
	case 'S':
		st->canned = PG_SYNC;
		break;
	case 'F':
		st->canned = PG_FUNCTION;
		break;
	case 'H':
		st->canned = PG_NOTHING;
		st->cls = flush;
		break;
	case 'c':
	case 'f':
		st->canned = PG_COPIED;
		st->cls = copied;
		break;
	case 'X':
	case 'd':
	case 'p':
		st->canned = PG_NOTHING;
		break;
	default:
		return 0;
	}
	return 1;
}

static enum codec_step typed(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req)
{
	uint32_t body, head;

	if (n < 5)
		return CODEC_MORE;
	body = sql_get32(p + 1);
	if (body < 4 || body > MESSAGE_LIMIT)
		return fatal(st, req, PG_BAD_MESSAGE);
	body -= 4;
	head = body < SQL_HEAD ? body : SQL_HEAD;
	if (n < 5 + (size_t)head)
		return CODEC_MORE;
	*used = 5 + (size_t)head;
	if (!message(st, *p, p + 5, head, head == body))
		return fatal(st, req, PG_BAD_MESSAGE);
	if (*p == 'X') {
		*req = (struct request){.cls = terminate, .canned = PG_NOTHING, .flags = REQ_CLOSE | REQ_NOREPLY};
		return CODEC_REQUEST;
	}
	st->need = body - head;
	st->phase = PHASE_SKIP;
	return CODEC_MORE;
}

static enum codec_step pgsql_parse(struct codec_state *st, const uint8_t *p, size_t n, size_t *used,
				   struct request *req)
{
	enum codec_step step = CODEC_MORE;
	size_t left;

	*used = 0;
	if (st->phase == PHASE_UNTYPED)
		step = untyped(st, p, n, used, req);
	else if (st->phase == PHASE_HEAD)
		step = typed(st, p, n, used, req);
	if (step != CODEC_MORE || (st->phase != PHASE_SKIP && st->phase != PHASE_UNTYPED_SKIP))
		return step;
	left = n - *used;
	if (left < st->need) {
		st->need -= left;
		*used = n;
		return CODEC_MORE;
	}
	*used += (size_t)st->need;
	st->need = 0;
	st->phase = st->phase == PHASE_UNTYPED_SKIP && st->canned == PG_SECURE ? PHASE_UNTYPED : PHASE_HEAD;
	return complete(st, req);
}

const struct codec codec_pgsql = {
	.name = "pgsql", .max_head = SQL_HEAD + 5, .setup = pgsql_setup, .parse = pgsql_parse, .reply = pgsql_reply,
};
