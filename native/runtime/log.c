/* SPDX-License-Identifier: Apache-2.0
 *
 * A log that requests of several threads or processes write and sync for each other: whoever finds it free writes what all
 * have asked for until then, and those who wait find theirs done when it is free again, or are the next.  So with more
 * requests at a time there are fewer syncs for each, as in the original.
 */
#include "log.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#define PATIENCE_S 10 /* whoever holds it that long has died with it */

struct log {
	_Atomic uint32_t held, waiting;
	_Atomic uint64_t asked, done; /* requests, by their turn */
};

static struct log *the_log;

void log_setup(void)
{
	if (the_log)
		return;
	the_log = mmap(NULL, sizeof(*the_log), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (the_log == MAP_FAILED)
		fail("memory for a log");
}

static int take(struct worker *w, uint64_t turn)
{
	uint32_t free_now = 0;

	if (!atomic_compare_exchange_strong(&the_log->held, &free_now, 1))
		return 0;
	w->log = LOG_HELD;
	w->log_until = the_log->done < turn ? the_log->asked : 0;
	if (!w->log_until)
		log_leave(w);
	return 1;
}

int log_enter(struct worker *w)
{
	const struct timespec patience = {.tv_sec = PATIENCE_S};
	uint64_t turn;

	if (w->log != LOG_NOT_ASKED)
		return w->log == LOG_HELD;
	turn = atomic_fetch_add(&the_log->asked, 1) + 1;
	while (!take(w, turn)) {
		the_log->waiting++;
		if (syscall(SYS_futex, &the_log->held, FUTEX_WAIT, 1, &patience, NULL, 0) < 0 && errno == ETIMEDOUT)
			the_log->held = 0;
		the_log->waiting--;
		if (the_log->done >= turn)
			break;
	}
	if (w->log == LOG_HELD)
		return 1;
	w->log = LOG_DONE;
	return 0;
}

void log_leave(struct worker *w)
{
	if (w->log == LOG_HELD) {
		if (the_log->done < w->log_until)
			the_log->done = w->log_until;
		the_log->held = 0;
		for (uint32_t n = the_log->waiting; n; n--)
			syscall(SYS_futex, &the_log->held, FUTEX_WAKE, 1, NULL, NULL, 0);
	}
	w->log = LOG_NOT_ASKED;
}
