/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The little that must be known of an x86-64 instruction's bytes when its block is translated. */
#ifndef LENS_DECODE_H
#define LENS_DECODE_H

#include "pub_tool_basics.h"

/* jcc, loop*, jrcxz; sets the branch's target. */
Bool decode_is_cond(const UChar* code, UInt len, Addr addr, Addr* target);
/* A jcc whose condition is the negation of its pair (jnz, jae, ...). */
Bool decode_is_negated(const UChar* code, UInt len);
/* A string instruction with a rep prefix. */
Bool decode_is_rep(const UChar* code, UInt len);
/* An unconditional direct jump. */
Bool decode_is_jump(const UChar* code, UInt len);
/* bt, bts, btr, btc on a register: Valgrind models it through memory that the program never touches. */
Bool decode_is_bit_test_reg(const UChar* code, UInt len);

#endif
