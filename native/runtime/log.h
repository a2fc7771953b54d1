/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DITTO_LOG_H
#define DITTO_LOG_H

#include "runtime.h"

enum log_state { LOG_NOT_ASKED, LOG_HELD, LOG_DONE };

/* Before there are processes. */
void log_setup(void);

/* Whether the request in work is to write and sync; it then holds the log until it leaves it. */
int log_enter(struct worker *w);
void log_leave(struct worker *w);

#endif
