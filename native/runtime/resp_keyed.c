/* SPDX-License-Identifier: Apache-2.0
 *
 * RESP: replies that follow from what was stored, and what requests do to that.
 */
#include "resp.h"
#include "members.h"

static uint32_t draw_some(const struct ditto_dist *dist, struct rng *rng)
{
	uint32_t n = 0;

	for (unsigned tries = 0; !n && tries < 32; tries++)
		n = dist_draw(dist, rng, 1);
	return n ? n : 1;
}

/* Elements of what has some. */
static void put_some(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng)
{
	uint32_t count = draw_some(shape->count, rng), pairs = shape->status / 10 == 1 ? 2 : 1;

	resp_put_opening(req, out, shape->status / 10, count, 0);
	for (count *= pairs; count && !out->failed; count--)
		resp_put_element(req, out, shape->status % 10, codec_clamp(draw_some(shape->size, rng)));
}

/* The reply to a request that takes a value from a key: one that was put there, as long as there are such. */
void resp_put_popped(const struct request *req, struct outbuf *out, struct rng *rng)
{
	const struct ditto_reply *shape = NULL, *some = NULL;
	const uint8_t *value = NULL;
	uint32_t size = 0;
	enum key_state state;
	int drains;

	if (req->cls != DITTO_NONE) {
		shape = codec_shape_of(req->cls, REPLY_BULK);
		some = shape ? NULL : codec_shape_of(req->cls, REPLY_ARRAY);
	}
	drains = req->cls != DITTO_NONE &&
		 (codec_shape_of(req->cls, REPLY_NIL) || (some && some->count && some->count->n && !some->count->value[0]));
	state = (req->key_role == KEY_DRAW ? members_draw : keys_pop)(req->key_hash, drains, &value, &size);
	if (req->cls == DITTO_NONE)
		resp_put_canned(req, out);
	else if (state == KEY_UNKNOWN || (!shape && !some))
		resp_put_shape(req, codec_shape(req->cls, rng), out, rng);
	else if (state == KEY_ABSENT && some && !codec_shape_of(req->cls, REPLY_NIL))
		resp_put_opening(req, out, some->status / 10, 0, 0);
	else if (state == KEY_ABSENT)
		resp_put_none(req, out);
	else if (some)
		put_some(req, some, out, rng);
	else if (size)
		resp_put_bulk(out, value, codec_clamp(size));
	else
		resp_put_shape(req, shape, out, rng);
}

void resp_keep(const struct request *req)
{
	switch (req->key_role) {
	case KEY_DROP:
		members_drop(req->key_hash);
		return;
	case KEY_PUSH:
		keys_push(req->key_hash, req->value, req->value_size);
		return;
	case KEY_ADD:
		members_add(req->key_hash, req->value, req->value_size);
		return;
	case KEY_REMOVE:
		members_remove(req->key_hash, req->value, req->value_size);
		return;
	case KEY_PULL: {
		const uint8_t *value;
		uint32_t size;

		keys_pop(req->key_hash, 0, &value, &size);
		return;
	}
	default:
		return;
	}
}
