/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LENS_H2_H
#define LENS_H2_H

#include "pub_tool_basics.h"

/* Writes the class of the first request in what was received on a connection into key (of CLASS_LEN); returns its length, 0
 * for none. */
UInt h2_class(const HChar* p, ULong n, Int fd, HChar* key);

/* The connection is another one from now on. */
void h2_forget(Int fd);

#endif
