/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests in progress on a connection: their programs run in the order of the requests, in two passes, and stop and
 * go on when a reply has to wait for the peer.
 */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

/* What a class's program means for the job, worked out once. */
struct plan {
	uint8_t traits;
	int16_t group;      /* of the file that OP_SENDFILE sends */
	uint8_t persistent; /* that file is open since the start */
};

static struct plan *plans;
static struct ditto_op default_op[1];
static struct ditto_program default_program = {.n = 1, .op = default_op};

static struct plan plan_for(const struct ditto_program *program)
{
	struct plan plan = {.traits = 0, .group = DITTO_NONE};
	int slot = -1;

	for (unsigned i = 0; i < program->n; i++) {
		const struct ditto_op *op = &program->op[i];

		if (op->flags & DITTO_DEFERRED)
			plan.traits |= TRAIT_DEFERRED;
		if (op->kind == OP_SENDFILE) {
			plan.traits |= TRAIT_SENDFILE;
			slot = op->a;
		}
	}
	for (unsigned i = 0; slot >= 0 && i < program->n; i++)
		if (program->op[i].kind == OP_FILE_OPEN && program->op[i].b == slot)
			plan.group = (int16_t)program->op[i].a;
	plan.persistent = slot >= DITTO_SLOT_PERSISTENT;
	for (unsigned p = 0; plan.persistent && p < ditto_service.processes; p++)
		for (unsigned i = 0; i < ditto_service.process[p].opens; i++)
			if (ditto_service.process[p].open_at_start[i].slot == slot)
				plan.group = (int16_t)ditto_service.process[p].open_at_start[i].group;
	return plan;
}

void job_setup(void)
{
	plans = calloc(ditto_service.classes + 1u, sizeof(*plans));
	if (!plans)
		fail("memory for classes");
	default_op[0] = (struct ditto_op){.kind = OP_REPLY, .prob = DITTO_ALWAYS};
	for (unsigned i = 0; i < ditto_service.classes; i++) {
		const struct ditto_program *program = &ditto_service.cls[i].program;

		plans[i] = plan_for(program);
		for (unsigned k = 0; k < program->n; k++) /* replies of no class leave when the others do */
			if (program->op[k].kind == OP_REPLY)
				default_op[0].flags |= program->op[k].flags;
	}
	plans[ditto_service.classes] = plan_for(&default_program);
}

static int job_room(struct conn *c)
{
	uint32_t capacity, waiting = c->job_tail - c->job_head;
	struct job *job;

	if (c->job_head && c->job_head >= c->job_cap / 2) {
		memmove(c->job, c->job + c->job_head, waiting * sizeof(*job));
	} else {
		job = pool_get(&c->worker->pool, (waiting + 4) * 2 * sizeof(*job), &capacity);
		if (!job)
			return -1;
		if (c->job) {
			memcpy(job, c->job + c->job_head, waiting * sizeof(*job));
			pool_put(&c->worker->pool, c->job, c->job_cap * (uint32_t)sizeof(*job));
		}
		c->job = job;
		c->job_cap = capacity / (uint32_t)sizeof(*job);
	}
	c->job_run -= c->job_head;
	c->job_tail -= c->job_head;
	c->job_head = 0;
	return 0;
}

/* Formats the reply of a complete request and queues its program.  Returns -1 without memory. */
int job_add(struct conn *c, const struct request *request)
{
	struct worker *w = c->worker;
	unsigned cls = request->cls == DITTO_NONE ? ditto_service.classes : (unsigned)request->cls;
	const struct plan *plan = &plans[cls];
	struct request filled = *request;
	struct reply_parts parts = {0, 0, 0};
	struct job *job;

	if (c->job_tail == c->job_cap && job_room(c))
		return -1;
	job = &c->job[c->job_tail];
	job->program = cls == ditto_service.classes ? &default_program : &ditto_service.cls[cls].program;
	job->traits = plan->traits;
	job->pick = 0;
	if (plan->group != DITTO_NONE || ditto_service.file_groups)
		job->pick = plan->persistent ? 0 : rng_u32(&w->rng);
	filled.file_body = DITTO_NONE;
	if (plan->group != DITTO_NONE && (plan->traits & TRAIT_SENDFILE)) {
		uint64_t size;

		file_path(w, (unsigned)plan->group, job->pick, &size);
		filled.file_body = (int64_t)size;
	}
	codec_by_id(ditto_service.codec)->reply(&filled, &c->out, &w->rng, &parts);
	if (c->out.failed)
		return -1;
	job->end = out_end(&c->out);
	job->body_left = parts.body;
	job->body_at = 0;
	job->head = parts.head;
	job->tail = parts.tail;
	job->op = 0;
	job->resumed = 0;
	job->whole = 0;
	c->job_tail++;
	return 0;
}

