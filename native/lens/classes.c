/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Request classes.
 *
 * A receive that begins a request sets the class of its socket from the payload's first bytes; the class stays the
 * thread's until the thread uses another socket that has one, or waits.  Payload that does not parse under the
 * codec (the rest of a longer request) leaves the socket's class as it is; a few bytes of it may be how a request
 * begins (some runtimes read one byte to learn whether a peer is there), and are looked at with what follows.  A socket that the program connected
 * itself carries replies, not requests: it takes the class of the thread that sends on it, so that what is done
 * with the reply belongs to the request that asked for it. */
#include "fastcgi.h"
#include "h2.h"
#include "lens.h"
#include "sql.h"
#include "syscalls.h"

#include "pub_tool_libcbase.h"
#include "pub_tool_libcfile.h"
#include "pub_tool_vki.h"

#define MAX_FD 65536
#define OTHER 255
#define BEGUN 8 /* bytes at most that are kept of a request that has only begun */
#define LOOKED_AT 80

enum { FD_UNKNOWN = 0, FD_NOT_SOCKET, FD_SERVER, FD_CLIENT };

Int g_codec = CODEC_OPAQUE;
ULong g_class_overflow;

static UChar fd_kind[MAX_FD], fd_class[MAX_FD], fd_arrays[MAX_FD];
static struct {
   UChar len;
   HChar bytes[BEGUN];
} fd_begun[MAX_FD];
static struct {
   UInt len;
   HChar name[CLASS_LEN];
} classes[MAX_CLASSES] = {{4, "none"}};
static UInt nclasses = 1;

UInt classes_count(void) {
   return nclasses;
}

const HChar* class_name(UInt id, UInt* len) {
   *len = classes[id].len;
   return classes[id].name;
}

static UInt class_id(const HChar* name, UInt len) {
   for (UInt i = 1; i < nclasses; i++) {
      if (classes[i].len == len && VG_(memcmp)(classes[i].name, name, len) == 0) return i;
   }
   if (nclasses >= OTHER) { /* the last id is kept for what no longer fits */
      g_class_overflow++;
      nclasses = MAX_CLASSES;
      classes[OTHER].len = 5;
      VG_(memcpy)(classes[OTHER].name, "other", 5);
      return OTHER;
   }
   classes[nclasses].len = len;
   VG_(memcpy)(classes[nclasses].name, name, len);
   return nclasses++;
}

