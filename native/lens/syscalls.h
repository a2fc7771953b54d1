/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tool needs to know of Linux x86-64 system calls. */
#ifndef LENS_SYSCALLS_H
#define LENS_SYSCALLS_H

#include "pub_tool_basics.h"
#include "pub_tool_vki.h"
#include "pub_tool_vkiscnums.h"

/* Answered by the vDSO outside Valgrind, which hides the vDSO: no system call of the program's own. */
static inline Bool syscall_is_clock(UInt nr) {
   return nr == __NR_clock_gettime || nr == __NR_gettimeofday || nr == __NR_time || nr == __NR_getcpu;
}

#endif
