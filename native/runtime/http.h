/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the two halves of the HTTP codec.
 */
#ifndef DITTO_HTTP_H
#define DITTO_HTTP_H

#include "codec.h"

enum http_canned { HTTP_NONE, HTTP_100, HTTP_400, HTTP_404, HTTP_413, HTTP_414, HTTP_431, HTTP_501, HTTP_505 };

void http_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);

#endif
