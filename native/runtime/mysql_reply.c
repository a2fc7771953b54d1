/* SPDX-License-Identifier: Apache-2.0
 *
 * The MySQL client protocol: replies.  Columns and rows have the shapes of the tables, filler for content.
 */
#include "mysql.h"

#include <string.h>

#define CAPABILITIES 0x0128a20eu /* 4.1 protocol, transactions, prepared statements, plugins, no ends of definitions */
#define MORE_CAPABILITIES 0x00070000u /* several statements and results */

static uint32_t status(const struct my_writer *w)
{
	return 2 | (w->facts & MY_IN_TRANSACTION);
}

static void fine(struct my_writer *w, uint8_t head, uint32_t rows)
{
	my_begin(w);
	my_little(w, head, 1);
	my_length(w, rows);
	my_length(w, 0);
	my_little(w, status(w), 2);
	my_little(w, 0, 2);
	my_end(w);
}

static void end_of_data(struct my_writer *w)
{
	if (w->facts & MY_NO_ENDS) {
		fine(w, 0xfe, 0);
		return;
	}
	my_begin(w);
	my_put(w, "\xfe\0\0", 3);
	my_little(w, status(w), 2);
	my_end(w);
}

static void failed(struct my_writer *w, uint32_t code, const char *state, const char *text)
{
	my_begin(w);
	my_put(w, "\xff", 1);
	my_little(w, code, 2);
	my_put(w, "#", 1);
	my_put(w, state, 5);
	my_put(w, text, strlen(text));
	my_end(w);
}

/* Definitions, and an end behind them where the client expects one. */
static void definitions(struct my_writer *w, const struct ditto_reply *shape)
{
	for (unsigned i = 0; i < shape->columns && !w->out->failed; i++)
		my_definition(w, &shape->column[i], i);
	if (shape->columns && !(w->facts & MY_NO_ENDS))
		end_of_data(w);
}

static void result(struct my_writer *w, const struct request *req, struct rng *rng)
{
	const struct ditto_reply *shape = req->canned == MY_EXECUTE ? sql_shape(req->cls)
					  : req->cls == DITTO_NONE  ? NULL
								    : codec_shape(req->cls, rng);
	uint32_t rows = shape ? dist_draw(shape->count, rng, 0) : 0;
	int known;

	if (shape && shape->kind == REPLY_FAILED) {
		failed(w, 1064, "42000", "this statement failed");
		return;
	}
	if (!shape || shape->kind != REPLY_ROWS || !shape->columns) {
		fine(w, 0, rows);
		return;
	}
	known = (w->facts & MY_CACHED) && req->canned == MY_EXECUTE;
	my_begin(w);
	my_length(w, shape->columns);
	if (w->facts & MY_CACHED)
		my_little(w, !known, 1);
	my_end(w);
	if (!known)
		definitions(w, shape);
	else if (!(w->facts & MY_NO_ENDS))
		end_of_data(w);
	for (uint32_t i = 0; i < rows && !w->out->failed && w->out->end - w->out->start < REPLY_LIMIT; i++) {
		if (req->canned == MY_EXECUTE)
			my_binary_row(w, shape, rng);
		else
			my_text_row(w, shape, rng);
	}
	end_of_data(w);
}

static void prepared(struct my_writer *w, const struct request *req)
{
	static const struct ditto_column parameter = {.type = 253, .type_bytes = 0};
	const struct ditto_reply *shape = sql_shape(req->cls);
	uint32_t parameters = req->keys_len > 0xffff ? 0xffff : req->keys_len;

	if (!shape || shape->kind != REPLY_ROWS)
		shape = sql_shape((int16_t)req->bytes);
	my_begin(w);
	my_little(w, 0, 1);
	my_little(w, (uint32_t)req->key_hash, 4);
	my_little(w, shape && shape->kind == REPLY_ROWS ? shape->columns : 0, 2);
	my_little(w, parameters, 2);
	my_little(w, 0, 3);
	my_end(w);
	for (uint32_t i = 0; i < parameters && !w->out->failed; i++)
		my_definition(w, &parameter, i);
	if (parameters && !(w->facts & MY_NO_ENDS))
		end_of_data(w);
	if (shape && shape->kind == REPLY_ROWS)
		definitions(w, shape);
}

/* Whether clients are told that they may remember columns: only some servers can leave them out. */
static int leaves_out(void)
{
	for (unsigned i = 0; i < ditto_service.classes; i++)
		for (unsigned k = 0; k < ditto_service.cls[i].replies; k++)
			if (ditto_service.cls[i].reply[k].columns_known)
				return 1;
	return 0;
}

void mysql_greet(struct codec_state *st, struct outbuf *out, struct rng *rng)
{
	struct my_writer w = {.out = out};
	/* By the version clients tell which kind of server it is, and where further capabilities are. */
	const char *version = leaves_out() ? "\x0a""5.5.5-10.0.0-MariaDB" : "\x0a""8.0.0";
	char salt[21];

	(void)st;
	for (unsigned i = 0; i < 20; i++)
		salt[i] = (char)('A' + rng_below(rng, 26));
	salt[20] = 0;
	my_begin(&w);
	my_put(&w, version, strlen(version) + 1);
	my_little(&w, rng_u32(rng), 4);
	my_put(&w, salt, 8);
	my_little(&w, 0, 1);
	my_little(&w, CAPABILITIES & 0xffff, 2);
	my_little(&w, 33, 1);
	my_little(&w, 2, 2);
	my_little(&w, (CAPABILITIES | MORE_CAPABILITIES) >> 16, 2);
	my_little(&w, 21, 1);
	my_put(&w, "\0\0\0\0\0", 6);
	my_little(&w, leaves_out() ? MY_CACHE_METADATA : 0, 4);
	my_put(&w, salt + 8, 13);
	my_put(&w, "mysql_native_password", 22);
	my_end(&w);
}

void mysql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts)
{
	struct my_writer w = {.out = out, .number = req->canned == MY_STARTUP ? 2 : 1, .facts = req->value_size};

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
		my_begin(&w);
		my_put(&w, "Uptime: 1", 9);
		my_end(&w);
		break;
	case MY_UNKNOWN:
		failed(&w, 1047, "08S01", "there is no such command");
		break;
	default:
		failed(&w, 1043, "08S01", "this is no answer to a greeting");
	}
}
