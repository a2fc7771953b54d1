/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages between the threads of a process: between message.c and those that wait for them.
 */
#ifndef DITTO_MESSAGE_H
#define DITTO_MESSAGE_H

#include "runtime.h"

void message_join(struct worker *w); /* gives a thread the inbox of its own, or the one that its role has in common */
void message_pass(struct op_context *x, const struct ditto_op *op); /* OP_NOTIFY to a role with an inbox */
enum run message_await(struct op_context *x); /* OP_AWAIT */
enum run message_yield(struct op_context *x); /* OP_YIELD */
void message_want_answer(struct conn *c, struct job *job);
void message_answer(struct worker *w, const struct ditto_op *op); /* OP_REPLY for a request of another thread */
int message_answered(struct conn *c); /* another thread has sent the reply, or has none to send; 0: not yet */
void message_ready(struct worker *w); /* reads its own inbox, and takes up the requests that have come back */
void message_yielded(struct worker *w); /* after a wait: takes up what waited for that */
struct source *message_source(struct worker *w); /* what it waits for; NULL for none */
void message_main(struct worker *w) __attribute__((noreturn));

#endif
