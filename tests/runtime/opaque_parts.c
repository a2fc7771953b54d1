/* SPDX-License-Identifier: Apache-2.0
 *
 * A request in the clones' own framing (of 44 bytes, or of 3 where the first part is empty) that comes in parts of the
 * sizes told: how many more bytes are wanted after each, and the classes of requests of 8, 14 and 20 bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "codec_opaque.c"

static const struct ditto_class classes[3] = {
	{.match = {.path_print = DITTO_NONE, .min_bytes = 8, .max_bytes = 15}},
	{.match = {.path_print = DITTO_NONE, .min_bytes = 8, .max_bytes = 8}},
	{.match = {.path_print = DITTO_NONE, .max_bytes = 1 << 20}},
};
static const struct ditto_service service = {.classes = 3, .cls = classes};
const struct ditto_service *codec_service = &service;

int main(int argc, char **argv)
{
	static const uint8_t large[44] = {0, 0, 0, 44, 0xff, 0xff, 0, MARKER}, small[3] = {SHORT + 3, WIRE_CLOSE};
	const uint8_t *request = atoi(argv[1]) ? large : small;
	struct codec_state state = {0};
	size_t start = 0, end = 0, used;
	struct request made;

	for (int i = 1; i < argc; i++) {
		end += (size_t)atoi(argv[i]);
		if (opaque_parse(&state, request + start, end - start, &used, &made) == CODEC_REQUEST)
			printf("whole ");
		start += used;
		printf("%u ", opaque_wants(&state, request + start, end - start));
	}
	printf("%d%d%d", class_for(DITTO_NONE, 8), class_for(DITTO_NONE, 14), class_for(DITTO_NONE, 20));
	return 0;
}
