/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the parts of the RESP codec: what a request without a class is answered by.
 */
#ifndef DITTO_RESP_H
#define DITTO_RESP_H

#include "codec.h"

#define ARGS_LIMIT (1u << 20) /* words of a request, elements of an array */

#define INLINE_LIMIT 65536u /* as the public server: longer lines are refused */

enum resp_default {
	RESP_NO_DEFAULT, RESP_D_OK, RESP_D_INT, RESP_D_NIL, RESP_D_EMPTY, RESP_D_BULK, RESP_D_PING, RESP_D_ECHO,
	RESP_D_CONFIG, RESP_D_CLIENT, RESP_D_QUIT, RESP_D_INFO, RESP_D_UNKNOWN, RESP_D_SCAN, RESP_D_TIME, RESP_D_TYPE,
	/* protocol errors */
	RESP_E_MULTIBULK, RESP_E_MULTIBULK_LONG, RESP_E_BULK, RESP_E_BULK_LONG, RESP_E_DOLLAR, RESP_E_INLINE_LONG,
	RESP_E_QUOTES,
	/* of what the connection has agreed on, or counts: said whatever the class is; see resp_agreed() */
	RESP_D_AGREED, RESP_D_HELLO = RESP_D_AGREED, RESP_D_MULTI, RESP_D_EXEC, RESP_D_DISCARD, RESP_D_SUBSCRIBE, RESP_D_MESSAGE, RESP_D_QUEUED,
};

/* Elements of an array, units of its shape's status, of which the tens are the mark: see src/ditto/streams/resp.py. */
enum resp_element {
	RESP_BULK, RESP_INTEGER, RESP_SIMPLE, RESP_DOUBLE, RESP_NONE, RESP_SCORED, RESP_ENTRY, RESP_PAIR,
};
/* Statuses of arrays whose elements lie in one within: of a scan behind its cursor, of a stream behind its key. */
enum { RESP_GOES_ON = 40, RESP_ENDED, RESP_STREAMED };

enum codec_step resp_inline(struct codec_state *st, const uint8_t *p, size_t n, size_t *used, struct request *req);
enum codec_step resp_fatal(struct codec_state *st, struct request *req, unsigned error, char got);
enum codec_step resp_complete(struct codec_state *st, struct request *req);
void resp_take_word(struct codec_state *st, const uint8_t *p, size_t n);
void resp_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);
int resp_fail(uint8_t *reply, uint32_t length);

/* Parts of replies. */
void resp_put_bulk(struct outbuf *out, const uint8_t *text, uint32_t size);
void resp_put_none(const struct request *req, struct outbuf *out);
void resp_put_opening(const struct request *req, struct outbuf *out, unsigned mark, uint32_t count, size_t room);
void resp_put_element(const struct request *req, struct outbuf *out, unsigned kind, uint32_t size);
void resp_put_shape(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng);
void resp_put_canned(const struct request *req, struct outbuf *out);

/* resp_keyed.c: what a request does to the keys beside storing, and replies to those that take values from one. */
void resp_keep(const struct request *req);
void resp_put_popped(const struct request *req, struct outbuf *out, struct rng *rng);

#endif
