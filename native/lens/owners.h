/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which lines threads share: a line is, from the second thread that touches it on, until one thread has touched it many
 * times in a row (whoever set memory up may be another than the one that works on it).  Only touches of lines that
 * have been left for some others are told, see `DEEP`: threads touch nothing in turn from one instruction to the next. */
#ifndef OWNERS_H
#define OWNERS_H

#include "pub_tool_basics.h"

#define DEEP 4 /* first bucket that is told: 8 other lines and more */

/* 1 if thread `serial` (not 0) touches a line that others work on as well. */
UInt owners_touch(UInt serial, ULong line);

#endif
