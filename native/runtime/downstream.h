/* SPDX-License-Identifier: Apache-2.0
 *
 * The services that a clone calls.  A part of ditto.h, which includes it.
 */
#ifndef DITTO_DOWNSTREAM_H
#define DITTO_DOWNSTREAM_H

#include "ditto.h"

/* --- calls to other services ---------------------------------------------------------------------------
 * A downstream is called in the framing of its own codec, by requests that the generator has made of the classes and
 * sizes that were observed, so that a clone of the called service, or the stand-in that `service` describes, recognises
 * them.  Where it listens is told at start, never compiled in. */
#define DITTO_DOWNSTREAMS 16

enum ditto_pool {
	DITTO_POOL_REQUEST = 1, /* a connection for each request, closed at its end */
	DITTO_POOL_CONNECTION,  /* kept by the client's connection as long as that lasts */
	DITTO_POOL_THREAD,      /* kept by the thread for its next request */
};

struct ditto_request {
	uint32_t length;
	const uint8_t *bytes;
	uint8_t nobody; /* the reply is a head alone */
	uint8_t replies; /* RESP: requests in it, each with a reply; 0 is one too */
};

struct ditto_call_class {
	uint16_t requests;
	const struct ditto_request *request; /* one is drawn; all are equally likely */
	const struct ditto_dist *delay_us;   /* how long the stand-in waits with its reply; may be NULL */
};

struct ditto_service;

struct ditto_downstream {
	uint8_t pool;
	uint8_t blocking; /* replies are waited for by the receive itself, not in the wait set */
	struct ditto_recv recv;          /* a reply's first receive */
	const struct ditto_recv *further; /* those after it; the last is that of all others */
	uint8_t furthers;
	struct ditto_program connect;        /* makes a connection: OP_SOCKET, OP_CONNECT, and what else was seen */
	const struct ditto_call_class *call; /* one for each class of service */
	const struct ditto_service *service; /* codec, classes and replies of the stand-in; nothing else of it is used */
};

#endif
