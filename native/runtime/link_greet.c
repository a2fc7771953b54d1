/* SPDX-License-Identifier: Apache-2.0
 *
 * What a session with a database begins with.
 */
#include "link.h"

enum { NOT_GREETED, GREETED, GREETING, IS_GREETED };

/* A database takes statements once a session has begun, which is a part of making the connection.  One greets first. */
enum run link_greet(struct link *l)
{
	static const uint8_t hello[] = "\0\0\0\x1b\0\3\0\0user\0x\0database\0x\0";
	static const struct ditto_request startup = {.length = sizeof(hello), .bytes = hello};
	/* capabilities, longest packet, characters; 23 bytes of nothing; user, no password, how that would be hidden */
	static const uint8_t name[] = "\x3c\0\0\1" "\x05\xa2\x08\0" "\0\0\0\1" "!" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
				      "user\0" "\0" "mysql_native_password";
	static const struct ditto_request login = {.length = sizeof(name), .bytes = name};
	static const struct ditto_op plain = {.kind = OP_CALL, .nr = SYS_sendto, .b = MSG_NOSIGNAL};

	_Static_assert(sizeof(name) == 64, "as its head says");
	if (l->greeting == NOT_GREETED) {
		l->greeting = GREETED;
		if (l->to->service->codec == DITTO_CODEC_PGSQL) {
			link_begin_request(l, &startup, 0);
			l->greeting = GREETING;
		} else if (l->to->service->codec == DITTO_CODEC_MYSQL) {
			frame_begin(&l->frame, DITTO_CODEC_MYSQL, 0);
			l->pending = 1;
			l->greeting = IS_GREETED;
		}
	}
	if (l->greeting == IS_GREETED) {
		if (link_await(l, NULL) == RUN_BLOCKED)
			return RUN_BLOCKED;
		link_begin_request(l, &login, 0);
		l->greeting = GREETING;
	}
	if (l->greeting == GREETED)
		return RUN_DONE;
	if (l->calling && link_send_part(l, &plain) == RUN_BLOCKED)
		return RUN_BLOCKED;
	if (link_await(l, NULL) == RUN_BLOCKED)
		return RUN_BLOCKED;
	l->greeting = GREETED;
	return RUN_DONE;
}
