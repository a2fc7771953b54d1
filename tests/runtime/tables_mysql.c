/* SPDX-License-Identifier: Apache-2.0
 *
 * The same database, spoken to in the other protocol. */
#define TEST_MYSQL 1
#define TEST_CODEC DITTO_CODEC_MYSQL
#ifndef TEST_HANDOVER
#define TEST_HANDOVER DITTO_HAND_SPAWN_THREAD
#endif
#include "tables_pgsql.c"
