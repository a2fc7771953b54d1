/* SPDX-License-Identifier: Apache-2.0 */
#include "sql.h"

#include <stdatomic.h>
#include <string.h>

#define WINDOW 36u /* as in what a profile's fingerprints are made from: first bytes of a statement */
#define LETTERS 15u
#define SETS 512u
#define WAYS 8u

static _Atomic uint64_t statements[SETS][WAYS]; /* key << 24 | parameters << 16 | class; 0: empty */
static _Atomic uint64_t connections;

static int is_letter(uint8_t ch)
{
	return (uint8_t)((ch & ~0x20) - 'A') < 26;
}

static int is_word(uint8_t ch)
{
	return is_letter(ch) || (uint8_t)(ch - '0') < 10 || ch == '_' || ch >= 0x80;
}

/* Text up to the first literal, without the digits of names; returns its length. */
static size_t text_of(const uint8_t *p, size_t n, char text[WINDOW])
{
	size_t len = 0;
	uint8_t before = 0;

	for (size_t i = 0; i < n && p[i] != '\''; i++) {
		if ((uint8_t)(p[i] - '0') >= 10)
			text[len++] = (char)p[i];
		else if (!is_word(before))
			break;
		before = p[i];
	}
	while (len && !is_word((uint8_t)text[len - 1]))
		len--;
	return len;
}

static int16_t find(const char *word, const char *text, size_t len)
{
	uint64_t word8[3] = {0, 0, 0};
	const struct verb_entry *entry;
	int wanted;

	memcpy(word8, word, strlen(word));
	entry = verb_find(word8);
	if (!entry || entry->first == DITTO_NONE)
		return DITTO_NONE;
	if (verb_next(entry->first) == DITTO_NONE)
		return entry->first;
	wanted = (int)ditto_path_print(codec_service->print_key, text, len);
	for (int i = entry->first; i != DITTO_NONE; i = verb_next(i))
		if (codec_service->cls[i].match.path_print == wanted)
			return (int16_t)i;
	return entry->first;
}

/* Of a statement, what is looked at: its beginning, without what comes before the first word. */
static size_t window_of(const uint8_t **query, size_t n)
{
	const uint8_t *end;

	n = n < WINDOW ? n : WINDOW;
	end = memchr(*query, 0, n);
	n = end ? (size_t)(end - *query) : n;
	while (n && memchr(" \t\r\n;(", **query, 6)) {
		++*query;
		n--;
	}
	return n;
}

int16_t sql_class(const char *prefix, const uint8_t *query, size_t n, char verb[SQL_VERB])
{
	char word[SQL_VERB] = "", text[WINDOW];
	size_t start = strlen(prefix), len = 0;

	n = window_of(&query, n);
	memset(verb, 0, SQL_VERB);
	while (len < n && len < LETTERS && is_letter(query[len])) {
		verb[len] = (char)(query[len] & ~0x20);
		len++;
	}
	memcpy(word, prefix, start);
	memcpy(word + start, verb, len);
	return find(word, text, text_of(query, n, text));
}

int16_t sql_class_of_text(const uint8_t *query, size_t n, char verb[SQL_VERB])
{
	int16_t plain = sql_class("", query, n, verb), prepared = sql_class("Bind_", query, n, verb);
	char text[WINDOW];
	int print;

	n = window_of(&query, n);
	print = (int)ditto_path_print(codec_service->print_key, text, text_of(query, n, text));
	if (prepared == DITTO_NONE || (plain != DITTO_NONE && codec_service->cls[plain].match.path_print == print))
		return plain;
	return plain == DITTO_NONE || codec_service->cls[prepared].match.path_print == print ? prepared : plain;
}

int16_t sql_word(const char *word)
{
	return find(word, "", 0);
}

const char *sql_verb(int cls)
{
	const char *verb = cls == DITTO_NONE ? NULL : codec_service->cls[cls].match.verb, *prefix;

	if (!verb)
		return "";
	prefix = strchr(verb, '_');
	return prefix ? prefix + 1 : verb;
}

const struct ditto_reply *sql_shape(int cls)
{
	const struct ditto_reply *rows = cls == DITTO_NONE ? NULL : codec_shape_of(cls, REPLY_ROWS);

	if (rows || cls == DITTO_NONE || !codec_service->cls[cls].replies)
		return rows;
	return codec_service->cls[cls].reply;
}

uint64_t sql_connection(void)
{
	return atomic_fetch_add_explicit(&connections, 1, memory_order_relaxed) + 1;
}

static uint64_t key_of(uint64_t connection, const uint8_t *name, size_t len)
{
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ name[i]) * 1099511628211u;
	return rng_mix(hash ^ connection * 0x9E3779B97F4A7C15u);
}

void sql_remember(uint64_t connection, const uint8_t *name, size_t len, struct sql_statement statement)
{
	uint64_t key = key_of(connection, name, len), entry;
	_Atomic uint64_t *set = statements[key % SETS], *place = &set[(key >> 9) % WAYS];

	key >>= 24;
	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t there = atomic_load_explicit(&set[i], memory_order_relaxed);

		if (there >> 24 == key) {
			place = &set[i];
			break;
		}
		if (!there)
			place = &set[i];
	}
	entry = key << 24 | (uint64_t)statement.parameters << 16 | (uint16_t)statement.cls;
	atomic_store_explicit(place, entry, memory_order_relaxed);
}

struct sql_statement sql_recall(uint64_t connection, const uint8_t *name, size_t len)
{
	uint64_t key = key_of(connection, name, len);
	_Atomic uint64_t *set = statements[key % SETS];

	key >>= 24;
	for (unsigned i = 0; i < WAYS; i++) {
		uint64_t there = atomic_load_explicit(&set[i], memory_order_relaxed);

		if (there && there >> 24 == key)
			return (struct sql_statement){(int16_t)(uint16_t)there, (uint8_t)(there >> 16)};
	}
	return (struct sql_statement){DITTO_NONE, 0};
}

int sql_transaction(const char *verb, const uint8_t *query, size_t n, int complete)
{
	int begins = !strcmp(verb, "BEGIN") || !strcmp(verb, "START");
	const uint8_t *end;

	if (!begins && strcmp(verb, "COMMIT") && strcmp(verb, "END") && strcmp(verb, "ROLLBACK") && strcmp(verb, "ABORT"))
		return -1;
	if (!complete)
		return -1;
	end = memchr(query, ';', n);
	for (size_t i = end ? (size_t)(end - query) : n; i < n; i++)
		if (query[i] && !memchr(" \t\r\n;", query[i], 5))
			return -1;
	if (!strcmp(verb, "ROLLBACK")) /* to a savepoint: it goes on */
		for (size_t i = 0; i + 4 <= n; i++)
			if (query[i] == ' ' && (query[i + 1] | 32) == 't' && (query[i + 2] | 32) == 'o' && query[i + 3] == ' ')
				return -1;
	return begins;
}

int64_t sql_draw(const struct ditto_column *column, struct rng *rng)
{
	if (column->none && rng_chance(rng, column->none))
		return -1;
	return codec_clamp(dist_draw(column->size, rng, 1));
}

/* Told apart by their numbers, as far as there is room. */
void sql_name(uint8_t *to, unsigned number, size_t len)
{
	char digits[20];
	size_t n = codec_digits(digits, number);

	memset(to, 'c', len);
	if (len > n)
		memcpy(to + len - n, digits, n);
}
