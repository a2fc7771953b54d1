/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "decode.h"

/* Index of the opcode: past legacy prefixes and REX. */
static UInt skip_prefixes(const UChar* c, UInt len, Bool* rep) {
   UInt i = 0;
   if (rep) *rep = False;
   for (; i < len; i++) {
      UChar b = c[i];
      if (b == 0xf2 || b == 0xf3) {
         if (rep) *rep = True;
      } else if (!(b == 0x66 || b == 0x67 || b == 0xf0 || b == 0x2e || b == 0x36 || b == 0x3e || b == 0x26 ||
                   b == 0x64 || b == 0x65))
         break;
   }
   if (i < len && (c[i] & 0xf0) == 0x40) i++;
   return i;
}

Bool decode_is_cond(const UChar* c, UInt len, Addr addr, Addr* target) {
   UInt i = skip_prefixes(c, len, 0);
   if (i + 1 < len && ((c[i] >= 0x70 && c[i] <= 0x7f) || (c[i] >= 0xe0 && c[i] <= 0xe3))) {
      *target = addr + len + (Addr)(Long)(Char)c[i + 1];
      return True;
   }
   if (i + 5 < len && c[i] == 0x0f && (c[i + 1] & 0xf0) == 0x80) {
      UInt d = c[i + 2] | (UInt)c[i + 3] << 8 | (UInt)c[i + 4] << 16 | (UInt)c[i + 5] << 24;
      *target = addr + len + (Addr)(Long)(Int)d;
      return True;
   }
   return False;
}

Bool decode_is_negated(const UChar* c, UInt len) {
   UInt i = skip_prefixes(c, len, 0);
   if (i < len && c[i] >= 0x70 && c[i] <= 0x7f) return c[i] & 1;
   if (i + 1 < len && c[i] == 0x0f) return c[i + 1] & 1;
   return False;
}

Bool decode_is_rep(const UChar* c, UInt len) {
   Bool rep;
   UInt i = skip_prefixes(c, len, &rep);
   if (!rep || i >= len) return False;
   return (c[i] >= 0xa4 && c[i] <= 0xa7) || (c[i] >= 0xaa && c[i] <= 0xaf);
}

Bool decode_is_jump(const UChar* c, UInt len) {
   UInt i = skip_prefixes(c, len, 0);
   return i < len && (c[i] == 0xe9 || c[i] == 0xeb);
}

Bool decode_is_bit_test_reg(const UChar* c, UInt len) {
   UInt i = skip_prefixes(c, len, 0);
   if (i + 2 >= len || c[i] != 0x0f) return False;
   UChar op = c[i + 1];
   if (op != 0xa3 && op != 0xab && op != 0xb3 && op != 0xbb) return False;
   return (c[i + 2] & 0xc0) == 0xc0;
}
