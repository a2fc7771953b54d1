/* SPDX-License-Identifier: Apache-2.0
 *
 * The MySQL client protocol: between codec_mysql.c and mysql_reply.c.
 */
#ifndef DITTO_MYSQL_H
#define DITTO_MYSQL_H

#include "sql.h"

/* What a request asks for, in request.canned.  value_size holds MY_* facts, note the verb of the statement, keys_len the
 * parameters of a statement that is prepared, key_hash its number and bytes the class of its executions. */
enum my_request {
	MY_STARTUP = 1, MY_QUERY, MY_PREPARE, MY_EXECUTE, MY_FINE, MY_END, MY_STATISTICS, MY_NOTHING, MY_UNKNOWN, MY_BAD,
};

enum my_facts {
	MY_IN_TRANSACTION = 1,
	MY_NO_ENDS = 2, /* column definitions are not followed by an end */
	MY_CACHED = 4,  /* the client remembers the columns of prepared statements: they need not be told again */
};

#define MY_DEPRECATE_EOF (1u << 24)
#define MY_CACHE_METADATA (1u << 4) /* of the extended capabilities, which there are where the first bit is not set */

/* mysql_rows.c: packets as they are written. */
struct my_writer {
	struct outbuf *out;
	uint8_t number; /* of the next packet */
	uint32_t place; /* of the one in progress */
	uint32_t facts;
};

void my_put(struct my_writer *w, const void *bytes, size_t n);
void my_little(struct my_writer *w, uint64_t value, unsigned bytes);
void my_length(struct my_writer *w, uint64_t value); /* a length-encoded number */
void my_begin(struct my_writer *w);
void my_end(struct my_writer *w);
void my_definition(struct my_writer *w, const struct ditto_column *column, unsigned number);
void my_text_row(struct my_writer *w, const struct ditto_reply *shape, struct rng *rng);
void my_binary_row(struct my_writer *w, const struct ditto_reply *shape, struct rng *rng);

void mysql_greet(struct codec_state *st, struct outbuf *out, struct rng *rng);
void mysql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);

#endif
