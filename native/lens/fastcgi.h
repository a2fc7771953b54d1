/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LENS_FASTCGI_H
#define LENS_FASTCGI_H

#include "pub_tool_basics.h"

/* Writes the class of what was received on a connection into key (of CLASS_LEN); returns its length, 0 for none. */
UInt fastcgi_class(const HChar* p, ULong n, Int fd, HChar* key);

#endif
