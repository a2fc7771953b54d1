/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the reply of another service ends, by the framing of its protocol.
 */
#ifndef DITTO_REPLY_FRAME_H
#define DITTO_REPLY_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_LINE 256 /* what is kept of a line; no line that tells a length is longer */

struct reply_frame {
	uint64_t need;    /* bytes to skip */
	uint64_t pending; /* RESP: values to come */
	uint64_t length;  /* HTTP: of the body */
	uint32_t stream;  /* HTTP/2: of the request; length is that of the data since windows were last opened */
	uint32_t kept;    /* bytes of the line so far, as far as they fit */
	uint8_t nobody; /* MySQL: the command that is answered */
	uint8_t codec, phase, chunked, measured, closes;
	uint8_t error; /* it is one that a clone gives when a service it needs did not answer */
	uint8_t line[FRAME_LINE];
};

/* What a clone answers then; replies of other clones begin otherwise.  HTTP: no reason phrase. */
#define FAILED_HTTP "502 "
#define FAILED_RESP "-ERR called service is gone"
#define FAILED_FASTCGI "Status: 502 Called service is gone\r\n\r\n" /* the head of its output */
#define FAILED_MEMCACHED "SERVER_ERROR called service is gone"

enum frame_state { FRAME_MORE, FRAME_DONE, FRAME_BROKEN };

void frame_begin(struct reply_frame *f, unsigned codec, int nobody);
enum frame_state frame_feed(struct reply_frame *f, const uint8_t *p, size_t n);
enum frame_state frame_feed_h2(struct reply_frame *f, const uint8_t *p, size_t n); /* reply_frame_h2.c */
enum frame_state frame_feed_mysql(struct reply_frame *f, const uint8_t *p, size_t n); /* reply_frame_mysql.c */
int frame_ends_with_connection(const struct reply_frame *f);

#endif
