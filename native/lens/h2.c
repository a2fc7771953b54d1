/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of HTTP/2 by method and path, as ditto.streams.h2 names them.  Heads are read to their end, for those after them
 * refer to what they entered into the connection's table; of an entry only a path, a method or its size is kept. */
#include "h2.h"
#include "lens.h"

#include "pub_tool_libcbase.h"
#include "pub_tool_libcassert.h"
#include "pub_tool_mallocfree.h"

#define CONNECTIONS 65536
#define FRAME 9
#define HEADERS 1
#define CONTINUATION 9
#define STATIC 61
#define ENTRIES 128
#define TABLE 4096
#define MOST_METHOD 12
#define MOST_PATH 60
#define TEXT 1024
#define BLOCK 16384

typedef struct {
   UInt name_bytes, bytes;
   HChar kind; /* 'p': a path, 'm': a method, else 0 */
   UChar len;
   HChar text[MOST_PATH];
} Entry;

typedef struct {
   Entry entry[ENTRIES];
   UInt first, n, bytes, limit;
   ULong skip;      /* bytes of a frame that are not looked at */
   UInt head_bytes; /* of a frame's head that has come in part */
   UChar head[FRAME];
   ULong wanted; /* of a block's frame that are still to come */
   Bool ends, fresh;
   UInt block_bytes;
   UChar block[BLOCK];
   HChar method[MOST_METHOD + 1], path[MOST_PATH];
   UInt path_len;
} Connection;

static Connection* connections[CONNECTIONS];

static const UChar lengths[257] = {
   13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28,
   28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7,
   7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6,
   6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
   24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
   23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26,
   24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24,
   24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
};

static const UChar static_names[STATIC + 1] = {
   0, 10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13, 12, 6, 4, 4, 6, 7,
   4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3, 16,
};

void h2_forget(Int fd) {
   if (!connections[fd % CONNECTIONS]) return;
   VG_(free)(connections[fd % CONNECTIONS]);
   connections[fd % CONNECTIONS] = NULL;
}

/* The symbol of a canonical code, -1 where none has this length. */
static Int symbol(UInt code, UInt length) {
   static UShort by_code[257];
   static UInt first[31], count[31], at[31];
   static Bool made = False;
   if (!made) {
      UInt next = 0, place = 0;
      for (UInt len = 1; len <= 30; len++) {
         first[len] = next <<= 1;
         at[len] = place;
         for (UInt i = 0; i < 257; i++)
            if (lengths[i] == len) by_code[place++] = (UShort)i;
         count[len] = place - at[len];
         next += count[len];
      }
      made = True;
   }
   return code - first[length] < count[length] ? (Int)by_code[at[length] + code - first[length]] : -1;
}

/* Decodes a string into text (of TEXT bytes); returns its whole length. */
static UInt decoded(const UChar* p, UInt n, Bool coded, HChar* text) {
   UInt made = 0, code = 0, length = 0;
   if (!coded) {
      VG_(memcpy)(text, p, n < TEXT ? n : TEXT);
      return n;
   }
   for (UInt bit = 0; bit < 8 * n; bit++) {
      code = code << 1 | (p[bit / 8] >> (7 - bit % 8) & 1u);
      if (++length > 30) return made;
      Int found = symbol(code, length);
      if (found < 0) continue;
      if (made < TEXT) text[made] = (HChar)found;
      made++;
      code = length = 0;
   }
   return made;
}

static UInt number(const UChar** p, const UChar* end, UInt bits) {
   UInt most = (1u << bits) - 1, v;
   if (*p == end) return 0;
   v = *(*p)++ & most;
   if (v < most) return v;
   for (UInt shift = 0; shift < 22 && *p < end; shift += 7) {
      UChar next = *(*p)++;
      v += (UInt)(next & 127) << shift;
      if (next < 128) break;
   }
   return v;
}

static UInt string(const UChar** p, const UChar* end, HChar* text) {
   Bool coded = *p < end && **p & 0x80;
   UInt n = number(p, end, 7), made;
   if (n > (UInt)(end - *p)) n = (UInt)(end - *p);
   made = decoded(*p, n, coded, text);
   *p += n;
   return made;
}

static Bool is(const HChar* text, UInt n, const HChar* word) {
   return n == VG_(strlen)(word) && VG_(memcmp)(text, word, n) == 0;
}

/* Keeps what a class goes by: of a path its last bytes, without the query. */
static void set_text(Entry* e, const HChar* text, UInt n) {
   UInt len = 0, from = 0, kept = 0;
   n = n < TEXT ? n : TEXT;
   if (e->kind == 'm') len = n < MOST_METHOD ? n : MOST_METHOD;
   if (e->kind == 'p') {
      while (len < n && text[len] != '?' && text[len] != '#') len++;
      from = len > MOST_PATH ? len - MOST_PATH : 0;
   }
   for (UInt i = from; i < len; i++)
      if (e->kind == 'm' || !g_fold || !VG_(isdigit)(text[i])) e->text[kept++] = text[i];
   e->len = (UChar)kept;
}

static void shrink(Connection* c, UInt bytes) {
   while (c->n && c->bytes > bytes) c->bytes -= c->entry[(c->first + --c->n) % ENTRIES].bytes;
}

static void add(Connection* c, const Entry* e, UInt bytes) {
   if (bytes > c->limit) {
      shrink(c, 0);
      return;
   }
   shrink(c, c->limit - bytes);
   c->first = (c->first + ENTRIES - 1) % ENTRIES;
   c->entry[c->first] = *e;
   c->entry[c->first].bytes = bytes;
   c->n++;
   c->bytes += bytes;
}

