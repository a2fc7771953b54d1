/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Instrumentation of one translation: each access stores its address at a fixed place in G.buffer, and one call
 * at the block's end (before its conditional exit) hands the whole block over. */
#include "lens.h"
#include "decode.h"
#include "instrument.h"

#include "pub_tool_libcassert.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_machine.h"

ULong g_dropped_accesses;

typedef struct {
   IRSB* out;
   Addr start, insn; /* the block's first and the current instruction */
   UInt insn_len, ninsn;
   UInt ordinal;   /* accesses so far of this instruction */
   Bool load_seen; /* this instruction has loaded */
   Bool phantom;   /* accesses of this instruction exist only in Valgrind's model of it */
   Access acc[MAX_BLOCK_ACCESSES];
   UInt nacc;
} State;

static IRExpr* word(ULong w) {
   return IRExpr_Const(IRConst_U64(w));
}

static IRExpr* to_temp(IRSB* sb, IRType ty, IRExpr* e) {
   if (e->tag == Iex_RdTmp) return e;
   IRTemp t = newIRTemp(sb->tyenv, ty);
   addStmtToIRSB(sb, IRStmt_WrTmp(t, e));
   return IRExpr_RdTmp(t);
}

static void add_access(State* st, IRExpr* addr, UInt size, Bool store, IRExpr* guard) {
   if (st->phantom || size == 0) return;
   if (st->nacc == MAX_BLOCK_ACCESSES) {
      g_dropped_accesses++;
      return;
   }
   if (guard) {
      IRExpr* ite = IRExpr_ITE(to_temp(st->out, Ity_I1, guard), addr, word(0));
      addr = to_temp(st->out, Ity_I64, ite);
   }
   addStmtToIRSB(st->out, IRStmt_Store(Iend_LE, word((Addr)&G.buffer[st->nacc]), addr));
   Access* a = &st->acc[st->nacc++];
   a->site = site_get(st->insn, st->ordinal++, size, store);
   a->size = size;
   a->store = store;
   if (!store) st->load_seen = True;
}

static UInt type_size(const State* st, const IRExpr* e) {
   return (UInt)sizeofIRType(typeOfIRExpr(st->out->tyenv, e));
}

static void call_helper(State* st, void* fn, const HChar* name, Desc* d, IRExpr* outcome, IRExpr* guard) {
   IRExpr** args = outcome ? mkIRExprVec_2(word((Addr)d), outcome) : mkIRExprVec_1(word((Addr)d));
   IRDirty* call = unsafeIRDirty_0_N(0, name, VG_(fnptr_to_fnentry)(fn), args);
   if (guard) call->guard = guard;
   addStmtToIRSB(st->out, IRStmt_Dirty(call));
}

static Desc* make_desc(State* st, Bool partial, Bool* fresh) {
   UInt len = (UInt)(st->insn + st->insn_len - st->start);
   Desc* d = desc_get(st->start, len, st->ninsn, st->acc, st->nacc, partial, fresh);
   if (*fresh && decode_is_rep((const UChar*)st->insn, st->insn_len)) {
      d->rep_addr = st->insn;
      d->rep_only = st->start == st->insn;
   }
   return d;
}

/* A side exit in mid-block: a rep instruction whose count is zero, a locked instruction to be tried again. */
static void side_exit(State* st, const IRStmt* exit) {
   Bool fresh;
   Desc* d = make_desc(st, True, &fresh);
   call_helper(st, lens_partial, "lens_partial", d, NULL, exit->Ist.Exit.guard);
}

/* The block's end.  `exit` is the conditional branch's exit statement, if there is one. */
static void end_block(State* st, const IRSB* in, const IRStmt* exit) {
   if (st->ninsn == 0) return;
   Bool fresh;
   Desc* d = make_desc(st, False, &fresh);
   const UChar* insn = (const UChar*)st->insn;
   Addr target = 0, after = st->insn + st->insn_len;
   Bool cond = decode_is_cond(insn, st->insn_len, st->insn, &target);
   IRExpr* outcome = word(0);
   Bool is_const = in->next->tag == Iex_Const;
   Addr next = is_const ? (Addr)in->next->Iex.Const.con->Ico.U64 : 0;
   if (cond) {
      if (fresh) {
         d->kind = K_COND;
         d->br = branch_get(st->insn, target);
      }
      if (exit) {
         /* Valgrind turns negated conditions round; a branch to its own fall-through shows that only in its code */
         Addr dst = (Addr)exit->Ist.Exit.dst->Ico.U64;
         if (target == after) d->invert = decode_is_negated(insn, st->insn_len);
         else d->invert = dst != target;
         outcome = to_temp(st->out, Ity_I64, IRExpr_Unop(Iop_1Uto64, exit->Ist.Exit.guard));
      } else {
         /* the optimiser knew the outcome */
         d->invert = 0;
         outcome = word(next == target && target != after);
      }
   } else if (!is_const && (in->jumpkind == Ijk_Boring || in->jumpkind == Ijk_Call || in->jumpkind == Ijk_Ret)) {
      if (fresh) {
         d->kind = K_IND;
         d->ind = indirect_get(st->insn, in->jumpkind == Ijk_Call  ? IND_CALL
                                         : in->jumpkind == Ijk_Ret ? IND_RET
                                                                   : IND_JUMP);
      }
      outcome = in->next;
   } else if (fresh && is_const && in->jumpkind == Ijk_Boring && next == after && !d->rep_addr) {
      d->falls = !decode_is_jump(insn, st->insn_len);
   }
   if (fresh) d->call = in->jumpkind == Ijk_Call ? CALL_CALL : in->jumpkind == Ijk_Ret ? CALL_RET : CALL_NONE;
   call_helper(st, lens_block, "lens_block", d, outcome, NULL);
}

