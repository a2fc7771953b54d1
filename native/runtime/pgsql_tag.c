/* SPDX-License-Identifier: Apache-2.0 */
#include "pgsql.h"

#include <string.h>

static const char *const counted[] = {"SELECT", "INSERT", "UPDATE", "DELETE", "FETCH", "MOVE", "MERGE", "COPY"};
static const char *const other[][2] = {
	{"BEGIN", "BEGIN"}, {"START", "START TRANSACTION"}, {"COMMIT", "COMMIT"}, {"END", "COMMIT"},
	{"ROLLBACK", "ROLLBACK"}, {"ABORT", "ROLLBACK"}, {"SAVEPOINT", "SAVEPOINT"}, {"RELEASE", "RELEASE"}, {"SET", "SET"},
	{"RESET", "RESET"}, {"CREATE", "CREATE TABLE"}, {"DROP", "DROP TABLE"}, {"ALTER", "ALTER TABLE"},
	{"TRUNCATE", "TRUNCATE TABLE"}, {"LOCK", "LOCK TABLE"}, {"VACUUM", "VACUUM"}, {"ANALYZE", "ANALYZE"},
	{"PREPARE", "PREPARE"}, {"DEALLOCATE", "DEALLOCATE"}, {"DISCARD", "DISCARD ALL"}, {"CHECKPOINT", "CHECKPOINT"},
	{"LISTEN", "LISTEN"}, {"UNLISTEN", "UNLISTEN"}, {"NOTIFY", "NOTIFY"}, {"DO", "DO"}, {"CALL", "CALL"},
	{"GRANT", "GRANT"}, {"REVOKE", "REVOKE"}, {"COMMENT", "COMMENT"}, {"CLUSTER", "CLUSTER"}, {"REINDEX", "REINDEX"},
	{"DECLARE", "DECLARE CURSOR"}, {"CLOSE", "CLOSE CURSOR"}, {"SHOW", "SHOW"}, {"EXPLAIN", "EXPLAIN"},
};

static int is(const char *word, const char *verb, size_t len)
{
	return strlen(word) == len && !memcmp(word, verb, len);
}

size_t pgsql_tag(char text[PG_TAG], const char *verb, size_t len, uint32_t rows)
{
	const char *word = "SELECT"; /* WITH, VALUES, TABLE and whatever is not known */
	size_t at;

	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		if (is(other[i][0], verb, len)) {
			strcpy(text, other[i][1]);
			return strlen(text) + 1;
		}
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		if (is(counted[i], verb, len))
			word = counted[i];
	strcpy(text, word);
	if (word == counted[1])
		strcat(text, " 0"); /* once the number of a row */
	strcat(text, " ");
	at = strlen(text);
	at += codec_digits(text + at, rows);
	text[at] = 0;
	return at + 1;
}
