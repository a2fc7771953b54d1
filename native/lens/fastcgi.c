/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FastCGI requests by method and path, as ditto.streams.fastcgi names them: received whole, or record by record. */
#include "fastcgi.h"

#include "pub_tool_libcbase.h"

#define HEADER 8
#define BEGIN 1
#define PARAMS 4
#define WINDOW 232
#define MOST_METHOD 12
#define MOST_PATH 60
#define CONNECTIONS 65536

static UChar params_follow[CONNECTIONS]; /* the head of a record of parameters was received by itself */

static UInt big_endian16(const HChar* p) {
   return (UInt)(UChar)p[0] << 8 | (UChar)p[1];
}

static Bool length_at(const UChar** p, const UChar* end, UInt* length) {
   const UChar* at = *p;
   if (at == end || (*at & 0x80 && end - at < 4)) return False;
   *length = *at & 0x80 ? (UInt)(*at & 0x7f) << 24 | (UInt)at[1] << 16 | (UInt)at[2] << 8 | at[3] : *at;
   *p += *at & 0x80 ? 4 : 1;
   return True;
}

static Bool named(const UChar* name, UInt len, const HChar* wanted) {
   return len == VG_(strlen)(wanted) && VG_(memcmp)(name, wanted, len) == 0;
}

static UInt key_of(const HChar* content, ULong n, HChar* key) {
   const UChar *p = (const UChar*)content, *end = p + (n < WINDOW ? n : WINDOW), *method = NULL, *path = NULL;
   UInt method_len = 0, path_len = 0, name_len, len;
   while (length_at(&p, end, &name_len) && length_at(&p, end, &len) && (ULong)name_len + len <= (ULong)(end - p)) {
      if (named(p, name_len, "REQUEST_METHOD")) {
         method = p + name_len;
         method_len = len;
      } else if (named(p, name_len, "REQUEST_URI") || (named(p, name_len, "SCRIPT_NAME") && !path)) {
         path = p + name_len;
         path_len = len;
      }
      p += name_len + len;
   }
   if (!method || method_len > MOST_METHOD) return 0;
   VG_(memcpy)(key, method, method_len);
   key[method_len] = ' ';
   for (len = 0; len < path_len && len < MOST_PATH && path[len] != '?'; len++) key[method_len + 1 + len] = (HChar)path[len];
   return method_len + 1 + len;
}

UInt fastcgi_class(const HChar* p, ULong n, Int fd, HChar* key) {
   Bool follows = params_follow[fd % CONNECTIONS];
   ULong at = 0;
   params_follow[fd % CONNECTIONS] = 0;
   if (follows) return key_of(p, n, key);
   while (n - at >= HEADER && p[at] == 1 && (p[at + 1] == BEGIN || p[at + 1] == PARAMS)) {
      ULong length = big_endian16(p + at + 4);
      if (p[at + 1] == PARAMS) {
         if (length && n - at == HEADER) params_follow[fd % CONNECTIONS] = 1;
         return length && n - at > HEADER ? key_of(p + at + HEADER, n - at - HEADER < length ? n - at - HEADER : length, key) : 0;
      }
      at += HEADER + length + (UChar)p[at + 6];
      if (at > n) return 0;
   }
   return 0;
}
