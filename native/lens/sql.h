/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Classes of requests of databases. */
#ifndef LENS_SQL_H
#define LENS_SQL_H

#include "pub_tool_basics.h"

#define SQL_KEY 76 /* longest class, as CLASS_LEN */
#define SQL_CONNECTIONS 65536

/* Writes the class of what was received on a connection into key; returns its length, 0 for none. */
UInt sql_pgsql(const HChar* p, ULong n, Int fd, HChar* key);
UInt sql_mysql(const HChar* p, ULong n, Int fd, HChar* key);
/* What was sent on a connection: the reply to a statement that is prepared tells its number. */
void sql_mysql_reply(const HChar* p, ULong n, Int fd);
void sql_forget(Int fd); /* the connection has ended */

#endif
