/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP: a request that is complete, what it does to what its connection has agreed on, and one that has failed.
 */
#include "resp.h"
#include "reply_frame.h"

#include <string.h>

/* What a request does to what its connection has agreed on: the version of the protocol, and whether commands are only
 * taken down until EXEC.  A server that answers HELLO with an error keeps to the first version. */
static void resp_agreed(struct codec_state *st, const struct verb_entry *entry, struct request *req)
{
	uint32_t queued = st->first_len;

	switch (entry->builtin) {
	case RESP_D_HELLO:
		if (queued || (req->cls != DITTO_NONE && !codec_shape_of(req->cls, REPLY_ARRAY)))
			return;
		if (st->argc > 1)
			st->flags = st->note_len == 1 && st->note[0] == '3' ? REQ_RESP3 : 0;
		break;
	case RESP_D_MULTI:
		st->first_len = queued ? queued : 1;
		break;
	case RESP_D_EXEC:
		if (!queued) { /* its class tells what it gets */
			req->canned = RESP_D_NIL;
			return;
		}
		req->bytes = queued - 1;
		/* fall through */
	case RESP_D_DISCARD:
		st->first_len = 0;
		break;
	case RESP_D_SUBSCRIBE:
		req->bytes = st->argc - 1;
		req->note = st->note;
		req->note_len = st->note_len;
		break;
	case RESP_D_QUIT:
		return;
	default:
		if (!queued)
			return;
		st->first_len = queued < ARGS_LIMIT ? queued + 1 : queued;
		req->canned = RESP_D_QUEUED;
		return;
	}
	req->canned = entry->builtin;
}

enum codec_step resp_complete(struct codec_state *st, struct request *req)
{
	const struct verb_entry *entry = st->word_len ? verb_find(st->word8) : NULL;

	st->phase = 0; /* the next request begins */
	req->flags = 0;
	req->key_role = st->argc > 1 && entry ? entry->key_role : KEY_NONE;
	req->key_hash = st->key_hash;
	req->value_size = st->value_size;
	req->value = st->value;
	req->cls = DITTO_NONE;
	req->canned = RESP_D_UNKNOWN;
	if (entry) {
		req->cls = (int16_t)verb_class_for(entry, st->argc);
		if (req->cls == DITTO_NONE) {
			req->canned = entry->builtin ? entry->builtin : RESP_D_UNKNOWN;
			req->note = st->note;
			req->note_len = st->note_len;
		}
		if (entry->builtin == RESP_D_QUIT)
			req->flags = REQ_CLOSE;
		resp_agreed(st, entry, req);
	}
	req->flags |= st->flags;
	return CODEC_REQUEST;
}

/* One line of the reply's length. */
int resp_fail(uint8_t *reply, uint32_t length)
{
	uint32_t text = sizeof(FAILED_RESP) - 1;

	if (length < sizeof("-E\r\n") - 1)
		return -1;
	memset(reply, ' ', length - 2);
	memcpy(reply, FAILED_RESP, text < length - 2 ? text : length - 2);
	reply[length - 2] = '\r';
	reply[length - 1] = '\n';
	return 0;
}
