/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests of databases by what they are: the verb of a statement and its text up to the first literal, or a word of
 * the protocol.  As ditto.streams.sql, pgsql and mysql name them. */
#include "lens.h"
#include "sql.h"

#include "pub_tool_libcbase.h"

#define WINDOW 36
#define LETTERS 15
#define STATEMENTS 1024

/* Prepared statements by connection and name; the oldest gives way. */
static struct {
   Int fd;
   ULong name;
   UInt len;
   HChar key[SQL_KEY];
} statements[STATEMENTS];
static UInt next_statement;

static Bool is_letter(UChar c) {
   return (c & ~0x20) >= 'A' && (c & ~0x20) <= 'Z';
}

static Bool is_word(UChar c) {
   return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

static UInt word(const HChar* text, HChar* key) {
   UInt n = VG_(strlen)(text);
   VG_(memcpy)(key, text, n);
   return n;
}

static UInt statement(const HChar* prefix, const HChar* p, ULong n, HChar* key) {
   UInt at = word(prefix, key), letters = 0, text;
   UChar before = 0;
   ULong i;
   if (n > WINDOW) n = WINDOW;
   for (i = 0; i < n && p[i]; i++) {}
   n = i;
   while (n && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n' || *p == ';' || *p == '(')) {
      p++;
      n--;
   }
   while (letters < n && letters < LETTERS && is_letter((UChar)p[letters])) key[at++] = p[letters++] & ~0x20;
   key[at++] = ' ';
   text = at;
   for (i = 0; i < n && p[i] != '\''; i++) {
      UChar c = (UChar)p[i];
      if (c < '0' || c > '9') key[at++] = (HChar)c;
      else if (!is_word(before)) break;
      before = c;
   }
   while (at > text && !is_word((UChar)key[at - 1])) at--;
   return at;
}

static void remember(Int fd, ULong name, const HChar* key, UInt len) {
   UInt k;
   for (k = 0; k < STATEMENTS; k++)
      if (statements[k].len && statements[k].fd == fd && statements[k].name == name) break;
   if (k == STATEMENTS) k = next_statement++ % STATEMENTS;
   statements[k].fd = fd;
   statements[k].name = name;
   statements[k].len = len;
   VG_(memcpy)(statements[k].key, key, len);
}

static UInt recall(Int fd, ULong name, HChar* key) {
   UInt at = word("Bind", key);
   for (UInt k = 0; k < STATEMENTS; k++) {
      if (!statements[k].len || statements[k].fd != fd || statements[k].name != name) continue;
      key[at++] = '_';
      VG_(memcpy)(key + at, statements[k].key, statements[k].len);
      return at + statements[k].len;
   }
   return at;
}

void sql_forget(Int fd) {
   for (UInt k = 0; k < STATEMENTS; k++)
      if (statements[k].len && statements[k].fd == fd) statements[k].len = 0;
}

static ULong name_at(const HChar* p, ULong n, ULong* used) {
   ULong hash = 14695981039346656037ULL, i;
   for (i = 0; i < n && p[i]; i++) hash = (hash ^ (UChar)p[i]) * 1099511628211ULL;
   *used = i < n ? i + 1 : n;
   return hash;
}

static UInt big_endian(const HChar* p) {
   const UChar* b = (const UChar*)p;
   return (UInt)b[0] << 24 | (UInt)b[1] << 16 | (UInt)b[2] << 8 | b[3];
}

UInt sql_pgsql(const HChar* p, ULong n, Int fd, HChar* key) {
   HChar one[SQL_KEY];
   ULong used, skip, name;
   UInt len;
   if (n >= 8 && p[0] == 0) {
      UInt code = big_endian(p + 4);
      if (code == 80877103 || code == 80877104) return word("Secure", key);
      if (code == 80877102) return word("Cancel", key);
      sql_forget(fd);
      return code >> 16 == 3 ? word("Startup", key) : 0;
   }
   if (n < 5 || big_endian(p + 1) < 4 || big_endian(p + 1) >= 1u << 30) return 0;
   switch (p[0]) {
      case 'Q': return statement("", p + 5, n - 5, key);
      case 'P':
         name = name_at(p + 5, n - 5, &used);
         len = statement("", p + 5 + used, n - 5 - used, one);
         remember(fd, name, one, len);
         return statement("Parse_", p + 5 + used, n - 5 - used, key);
      case 'B':
         (void)name_at(p + 5, n - 5, &skip);
         name = name_at(p + 5 + skip, n - 5 - skip, &used);
         return recall(fd, name, key);
      case 'S': return word("Sync", key);
      case 'H': return word("Flush", key);
      case 'E': return word("Execute", key);
      case 'D': return word("Describe", key);
      case 'C': return word("Close", key);
      case 'X': return word("Terminate", key);
      case 'p': return word("Password", key);
      case 'F': return word("Function", key);
      case 'd':
      case 'c':
      case 'f': return word("Copy", key);
      default: return 0;
   }
}

static UChar prepares[SQL_CONNECTIONS]; /* what was asked for last is to prepare a statement */

/* Until the reply tells its number, a statement is remembered by none that there is. */
#define UNNUMBERED 0x100000000ULL

void sql_mysql_reply(const HChar* p, ULong n, Int fd) {
   const UChar* b = (const UChar*)p;
   if (!prepares[fd % SQL_CONNECTIONS]) return;
   prepares[fd % SQL_CONNECTIONS] = 0;
   if (n < 9 || b[4]) return;
   ULong number = (ULong)b[5] | (ULong)b[6] << 8 | (ULong)b[7] << 16 | (ULong)b[8] << 24;
   for (UInt k = 0; k < STATEMENTS; k++)
      if (statements[k].len && statements[k].fd == fd && statements[k].name == UNNUMBERED) statements[k].name = number;
}

/* Heads of packets that were received by themselves. */
static HChar heads[SQL_CONNECTIONS][4];
static UChar held[SQL_CONNECTIONS];

UInt sql_mysql(const HChar* p, ULong n, Int fd, HChar* key) {
   HChar one[SQL_KEY], whole[4 + SQL_KEY];
   UInt number, len;
   if (n == 4) {
      VG_(memcpy)(heads[fd % SQL_CONNECTIONS], p, 4);
      held[fd % SQL_CONNECTIONS] = 1;
      return 0;
   }
   if (held[fd % SQL_CONNECTIONS]) {
      held[fd % SQL_CONNECTIONS] = 0;
      if (n > SQL_KEY) n = SQL_KEY;
      VG_(memcpy)(whole, heads[fd % SQL_CONNECTIONS], 4);
      VG_(memcpy)(whole + 4, p, n);
      p = whole;
      n += 4;
   }
   if (n < 5) return 0;
   if (p[3]) {
      sql_forget(fd);
      prepares[fd % SQL_CONNECTIONS] = 0;
      return word("Startup", key);
   }
   switch (p[4]) {
      case 0x03: return statement("", p + 5, n - 5, key);
      case 0x16:
         len = statement("", p + 5, n - 5, one);
         remember(fd, UNNUMBERED, one, len);
         prepares[fd % SQL_CONNECTIONS] = 1;
         return statement("Parse_", p + 5, n - 5, key);
      case 0x17:
         if (n < 9) return 0;
         number = (UInt)(UChar)p[5] | (UInt)(UChar)p[6] << 8 | (UInt)(UChar)p[7] << 16 | (UInt)(UChar)p[8] << 24;
         return recall(fd, number, key);
      case 0x01: return word("Terminate", key);
      case 0x02: return word("Use", key);
      case 0x04: return word("Fields", key);
      case 0x09: return word("Statistics", key);
      case 0x0e: return word("Ping", key);
      case 0x11: return word("User", key);
      case 0x18: return word("Data", key);
      case 0x19: return word("Close", key);
      case 0x1a: return word("Reset", key);
      case 0x1b: return word("Option", key);
      case 0x1c: return word("Fetch", key);
      case 0x1f: return word("Renew", key);
      default: return 0;
   }
}
