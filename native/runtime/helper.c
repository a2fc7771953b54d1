/* SPDX-License-Identifier: Apache-2.0
 *
 * Threads that help when another wakes them: collectors of garbage, compilers, writers.  Each wake-up is worth one run
 * of the role's program by one of them.
 */
#include "runtime.h"

#include <linux/futex.h>
#include <stdatomic.h>

void helper_wake(struct worker *from, unsigned role)
{
	_Atomic uint32_t *word = &from->process->helpers[role];

	if (atomic_load_explicit(word, memory_order_relaxed) < ditto_service.role[role].count)
		atomic_fetch_add(word, 1);
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void helper_main(struct worker *w)
{
	const struct ditto_role *role = w->role;
	_Atomic uint32_t *word = &w->process->helpers[w->role_index];

	for (;;) {
		uint32_t left = atomic_load(word);

		while (left && !atomic_compare_exchange_weak(word, &left, left - 1))
			;
		if (!left) {
			syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
			continue;
		}
		if (role->timers)
			worker_program(w, NULL, &role->timer[0].program);
	}
}
