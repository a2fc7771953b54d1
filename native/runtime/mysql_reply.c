/* SPDX-License-Identifier: Apache-2.0
 *
 * The MySQL client protocol: replies.  Columns and rows have the shapes of the tables, filler for content.
 */
#include "mysql.h"

#include <string.h>

#define ROWS_LIMIT 1000000u
#define PACKET_LIMIT 0xfffffeu
#define NONE 0xfb
#define BINARY_FLAG 128u
#define CAPABILITIES 0x0128a20fu /* 4.1 protocol, transactions, prepared statements, plugins, no ends of definitions */
#define MORE_CAPABILITIES 0x00070000u /* several statements and results */

struct writer {
	struct outbuf *out;
	uint8_t number; /* of the next packet */
	uint32_t place; /* of the one in progress */
	uint32_t facts;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
	uint8_t *to = out_room(w->out, n);

	if (!to)
		return;
	memcpy(to, bytes, n);
	w->out->end += (uint32_t)n;
}

static void put_little(struct writer *w, uint64_t value, unsigned bytes)
{
	uint8_t text[8];

	for (unsigned i = 0; i < bytes; i++)
		text[i] = (uint8_t)(value >> (8 * i));
	put(w, text, bytes);
}

/* A length-encoded number. */
static void put_length(struct writer *w, uint64_t value)
{
	if (value < 251) {
		put_little(w, value, 1);
	} else if (value < 65536) {
		put(w, "\xfc", 1);
		put_little(w, value, 2);
	} else {
		put(w, "\xfd", 1);
		put_little(w, value, 3);
	}
}

static void begin(struct writer *w)
{
	w->place = w->out->end - w->out->start;
	put(w, "\0\0\0", 3);
	put_little(w, w->number++, 1);
}

static void end(struct writer *w)
{
	uint32_t size = w->out->end - w->out->start - w->place - 4;
	uint8_t *to = w->out->buf + w->out->start + w->place;

	if (w->out->failed)
		return;
	for (unsigned i = 0; i < 3; i++)
		to[i] = (uint8_t)(size >> (8 * i));
}

static uint32_t status(const struct writer *w)
{
	return 2 | (w->facts & MY_IN_TRANSACTION);
}

static void fine(struct writer *w, uint8_t head, uint32_t rows)
{
	begin(w);
	put_little(w, head, 1);
	put_length(w, rows);
	put_length(w, 0);
	put_little(w, status(w), 2);
	put_little(w, 0, 2);
	end(w);
}

static void end_of_data(struct writer *w)
{
	if (w->facts & MY_NO_ENDS) {
		fine(w, 0xfe, 0);
		return;
	}
	begin(w);
	put(w, "\xfe\0\0", 3);
	put_little(w, status(w), 2);
	end(w);
}

static void failed(struct writer *w, uint32_t code, const char *state, const char *text)
{
	begin(w);
	put(w, "\xff", 1);
	put_little(w, code, 2);
	put(w, "#", 1);
	put(w, state, 5);
	put(w, text, strlen(text));
	end(w);
}

static int numeric(uint32_t type)
{
	return type <= 5 || type == 8 || type == 9 || type == 13 || type == 246;
}

static int temporal(uint32_t type)
{
	return type == 7 || (type >= 10 && type <= 12);
}

static void definition(struct writer *w, const struct ditto_column *column, unsigned number)
{
	size_t size = column->name_bytes > 250 ? 250 : column->name_bytes;
	int plain = numeric(column->type) || temporal(column->type) || (column->flags & BINARY_FLAG);
	uint8_t *to;

	begin(w);
	put(w, "\3def\0\0\0", 7);
	put_length(w, size);
	to = out_room(w->out, size);
	if (!to)
		return;
	sql_name(to, number, size);
	w->out->end += (uint32_t)size;
	put(w, "\0\x0c", 2);
	put_little(w, plain ? 63 : 33, 2);
	put_little(w, (uint64_t)column->type_bytes, 4);
	put_little(w, column->type, 1);
	put_little(w, column->flags & 0xffff, 2);
	put_little(w, column->flags >> 16, 1);
	put_little(w, 0, 2);
	end(w);
}

