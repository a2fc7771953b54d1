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

enum my_facts { MY_IN_TRANSACTION = 1, MY_NO_ENDS = 2 /* column definitions are not followed by an end */ };

#define MY_DEPRECATE_EOF (1u << 24)

void mysql_greet(struct codec_state *st, struct outbuf *out, struct rng *rng);
void mysql_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);

#endif
