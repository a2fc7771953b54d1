/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control page: a shared file whose first word says what to do. */
#include "lens.h"

#include "pub_tool_libcassert.h"
#include "pub_tool_libcfile.h"
#include "pub_tool_libcprint.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_vki.h"

/* Not in a public header of Valgrind 3.19, but in the library that tools link. */
extern SysRes VG_(am_shared_mmap_file_float_valgrind)(SizeT length, UInt prot, Int fd, Off64T offset);

static UInt always_count = CMD_COUNT;

static void apply(UInt command) {
   UInt before = G.command;
   G.command = command;
   G.inc = command == CMD_COUNT;
   if (command == CMD_STOP) {
      dump_write(True);
      blocks_reset();
      segments_reset();
   } else if (command == CMD_COUNT && before != CMD_COUNT) segments_restart();
}

void control_open(const HChar* path) {
   G.control = &always_count;
   if (path) {
      SysRes fd = VG_(open)(path, VKI_O_RDWR, 0);
      if (sr_isError(fd)) {
         VG_(umsg)("lens: cannot open control file %s\n", path);
         VG_(exit)(1);
      }
      SysRes m = VG_(am_shared_mmap_file_float_valgrind)(4096, VKI_PROT_READ | VKI_PROT_WRITE, (Int)sr_Res(fd), 0);
      VG_(close)((Int)sr_Res(fd));
      if (sr_isError(m)) {
         VG_(umsg)("lens: cannot map control file %s\n", path);
         VG_(exit)(1);
      }
      G.control = (volatile UInt*)sr_Res(m);
   }
   UInt command = *G.control;
   G.command = command > CMD_OFF ? CMD_OFF : command;
   G.inc = G.command == CMD_COUNT;
}

void control_poll(void) {
   UInt command = *G.control;
   if (command != G.command && command <= CMD_OFF) apply(command);
}