static Bool is_alpha(HChar c) {
   return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* Length of the word of letters, digits, '_', '-', '.' that p begins with; 0 if the first is no letter. */
static UInt word_length(const HChar* p, ULong n) {
   UInt i = 0;
   if (n == 0 || !is_alpha(p[0])) return 0;
   while (i < n && i < 32 && (is_alpha(p[i]) || VG_(isdigit)(p[i]) || p[i] == '_' || p[i] == '-' || p[i] == '.')) i++;
   return i;
}

/* A peer that speaks in arrays sends no inline commands: what looks like one is the rest of a long value. */
static UInt class_resp(const HChar* p, ULong n, Int fd) {
   ULong i = 0;
   if (p[0] != '*' && fd_arrays[fd]) return 0;
   if (p[0] == '*') { /* *3\r\n$3\r\nSET\r\n */
      while (i < n && p[i] != '\n') i++;
      i++;
      if (i >= n || p[i] != '$') return 0;
      while (i < n && p[i] != '\n') i++;
      i++;
      fd_arrays[fd] = 1;
   }
   if (i >= n) return 0;
   UInt len = word_length(p + i, n - i);
   if (len == 0 || i + len >= n || (p[i + len] != '\r' && p[i + len] != '\n' && p[i + len] != ' ')) return 0;
   HChar upper[32];
   for (UInt k = 0; k < len; k++) upper[k] = (p[i + k] >= 'a' && p[i + k] <= 'z') ? p[i + k] - 32 : p[i + k];
   return class_id(upper, len);
}

static UInt class_http1(const HChar* p, ULong n) {
   UInt m = 0;
   while (m < n && m < 10 && p[m] >= 'A' && p[m] <= 'Z') m++;
   if (m == 0 || m + 1 >= n || p[m] != ' ') return 0;
   ULong i = m + 1;
   HChar kept[64];
   UInt len = 0;
   for (ULong k = 0; k <= m; k++) kept[len++] = p[k];
   for (; i < n && i < 64 && p[i] > ' ' && p[i] != '?'; i++)
      if (!g_fold || !VG_(isdigit)(p[i])) kept[len++] = p[i];
   return i > m + 1 ? class_id(kept, len) : 0;
}

static UInt class_memcached(const HChar* p, ULong n) {
   UInt len = word_length(p, n);
   if (len == 0 || len >= n || (p[len] != ' ' && p[len] != '\r' && p[len] != '\n')) return 0;
   for (UInt i = 0; i < len; i++)
      if (p[i] >= 'A' && p[i] <= 'Z') return 0;
   return class_id(p, len);
}

/* The keys of ditto.streams.protocol.request_key, by this receive alone; the framing of clones is that of
 * native/runtime/codec_opaque.c. */
static UInt class_opaque(const HChar* p, ULong n) {
   const UChar* head = (const UChar*)p;
   HChar name[CLASS_LEN];
   UInt length = 0, i = 0;
   if (n >= 8 && head[7] == 0xd7 && head[6] <= 3) {
      UInt cls = head[4] | (UInt)head[5] << 8;
      length = head[3] | (UInt)head[2] << 8 | (UInt)head[1] << 16 | (UInt)head[0] << 24;
      if (length >= 8 && cls < 0x8000) return class_id(name, (UInt)VG_(sprintf)(name, "class %u", cls));
      if (length >= 8 && cls != 0xffff) {
         i = (UInt)VG_(sprintf)(name, "size %u #%u", 32u - (UInt)__builtin_clz(length), cls & 0xfff);
         return class_id(name, i);
      }
   }
   if (length < 8) length = (UInt)n;
   UInt size = (UInt)VG_(sprintf)(name, "size %u", 32u - (UInt)__builtin_clz(length));
   while (i < n && i <= 24 && (is_alpha(p[i]) || (i && p[i] == '_'))) i++;
   if (i < 2 || i > 24 || i >= n || (p[i] != ' ' && p[i] != '\r' && p[i] != '\n')) return class_id(name, size);
   name[size] = ' ';
   VG_(memcpy)(name + size + 1, p, i);
   return class_id(name, size + 1 + i);
}

/* By a protocol's own reader of keys. */
static UInt class_read(UInt (*read)(const HChar*, ULong, Int, HChar*), const HChar* p, ULong n, Int fd) {
   HChar key[SQL_KEY];
   UInt len = read(p, n, fd, key);
   return len ? class_id(key, len) : 0;
}

static UInt classify(const HChar* p, ULong n, Int fd) {
   switch (g_codec) {
      case CODEC_RESP: return class_resp(p, n, fd);
      case CODEC_HTTP1: return class_http1(p, n);
      case CODEC_MEMCACHED: return class_memcached(p, n);
      case CODEC_PGSQL: return class_read(sql_pgsql, p, n, fd);
      case CODEC_MYSQL: return class_read(sql_mysql, p, n, fd);
      case CODEC_FASTCGI: return class_read(fastcgi_class, p, n, fd);
      case CODEC_H2: return class_read(h2_class, p, n, fd);
      default: return class_opaque(p, n);
   }
}

/* As classify, of a protocol of lines whose requests may come in pieces. */
static UInt classify_pieces(const HChar* p, ULong n, Int fd) {
   HChar joined[BEGUN + LOOKED_AT];
   UInt had = fd_begun[fd].len, c = 0;
   if (g_codec != CODEC_RESP && g_codec != CODEC_HTTP1 && g_codec != CODEC_MEMCACHED) return classify(p, n, fd);
   if (had) {
      ULong more = n < LOOKED_AT ? n : LOOKED_AT;
      VG_(memcpy)(joined, fd_begun[fd].bytes, had);
      VG_(memcpy)(joined + had, p, more);
      c = classify(joined, had + more, fd);
      fd_begun[fd].len = 0;
   }
   if (!c) c = classify(p, n, fd);
   if (!c && n <= BEGUN && p[n - 1] != '\n') {
      VG_(memcpy)(fd_begun[fd].bytes, p, n);
      fd_begun[fd].len = (UChar)n;
   }
   return c;
}

static Bool is_socket(Int fd) {
   if (fd_kind[fd] == FD_UNKNOWN) {
      struct vg_stat st;
      Bool sock = VG_(fstat)(fd, &st) == 0 && (st.mode & 0170000) == 0140000;
      fd_kind[fd] = sock ? FD_SERVER : FD_NOT_SOCKET;
   }
   return fd_kind[fd] >= FD_SERVER;
}

static Bool is_wait(UInt nr, const UWord* args) {
   switch (nr) {
      case __NR_epoll_wait:
      case __NR_epoll_pwait:
      case 441: /* epoll_pwait2 */
      case __NR_poll:
      case __NR_ppoll:
      case __NR_select:
      case __NR_pselect6:
      case __NR_accept:
      case __NR_accept4:
      case __NR_nanosleep:
      case __NR_clock_nanosleep:
      case __NR_pause:
      case __NR_rt_sigsuspend:
      case __NR_rt_sigtimedwait:
      case __NR_wait4:
      case __NR_waitid:
      case 426: /* io_uring_enter */
         return True;
      case __NR_futex: { /* waking others is no wait */
         UInt op = (UInt)args[1] & 127;
         return op == 0 || op == 9 || op == 6 || op == 11 || op == 13;
      }
      default: return False;
   }
}

static Bool first_argument_is_fd(UInt nr) {
   switch (nr) {
      case __NR_read:
      case __NR_write:
      case __NR_pread64:
      case __NR_pwrite64:
      case __NR_readv:
      case __NR_writev:
      case __NR_recvfrom:
      case __NR_sendto:
      case __NR_recvmsg:
      case __NR_sendmsg:
      case __NR_sendmmsg:
      case __NR_recvmmsg:
      case __NR_sendfile:
      case __NR_shutdown:
      case __NR_close:
      case __NR_ioctl:
      case __NR_fcntl:
      case __NR_setsockopt:
      case __NR_getsockopt: return True;
      default: return False;
   }
}

static const HChar* payload(UInt nr, const UWord* args, ULong* n) {
   const struct vki_iovec* iov = NULL;
   if (nr == __NR_read || nr == __NR_recvfrom) return (const HChar*)args[1];
   if (nr == __NR_readv) iov = (const struct vki_iovec*)args[1];
   if (nr == __NR_recvmsg || nr == __NR_recvmmsg) iov = ((const struct vki_msghdr*)args[1])->msg_iov;
   if (nr == __NR_recvmmsg) *n = ((const struct vki_mmsghdr*)args[1])->msg_len; /* of the first message */
   if (!iov) return NULL;
   if (iov->iov_len < *n) *n = iov->iov_len;
   return (const HChar*)iov->iov_base;
}

static Bool is_send(UInt nr) {
   return nr == __NR_write || nr == __NR_writev || nr == __NR_sendto || nr == __NR_sendmsg || nr == __NR_sendmmsg ||
          nr == __NR_sendfile;
}

static void forget(Long fd) {
   if (fd < 0 || fd >= MAX_FD) return;
   fd_kind[fd] = FD_UNKNOWN;
   fd_class[fd] = 0;
   fd_arrays[fd] = 0;
   fd_begun[fd].len = 0;
   h2_forget((Int)fd);
}

static void copy_fd(Int from, Long to) {
   if (from < 0 || from >= MAX_FD || to < 0 || to >= MAX_FD) return;
   fd_kind[to] = fd_kind[from];
   fd_class[to] = fd_class[from];
   fd_arrays[to] = fd_arrays[from];
   fd_begun[to] = fd_begun[from];
}

/* A poll of one socket that the program connected is part of what it does there for the request it is at. */
static Bool polls_client(UInt nr, const UWord* args) {
   if ((nr != __NR_poll && nr != __NR_ppoll) || args[1] != 1 || !args[0]) return False;
   Int fd = ((const struct vki_pollfd*)args[0])->fd;
   return fd >= 0 && fd < MAX_FD && fd_kind[fd] == FD_CLIENT;
}

Int passed_with(UInt nr, const UWord* args, Bool ok) {
   if (!ok || (nr != __NR_sendmsg && nr != __NR_recvmsg)) return -1;
   const struct vki_msghdr* m = (const struct vki_msghdr*)args[1];
   const struct vki_cmsghdr* c = (const struct vki_cmsghdr*)m->msg_control;
   if (!c || m->msg_controllen < sizeof(*c) + sizeof(Int) || c->cmsg_level != VKI_SOL_SOCKET || c->cmsg_type != 1 ||
       c->cmsg_len < sizeof(*c) + sizeof(Int))
      return -1; /* type 1: SCM_RIGHTS */
   return *(const Int*)(c + 1);
}

/* The thread's class after a call has returned. */
UInt class_after(UInt nr, const UWord* args, Bool ok, Long ret, UInt current) {
   if (polls_client(nr, args)) return current;
   if (is_wait(nr, args)) {
      if (ok && (nr == __NR_accept || nr == __NR_accept4)) forget(ret);
      return 0;
   }
   Int fd = (Int)args[0];
   if (nr == __NR_dup || nr == __NR_dup2 || nr == __NR_dup3) {
      if (ok) copy_fd(fd, ret);
      return current;
   }
   if (ok && (nr == __NR_open || nr == __NR_openat || nr == __NR_socket)) forget(ret);
   if (nr == __NR_connect && fd >= 0 && fd < MAX_FD) fd_kind[fd] = FD_CLIENT;
   Int passed = passed_with(nr, args, ok);
   if (passed >= 0) { /* as an accept: with a connection that another process has taken nothing comes yet */
      if (nr == __NR_recvmsg) forget(passed);
      return 0;
   }
   if (!first_argument_is_fd(nr) || fd < 0 || fd >= MAX_FD) return current;
   if (nr == __NR_close) {
      UInt was = fd_class[fd];
      forget(fd);
      return was ? was : current;
   }
   if (!is_socket(fd)) return current;
   if (fd_kind[fd] == FD_CLIENT) {
      if (is_send(nr) && current) fd_class[fd] = (UChar)current;
   } else if (ok && ret > 0 && is_send(nr)) {
      if (g_codec == CODEC_MYSQL && (nr == __NR_sendto || nr == __NR_write))
         sql_mysql_reply((const HChar*)args[1], (ULong)ret, fd);
   } else if (ok && ret > 0) {
      ULong n = (ULong)ret;
      const HChar* p = payload(nr, args, &n);
      UInt c = p && n ? classify_pieces(p, n, fd) : 0;
      if (c) fd_class[fd] = (UChar)c;
   }
   return fd_class[fd] ? fd_class[fd] : current;
}
