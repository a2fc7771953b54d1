/* SPDX-License-Identifier: Apache-2.0
 *
 * PostgreSQL's wire protocol, version 3: replies.  Columns and rows have the shapes of the tables, filler for content.
 */
#include "pgsql.h"

#include <string.h>

#define MESSAGE_HEAD 5u
#define TEXT_TYPE 25u

/* Begins a message; its size is filled in by end().  Returns its place, or UINT32_MAX without memory. */
static uint32_t begin(struct outbuf *out, char type)
{
	uint32_t place = out->end - out->start;
	uint8_t *to = out_room(out, MESSAGE_HEAD);

	if (!to)
		return UINT32_MAX;
	to[0] = (uint8_t)type;
	out->end += MESSAGE_HEAD;
	return place;
}

static void end(struct outbuf *out, uint32_t place)
{
	if (place != UINT32_MAX && !out->failed)
		sql_be32(out->buf + out->start + place + 1, out->end - out->start - place - 1);
}

static void put(struct outbuf *out, const void *bytes, size_t n)
{
	uint8_t *to = out_room(out, n);

	if (!to)
		return;
	memcpy(to, bytes, n);
	out->end += (uint32_t)n;
}

static void put16(struct outbuf *out, uint32_t value)
{
	uint8_t bytes[2];

	sql_be16(bytes, value);
	put(out, bytes, 2);
}

static void put32(struct outbuf *out, uint32_t value)
{
	uint8_t bytes[4];

	sql_be32(bytes, value);
	put(out, bytes, 4);
}

static void empty(struct outbuf *out, char type)
{
	end(out, begin(out, type));
}

static void ready(struct outbuf *out, const struct request *req)
{
	uint32_t place = begin(out, 'Z');

	put(out, req->value_size & PG_IN_TRANSACTION ? "T" : "I", 1);
	end(out, place);
}

static void failed(struct outbuf *out, const char *code, const char *text, int fatal)
{
	uint32_t place = begin(out, 'E');

	put(out, fatal ? "SFATAL" : "SERROR", 7);
	put(out, fatal ? "VFATAL" : "VERROR", 7);
	put(out, "C", 1);
	put(out, code, 6);
	put(out, "M", 1);
	put(out, text, strlen(text) + 1);
	put(out, "", 1);
	end(out, place);
}

static void parameter(struct outbuf *out, const char *name, const char *value, size_t pad)
{
	uint32_t place = begin(out, 'S');
	uint8_t *to;

	put(out, name, strlen(name) + 1);
	put(out, value, strlen(value));
	to = out_room(out, pad + 1);
	if (to) {
		codec_fill(to, ' ', pad);
		to[pad] = 0;
		out->end += (uint32_t)pad + 1;
	}
	end(out, place);
}

/* What a connection is told once it is in; the last value is padded until the whole has its size. */
static void session(struct outbuf *out, const struct request *req, struct rng *rng)
{
	static const char *const facts[][2] = {
		{"client_encoding", "UTF8"}, {"DateStyle", "ISO, MDY"}, {"integer_datetimes", "on"},
		{"IntervalStyle", "postgres"}, {"is_superuser", "off"}, {"server_encoding", "UTF8"},
		{"session_authorization", "u"}, {"standard_conforming_strings", "on"}, {"TimeZone", "UTC"},
		{"server_version", "15.0"},
	};
	const size_t count = sizeof(facts) / sizeof(facts[0]), closing = 13 + 6;
	const struct ditto_reply *shape = req->cls == DITTO_NONE ? NULL : codec_shape(req->cls, rng);
	uint32_t want = shape ? codec_clamp(dist_draw(shape->size, rng, 0)) : 0, from = out->end - out->start, place;

	place = begin(out, 'R');
	put32(out, 0);
	end(out, place);
	for (size_t i = 0; i < count && !out->failed; i++) {
		size_t size = MESSAGE_HEAD + strlen(facts[i][0]) + strlen(facts[i][1]) + 2;
		size_t so_far = out->end - out->start - from + size + closing;

		parameter(out, facts[i][0], facts[i][1], i + 1 == count && want > so_far ? want - so_far : 0);
	}
	place = begin(out, 'K');
	put32(out, 1);
	put32(out, rng_u32(rng));
	end(out, place);
	ready(out, req);
}

static void describe(struct outbuf *out, const struct ditto_reply *shape)
{
	uint32_t place;

	if (!shape || shape->kind != REPLY_ROWS) {
		empty(out, 'n');
		return;
	}
	place = begin(out, 'T');
	put16(out, shape->columns);
	for (unsigned i = 0; i < shape->columns; i++) {
		const struct ditto_column *column = &shape->column[i];
		uint8_t *to = out_room(out, column->name_bytes + 19u), *p;

		if (!to)
			return;
		sql_name(to, i, column->name_bytes);
		p = to + column->name_bytes;
		*p++ = 0;
		p = sql_be16(sql_be32(p, 0), 0);
		p = sql_be16(sql_be32(p, column->type), (uint32_t)column->type_bytes);
		p = sql_be16(sql_be32(p, UINT32_MAX), column->binary);
		out->end += (uint32_t)(p - to);
	}
	end(out, place);
}

