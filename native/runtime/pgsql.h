/* SPDX-License-Identifier: Apache-2.0
 *
 * PostgreSQL's wire protocol, version 3: between codec_pgsql.c and pgsql_reply.c.
 */
#ifndef DITTO_PGSQL_H
#define DITTO_PGSQL_H

#include "sql.h"

/* What a request asks for, in request.canned.  value_size holds PG_* facts, note the verb of the statement. */
enum pg_request {
	PG_SECURE = 1, PG_STARTUP, PG_QUERY, PG_SYNC, PG_PARSE, PG_BIND, PG_DESCRIBE_STATEMENT, PG_DESCRIBE_PORTAL,
	PG_EXECUTE, PG_CLOSE, PG_FUNCTION, PG_NOTHING, PG_COPIED, PG_BAD_STARTUP, PG_BAD_MESSAGE,
};

enum pg_facts { PG_IN_TRANSACTION = 1, PG_EMPTY = 2 };

#define PG_TAG 64

/* "SELECT 3" and its like, with the terminating zero: what a statement of this verb has done.  Returns its length. */
size_t pgsql_tag(char text[PG_TAG], const char *verb, size_t len, uint32_t rows);
void pgsql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);

#endif
