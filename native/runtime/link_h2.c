/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls in HTTP/2: requests on streams of their own, one after the other on a connection.
 */
#include "h2.h"
#include "link.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN (1u << 20) /* so many bytes of replies are given back to the connection's window at a time */
#define EXTRA 128u       /* bytes at most before a request */

static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
			       "\0\0\x0c\4\0\0\0\0\0" "\0\2\0\0\0\0" "\0\4\x3f\xff\xff\xff"
			       "\0\0\4\x08\0\0\0\0\0" "\x3f\xff\0\0";

/* What is said before a request: once a connection, and after its first reply; windows from time to time. */
static uint8_t *put_before(struct link *l, uint8_t *to)
{
	struct reply_frame *f = &l->frame;

	if (f->stream == 1) {
		memcpy(to, hello, sizeof(hello) - 1);
		to += sizeof(hello) - 1;
	} else if (f->stream == 3) {
		to = h2_frame(to, 0, H2_SETTINGS, H2_ACK, 0);
	}
	if (f->length >= AGAIN) {
		uint8_t more[4] = {(uint8_t)(f->length >> 24), (uint8_t)(f->length >> 16), (uint8_t)(f->length >> 8), (uint8_t)f->length};

		to = h2_frame(to, 4, H2_WINDOW_UPDATE, 0, 0);
		memcpy(to, more, 4);
		to += 4;
		f->length = 0;
	}
	return to;
}

int link_h2_request(struct link *l, const struct ditto_request *request)
{
	uint8_t *bytes = realloc(l->numbered, request->length + EXTRA), *to;

	if (!bytes)
		return -1;
	l->numbered = bytes;
	to = put_before(l, bytes);
	memcpy(to, request->bytes, request->length);
	for (size_t at = 0; request->length - at >= H2_FRAME; at += H2_FRAME + h2_length(to + at)) {
		h2_frame(to + at, h2_length(to + at), to[at + 3], to[at + 4], l->frame.stream);
		if (h2_length(to + at) > request->length - at - H2_FRAME)
			break;
	}
	l->own = *request;
	l->own.bytes = bytes;
	l->own.length = (uint32_t)(to - bytes) + request->length;
	l->request = &l->own;
	return 0;
}
