/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads of HTTP/2 requests (HPACK, RFC 7541).  Of a field that enters the table only its size and what it says of a
 * class is kept.
 */
#include "h2.h"

#include <string.h>

#define STATIC_ENTRIES 61u
#define TEXT 1024u /* of a name or value as much is looked at */
#define STRING_MAX (1u << 20)

enum kind { KIND_OTHER, KIND_PATH, KIND_METHOD, KIND_TYPE };

static const uint8_t static_name_bytes[STATIC_ENTRIES + 1] = {
	0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7, 4,
	4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
};

/* Bytes of a block, across the heads of its continuations. */
struct reader {
	const uint8_t *p, *stop; /* in this frame */
	const uint8_t *end;      /* of all of it */
	uint32_t padding;        /* behind this frame */
	uint8_t bad;
};

struct text {
	uint8_t bytes[TEXT];
	uint32_t n; /* the whole length */
};

static uint32_t frame_bytes(const uint8_t *p)
{
	return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
}

/* Whether there is a byte to read. */
static int more(struct reader *r)
{
	while (r->p == r->stop) {
		const uint8_t *next = r->stop + r->padding;

		if (r->end - next < (ptrdiff_t)H2_FRAME)
			return 0;
		r->padding = 0;
		r->p = next + H2_FRAME;
		r->stop = r->p + frame_bytes(next);
	}
	return 1;
}

static uint8_t byte(struct reader *r)
{
	if (!more(r)) {
		r->bad = 1;
		return 0;
	}
	return *r->p++;
}

static uint32_t number(struct reader *r, uint8_t first, unsigned bits)
{
	uint32_t most = (1u << bits) - 1, v = first & most;
	uint8_t next;

	if (v < most)
		return v;
	for (unsigned shift = 0; shift < 22; shift += 7) {
		next = byte(r);
		v += (uint32_t)(next & 127) << shift;
		if (next < 128)
			return v;
	}
	r->bad = 1;
	return 0;
}

/* A name or a value.  Where it is not looked at and enters no table, its letters are passed over. */
static void string(struct reader *r, struct text *text, int looked_at)
{
	uint8_t first = byte(r), coded[2 * TEXT];
	uint32_t n = number(r, first, 7), have = 0;

	text->n = 0;
	if (n > STRING_MAX)
		r->bad = 1;
	for (uint32_t i = 0; i < n && !r->bad; have = i) {
		uint32_t part;

		if (!more(r)) {
			r->bad = 1;
			return;
		}
		part = (uint32_t)(r->stop - r->p) < n - i ? (uint32_t)(r->stop - r->p) : n - i;
		if (i < sizeof(coded))
			memcpy(coded + i, r->p, part < sizeof(coded) - i ? part : sizeof(coded) - i);
		r->p += part;
		i += part;
	}
	have = n < sizeof(coded) ? n : (uint32_t)sizeof(coded);
	if (r->bad || (!looked_at && n <= sizeof(coded)))
		return;
	if (!(first & 0x80)) {
		memcpy(text->bytes, coded, have < TEXT ? have : TEXT);
		text->n = n;
	} else if (n > sizeof(coded)) {
		text->n = STRING_MAX; /* no table takes it */
	} else {
		int32_t length = h2_huffman(coded, n, text->bytes, TEXT);

		r->bad |= length < 0;
		text->n = length < 0 ? 0 : (uint32_t)length;
	}
}

static int is(const struct text *text, const char *word)
{
	return text->n == strlen(word) && memcmp(text->bytes, word, text->n) == 0;
}

static uint8_t kind_of(const struct text *name)
{
	if (is(name, ":path"))
		return KIND_PATH;
	if (is(name, ":method"))
		return KIND_METHOD;
	return is(name, "content-type") ? KIND_TYPE : KIND_OTHER;
}

static int32_t print_of(const uint8_t *path, uint32_t n)
{
	const uint8_t *end = codec_scan(path, path + n, '?', '#');

	if (end - path > (ptrdiff_t)H2_MOST_PATH)
		path = end - H2_MOST_PATH;
	return (int32_t)(codec_service->folds ? ditto_fold_print : ditto_path_print)(codec_service->print_key, (const char *)path,
										     (size_t)(end - path));
}

/* The first class of a method; whether it is HEAD is in the bit above. */
static int32_t method_of(const uint8_t *method, uint32_t n)
{
	uint64_t word8[3] = {0, 0, 0};
	const struct verb_entry *entry;
	int head = n == 4 && memcmp(method, "HEAD", 4) == 0;

	if (n > sizeof(word8))
		return UINT16_MAX;
	memcpy(word8, method, n);
	entry = verb_find(word8);
	if (head && (!entry || entry->first == DITTO_NONE)) {
		memset(word8, 0, sizeof(word8));
		memcpy(word8, "GET", 3);
		entry = verb_find(word8);
	}
	return (entry ? (uint16_t)entry->first : UINT16_MAX) | head << 16;
}

