/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes that a request starts: copies that do their work and end, while their parent serves on.  What either
 * writes to meanwhile is copied by the kernel, as it is for the original.
 */
#include "link.h"
#include "worker.h"

#include <signal.h>
#include <sys/prctl.h>

static void work(struct worker *w, const struct ditto_role *role)
{
	struct slot slot[REQUEST_SLOTS];
	uint32_t open = 0;
	struct op_context x = {.worker = w, .conn = NULL, .job = NULL, .slot = slot, .open_slots = &open};

	x.pick = ditto_service.file_groups ? rng_u32(&w->rng) : 0;
	for (unsigned i = 0; i < role->timers; i++)
		for (uint32_t k = 0; k < role->timer[i].times; k++)
			op_program(&x, &role->timer[i].program);
}

void child_fork(struct worker *from, int role)
{
	if (role < 0 || role >= ditto_service.roles)
		return;
	children_reaped();
	if (fork() != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	link_time_forked();
	work(from, &ditto_service.role[role]);
	_exit(0);
}