static void access_cas(State* st, const IRCAS* cas) {
   UInt size = type_size(st, cas->dataLo);
   if (cas->dataHi) size *= 2;
   /* `lock add` reads its operand first and then compares and swaps: one load and one store */
   if (!st->load_seen) add_access(st, cas->addr, size, False, NULL);
   add_access(st, cas->addr, size, True, NULL);
}

static void access_guarded_load(State* st, const IRLoadG* lg) {
   IRType res, arg;
   typeOfIRLoadGOp(lg->cvt, &res, &arg);
   add_access(st, lg->addr, (UInt)sizeofIRType(arg), False, lg->guard);
}

static void access_dirty(State* st, const IRDirty* d) {
   if (d->mFx == Ifx_None) return;
   IRExpr* guard = d->guard && d->guard->tag == Iex_RdTmp ? d->guard : NULL;
   if (d->mFx == Ifx_Read || d->mFx == Ifx_Modify) add_access(st, d->mAddr, (UInt)d->mSize, False, guard);
   if (d->mFx == Ifx_Write || d->mFx == Ifx_Modify) add_access(st, d->mAddr, (UInt)d->mSize, True, guard);
}

static void begin_insn(State* st, const IRStmt* s) {
   st->insn = s->Ist.IMark.addr;
   st->insn_len = s->Ist.IMark.len;
   st->ninsn++;
   st->ordinal = 0;
   st->load_seen = False;
   st->phantom = decode_is_bit_test_reg((const UChar*)st->insn, st->insn_len);
}

IRSB* lens_instrument(VgCallbackClosure* closure, IRSB* in, const VexGuestLayout* layout, const VexGuestExtents* vge,
                      const VexArchInfo* host, IRType guest_word, IRType host_word) {
   static State st; /* too large for the stack; translations do not nest */
   (void)closure, (void)layout, (void)vge, (void)host;
   if (guest_word != host_word) VG_(tool_panic)("lens: guest and host word sizes differ");
   st.out = deepCopyIRSBExceptStmts(in);
   st.ninsn = st.nacc = 0;
   Int i = 0;
   while (i < in->stmts_used && in->stmts[i]->tag != Ist_IMark) addStmtToIRSB(st.out, in->stmts[i++]);
   if (i == in->stmts_used) return in;
   st.start = in->stmts[i]->Ist.IMark.addr;
   Int last_exit = -1; /* the exit statement of the conditional branch that ends the block */
   Addr last_insn = 0;
   UInt last_len = 0;
   for (Int j = i; j < in->stmts_used; j++) {
      const IRStmt* s = in->stmts[j];
      if (s->tag == Ist_IMark) {
         last_exit = -1;
         last_insn = s->Ist.IMark.addr;
         last_len = s->Ist.IMark.len;
      } else if (s->tag == Ist_Exit && s->Ist.Exit.jk == Ijk_Boring) last_exit = j;
   }
   Addr target;
   if (!decode_is_cond((const UChar*)last_insn, last_len, last_insn, &target)) last_exit = -1;
   Bool ended = False;
   for (; i < in->stmts_used; i++) {
      IRStmt* s = in->stmts[i];
      switch (s->tag) {
         case Ist_IMark: begin_insn(&st, s); break;
         case Ist_WrTmp:
            if (s->Ist.WrTmp.data->tag == Iex_Load)
               add_access(&st, s->Ist.WrTmp.data->Iex.Load.addr,
                          (UInt)sizeofIRType(s->Ist.WrTmp.data->Iex.Load.ty), False, NULL);
            break;
         case Ist_Store: add_access(&st, s->Ist.Store.addr, type_size(&st, s->Ist.Store.data), True, NULL); break;
         case Ist_LoadG: access_guarded_load(&st, s->Ist.LoadG.details); break;
         case Ist_StoreG:
            add_access(&st, s->Ist.StoreG.details->addr, type_size(&st, s->Ist.StoreG.details->data), True,
                       s->Ist.StoreG.details->guard);
            break;
         case Ist_CAS: access_cas(&st, s->Ist.CAS.details); break;
         case Ist_Dirty: access_dirty(&st, s->Ist.Dirty.details); break;
         case Ist_Exit:
            if (i == last_exit) {
               end_block(&st, in, s);
               ended = True;
            } else if (s->Ist.Exit.jk == Ijk_Boring) side_exit(&st, s);
            break;
         default: break;
      }
      addStmtToIRSB(st.out, s);
   }
   if (!ended) end_block(&st, in, NULL);
   return st.out;
}
