/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The limit of open files.  Valgrind keeps twelve descriptors for itself and refuses every hard limit but its own one;
 * a server that sets another (its number of connections) would end.  Any lower limit is as good to Valgrind, whose own
 * descriptors lie above it; for a higher one the process' real limit is raised first, where that is permitted.
 */
#include "lens.h"
#include "pub_tool_aspacemgr.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_vki.h"
#include "pub_tool_vkiscnums.h"

#define VALGRINDS_OWN 12
#define MOST (1UL << 24)

/* Not in a public header of Valgrind 3.19, but in the library that tools link. */
extern Int VG_(fd_hard_limit);
extern Int VG_(setrlimit)(Int resource, const struct vki_rlimit* rlim);

void limits_before(UInt nr, const UWord* args, UInt n) {
   UWord at;
   if (nr == __NR_setrlimit && n >= 2 && args[0] == VKI_RLIMIT_NOFILE) at = args[1];
   else if (nr == __NR_prlimit64 && n >= 3 && args[1] == VKI_RLIMIT_NOFILE
            && (args[0] == 0 || args[0] == (UWord)VG_(getpid)()))
      at = args[2];
   else return;
   static Int most;
   if (!most) most = VG_(fd_hard_limit);
   const struct vki_rlimit* wanted = (const struct vki_rlimit*)at;
   if (!at || !VG_(am_is_valid_for_client)(at, sizeof *wanted, VKI_PROT_READ)) return;
   if (wanted->rlim_cur > wanted->rlim_max || wanted->rlim_max > MOST) return;
   if (wanted->rlim_max > (UWord)most) {
      struct vki_rlimit raised = {wanted->rlim_max + VALGRINDS_OWN, wanted->rlim_max + VALGRINDS_OWN};
      if (VG_(setrlimit)(VKI_RLIMIT_NOFILE, &raised) != 0) return;
      most = (Int)wanted->rlim_max;
   }
   VG_(fd_hard_limit) = (Int)wanted->rlim_max;
}