/* Definitions, and an end behind them where the client expects one. */
static void definitions(struct writer *w, const struct ditto_reply *shape)
{
	for (unsigned i = 0; i < shape->columns && !w->out->failed; i++)
		definition(w, &shape->column[i], i);
	if (shape->columns && !(w->facts & MY_NO_ENDS))
		end_of_data(w);
}

static void filler(struct writer *w, const struct ditto_column *column, size_t size)
{
	static const char moment[] = "2000-01-01 00:00:00.000000";
	uint8_t *to = out_room(w->out, size);

	if (!to)
		return;
	codec_fill(to, numeric(column->type) ? '1' : temporal(column->type) ? '0' : 'x', size);
	if (temporal(column->type)) {
		const char *from = column->type == 11 ? moment + 11 : moment;

		memcpy(to, from, size < strlen(from) ? size : strlen(from));
	}
	w->out->end += (uint32_t)size;
}

static size_t drawn(const struct ditto_column *column, unsigned columns, struct rng *rng, int *none)
{
	int64_t size = sql_draw(column, rng);
	int64_t most = PACKET_LIMIT / (columns + 1) - 16;

	*none = size < 0;
	return (size_t)(size < 0 ? 0 : size > most ? most : size);
}

static void text_row(struct writer *w, const struct ditto_reply *shape, struct rng *rng)
{
	begin(w);
	for (unsigned i = 0; i < shape->columns; i++) {
		int none;
		size_t size = drawn(&shape->column[i], shape->columns, rng, &none);

		if (none) {
			put_little(w, NONE, 1);
			continue;
		}
		put_length(w, size);
		filler(w, &shape->column[i], size);
	}
	end(w);
}

/* Bytes of a value of a fixed size, or 0. */
static unsigned fixed(uint32_t type)
{
	switch (type) {
	case 1: return 1;
	case 2: case 13: return 2;
	case 3: case 4: case 9: return 4;
	case 5: case 8: return 8;
	default: return 0;
	}
}

static void binary_value(struct writer *w, const struct ditto_column *column, size_t size)
{
	static const uint8_t moment[12] = {0xd0, 7, 1, 1}, span[12];

	if (fixed(column->type)) {
		put_little(w, 1, fixed(column->type));
	} else if (temporal(column->type)) {
		int is_span = column->type == 11;

		size = is_span ? (size >= 12 ? 12 : size >= 8 ? 8 : 0) : (size >= 11 ? 11 : size >= 7 ? 7 : size >= 4 ? 4 : 0);
		put_little(w, size, 1);
		put(w, is_span ? span : moment, size);
	} else {
		put_length(w, size);
		filler(w, column, size);
	}
}

static void binary_row(struct writer *w, const struct ditto_reply *shape, struct rng *rng)
{
	uint8_t nothing[512] = {0};
	uint32_t bytes = (shape->columns + 9u) / 8, at;

	begin(w);
	put_little(w, 0, 1);
	at = w->out->end - w->out->start;
	put(w, nothing, bytes < sizeof(nothing) ? bytes : sizeof(nothing));
	for (unsigned i = 0; i < shape->columns && !w->out->failed; i++) {
		int none;
		size_t size = drawn(&shape->column[i], shape->columns, rng, &none);

		if (none)
			w->out->buf[w->out->start + at + (i + 2) / 8] |= (uint8_t)(1u << ((i + 2) % 8));
		else
			binary_value(w, &shape->column[i], size);
	}
	end(w);
}

