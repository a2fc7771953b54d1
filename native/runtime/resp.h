/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the two halves of the RESP2 codec: what a request without a class is answered by.
 */
#ifndef DITTO_RESP_H
#define DITTO_RESP_H

#include "codec.h"

#define ARGS_LIMIT (1u << 20) /* words of a request, elements of an array */

enum resp_default {
	RESP_NO_DEFAULT, RESP_D_OK, RESP_D_INT, RESP_D_NIL, RESP_D_EMPTY, RESP_D_BULK, RESP_D_PING, RESP_D_ECHO,
	RESP_D_CONFIG, RESP_D_CLIENT, RESP_D_QUIT, RESP_D_INFO, RESP_D_UNKNOWN, RESP_D_SCAN, RESP_D_TIME, RESP_D_TYPE,
	/* protocol errors */
	RESP_E_MULTIBULK, RESP_E_MULTIBULK_LONG, RESP_E_BULK, RESP_E_BULK_LONG, RESP_E_DOLLAR, RESP_E_INLINE_LONG,
	RESP_E_QUOTES,
};

void resp_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);

#endif
