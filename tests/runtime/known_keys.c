/* SPDX-License-Identifier: Apache-2.0
 *
 * A store that is known to start empty, and one that is not: what reads find before and after the first key is stored. */
#include <stdio.h>
#include <stdlib.h>

#include "codec_standin.h"
#include "keys.c"
#include "values.c"

const struct ditto_service ditto_service = {.version = DITTO_TABLES_VERSION};

int main(int argc, char **argv)
{
	const uint8_t *value = NULL;
	uint32_t size = 0;
	int before;

	keys_setup(argc > 1 && atoi(argv[1]));
	for (int round = 0; round < 2; round++) {
		before = keys_read(7ull << 40, &value, &size);
		keys_store(7ull << 40, (const uint8_t *)"abc", 3);
		printf("%d %d %d\n", before, keys_read(7ull << 40, &value, &size), keys_read(8ull << 40, &value, &size));
		keys_forget();
	}
	return 0;
}
