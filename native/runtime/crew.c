/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of threads that serve one connection at a time: whoever accepts puts connections into a queue, and whichever
 * thread is free takes the next.  Or its threads are made as they are needed, and kept for the connections to come.
 */
#include "worker.h"

#include <pthread.h>

#define PLACES 4096u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static int waiting[PLACES];
static unsigned head, tail, idle;

int crew_takes(unsigned role, enum ditto_handover by)
{
	for (unsigned r = 0; r < ditto_service.roles; r++)
		if (ditto_service.role[r].handover == by && ditto_service.role[r].hand_to == (int)role)
			return 1;
	return 0;
}

int crew_offer(int fd)
{
	int busy;

	pthread_mutex_lock(&lock);
	busy = idle <= tail - head;
	if (!busy)
		waiting[tail++ % PLACES] = fd;
	pthread_mutex_unlock(&lock);
	/* Woken with the lock held, the thread would wait for that next wherever it runs before this one goes on. */
	if (!busy)
		pthread_cond_signal(&some);
	return busy ? -1 : 0;
}

int crew_hand(int fd)
{
	int full;

	pthread_mutex_lock(&lock);
	full = tail - head == PLACES;
	if (!full)
		waiting[tail++ % PLACES] = fd;
	pthread_cond_signal(&some);
	pthread_mutex_unlock(&lock);
	return full ? -1 : 0;
}

void crew_main(struct worker *w)
{
	for (;;) {
		int fd;

		pthread_mutex_lock(&lock);
		idle++;
		while (head == tail)
			pthread_cond_wait(&some, &lock);
		idle--;
		fd = waiting[head++ % PLACES];
		pthread_mutex_unlock(&lock);
		serve_connection(w, fd);
	}
}
