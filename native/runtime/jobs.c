/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests in progress on a connection: their programs run in the order of the requests, in two passes, and stop and
 * go on when a reply has to wait for the peer.
 */
#include "keys.h"
#include "link.h"
#include "log.h"
#include "plan.h"

#include <string.h>

#define DRAWS 64 /* at most, for a request's reply */

static const struct codec *codec;

void job_setup(void)
{
	codec = codec_by_id(ditto_service.codec);
	plan_setup(codec);
}

static int job_room(struct conn *c)
{
	uint32_t capacity, waiting = c->job_tail - c->job_head;
	struct job *job;

	if (c->job_head && c->job_head >= c->job_cap / 2) {
		memmove(c->job, c->job + c->job_head, waiting * sizeof(*job));
	} else {
		job = (struct job *)pool_wake(&c->worker->pool, POOL_JOBS, (waiting + 4) * 2 * sizeof(*job), &capacity);
		if (!job)
			return -1;
		if (c->job) {
			memcpy(job, c->job + c->job_head, waiting * sizeof(*job));
			pool_put(&c->worker->pool, c->job, c->job_cap * (uint32_t)sizeof(*job));
		}
		c->job = job;
		c->job_cap = (uint16_t)(capacity / sizeof(*job));
	}
	c->job_run = (uint16_t)(c->job_run - c->job_head);
	c->job_tail = (uint16_t)waiting;
	c->job_head = 0;
	return 0;
}

/* Formats the reply of a complete request and queues its program.  Returns -1 without memory. */
int job_add(struct conn *c, struct request *request)
{
	struct worker *w = c->worker;
	const struct plan *plan = plan_of(request->cls);
	uint64_t before = out_end(&c->out);
	struct reply_parts parts = {.lent = NULL};
	struct job *job;

	if (c->job_tail == c->job_cap && job_room(c))
		return -1;
	w->served++;
	worker_stall(w);
	job = &c->job[c->job_tail];
	job->plan = plan;
	job->pick = plan_pick(plan, &w->rng);
	request->file_body = DITTO_NONE;
	request->drawn = plan->reply_draw != 0;
	if (request->drawn)
		request->draw = plan_reply(plan, job->pick);
	for (unsigned tries = 0; request->drawn && codec->fits && !codec->fits(request) && tries < DRAWS; tries++) {
		job->pick = plan_pick(plan, &w->rng);
		request->draw = plan_reply(plan, job->pick);
	}
	if (plan->group != DITTO_NONE && !(plan->sends->draw && !plan_due(plan, job->pick, plan->sends))) {
		uint64_t size;

		file_path(w, (unsigned)plan->group, plan->persistent ? 0 : plan_file(plan, job->pick), &size);
		if (plan->sends->size && request->drawn) {
			request->drawn = REPLY_IN_PART;
		} else if (plan->sends->size) {
			uint32_t part = dist_draw(plan->sends->size, &w->rng, 0);

			size = part < size ? part : size;
		}
		request->file_body = (int64_t)size;
	}
	request->may_lend = plan->send->iovs == 3 && !(plan->traits & TRAIT_DEFERRED) && c->job_head == c->job_tail;
	c->out.piece = plan->piece;
	codec->reply(request, &c->out, &w->rng, &parts);
	if (c->out.failed)
		return -1;
	job->end = out_end(&c->out);
	job->length = (uint32_t)(job->end - before);
	job->lent = parts.lent;
	job->body_left = parts.body;
	job->body_at = 0;
	job->head = parts.head;
	job->tail = parts.tail;
	job->op = 0;
	job->traits = (uint8_t)(plan->traits | pull_traits(request));
	job->resumed = 0;
	job->whole = 0;
	job->ended = 0;
	job->failed = 0;
	c->job_tail++;
	if (ditto_service.codec == DITTO_CODEC_RESP2 && request->key_role >= KEY_HEAR)
		push_told(c, request);
	return 0;
}

enum run job_fail(struct conn *c, struct job *job)
{
	uint64_t at = job->end - job->length;
	uint8_t *start = out_at(&c->out, at, job->length);

	if (job->failed)
		return RUN_DONE;
	job->failed = 1;
	if (!job->length)
		return RUN_DONE;
	send_own(c, job);
	if (codec->fail && start && !codec->fail(start, job->length))
		return RUN_DONE;
	if (c->peer)
		return RUN_DONE; /* a datagram's sender has no connection to see the end of */
	if (out_sent(&c->out) < at && send_until(c, at, NULL) == RUN_DEAD)
		return RUN_DEAD;
	conn_close(c);
	return RUN_DEAD;
}

static enum run reply(struct conn *c, struct job *job, uint32_t index, int pass, const struct ditto_op *op)
{
	uint32_t last = pass == 1 ? c->job_tail : c->job_run;
	int head = op->a;