static int32_t value_of(uint8_t kind, const struct text *text)
{
	uint32_t n = text->n < TEXT ? text->n : TEXT;

	switch (kind) {
	case KIND_PATH:
		return print_of(text->bytes, n);
	case KIND_METHOD:
		return method_of(text->bytes, n);
	case KIND_TYPE:
		return n >= 16 && memcmp(text->bytes, "application/grpc", 16) == 0;
	default:
		return 0;
	}
}

static void tell(struct h2_head *head, uint8_t kind, int32_t value)
{
	if (kind == KIND_PATH)
		head->print = value;
	if (kind == KIND_TYPE)
		head->grpc = (uint8_t)value;
	if (kind != KIND_METHOD)
		return;
	head->method = (int16_t)(value & UINT16_MAX);
	head->head_only = value >> 16 & 1;
}

/* Takes the oldest out until the table is no larger. */
static void shrink(struct h2_table *t, uint32_t bytes)
{
	while (t->n && t->bytes > bytes) {
		t->n--;
		t->bytes -= t->entry[(t->first + t->n) % H2_ENTRIES].bytes;
	}
}

static void add(struct h2_table *t, struct h2_entry entry, uint64_t bytes)
{
	if (bytes > t->limit) {
		shrink(t, 0);
		return;
	}
	shrink(t, t->limit - (uint32_t)bytes);
	t->first = (t->first + H2_ENTRIES - 1) % H2_ENTRIES;
	entry.bytes = (uint16_t)bytes;
	t->entry[t->first] = entry;
	t->n++;
	t->bytes += (uint32_t)bytes;
}

static struct h2_entry of_static(uint32_t index)
{
	static const char *const words[] = {"GET", "POST", "/", "/index.html"};
	struct h2_entry entry = {.name_bytes = static_name_bytes[index]};

	entry.kind = index == 2 || index == 3 ? KIND_METHOD : index == 4 || index == 5 ? KIND_PATH : index == 31 ? KIND_TYPE : KIND_OTHER;
	if (entry.kind == KIND_METHOD)
		entry.value = method_of((const uint8_t *)words[index - 2], (uint32_t)strlen(words[index - 2]));
	if (entry.kind == KIND_PATH)
		entry.value = print_of((const uint8_t *)words[index - 2], (uint32_t)strlen(words[index - 2]));
	return entry;
}

/* The field of an index; 0: there is none. */
static int indexed(const struct h2_table *t, uint32_t index, struct h2_entry *entry)
{
	if (!index || index > STATIC_ENTRIES + t->n)
		return 0;
	*entry = index <= STATIC_ENTRIES ? of_static(index) : t->entry[(t->first + index - STATIC_ENTRIES - 1) % H2_ENTRIES];
	return 1;
}

/* A field that is written out, its name maybe by an index. */
static void literal(struct h2_table *t, struct reader *r, uint8_t first, struct h2_head *head)
{
	int enters = (first & 0xc0) == 0x40;
	uint32_t index = number(r, first, enters ? 6 : 4);
	struct h2_entry entry = {0};
	struct text text;

	if (index) {
		r->bad |= !indexed(t, index, &entry);
	} else {
		string(r, &text, 1);
		entry.kind = kind_of(&text);
		entry.name_bytes = text.n < UINT16_MAX ? (uint16_t)text.n : UINT16_MAX;
	}
	string(r, &text, enters || entry.kind != KIND_OTHER);
	if (r->bad)
		return;
	entry.value = value_of(entry.kind, &text);
	tell(head, entry.kind, entry.value);
	if (enters)
		add(t, entry, (uint64_t)entry.name_bytes + text.n + 32);
}

int h2_head_read(struct h2_table *table, const uint8_t *p, const uint8_t *end, struct h2_head *head)
{
	uint32_t length = frame_bytes(p), padding = 0;
	struct reader r = {.p = p + H2_FRAME, .stop = p + H2_FRAME + length, .end = end};
	struct h2_entry entry;

	*head = (struct h2_head){.method = DITTO_NONE, .print = DITTO_NONE};
	if (p[4] & H2_PADDED) {
		if (!length)
			return H2_FRAME_SIZE_ERROR;
		padding = *r.p++;
	}
	if (p[4] & H2_WITH_PRIORITY)
		r.p += 5;
	if (r.stop - r.p < (ptrdiff_t)padding)
		return H2_PROTOCOL_ERROR;
	r.stop -= padding;
	r.padding = padding;
	while (!r.bad && more(&r)) {
		uint8_t first = byte(&r);

		if (first & 0x80) {
			r.bad |= !indexed(table, number(&r, first, 7), &entry);
			if (!r.bad)
				tell(head, entry.kind, entry.value);
		} else if ((first & 0xe0) == 0x20) {
			table->limit = number(&r, first, 5);
			r.bad |= table->limit > H2_TABLE;
			shrink(table, table->limit);
		} else {
			literal(table, &r, first, head);
		}
	}
	return r.bad ? H2_COMPRESSION_ERROR : 0;
}
