/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a reply ends.  Fed the bytes as they come, cut anywhere.
 */
#ifndef LOADGEN_FRAME_H
#define LOADGEN_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "plan.h"

#define FRAME_LINE 16384u /* longest head or line */
#define FRAME_HEAD 16u /* longest head of a message or packet */
#define OPAQUE_HEAD 8u    /* of the clones' own framing, see native/runtime/codec_opaque.c */

enum frame_result { FRAME_MORE, FRAME_DONE, FRAME_BROKEN };

struct frame {
	uint64_t need;    /* bytes to skip */
	uint64_t pending; /* RESP2: values still to come */
	uint8_t phase;
	uint8_t failed;   /* the reply tells of an error */
	uint8_t closes;   /* the connection ends after it */
	uint8_t part;     /* databases: of which a reply is */
	uint8_t head[FRAME_HEAD];
	uint32_t kept;    /* bytes of an unfinished line in line[] */
	uint32_t stream;  /* HTTP/2: of the request */
	uint8_t *line;    /* of FRAME_LINE bytes, given when first needed; kept between replies */
};

void frame_begin(struct frame *f, enum framing framing, const struct step *step);
/* Takes bytes of the reply; *used tells how many. */
enum frame_result frame_feed(struct frame *f, enum framing framing, const struct step *step, const uint8_t *p, size_t n,
			     size_t *used);
/* The peer has closed: whether that ends the reply as it should. */
int frame_at_end(const struct frame *f, enum framing framing);

/* frame_sql.c: a piece of a database's reply. */
enum frame_result frame_sql(struct frame *f, enum framing framing, const struct step *step, const uint8_t *p, size_t n,
			    size_t *used);

/* frame_h2.c: a piece of what a server says on a connection of HTTP/2; the reply ends with its stream. */
enum frame_result frame_h2(struct frame *f, const uint8_t *p, size_t n, size_t *used);
/* Gives the frames of a request their stream. */
void frame_h2_number(uint8_t *request, size_t n, uint32_t stream);

#endif
