/* SPDX-License-Identifier: Apache-2.0
 *
 * What the requests of a class run, worked out once from the tables.
 */
#include "log.h"
#include "plan.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define LEAST_PIECE 4096 /* shorter vectors are parts of a reply, such as its head, and no buffers */

static struct plan *plans;
static struct ditto_op default_op[1];
static struct ditto_program default_program = {.n = 1, .op = default_op};

static int sent_group(const struct ditto_program *program, int slot)
{
	int group = DITTO_NONE;

	for (unsigned i = 0; slot >= 0 && i < program->n; i++)
		if (program->op[i].kind == OP_FILE_OPEN && program->op[i].b == slot)
			group = program->op[i].a;
	for (unsigned p = 0; slot >= DITTO_SLOT_PERSISTENT && p < ditto_service.processes; p++)
		for (unsigned i = 0; i < ditto_service.process[p].opens; i++)
			if (ditto_service.process[p].open_at_start[i].slot == slot)
				group = ditto_service.process[p].open_at_start[i].group;
	return group;
}

static int sends(unsigned nr)
{
	return nr == SYS_write || nr == SYS_writev || nr == SYS_sendto || nr == SYS_sendmsg;
}

static void make_plan(struct plan *plan, const struct ditto_program *program, const struct ditto_send *send,
		      const struct codec *codec)
{
	const struct ditto_op **ops = calloc(3 * ((size_t)program->n + 1), sizeof(*ops));
	int slot = -1;

	if (!ops)
		fail("memory for classes");
	*plan = (struct plan){.pass = {ops, ops + program->n, ops + 2 * (size_t)program->n}};
	for (unsigned i = 0; i < program->n; i++) {
		const struct ditto_op *op = &program->op[i];
		unsigned pass = op->flags & DITTO_DEFERRED ? 2 : 1;

		plan->pass[0][plan->n[0]++] = op;
		plan->pass[pass][plan->n[pass]++] = op;
		if (pass == 2)
			plan->traits |= TRAIT_DEFERRED;
		if (op->kind == OP_SENDFILE) {
			plan->traits |= TRAIT_SENDFILE;
			slot = op->a;
			plan->sends = op;
		}
		if (op->kind == OP_FILE_OPEN || op->kind == OP_FILE_STAT)
			plan->picks = 1;
		plan->draws |= op->draw > 0;
	}
	plan->turns = calloc(1, sizeof(*plan->turns));
	if (!plan->turns)
		fail("memory for classes");
	plan->key = (uint32_t)rng_mix(options.seed ^ (uint64_t)(plan - plans));
	plan->persistent = slot >= DITTO_SLOT_PERSISTENT;
	plan->group = (int16_t)sent_group(program, slot);
	plan->send = send ? send : &ditto_service.send;
	for (unsigned i = 0; i < program->n; i++) {
		const struct ditto_op *op = &program->op[i];

		if (op->kind == OP_REPLY && op->b && sends(op->nr) && op->nr != plan->send->nr) {
			plan->other = *plan->send;
			plan->other.nr = op->nr;
		}
	}
	if (codec->appends && plan->send->iov_bytes >= LEAST_PIECE)
		plan->piece = plan->send->iov_bytes;
}

void plan_setup(const struct codec *codec)
{
	plans = calloc(ditto_service.classes + 1u, sizeof(*plans));
	if (!plans)
		fail("memory for classes");
	default_op[0] = (struct ditto_op){.kind = OP_REPLY, .prob = DITTO_ALWAYS};
	for (unsigned i = 0; i < ditto_service.classes; i++) {
		const struct ditto_program *program = &ditto_service.cls[i].program;

		make_plan(&plans[i], program, ditto_service.cls[i].send, codec);
		plans[i].rounds = ditto_service.cls[i].rounds;
		plans[i].reply_draw = ditto_service.cls[i].reply_draw;
		for (unsigned k = 0; k < program->n; k++) /* replies of no class leave when the others do */
			if (program->op[k].kind == OP_REPLY)
				default_op[0].flags |= program->op[k].flags;
			else if (program->op[k].flags & DITTO_LOG)
				log_setup();
	}
	make_plan(&plans[ditto_service.classes], &default_program, NULL, codec);
}

const struct plan *plan_of(int cls)
{
	return &plans[cls == DITTO_NONE ? ditto_service.classes : (unsigned)cls];
}

uint32_t plan_pick(const struct plan *plan, struct rng *rng)
{
	if (plan->draws)
		return atomic_fetch_add_explicit(plan->turns, 1, memory_order_relaxed);
	return plan->picks ? rng_u32(rng) : 0;
}

uint32_t plan_file(const struct plan *plan, uint32_t pick)
{
	return plan->draws ? (uint32_t)rng_mix(plan->key ^ (uint64_t)pick << 32) : pick;
}

int plan_due(const struct plan *plan, uint32_t pick, const struct ditto_op *op)
{
	uint32_t key = plan->key + op->draw;
	uint32_t drawn = op->flags & DITTO_EVEN ? rng_even(pick, key) : (uint32_t)rng_mix(key ^ (uint64_t)pick << 32);

	return drawn - op->start < op->prob;
}

uint32_t plan_reply(const struct plan *plan, uint32_t pick)
{
	return (uint32_t)rng_mix((plan->key + plan->reply_draw) ^ (uint64_t)pick << 32);
}