	send_begin(c, job, op->b && op->nr == job->plan->other.nr ? &job->plan->other : job->plan->send, head);
	if (head && job->head && job->head < job->length && !ditto_service.send.per_read) {
		send_own(c, job);
		return send_until(c, job->end - job->length + job->head, NULL);
	}
	if (ditto_service.send.per_read && index + 1 < last && !(job->traits & TRAIT_SENDFILE)) {
		c->held = 1;
		send_own(c, job);
		return RUN_DONE;
	}
	return send_until(c, job->end, job);
}

static enum run other_op(struct conn *c, struct job *job, const struct ditto_op *op)
{
	struct op_context x = {c->worker, c, job, c->slot, &c->open_slots, plan_file(job->plan, job->pick)};

	return op_run(&x, op);
}

/* Whether an operation is made this time. */
int op_due(struct worker *w, const struct ditto_op *op)
{
	if (!(op->flags & (DITTO_DRAWS | DITTO_DRAWN)))
		return rng_chance(&w->rng, op->prob);
	if (op->flags & DITTO_DRAWS)
		w->drawn = rng_u32(&w->rng);
	return w->drawn - op->start < op->prob;
}

static int due(struct worker *w, const struct job *job, const struct ditto_op *op)
{
	return op->draw ? plan_due(job->plan, job->pick, op) : op_due(w, op);
}

/* Runs what is left of a job in this pass. */
static enum run job_run(struct conn *c, uint32_t index, int pass)
{
	struct job *job = &c->job[index];
	int list = job->whole ? 0 : pass;
	const struct ditto_op *const *op = job->plan->pass[list];
	unsigned n = job->plan->n[list];

	for (unsigned i = job->op; i < n; i++) {
		enum run state;

		if (op[i]->prob != DITTO_ALWAYS && !job->resumed && !due(c->worker, job, op[i]))
			continue;
		if (op[i]->flags & DITTO_LOG && !log_enter(c->worker))
			continue;
		if (op[i]->kind == OP_COMPUTE) {
			worker_block(c->worker, op[i]->block);
			continue;
		}
		if (op[i]->kind == OP_REPLY)
			log_leave(c->worker);
		state = op[i]->kind == OP_REPLY ? reply(c, job, index, pass, op[i]) : other_op(c, job, op[i]);
		if (state != RUN_DONE) {
			log_leave(c->worker);
			job->op = (uint16_t)i;
			job->resumed = 1;
			return state;
		}
		job->resumed = 0;
	}
	log_leave(c->worker);
	job->op = 0;
	return RUN_DONE;
}

/* A job has ended: whatever its program did not send or close is sent and closed. */
static enum run job_end(struct conn *c, struct job *job)
{
	static const struct slot none = {.fd = -1, .size = 0};
	enum run state;

	if (job->lent)
		send_own(c, job);
	if (!c->held || job->body_left) {
		c->send = job->plan->send;
		state = send_until(c, job->end, NULL);
		if (state == RUN_DONE && job->body_left)
			state = send_file(c, job, &none);
		if (state != RUN_DONE)
			return state;
	}
	if (c->open_slots)
		file_close_slots(c->slot, &c->open_slots);
	if (c->links)
		links_release(c);
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

	for (; c->job_run < c->job_tail; c->job_run++) {
		struct job *job = &c->job[c->job_run];

		if (c->job_head < c->job_run && !job->op && !job->resumed && file_ahead(c)) {
			job->whole = 1;
			job->traits |= TRAIT_DEFERRED;
			continue;
		}
		if ((job->traits & TRAIT_PULLS) && pull_holds(c, job))
			return RUN_BLOCKED;
		if (!job->ended) {
			state = job_run(c, c->job_run, 1);
			if (state != RUN_DONE)
				return state;
		}
		if (job->traits & TRAIT_BRINGS)
			pull_brought(c->worker, job);
		if ((job->traits & TRAIT_DEFERRED) || c->job_head < c->job_run)
			continue;
		job->ended = 1; /* should its end be blocked, nothing runs again */
		state = job_end(c, job);
		if (state != RUN_DONE)
			return state;
		c->job_head++;
	}
	return RUN_DONE;
}

static enum run second_pass(struct conn *c)
{
	enum run state;

	for (; c->job_head < c->job_run; c->job_head++) {
		struct job *job = &c->job[c->job_head];

		if ((job->traits & TRAIT_DEFERRED) && !job->ended) {
			state = job_run(c, c->job_head, 2);
			if (state != RUN_DONE)
				return state;
		}
		job->ended = 1;
		state = job_end(c, job);
		if (state != RUN_DONE)
			return state;
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
		/* who pulls looks at how its job ended */
		if (c->job && c->source.fd >= 0) {
			pool_rest(&c->worker->pool, POOL_JOBS, c->job, c->job_cap * (uint32_t)sizeof(*c->job));
			c->job = NULL;
			c->job_cap = 0;
		}
	}
	if (c->job_head != c->job_tail && !(c->held && pass == 2))
		return RUN_DONE;
	c->held = 0;
	if (!out_bytes(&c->out))
		return RUN_DONE;
	return send_until(c, c->job_head == c->job_run ? out_end(&c->out) : c->job[c->job_run - 1].end, NULL);
}
