/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the HTTP/2 codec know of each other: frames (codec_h2.c), heads of requests (h2_hpack.c,
 * h2_huffman.c) and replies (h2_reply.c).
 */
#ifndef DITTO_H2_H
#define DITTO_H2_H

#include "codec.h"

#define H2_FRAME 9u
#define H2_STREAMS 128u        /* requests of a connection that are under way; what comes above that is refused */
#define H2_FRAME_MAX 16384u    /* the longest payload that anybody has to take */
#define H2_BLOCK_MAX 65536u    /* the longest head of a request, with its continuations */
#define H2_TABLE 4096u         /* bytes of the table of header fields, as everybody has to have it */
#define H2_ENTRIES (H2_TABLE / 32)
#define H2_WINDOW 4194303      /* what a client may send ahead, on a stream and on the connection */
#define H2_WINDOW_MAX INT32_MAX
#define H2_MOST_PATH 60u       /* of a path, its last bytes: what tells classes apart everywhere */

enum h2_type { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST_STREAM, H2_SETTINGS, H2_PUSH_PROMISE, H2_PING, H2_GOAWAY,
	H2_WINDOW_UPDATE, H2_CONTINUATION };
enum h2_flag { H2_ACK = 1, H2_END_STREAM = 1, H2_END_HEADERS = 4, H2_PADDED = 8, H2_WITH_PRIORITY = 32 };
enum h2_error { H2_PROTOCOL_ERROR = 1, H2_FLOW_CONTROL_ERROR = 3, H2_FRAME_SIZE_ERROR = 6, H2_REFUSED_STREAM = 7,
	H2_COMPRESSION_ERROR = 9, H2_CALM = 11 };

/* A field of the table, as far as it tells a class. */
struct h2_entry {
	uint16_t name_bytes, bytes; /* bytes: as the table counts them, 32 more than name and value */
	uint8_t kind;
	int32_t value; /* of a path its print, of a method its first class, of a type whether it is gRPC's */
};

/* What the head of a request tells. */
struct h2_head {
	int32_t method, print;
	uint8_t grpc, head_only;
};

struct h2_table {
	struct h2_entry entry[H2_ENTRIES];
	uint32_t first, n; /* the newest is the first */
	uint32_t bytes, limit;
};

enum h2_stream_state { H2_READING, H2_ANSWERING };

struct h2_stream {
	uint32_t id;
	int64_t window;    /* what the client takes of the reply */
	int16_t cls;
	uint8_t state, grpc, head_only;
	uint32_t received; /* bytes that the client may not send again yet */
	/* Of a reply that is not all sent: filler of the message begun, messages after it and bytes of each. */
	uint32_t left, messages, message;
	uint32_t status, trailer;
};

struct h2_conn {
	struct h2_table table;
	struct h2_stream stream[H2_STREAMS];
	uint32_t streams, last, received;
	int64_t window;            /* of the connection, to the client */
	int64_t stream_window;     /* what a stream begins with */
	uint8_t own_type[2], own_status, own; /* which field of its own table each is, 0: not there; all of them */
	uint8_t plain;             /* the client keeps no table, or a small one */
	uint8_t small_told;
	uint32_t answered;         /* stream whose reply is due */
	uint8_t owed[64];          /* frames that are due before anything else */
	uint32_t owed_bytes;
};

void h2_huffman_setup(void);
/* Decodes n bytes into at most `most` of `to`; returns the whole length, or -1. */
int32_t h2_huffman(const uint8_t *p, size_t n, uint8_t *to, uint32_t most);

/* The head of a request at a frame of headers: its block, with its continuations, is in [p, end).  0, or an error. */
int h2_head_read(struct h2_table *table, const uint8_t *p, const uint8_t *end, struct h2_head *head);

uint8_t *h2_frame(uint8_t *to, uint32_t length, unsigned type, unsigned flags, uint32_t stream);
struct h2_stream *h2_stream_of(struct h2_conn *h, uint32_t id);
void h2_stream_end(struct h2_conn *h, struct h2_stream *s);
/* Where parsing stands after an error, and after what is answered at once. */
enum codec_step h2_fatal(struct codec_state *st, struct request *req, unsigned error);
enum codec_step h2_interim(struct h2_conn *h, struct request *req);

static inline uint32_t h2_word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Of the head of a frame: how long its content is, and whose. */
static inline uint32_t h2_length(const uint8_t *frame)
{
	return h2_word(frame) >> 8;
}

static inline uint32_t h2_id(const uint8_t *frame)
{
	return h2_word(frame + 5) & INT32_MAX;
}

/* h2_control.c */
/* A frame that is due, of up to two words. */
void h2_owe(struct h2_conn *h, unsigned type, uint32_t stream, uint32_t words, uint32_t a, uint32_t b);
/* A frame that is all there and is neither data nor a head. */
enum codec_step h2_control(struct codec_state *st, const uint8_t *p, uint32_t length, struct request *req);
void h2_greet(struct codec_state *st, struct outbuf *out, struct rng *rng);

/* h2_reply.c */
void h2_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);
int h2_fail(uint8_t *reply, uint32_t length);

#endif