static void result(struct writer *w, const struct request *req, struct rng *rng)
{
	const struct ditto_reply *shape = req->canned == MY_EXECUTE ? sql_shape(req->cls)
					  : req->cls == DITTO_NONE  ? NULL
								    : codec_shape(req->cls, rng);
	uint32_t rows = shape ? dist_draw(shape->count, rng, 0) : 0;

	if (shape && shape->kind == REPLY_FAILED) {
		failed(w, 1064, "42000", "this statement failed");
		return;
	}
	if (!shape || shape->kind != REPLY_ROWS || !shape->columns) {
		fine(w, 0, rows);
		return;
	}
	begin(w);
	put_length(w, shape->columns);
	end(w);
	definitions(w, shape);
	rows = rows > ROWS_LIMIT ? ROWS_LIMIT : rows;
	for (uint32_t i = 0; i < rows && !w->out->failed; i++) {
		if (req->canned == MY_EXECUTE)
			binary_row(w, shape, rng);
		else
			text_row(w, shape, rng);
	}
	end_of_data(w);
}

static void prepared(struct writer *w, const struct request *req)
{
	static const struct ditto_column parameter = {.type = 253, .type_bytes = 0};
	const struct ditto_reply *shape = sql_shape((int16_t)req->bytes);
	uint32_t parameters = req->keys_len > 0xffff ? 0xffff : req->keys_len;

	if (!shape || shape->kind != REPLY_ROWS)
		shape = sql_shape(req->cls);
	begin(w);
	put_little(w, 0, 1);
	put_little(w, (uint32_t)req->key_hash, 4);
	put_little(w, shape && shape->kind == REPLY_ROWS ? shape->columns : 0, 2);
	put_little(w, parameters, 2);
	put_little(w, 0, 3);
	end(w);
	for (uint32_t i = 0; i < parameters && !w->out->failed; i++)
		definition(w, &parameter, i);
	if (parameters && !(w->facts & MY_NO_ENDS))
		end_of_data(w);
	if (shape && shape->kind == REPLY_ROWS)
		definitions(w, shape);
}

void mysql_greet(struct codec_state *st, struct outbuf *out, struct rng *rng)
{
	struct writer w = {.out = out};
	char salt[21];

	(void)st;
	for (unsigned i = 0; i < 20; i++)
		salt[i] = (char)('A' + rng_below(rng, 26));
	salt[20] = 0;
	begin(&w);
	put(&w, "\x0a""8.0.0", 7);
	put_little(&w, rng_u32(rng), 4);
	put(&w, salt, 8);
	put_little(&w, 0, 1);
	put_little(&w, CAPABILITIES & 0xffff, 2);
	put_little(&w, 33, 1);
	put_little(&w, 2, 2);
	put_little(&w, (CAPABILITIES | MORE_CAPABILITIES) >> 16, 2);
	put_little(&w, 21, 1);
	put(&w, "\0\0\0\0\0\0\0\0\0", 10);
	put(&w, salt + 8, 13);
	put(&w, "mysql_native_password", 22);
	end(&w);
}

void mysql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	struct writer w = {.out = out, .number = req->canned == MY_STARTUP ? 2 : 1, .facts = req->value_size};

	parts->head = parts->tail = 0;
	parts->body = 0;
	if (req->flags & REQ_NOREPLY)
		return;
	switch (req->canned) {
	case MY_STARTUP:
	case MY_FINE:
		fine(&w, 0, 0);
		break;
	case MY_QUERY:
	case MY_EXECUTE:
		result(&w, req, rng);
		break;
	case MY_PREPARE:
		prepared(&w, req);
		break;
	case MY_END:
		end_of_data(&w);
		break;
	case MY_STATISTICS:
		begin(&w);
		put(&w, "Uptime: 1", 9);
		end(&w);
		break;
	case MY_UNKNOWN:
		failed(&w, 1047, "08S01", "there is no such command");
		break;
	default:
		failed(&w, 1043, "08S01", "this is no answer to a greeting");
	}
}
