/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections that are sent what others tell: who has asked to hear a channel gets a reply without a request for each
 * message on it, in the order and the calls in which replies leave.
 */
#include "keys.h"
#include "resp.h"
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

#define CHANNELS 256u /* lists by hash */
#define MOST_WAITING 4096 /* messages for a connection that does not take them; more are lost */

struct hearer {
	struct hearer *next;
	struct conn *conn;
	uint64_t channel;
	uint8_t length;
	char name[64];
};

static __thread struct hearer **channels; /* NULL before anyone of this thread hears */

static void hear(struct conn *c, const struct request *request)
{
	struct hearer *new, **list;

	if (!channels)
		channels = calloc(CHANNELS, sizeof(*channels));
	if (!channels)
		return;
	list = &channels[request->key_hash % CHANNELS];
	for (struct hearer *old = *list; old; old = old->next)
		if (old->conn == c && old->channel == request->key_hash)
			return;
	new = calloc(1, sizeof(*new));
	if (!new)
		return;
	new->conn = c;
	new->channel = request->key_hash;
	new->length = (uint8_t)request->note_len;
	memcpy(new->name, request->note, request->note_len);
	new->next = *list;
	*list = new;
	c->hears = 1;
}

static void tell(struct conn *from, const struct hearer *to, const struct request *told)
{
	struct conn *c = to->conn;
	struct request message = {
		.cls = DITTO_NONE, .canned = RESP_D_MESSAGE, .flags = c->codec.flags & REQ_RESP3, .note = to->name,
		.note_len = to->length, .value = told->value, .value_size = told->value_size,
	};

	if (c->dead || c->job_tail - c->job_head >= MOST_WAITING || job_add(c, &message))
		return;
	if (c == from || c->blocked)
		return; /* it goes on by itself */
	conn_run(c, 1);
	conn_settle(c);
}

void push_told(struct conn *c, const struct request *request)
{
	if (request->key_role == KEY_HEAR) {
		if (request->canned == RESP_D_SUBSCRIBE && request->note_len <= sizeof(channels[0]->name))
			hear(c, request);
		return;
	}
	if (request->canned == RESP_D_QUEUED || !channels)
		return;
	for (struct hearer *to = channels[request->key_hash % CHANNELS], *next; to; to = next) {
		next = to->next;
		if (to->channel == request->key_hash)
			tell(c, to, request);
	}
}

void push_forget(struct conn *c)
{
	c->hears = 0;
	for (unsigned i = 0; channels && i < CHANNELS; i++)
		for (struct hearer **at = &channels[i]; *at;) {
			struct hearer *gone = *at;

			if (gone->conn != c) {
				at = &gone->next;
				continue;
			}
			*at = gone->next;
			free(gone);
		}
}