static enum run reply(struct conn *c, struct job *job, uint32_t index, int pass)
{
	uint32_t last = pass == 1 ? c->job_tail : c->job_run;

	if (ditto_service.send.per_read && index + 1 < last && !(job->traits & TRAIT_SENDFILE)) {
		c->held = 1;
		return RUN_DONE;
	}
	return send_until(c, job->end, job);
}

/* Runs what is left of a job in this pass. */
static enum run job_run(struct conn *c, uint32_t index, int pass)
{
	struct job *job = &c->job[index];
	const struct ditto_program *program = job->program;
	struct op_context x = {c->worker, c, job, c->slot, &c->open_slots, job->pick};
	enum run state = RUN_DONE;

	for (; job->op < program->n; job->op++) {
		const struct ditto_op *op = &program->op[job->op];

		if (!job->whole && (op->flags & DITTO_DEFERRED) != (pass == 1 ? 0 : DITTO_DEFERRED))
			continue;
		if (!job->resumed && !rng_chance(&c->worker->rng, op->prob))
			continue;
		job->resumed = 1;
		if (op->kind == OP_COMPUTE)
			worker_block(c->worker, op->block);
		else if (op->kind == OP_REPLY)
			state = reply(c, job, index, pass);
		else
			state = op_run(&x, op);
		if (state != RUN_DONE)
			return state;
		job->resumed = 0;
	}
	job->op = 0;
	return RUN_DONE;
}

/* A job has ended: whatever its program did not send or close is sent and closed. */
static enum run job_end(struct conn *c, struct job *job)
{
	static const struct slot none = {.fd = -1, .size = 0};
	enum run state;

	if (!c->held || job->body_left) {
		state = send_until(c, job->end, NULL);
		if (state == RUN_DONE && job->body_left)
			state = send_file(c, job, &none);
		if (state != RUN_DONE)
			return state;
	}
	if (c->open_slots)
		file_close_slots(c->slot, &c->open_slots);
	return RUN_DONE;
}

/* Whether the second pass of an earlier job still sends a file: then nothing may overtake it. */
static int file_ahead(const struct conn *c)
{
	for (uint32_t i = c->job_head; i < c->job_run; i++)
		if (c->job[i].traits & TRAIT_SENDFILE || c->job[i].whole)
			return 1;
	return 0;
}

static enum run first_pass(struct conn *c)
{
	enum run state;

	while (c->job_run < c->job_tail) {
		struct job *job = &c->job[c->job_run];

		if (c->job_head < c->job_run && !job->op && !job->resumed && file_ahead(c)) {
			job->whole = 1;
			job->traits |= TRAIT_DEFERRED;
		} else if (job->op < job->program->n) {
			state = job_run(c, c->job_run, 1);
			if (state != RUN_DONE)
				return state;
		}
		if (!(job->traits & TRAIT_DEFERRED)) {
			if (c->job_head == c->job_run) {
				job->op = job->program->n; /* should its end be blocked, nothing runs again */
				state = job_end(c, job);
				if (state != RUN_DONE)
					return state;
				c->job_head++;
			}
		}
		c->job_run++;
	}
	return RUN_DONE;
}

static enum run second_pass(struct conn *c)
{
	enum run state;

	while (c->job_head < c->job_run) {
		struct job *job = &c->job[c->job_head];

		if ((job->traits & TRAIT_DEFERRED) && job->op < job->program->n) {
			state = job_run(c, c->job_head, 2);
			if (state != RUN_DONE)
				return state;
		}
		job->op = job->program->n;
		state = job_end(c, job);
		if (state != RUN_DONE)
			return state;
		c->job_head++;
	}
	return RUN_DONE;
}

/* Runs the jobs of one pass.  What a pass held back leaves at its end. */
enum run conn_run(struct conn *c, int pass)
{
	enum run state = pass == 1 ? first_pass(c) : second_pass(c);

	if (state != RUN_DONE)
		return state;
	if (c->job_head == c->job_tail) {
		c->job_head = c->job_run = c->job_tail = 0;
		if (c->job_cap > 64) {
			pool_put(&c->worker->pool, c->job, c->job_cap * (uint32_t)sizeof(*c->job));
			c->job = NULL;
			c->job_cap = 0;
		}
	}
	if (c->job_head != c->job_tail && !(c->held && pass == 2))
		return RUN_DONE;
	c->held = 0;
	if (c->out.start == c->out.end)
		return RUN_DONE;
	return send_until(c, c->job_head == c->job_run ? out_end(&c->out) : c->job[c->job_run - 1].end, NULL);
}
