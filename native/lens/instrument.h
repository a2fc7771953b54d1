/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LENS_INSTRUMENT_H
#define LENS_INSTRUMENT_H

#include "pub_tool_basics.h"
#include "pub_tool_tooliface.h"

IRSB* lens_instrument(VgCallbackClosure* closure, IRSB* in, const VexGuestLayout* layout, const VexGuestExtents* vge,
                      const VexArchInfo* host, IRType guest_word, IRType host_word);

#endif