static Bool indexed(const Connection* c, UInt index, Entry* e) {
   static const HChar* const words[] = {"GET", "POST", "/", "/index.html"};
   VG_(memset)(e, 0, sizeof(*e));
   if (!index || index > STATIC + c->n) return False;
   if (index > STATIC) {
      *e = c->entry[(c->first + index - STATIC - 1) % ENTRIES];
      return True;
   }
   e->name_bytes = static_names[index];
   e->kind = index == 2 || index == 3 ? 'm' : index == 4 || index == 5 ? 'p' : 0;
   if (e->kind) set_text(e, words[index - 2], (UInt)VG_(strlen)(words[index - 2]));
   return True;
}

static void tell(Connection* c, const Entry* e) {
   if (e->kind == 'p') {
      VG_(memcpy)(c->path, e->text, e->len);
      c->path_len = e->len;
   } else if (e->kind == 'm') {
      VG_(memcpy)(c->method, e->text, e->len);
      c->method[e->len] = 0;
   }
}

static void read_block(Connection* c) {
   static HChar text[TEXT];
   const UChar *p = c->block, *end = p + c->block_bytes;
   c->method[0] = 0;
   c->path_len = 0;
   while (p < end) {
      UChar first = *p;
      Entry e;
      if (first & 0x80) {
         if (!indexed(c, number(&p, end, 7), &e)) return;
         tell(c, &e);
         continue;
      }
      if ((first & 0xe0) == 0x20) {
         UInt limit = number(&p, end, 5);
         c->limit = limit < TABLE ? limit : TABLE;
         shrink(c, c->limit);
         continue;
      }
      UInt index = number(&p, end, (first & 0xc0) == 0x40 ? 6 : 4), n;
      if (index ? !indexed(c, index, &e) : !indexed(c, 1, &e)) return;
      if (!index) {
         n = string(&p, end, text);
         e.kind = is(text, n, ":path") ? 'p' : is(text, n, ":method") ? 'm' : 0;
         e.name_bytes = n;
      }
      n = string(&p, end, text);
      set_text(&e, text, n);
      tell(c, &e);
      if ((first & 0xc0) == 0x40) add(c, &e, e.name_bytes + n + 32);
   }
}

/* A block of a first head is complete; the class that it begins. */
static UInt block_ended(Connection* c, HChar* key) {
   UInt len;
   read_block(c);
   c->block_bytes = 0;
   len = (UInt)VG_(strlen)(c->method);
   if (!len || !c->path_len) return 0; /* trailers */
   VG_(memcpy)(key, c->method, len);
   key[len] = ' ';
   VG_(memcpy)(key + len + 1, c->path, c->path_len);
   return len + 1 + c->path_len;
}

/* The head of a frame is there. */
static void frame_begins(Connection* c) {
   ULong length = (ULong)c->head[0] << 16 | (ULong)c->head[1] << 8 | c->head[2];
   c->head_bytes = 0;
   if (c->head[3] != HEADERS && c->head[3] != CONTINUATION) {
      c->skip = length;
      return;
   }
   c->fresh = c->head[3] == HEADERS;
   c->ends = (c->head[4] & 4) != 0;
   c->wanted = length;
}

/* Of a first frame of headers, what is no block: padding, and what a stream depends on. */
static void strip(Connection* c, UInt from) {
   UInt before = 0, behind = 0;
   if (!c->fresh) return;
   if (c->head[4] & 8) {
      behind = c->block[from];
      before = 1;
   }
   if (c->head[4] & 32) before += 5;
   if (before + behind > c->block_bytes - from) before = c->block_bytes - from, behind = 0;
   VG_(memmove)(c->block + from, c->block + from + before, c->block_bytes - from - before);
   c->block_bytes -= before + behind;
}

UInt h2_class(const HChar* bytes, ULong n, Int fd, HChar* key) {
   static const HChar preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
   const UChar* p = (const UChar*)bytes;
   Connection** place = &connections[fd % CONNECTIONS];
   HChar later[CLASS_LEN];
   ULong at = 0;
   UInt found = 0;
   if (n >= sizeof(preface) - 1 && VG_(memcmp)(p, preface, sizeof(preface) - 1) == 0) {
      h2_forget(fd);
      *place = VG_(calloc)("lens.h2", 1, sizeof(Connection));
      (*place)->limit = TABLE;
      at = sizeof(preface) - 1;
   }
   Connection* c = *place;
   if (!c) return 0;
   while (at < n) {
      ULong part = n - at;
      if (c->skip) {
         part = part < c->skip ? part : c->skip;
         c->skip -= part;
         at += part;
         continue;
      }
      if (!c->wanted) {
         while (c->head_bytes < FRAME && at < n) c->head[c->head_bytes++] = p[at++];
         if (c->head_bytes == FRAME) frame_begins(c);
         continue;
      }
      part = part < c->wanted ? part : c->wanted;
      UInt room = BLOCK - c->block_bytes, kept = part < room ? (UInt)part : room;
      VG_(memcpy)(c->block + c->block_bytes, p + at, kept);
      c->block_bytes += kept;
      c->wanted -= part;
      at += part;
      if (c->wanted) continue;
      ULong length = (ULong)c->head[0] << 16 | (ULong)c->head[1] << 8 | c->head[2];
      if (length <= c->block_bytes) strip(c, c->block_bytes - (UInt)length);
      if (!c->ends) continue;
      UInt len = block_ended(c, found ? later : key);
      if (!found) found = len;
   }
   return found;
}