/* Text that a client can read as a value of the type: numbers are of ones, everything else of letters. */
static void value(uint8_t *to, const struct ditto_column *column, size_t size)
{
	static const char moment[] = "2000-01-01 00:00:00.000000+00";

	switch (column->binary ? 0 : column->type) {
	case 16: /* truth */
		codec_fill(to, 't', size);
		break;
	case 20: case 21: case 23: case 26: case 700: case 701: case 1700:
		codec_fill(to, '1', size);
		break;
	case 1082: case 1114: case 1184:
		codec_fill(to, '0', size);
		memcpy(to, moment, size < sizeof(moment) ? size : sizeof(moment) - 1);
		break;
	case 1083:
		codec_fill(to, '0', size);
		memcpy(to, moment + 11, size < 15 ? size : 15);
		break;
	case 0:
		codec_fill(to, column->type == TEXT_TYPE ? 'x' : 1, size); /* a binary one is a number */
		break;
	default:
		codec_fill(to, 'x', size);
	}
}

static void row(struct outbuf *out, const struct ditto_reply *shape, struct rng *rng)
{
	uint32_t place = begin(out, 'D');

	put16(out, shape->columns);
	for (unsigned i = 0; i < shape->columns; i++) {
		int64_t size = sql_draw(&shape->column[i], rng);
		uint8_t *to = out_room(out, 4 + (size > 0 ? (size_t)size : 0));

		if (!to)
			return;
		sql_be32(to, (uint32_t)size);
		if (size > 0)
			value(to + 4, &shape->column[i], (size_t)size);
		out->end += 4 + (size > 0 ? (uint32_t)size : 0);
	}
	end(out, place);
}

/* That a statement is done, with the number of its rows. */
static void done(struct outbuf *out, const char *verb, size_t len, uint32_t rows)
{
	char text[PG_TAG];
	uint32_t place = begin(out, 'C');

	put(out, text, pgsql_tag(text, verb, len, rows));
	end(out, place);
}

/* Rows of a statement, at most so many (0: all), and that it is done. */
static void give(struct outbuf *out, const struct request *req, const struct ditto_reply *shape, struct rng *rng)
{
	uint32_t rows;

	if (req->value_size & PG_EMPTY) {
		empty(out, 'I');
		return;
	}
	if (shape && shape->kind == REPLY_FAILED) {
		failed(out, "42P01", "this statement failed", 0);
		return;
	}
	rows = shape ? dist_draw(shape->count, rng, 0) : 0;
	if (shape && shape->kind == REPLY_ROWS) {
		uint32_t given = 0;

		if (req->canned == PG_EXECUTE && req->keys_len && rows > req->keys_len)
			rows = req->keys_len;
		for (; given < rows && !out->failed && out->end - out->start < REPLY_LIMIT; given++)
			row(out, shape, rng);
		rows = given;
	}
	done(out, req->note, req->note_len, rows);
}

static void copying(struct outbuf *out, uint8_t type)
{
	uint32_t place = begin(out, type); /* of text, in columns that are not told */

	put(out, "\0\0", 3);
	end(out, place);
}

static void copy_out(struct outbuf *out, const struct request *req, const struct ditto_reply *shape, struct rng *rng)
{
	uint32_t rows = dist_draw(shape->count, rng, 0), given = 0;

	copying(out, 'H');
	for (; given < rows && !out->failed && out->end - out->start < REPLY_LIMIT; given++) {
		int64_t drawn = shape->columns ? sql_draw(&shape->column[0], rng) : 1;
		uint32_t place = begin(out, 'd'), size = drawn > 1 ? (uint32_t)drawn : 1;
		uint8_t *to = out_room(out, size);

		if (!to)
			return;
		codec_fill(to, 'x', size - 1)[0] = '\n';
		out->end += size;
		end(out, place);
	}
	empty(out, 'c');
	done(out, req->note, req->note_len, given);
}

static void query(struct outbuf *out, const struct request *req, struct rng *rng)
{
	const struct ditto_reply *shape = req->cls == DITTO_NONE ? NULL : codec_shape(req->cls, rng);

	int copies = shape && shape->kind != REPLY_FAILED && req->note_len == 4 && memcmp(req->note, "COPY", 4) == 0;

	if (copies && shape->kind != REPLY_ROWS) {
		copying(out, 'G');
		return; /* the lines are the client's to send, and that they are there to be answered */
	}
	if (!copies && shape && shape->kind == REPLY_ROWS && !(req->value_size & PG_EMPTY))
		describe(out, shape);
	(copies ? copy_out : give)(out, req, shape, rng);
	ready(out, req);
}

void pgsql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	uint32_t place;

	parts->head = parts->tail = 0;
	parts->body = 0;
	if (req->flags & REQ_NOREPLY)
		return;
	switch (req->canned) {
	case PG_SECURE:
		put(out, "N", 1);
		break;
	case PG_STARTUP:
		session(out, req, rng);
		break;
	case PG_QUERY:
		query(out, req, rng);
		break;
	case PG_COPIED:
		done(out, "COPY", 4, 1);
		/* fall through */
	case PG_SYNC:
		ready(out, req);
		break;
	case PG_PARSE:
		empty(out, '1');
		break;
	case PG_BIND:
		empty(out, '2');
		break;
	case PG_DESCRIBE_STATEMENT:
		place = begin(out, 't');
		put16(out, req->keys_len);
		for (uint32_t i = 0; i < req->keys_len; i++)
			put32(out, TEXT_TYPE);
		end(out, place);
		describe(out, sql_shape(req->cls));
		break;
	case PG_DESCRIBE_PORTAL:
		describe(out, sql_shape(req->cls));
		break;
	case PG_EXECUTE:
		give(out, req, sql_shape(req->cls), rng);
		break;
	case PG_CLOSE:
		empty(out, '3');
		break;
	case PG_FUNCTION:
		failed(out, "0A000", "functions cannot be called here", 0);
		ready(out, req);
		break;
	case PG_BAD_STARTUP:
		failed(out, "08P01", "this is no start of a connection", 1);
		break;
	default:
		failed(out, "08P01", "there is no such message", 1);
	}
}
