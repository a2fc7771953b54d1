/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DITTO_PLAN_H
#define DITTO_PLAN_H

#include "runtime.h"

/* A class's program, worked out once: what runs in each pass, and which file OP_SENDFILE sends. */
struct plan {
	const struct ditto_op **pass[3]; /* [0]: everything, in order */
	uint16_t n[3];
	uint8_t traits;
	uint8_t rounds;     /* waits before the second pass, where it is that late */
	uint8_t persistent; /* the file is open since the start */
	uint8_t picks;      /* some operation chooses a file */
	uint8_t draws;      /* some operation has a draw of the request's own */
	uint32_t key;       /* of those draws */
	_Atomic uint32_t *turns; /* requests so far, of all threads */
	int16_t group;      /* of the file, or DITTO_NONE */
	const struct ditto_op *sends; /* what sends it */
	uint16_t reply_draw; /* which draw tells the kind of reply, 0: none */
	const struct ditto_send *send;
	struct ditto_send other; /* the same by another call, for the replies that leave by that */
	uint32_t piece; /* that long replies lie in, 0: in one */
};

void plan_setup(const struct codec *codec);

/* Of a class, or of DITTO_NONE. */
const struct plan *plan_of(int cls);

/* What tells a request of the class from others: which file of each group it uses, and its draws. */
uint32_t plan_pick(const struct plan *plan, struct rng *rng);
uint32_t plan_file(const struct plan *plan, uint32_t pick);

/* Whether an operation with a draw of the request's own is made. */
int plan_due(const struct plan *plan, uint32_t pick, const struct ditto_op *op);

/* The number that is drawn for the kind of reply. */
uint32_t plan_reply(const struct plan *plan, uint32_t pick);

#endif
