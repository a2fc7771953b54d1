/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the parts of the HTTP codec.
 */
#ifndef DITTO_HTTP_H
#define DITTO_HTTP_H

#include "codec.h"

#define LINE_LIMIT 8192u
#define HEAD_LIMIT 32768u
#define BODY_LIMIT (1ull << 30)

enum { PHASE_HEAD, PHASE_BODY, PHASE_CHUNK, PHASE_CHUNK_DATA, PHASE_CHUNK_END, PHASE_TRAILER };

enum http_canned { HTTP_NONE, HTTP_100, HTTP_400, HTTP_404, HTTP_413, HTTP_414, HTTP_431, HTTP_501, HTTP_505 };

void http_head_setup(const struct ditto_service *service);
/* Parses a whole head or none; CODEC_MORE with another phase than PHASE_HEAD: a body follows. */
enum codec_step http_head(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req);
enum codec_step http_fatal(struct codec_state *st, struct request *req, unsigned canned);
void http_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);
int http_fits(const struct request *req);
int http_fail(uint8_t *reply, uint32_t length);

#endif
