/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registration with Valgrind and the command line. */
#include "lens.h"
#include "instrument.h"

#include "pub_tool_basics.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_libcfile.h"
#include "pub_tool_libcprint.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_mallocfree.h"
#include "pub_tool_options.h"
#include "pub_tool_tooliface.h"
#include "pub_tool_vki.h"

#include "valgrind.h"

static const HChar* clo_control;
static const HChar* clo_out = "lens.out";
static const HChar* clo_codec = "opaque";
static UInt clo_events;
Bool g_fold;
const HChar* g_out;

static Bool set_codec(const HChar* name) {
   static const HChar* const names[] = {"resp", "http1", "memcached", "opaque", "pgsql", "mysql", "fastcgi", "h2"};
   for (Int i = 0; i < (Int)(sizeof(names) / sizeof(names[0])); i++) {
      if (VG_STREQ(name, names[i])) {
         g_codec = i;
         return True;
      }
   }
   return False;
}

static Bool process_option(const HChar* arg) {
   if VG_STR_CLO (arg, "--control", clo_control) {
   } else if VG_STR_CLO (arg, "--out", clo_out) {
   } else if VG_STR_CLO (arg, "--codec", clo_codec) {
      if (!set_codec(clo_codec)) VG_(fmsg_bad_option)(arg, "codec must be resp, http1, memcached, pgsql, mysql, fastcgi, h2 or opaque\n");
   } else if VG_BOOL_CLO (arg, "--fold", g_fold) {
   } else if VG_BINT_CLO (arg, "--events", clo_events, 0, 100000000) {
   } else return False;
   return True;
}

static void print_usage(void) {
   VG_(printf)
   ("    --out=PREFIX        write PREFIX.<pid>.lens [lens.out]\n"
    "    --control=FILE      4096-byte file, first u32: 0 warm, 1 count, 2 stop and write, 3 off [count]\n"
    "    --codec=NAME        request classes from: resp, http1, memcached, pgsql, mysql, fastcgi, h2, opaque [opaque]\n"
    "    --fold=no|yes       http1: leave digits in paths out of classes [no]\n"
    "    --events=N          record up to N system call events [0]\n");
}

static void print_debug_usage(void) {
   VG_(printf)("    (none)\n");
}

static void fini(Int code) {
   (void)code;
   dump_write(False);
}

static void in_child(ThreadId tid) {
   (void)tid;
   segments_child();
   blocks_reset();
}

/* `vgdb --pid=PID lens.poll` makes a process that sleeps in a system call look at its control page. */
static Bool client_request(ThreadId tid, UWord* arg, UWord* ret) {
   (void)tid;
   if (arg[0] != VG_USERREQ__GDB_MONITOR_COMMAND) return False;
   *ret = 0;
   if (VG_(strcmp)((const HChar*)arg[1], "lens.poll") != 0) return False;
   control_poll();
   *ret = 1;
   return True;
}

/* Not in a public header of Valgrind 3.19, but in the library that tools link: moves a descriptor to where the
 * program cannot close it. */
extern Int VG_(safe_fd)(Int oldfd);

/* The folder is opened at once and named through /proc from then on: a server that changes its user may no longer be
 * able to walk to it. */
static const HChar* reachable(const HChar* path) {
   const HChar* base = VG_(strrchr)(path, '/');
   if (!base) return path;
   SizeT room = VG_(strlen)(path) + 40;
   HChar* folder = VG_(malloc)("lens.folder", room);
   VG_(strlcpy)(folder, path, (SizeT)(base - path) + 1);
   Int fd = VG_(fd_open)(folder[0] ? folder : "/", VKI_O_RDONLY, 0);
   if (fd < 0) return path;
   VG_(snprintf)(folder, (Int)room, "/proc/self/fd/%d%s", VG_(safe_fd)(fd), base);
   return folder;
}

static void post_clo_init(void) {
   /* one translation = one basic block, and no load is dropped because its value dies */
   VG_(clo_vex_control).guest_chase = False;
   VG_(clo_vex_control).iropt_unroll_thresh = 0;
   VG_(clo_vex_control).iropt_register_updates_default = VexRegUpdAllregsAtEachInsn;
   VG_(clo_px_file_backed) = VexRegUpdAllregsAtEachInsn;
   g_out = reachable(VG_(expand_file_name)("--out", clo_out));
   g_event_cap = clo_events;
   if (g_event_cap) g_events = VG_(malloc)("lens.events", (SizeT)g_event_cap * sizeof *g_events);
   segments_init();
   control_open(clo_control ? VG_(expand_file_name)("--control", clo_control) : NULL);
}

static void pre_clo_init(void) {
   VG_(details_name)("lens");
   VG_(details_version)("1");
   VG_(details_description)("what a program does to caches, branches and pipelines, per segment");
   VG_(details_copyright_author)("Part of Ditto; GPL-2.0-or-later.");
   VG_(details_bug_reports_to)("Ditto's maintainers");
   VG_(details_avg_translation_sizeB)(500);
   VG_(basic_tool_funcs)(post_clo_init, lens_instrument, fini);
   VG_(needs_command_line_options)(process_option, print_usage, print_debug_usage);
   VG_(needs_syscall_wrapper)(pre_syscall, post_syscall);
   VG_(needs_client_requests)(client_request);
   VG_(atfork)(NULL, NULL, in_child);
}

VG_DETERMINE_INTERFACE_VERSION(pre_clo_init)
