/* SPDX-License-Identifier: Apache-2.0
 *
 * What is sent: scripts of steps, each a request and what tells the end of its reply.
 *
 * The file, little endian:
 *
 *     "DLP1"  u32 framing (enum framing)  u32 scripts
 *     each script:  u32 opening  u32 steps     steps before `opening` are made once a connection, the others over and over
 *     each step:    u32 request bytes  u32 reply bytes  u32 flags (enum step_flags)  the request
 */
#ifndef LOADGEN_PLAN_H
#define LOADGEN_PLAN_H

#include <stdint.h>

enum framing { FRAMING_BYTES, FRAMING_HTTP1, FRAMING_RESP2, FRAMING_MEMCACHED, FRAMING_OPAQUE, FRAMING_PGSQL,
	       FRAMING_MYSQL, FRAMING_FASTCGI, FRAMING_H2,
	       FRAMING_DATAGRAM, FRAMING_DNS /* datagrams: the reply is the next one that comes, or that has the number */ };
enum step_flags { STEP_NOREPLY = 1, STEP_NOBODY = 2, STEP_CLOSE = 4, STEP_NO_ENDS = 8 /* MySQL: as was agreed */ };

struct step {
	const uint8_t *request;
	uint32_t bytes, reply, flags;
};

struct script {
	uint32_t opening, steps;
	struct step *step;
};

struct plan {
	enum framing framing;
	uint32_t scripts;
	struct script *script;
};

/* Reads a plan, or ends the program with one line that says what is wrong with it. */
void plan_read(struct plan *plan, const char *path);

#endif
