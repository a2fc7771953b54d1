/* SPDX-License-Identifier: Apache-2.0 */
#include "plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fail.h"

#define MOST_BYTES ((long)1 << 30)
#define MOST_STEPS (1u << 24)

struct reader {
	const char *path;
	const uint8_t *p, *end;
};

static void damaged(const struct reader *r, const char *what)
{
	fail("%s: not a load plan: %s", r->path, what);
}

static uint32_t number(struct reader *r)
{
	uint32_t value;

	if (r->end - r->p < 4)
		damaged(r, "it ends too early");
	memcpy(&value, r->p, 4);
	r->p += 4;
	return value;
}

static void read_script(struct reader *r, struct script *script)
{
	script->opening = number(r);
	script->steps = number(r);
	if (script->steps == 0 || script->steps > MOST_STEPS || script->opening >= script->steps)
		damaged(r, "a script without steps");
	script->step = calloc(script->steps, sizeof(*script->step));
	if (!script->step)
		fail("no memory for %u steps", script->steps);
	for (uint32_t i = 0; i < script->steps; i++) {
		struct step *step = &script->step[i];

		step->bytes = number(r);
		step->reply = number(r);
		step->flags = number(r);
		if (step->bytes > (size_t)(r->end - r->p))
			damaged(r, "it ends inside a request");
		step->request = r->p;
		r->p += step->bytes;
	}
}

void plan_read(struct plan *plan, const char *path)
{
	FILE *file = fopen(path, "rb");
	struct reader r = {.path = path};
	uint8_t *data;
	long size;

	if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0 || size > MOST_BYTES || fseek(file, 0, SEEK_SET))
		fail("%s: cannot be read", path);
	data = malloc((size_t)size + 1);
	if (!data || fread(data, 1, (size_t)size, file) != (size_t)size)
		fail("%s: cannot be read", path);
	fclose(file);
	r.p = data;
	r.end = data + size;
	if (size < 4 || memcmp(data, "DLP1", 4) != 0)
		damaged(&r, "no \"DLP1\" at its start");
	r.p += 4;
	plan->framing = (enum framing)number(&r);
	plan->scripts = number(&r);
	if (plan->framing > FRAMING_DNS)
		damaged(&r, "a framing that is not known");
	if (plan->scripts == 0 || plan->scripts > MOST_STEPS)
		damaged(&r, "no scripts");
	plan->script = calloc(plan->scripts, sizeof(*plan->script));
	if (!plan->script)
		fail("no memory for %u scripts", plan->scripts);
	for (uint32_t i = 0; i < plan->scripts; i++)
		read_script(&r, &plan->script[i]);
}
