/* SPDX-License-Identifier: Apache-2.0
 *
 * The MySQL client protocol: packets, and in them definitions of columns and rows.
 */
#include "mysql.h"

#include <string.h>

#define PACKET_LIMIT 0xfffffeu
#define NONE 0xfb
#define BINARY_FLAG 128u

void my_put(struct my_writer *w, const void *bytes, size_t n)
{
	uint8_t *to = out_room(w->out, n);

	if (!to)
		return;
	memcpy(to, bytes, n);
	w->out->end += (uint32_t)n;
}

void my_little(struct my_writer *w, uint64_t value, unsigned bytes)
{
	uint8_t text[8];

	for (unsigned i = 0; i < bytes; i++)
		text[i] = (uint8_t)(value >> (8 * i));
	my_put(w, text, bytes);
}

/* A length-encoded number. */
void my_length(struct my_writer *w, uint64_t value)
{
	if (value < 251) {
		my_little(w, value, 1);
	} else if (value < 65536) {
		my_put(w, "\xfc", 1);
		my_little(w, value, 2);
	} else {
		my_put(w, "\xfd", 1);
		my_little(w, value, 3);
	}
}

void my_begin(struct my_writer *w)
{
	w->place = w->out->end - w->out->start;
	my_put(w, "\0\0\0", 3);
	my_little(w, w->number++, 1);
}

void my_end(struct my_writer *w)
{
	uint32_t size = w->out->end - w->out->start - w->place - 4;
	uint8_t *to = w->out->buf + w->out->start + w->place;

	if (w->out->failed)
		return;
	for (unsigned i = 0; i < 3; i++)
		to[i] = (uint8_t)(size >> (8 * i));
}

static int numeric(uint32_t type)
{
	return type <= 5 || type == 8 || type == 9 || type == 13 || type == 246;
}

static int temporal(uint32_t type)
{
	return type == 7 || (type >= 10 && type <= 12);
}

void my_definition(struct my_writer *w, const struct ditto_column *column, unsigned number)
{
	size_t size = column->name_bytes > 250 ? 250 : column->name_bytes;
	int plain = numeric(column->type) || temporal(column->type) || (column->flags & BINARY_FLAG);
	uint8_t *to;

	my_begin(w);
	my_put(w, "\3def\0\0\0", 7);
	my_length(w, size);
	to = out_room(w->out, size);
	if (!to)
		return;
	sql_name(to, number, size);
	w->out->end += (uint32_t)size;
	my_put(w, "\0\x0c", 2);
	my_little(w, plain ? 63 : 33, 2);
	my_little(w, (uint64_t)column->type_bytes, 4);
	my_little(w, column->type, 1);
	my_little(w, column->flags & 0xffff, 2);
	my_little(w, column->flags >> 16, 1);
	my_little(w, 0, 2);
	my_end(w);
}

static void filler(struct my_writer *w, const struct ditto_column *column, size_t size)
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

void my_text_row(struct my_writer *w, const struct ditto_reply *shape, struct rng *rng)
{
	my_begin(w);
	for (unsigned i = 0; i < shape->columns; i++) {
		int none;
		size_t size = drawn(&shape->column[i], shape->columns, rng, &none);

		if (none) {
			my_little(w, NONE, 1);
			continue;
		}
		my_length(w, size);
		filler(w, &shape->column[i], size);
	}
	my_end(w);
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

static void binary_value(struct my_writer *w, const struct ditto_column *column, size_t size)
{
	static const uint8_t moment[12] = {0xd0, 7, 1, 1}, span[12];

	if (fixed(column->type)) {
		my_little(w, 1, fixed(column->type));
	} else if (temporal(column->type)) {
		int is_span = column->type == 11;

		size = is_span ? (size >= 12 ? 12 : size >= 8 ? 8 : 0) : (size >= 11 ? 11 : size >= 7 ? 7 : size >= 4 ? 4 : 0);
		my_little(w, size, 1);
		my_put(w, is_span ? span : moment, size);
	} else {
		my_length(w, size);
		filler(w, column, size);
	}
}

void my_binary_row(struct my_writer *w, const struct ditto_reply *shape, struct rng *rng)
{
	uint8_t nothing[512] = {0};
	uint32_t bytes = (shape->columns + 9u) / 8, at;

	my_begin(w);
	my_little(w, 0, 1);
	at = w->out->end - w->out->start;
	my_put(w, nothing, bytes < sizeof(nothing) ? bytes : sizeof(nothing));
	for (unsigned i = 0; i < shape->columns && !w->out->failed; i++) {
		int none;
		size_t size = drawn(&shape->column[i], shape->columns, rng, &none);

		if (none)
			w->out->buf[w->out->start + at + (i + 2) / 8] |= (uint8_t)(1u << ((i + 2) % 8));
		else
			binary_value(w, &shape->column[i], size);
	}
	my_end(w);
}
