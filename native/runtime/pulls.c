/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs that one service leaves in a store and another fetches: in the store a request that takes an element (BRPOP and its
 * like) is answered once one was brought, whatever its key, for callers have filler for keys; and threads that
 * receive no requests but fetch their jobs themselves.
 */
#include "link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <time.h>

#define RETRY_NS 100000000 /* after a fetch that failed: the store is gone */

int pull_traits(const struct request *request)
{
	if (ditto_service.codec != DITTO_CODEC_RESP2 || request->cls == DITTO_NONE)
		return 0;
	return request->key_role == KEY_PULL ? TRAIT_PULLS : request->key_role == KEY_PUSH ? TRAIT_BRINGS : 0;
}

int pull_holds(struct conn *c, struct job *job)
{
	struct worker *w = c->worker;

	if (w->brought) {
		w->brought--;
		job->traits &= (uint8_t)~TRAIT_PULLS;
		return 0;
	}
	c->blocked = BLOCKED_PULL;
	c->next_pull = NULL;
	*(w->pulls ? &w->last_pull->next_pull : &w->pulls) = c;
	w->last_pull = c;
	return 1;
}

void pull_brought(struct worker *w, struct job *job)
{
	struct conn *c = w->pulls;

	job->traits &= (uint8_t)~TRAIT_BRINGS;
	w->brought++;
	if (!c)
		return;
	w->pulls = c->next_pull;
	conn_resume(c);
}

void pull_forget(struct conn *c)
{
	struct worker *w = c->worker;
	struct conn *before = NULL, *at = w->pulls;

	for (; at && at != c; at = at->next_pull)
		before = at;
	if (!at)
		return;
	*(before ? &before->next_pull : &w->pulls) = c->next_pull;
	if (w->last_pull == c)
		w->last_pull = before;
}

int pull_ended(struct conn *c)
{
	uint8_t byte;

	return recv(c->source.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* A class by its share. */
static int16_t drawn(struct worker *w)
{
	uint32_t at = rng_u32(&w->rng);
	unsigned i = 0;

	while (i + 1u < ditto_service.classes && ditto_service.cls[i].prob <= at)
		i++;
	return (int16_t)i;
}

/* Whoever connects only looks whether the service is up. */
static void *turn_away(void *argument)
{
	(void)argument;
	for (;;) {
		int fd = accept4(listener_fd, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			close(fd);
		else if (errno != EAGAIN || wait_descriptor(listener_fd, POLLIN, -1) < 0)
			return NULL;
	}
}

void pull_main(struct worker *w)
{
	static const struct timespec retry = {.tv_nsec = RETRY_NS};
	struct conn c = {.source = {.fd = -1, .type = SOURCE_CONN, .place = -1}, .worker = w};
	pthread_t thread;

	c.out.pool = &w->pool;
	if (w->number == 0 && listener_fd >= 0 && pthread_create(&thread, NULL, turn_away, NULL))
		fail("thread");
	for (;;) {
		struct request request = {.cls = drawn(w), .flags = REQ_NOREPLY};

		if (job_add(&c, &request))
			fail("memory for jobs");
		conn_run(&c, 1);
		if (c.job[0].failed)
			nanosleep(&retry, NULL);
	}
}
