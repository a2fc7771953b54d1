/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for body.c where a test needs no compute blocks. */
#include "body.h"

int ditto_body_init(struct ditto_body *body, const struct ditto_body_layout *layout, uint64_t seed)
{
	(void)layout;
	body->random = seed | 1;
	return 0;
}

void ditto_body_stall(struct ditto_body *body, uint32_t reads)
{
	(void)body;
	(void)reads;
}

void ditto_body_free(struct ditto_body *body, const struct ditto_body_layout *layout)
{
	(void)body;
	(void)layout;
}
