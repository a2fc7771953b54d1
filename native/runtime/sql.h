/* SPDX-License-Identifier: Apache-2.0
 *
 * What the codecs of databases share: the class of a statement, prepared statements, names and values of columns.
 */
#ifndef DITTO_SQL_H
#define DITTO_SQL_H

#include "codec.h"

#define SQL_HEAD 256u  /* bytes of a message that are looked at; the rest is skipped as it comes */
#define SQL_VERB 24u

/* The class of a statement: by its verb behind a prefix ("", "Parse_", "Bind_") and its text up to the first literal;
 * DITTO_NONE where the tables have no such verb.  `verb` gets the verb alone, with a terminating zero. */
int16_t sql_class(const char *prefix, const uint8_t *query, size_t n, char verb[SQL_VERB]);
/* Of a text that is executed at once: its own class, or that of executions of the same text prepared before. */
int16_t sql_class_of_text(const uint8_t *query, size_t n, char verb[SQL_VERB]);
int16_t sql_word(const char *word); /* the class of a word of the protocol, or DITTO_NONE */
const char *sql_verb(int cls);      /* of a class, without its prefix; "" where it has none */

/* The shape of what a class gives, the same each time; NULL where it has none. */
const struct ditto_reply *sql_shape(int cls);

/* Prepared statements by a connection's own number and their name: one table for all connections, in which old ones
 * give way to new ones. */
struct sql_statement {
	int16_t cls;       /* for the executions of it */
	uint8_t parameters;
};

uint64_t sql_connection(void); /* a number for a connection, never 0 */
void sql_remember(uint64_t connection, const uint8_t *name, size_t len, struct sql_statement statement);
struct sql_statement sql_recall(uint64_t connection, const uint8_t *name, size_t len);

/* What becomes of a transaction: 1 it begins, 0 it ends, -1 neither.  A message of several statements says nothing. */
int sql_transaction(const char *verb, const uint8_t *query, size_t n, int complete);

/* The size of a value, or -1 for none (NULL). */
int64_t sql_draw(const struct ditto_column *column, struct rng *rng);
void sql_name(uint8_t *to, unsigned number, size_t len);

static inline uint8_t *sql_be16(uint8_t *to, uint32_t v)
{
	to[0] = (uint8_t)(v >> 8);
	to[1] = (uint8_t)v;
	return to + 2;
}

static inline uint8_t *sql_be32(uint8_t *to, uint32_t v)
{
	return sql_be16(sql_be16(to, v >> 16), v & 0xffff);
}

static inline uint32_t sql_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
