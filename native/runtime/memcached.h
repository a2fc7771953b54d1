/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the two halves of the memcached codec: what a request without a class is answered by.
 */
#ifndef DITTO_MEMCACHED_H
#define DITTO_MEMCACHED_H

#include "codec.h"

enum mc_canned {
	MC_NONE, MC_GET, MC_GAT, MC_SET, MC_CAS, MC_DELETE, MC_INCR, MC_TOUCH, MC_VERSION, MC_STATS, MC_OK, MC_QUIT,
	MC_META_NOOP, MC_META_GET, MC_META_SET, MC_META_DELETE, MC_META_ARITHMETIC, MC_META_DEBUG,
	MC_E_GENERIC, MC_E_FORMAT, MC_E_LINE, MC_E_CHUNK, MC_E_DELTA, MC_E_EXPTIME, MC_E_LARGE,
};

void memcached_reply(const struct request *req, struct outbuf *out, struct rng *rng, struct reply_parts *parts);
void memcached_reply_setup(void);
/* A reply of the meta commands: one word and the flags that were asked for, with the value where that is one of them. */
void memcached_meta(const struct request *req, const struct ditto_reply *shape, struct outbuf *out, struct rng *rng);
int memcached_fail(uint8_t *reply, uint32_t length);

#endif
