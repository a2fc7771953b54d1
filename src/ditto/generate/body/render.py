"""Steps to instructions: registers, memory operands, and the text of every slot."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from ditto.generate.body import isa
from ditto.generate.body.accesses import SHARED, Site
from ditto.generate.body.fill import Filled
from ditto.generate.body.isa import BASE, BIAS, BODY, COUNTERS, RAX, RCX, RDX, WORD, Ins, Mem, r32, r64
from ditto.generate.body.registers import Registers
from ditto.generate.body.steps import NEXT_LINE, Step

BODY_RANDOM, BODY_TURN, BODY_BASE, BODY_SPARE, BODY_CURSORS = 8, 16, 24, 32, 64
"""Offsets in struct ditto_body."""


@dataclass
class SlotCode:
    """A slot's lines of text, its length in bytes, the offsets where a basic block begins after the first, those after
    a loop's branch with the loop's trips (what follows executes once in so many visits), and those of conditional
    branches."""

    text: list[str] = field(default_factory=list)
    size: int = 0
    breaks: list[int] = field(default_factory=list)
    exits: list[tuple[int, int]] = field(default_factory=list)
    branches: list[int] = field(default_factory=list)


@dataclass
class Rendered:
    """A block's slots, jump tables (label, entries), and what was counted while rendering."""

    slots: list[SlotCode]
    tables: list[tuple[str, list[str]]]
    raw: tuple[float, ...]
    chased: float = 0.0


class Renderer:
    """Renders one block.  ``prefix`` and ``index`` make its labels unique."""

    def __init__(self, filled: Filled, sites: list[Site], label: str, rng: Random) -> None:
        self._filled = filled
        self._sites = sites
        self._label = label
        self._rng = rng
        self._regs = Registers(filled.target.raw, rng, ())
        self._code = SlotCode()
        self._tables: list[tuple[str, list[str]]] = []
        self._skip = 0
        self._zero_branch = False
        self._chased = 0.0
        self._loads = 0.0
        self._cursor: dict[int, int] = {}
        self._index = 0

    def render(self) -> Rendered:
        slots = []
        for slot, steps in zip(self._filled.slots, self._filled.steps, strict=True):
            self._code = SlotCode()
            self._number = slot.number
            self._weight = slot.times
            self._leads = 0
            if slot.number and slot.loop != self._filled.slots[slot.number - 1].loop:
                self._regs.pointers.clear()
            for step in steps:
                self._step(step)
            slots.append(self._code)
        return Rendered(slots, self._tables, self._regs.shares(), self._chased)

    def slot_label(self, number: int) -> str:
        return f".L{self._label}_{number}"

    def _emit(self, ins: Ins) -> None:
        self._code.text.append("\t" + ins.text)
        self._code.size += ins.size
        self._regs.step(ins.reads, ins.writes)

    def _put(self, text: str, size: int, reads: int = 0, writes: int = 0) -> None:
        self._emit(Ins("", text, size, reads, writes))

    def _break(self) -> None:
        """The next instruction begins a basic block."""
        if not self._code.breaks or self._code.breaks[-1] != self._code.size:
            self._code.breaks.append(self._code.size)

    def _step(self, step: Step) -> None:
        if step.kind == "op":
            self._op(step)
        else:
            getattr(self, "_do_" + step.kind)(step)

    # --- fillers

    def _op(self, step: Step) -> None:
        regs, pick = self._regs, step.a
        group, form = step.cls.rsplit("_", 1) if "_" in step.cls else (step.cls, "r")
        if group == "nop":
            self._put("nop", 1)
            return
        wide = pick % 3 == 0
        if group in isa.VECTOR_GROUPS:
            lanes = pick % 4, (pick >> 2) % 4
            if group in ("ssefp", "avxfp"):
                lanes = (0, 0) if len(self._floats()) == 1 else lanes
            mem = self._mem(step, "fp" if group in ("ssefp", "avxfp") else "vector") if form != "r" else None
            self._emit(isa.vector(step.cls, pick, *lanes, mem))
        elif group in ("lea", "mov") and form == "r" and regs.worn(BASE):
            # Written anew as programs do with their pointers: else all accesses wait for one write at the beginning.
            text = "lea ({0}), {0}" if group == "lea" else "mov {0}, {0}"
            self._put(text.format(r64(BASE)), 3, 1 << BASE, 1 << BASE)
        elif form == "r":
            self._emit(isa.reg_reg(group, pick, regs.source(), regs.destination(), wide))
        elif form == "l":
            pointer = group == "mov" and self._sites[step.site].line < SHARED and self._wants_pointer()
            mem = self._mem(step, "pointer" if pointer else "value")
            dst = regs.source() if group == "cmp" else regs.destination()
            self._emit(isa.reg_load(group, pick, mem, dst, wide or pointer))
            if pointer:
                regs.pointers.add(dst)
        else:
            self._emit(isa.reg_store(group, pick, self._mem(step, "store"), regs.source(), wide))

    def _floats(self) -> list[Step]:
        return [s for s in self._filled.steps[0] if s.kind == "one"]

    def _wants_pointer(self) -> bool:
        share = self._filled.target.chase_share
        return share > 0 and len(self._regs.pointers) < 3 and self._rng.random() < min(0.9, share * 1.2 + 0.1)

    def _mem(self, step: Step, use: str) -> Mem:
        """The operand of a drawn access: its line, at an offset that suits its use (see body.h)."""
        site = self._sites[step.site]
        offset = {
            "pointer": 8, "fp": 16, "value": 8 * self._rng.randrange(8), "vector": 16 if step.cls[-1] == "l" else 32,
            "store": 32 + 8 * self._rng.randrange(4),
        }[use]  # fmt: skip
        if step.lines[-1][1] == NEXT_LINE:
            offset = 56
        loads = step.cls.endswith(("_l", "_m"))
        self._loads += self._weight if loads else 0
        if site.strided:
            return Mem(BASE, site.line * 64 + offset - BIAS - 64, COUNTERS[0])
        if site.line >= SHARED:
            return Mem(-1, (site.line - SHARED) * 64 + offset)
        base = BASE
        if self._regs.pointers and loads:
            lack = self._filled.target.chase_share * self._loads - self._chased
            if lack > 0:
                base = min(self._regs.pointers)
                self._chased += self._weight
        return Mem(base, site.line * 64 + offset - BIAS)

    # --- prologue, epilogue

    def _do_save(self, step: Step) -> None:
        self._put(f"push {r64(step.a)}", 1 + isa.rex32(step.a), 1 << isa.RSP, 1 << isa.RSP)

    def _do_restore(self, step: Step) -> None:
        self._put(f"pop {r64(step.a)}", 1 + isa.rex32(step.a), 1 << isa.RSP, 1 << isa.RSP | 1 << step.a)

    def _do_base(self, step: Step) -> None:
        self._put(f"mov {BODY_BASE}({r64(BODY)}), {r64(BASE)}", 4, 1 << BODY, 1 << BASE)

    def _do_one(self, step: Step) -> None:
        self._put(f"movsd {16 - BIAS}({r64(BASE)}), %xmm{isa.VEC_FP[step.a]}", 5, 1 << BASE)

    def _do_word_turn(self, step: Step) -> None:
        self._put(f"mov {BODY_TURN}({r64(BODY)}), {r64(WORD)}", 4, 1 << BODY, 1 << WORD)

    def _do_word_next(self, step: Step) -> None:
        step_on = 1 if self._filled.first else self._filled.target.period
        self._put(f"lea {step_on}({r64(WORD)}), {r64(WORD)}", 4, 1 << WORD, 1 << WORD)

    def _do_word_keep(self, step: Step) -> None:
        self._put(f"mov {r64(WORD)}, {BODY_TURN}({r64(BODY)})", 4, 1 << BODY | 1 << WORD)

    def _do_word_mask(self, step: Step) -> None:
        self._put(f"or ${-self._filled.target.period}, {r32(WORD)}", 3 + isa.rex32(WORD), 1 << WORD, 1 << WORD)

    def _do_word_store(self, step: Step) -> None:
        self._put(f"mov {r64(WORD)}, {BODY_RANDOM}({r64(BODY)})", 4, 1 << BODY | 1 << WORD)

    def _do_remix(self, step: Step) -> None:
        self._put(f"imul $0x2545f491, {r64(WORD)}, {r64(WORD)}", 7, 1 << WORD, 1 << WORD)

    def _do_remix_add(self, step: Step) -> None:
        self._put(f"lea ({r64(WORD)},{r64(WORD)},8), {r64(WORD)}", 4, 1 << WORD, 1 << WORD)

    def _do_rotate(self, step: Step) -> None:
        self._put(f"rorx $29, {r64(WORD)}, {r64(WORD)}", 6, 1 << WORD, 1 << WORD)

    # --- loops

    def _do_loop_init(self, step: Step) -> None:
        height, trips = step.a, step.b
        if height > 4:
            self._put(f"movl ${trips}, {BODY_SPARE + 8 * (height - 5)}({r64(BODY)})", 7, 1 << BODY)
            return
        reg = COUNTERS[height - 1]
        self._put(f"mov ${trips * 8 if height == 1 else trips}, {r32(reg)}", 5 + isa.rex32(reg), 0, 1 << reg)

    def _do_loop_head(self, step: Step) -> None:
        self._code.text.append(f"{self._head(step.a)}:")
        self._heads = getattr(self, "_heads", {})
        self._heads[step.a] = self._head(step.a)
        self._regs.pointers.clear()

    def _head(self, height: int) -> str:
        return f".L{self._label}_{self._number}_h{height}"

    def _do_loop_count(self, step: Step) -> None:
        height = step.a
        if height > 4:
            self._put(f"decl {BODY_SPARE + 8 * (height - 5)}({r64(BODY)})", 3, 1 << BODY)
        elif height == 1:
            self._put(f"sub $8, {r32(COUNTERS[0])}", 3, 1 << COUNTERS[0], 1 << COUNTERS[0])
        else:
            reg = COUNTERS[height - 1]
            self._put(f"dec {r32(reg)}", 2 + isa.rex32(reg), 1 << reg, 1 << reg)

    def _do_loop_back(self, step: Step) -> None:
        self._jcc("jne", self._heads[step.a])
        self._break()
        self._code.exits.append((self._code.size, step.b))

    def _do_idle_init(self, step: Step) -> None:
        self._put(f"mov ${step.a}, %ecx", 5, 0, 1 << RCX)
        self._code.text.append(f".L{self._label}_idle:")

    def _do_idle_body(self, step: Step) -> None:
        self._put("lea 8(%rdx), %rdx", 4, 1 << RDX, 1 << RDX)

    def _do_idle_count(self, step: Step) -> None:
        self._put("dec %ecx", 2, 1 << RCX, 1 << RCX)

    def _do_idle_back(self, step: Step) -> None:
        self._short("jne", f".L{self._label}_idle")
        self._break()

    # --- branches

    def _do_set(self, step: Step) -> None:
        """Sets CF = 0 and, but for the logic form, ZF = 0."""
        if step.cls == "logic_r":
            src, dst = self._regs.source(), self._regs.destination()
            self._put(f"or {r32(src)}, {r32(dst)}", 2 + isa.rex32(src, dst), 1 << src | 1 << dst, 1 << dst)
        elif step.cls == "cmp_l":
            mem = self._mem(step, "pointer")
            self._put(f"cmpq $0, {mem.text}", 4 + mem.extra, isa.mem_reads(mem))
        else:
            self._put(f"test {r64(BASE)}, {r64(BASE)}", 3, 1 << BASE)

    def _do_test_word(self, step: Step) -> None:
        self._put(f"test ${step.a}, {r32(WORD)}", 7, 1 << WORD)

    def _do_never(self, step: Step) -> None:
        count = len(self._filled.slots)
        # Somewhere else, so that it reads neither as a loop nor as a jump to its own fall-through.
        self._jcc("jc" if step.b else "je", self.slot_label((self._number + 2) % count))
        self._break()

    def _do_taken(self, step: Step) -> None:
        name = "jnc" if step.b else "jne"
        if step.a >= 0:
            self._jcc(name, self.slot_label(step.a))
        else:
            self._short(name, self._next_skip())

    def _do_random(self, step: Step) -> None:
        self._short("je", self._next_skip())

    def _do_random_not(self, step: Step) -> None:
        self._short("jne", self._next_skip())

    def _next_skip(self) -> str:
        self._skip += 1
        return f".L{self._label}_s{self._skip}"

    def _do_skipped(self, step: Step) -> None:
        regs = self._regs
        if step.weight:
            # One block begins here or, when the branch is taken, behind the move: one either way.
            self._break()
        dst = regs.destination()
        self._emit(isa.reg_reg("mov", 0, regs.source(), dst, False))
        self._code.text.append(f".L{self._label}_s{self._skip}:")
        if not step.weight:
            self._break()

    def _short(self, name: str, label: str) -> None:
        self._code.branches.append(self._code.size)
        self._put(f"{name} {label}", 2)

    def _jcc(self, name: str, label: str) -> None:
        self._code.branches.append(self._code.size)
        self._put(f"{{disp32}} {name} {label}", 6)

    # --- transfers

    def _do_jump(self, step: Step) -> None:
        self._put(f"{{disp32}} jmp {self.slot_label(step.a)}", 5)

    def _do_call(self, step: Step) -> None:
        self._put(f"call {self.slot_label(step.a)}", 5, 1 << isa.RSP, 1 << isa.RSP)

    def _do_ret(self, step: Step) -> None:
        self._put("ret", 1, 1 << isa.RSP, 1 << isa.RSP)

    def _table(self, number: int, to: int, entries: int) -> str:
        label = f".L{self._label}_t{number}"
        names = [self.slot_label(to), *(f"{self.slot_label(to)}_e{k}" for k in range(entries - 1))]
        self._tables.append((label, names[:entries]))
        return label

    def _do_icall_one(self, step: Step) -> None:
        self._put(f"call *{self._table(step.a, step.b, 1)}(%rip)", 6, 1 << isa.RSP, 1 << isa.RSP)

    def _do_ijmp_one(self, step: Step) -> None:
        self._put(f"jmp *{self._table(step.a, step.b, 1)}(%rip)", 6)

    def _do_index_load(self, step: Step) -> None:
        op, size = ("movzbl", 4) if step.cls == "movx_l" else ("mov", 3)
        self._put(f"{op} {BODY_RANDOM + step.a}({r64(BODY)}), {r32(RAX)}", size, 1 << BODY, 1 << RAX)

    def _do_index_mask(self, step: Step) -> None:
        self._put(f"and ${step.a}, {r32(RAX)}", 3, 1 << RAX, 1 << RAX)

    def _do_index_base(self, step: Step) -> None:
        self._put(f"lea .L{self._label}_t{step.a}(%rip), {r64(RCX)}", 7, 0, 1 << RCX)

    def _do_icall(self, step: Step) -> None:
        self._table(step.a, step.b, self._filled.slots[self._number].spread)
        self._put(f"call *({r64(RCX)},{r64(RAX)},8)", 3, 1 << RCX | 1 << RAX | 1 << isa.RSP, 1 << isa.RSP)

    def _do_ijmp(self, step: Step) -> None:
        self._table(step.a, step.b, self._filled.slots[self._number].spread)
        self._put(f"jmp *({r64(RCX)},{r64(RAX)},8)", 3, 1 << RCX | 1 << RAX)

    def _do_lead(self, step: Step) -> None:
        regs = self._regs
        self._emit(isa.reg_reg(step.cls.removesuffix("_r"), 0, regs.source(), regs.destination(), False))
        self._code.text.append(f"{self.slot_label(self._number)}_e{step.a}:")

    # --- others

    def _do_push(self, step: Step) -> None:
        src = self._regs.source()
        self._put(f"push {r64(src)}", 1 + isa.rex32(src), 1 << isa.RSP | 1 << src, 1 << isa.RSP)

    def _do_pop(self, step: Step) -> None:
        dst = self._regs.destination()
        self._put(f"pop {r64(dst)}", 1 + isa.rex32(dst), 1 << isa.RSP, 1 << isa.RSP | 1 << dst)

    def _do_div_zero(self, step: Step) -> None:
        self._put("xor %edx, %edx", 2, 0, 1 << RDX)

    def _do_div_odd(self, step: Step) -> None:
        self._put("or $1, %ecx", 3, 1 << RCX, 1 << RCX)

    def _do_div(self, step: Step) -> None:
        both = 1 << RAX | 1 << RDX
        self._put("div %ecx", 2, both | 1 << RCX, both)

    def _do_cursor_load(self, step: Step) -> None:
        reg = self._regs.destination()
        self._cursor[step.a] = reg
        disp = BODY_CURSORS + 8 * step.a
        mem = Mem(BODY, disp)
        self._put(f"mov {mem.text}, {r64(reg)}", 3 + mem.extra, 1 << BODY, 1 << reg)

    def _do_cursor_next(self, step: Step) -> None:
        reg = self._cursor[step.a]
        self._put(f"mov ({r64(reg)}), {r64(reg)}", 3, 1 << reg, 1 << reg)
        self._chased += self._weight

    def _do_sweep_touch(self, step: Step) -> None:
        reg = self._cursor[step.a]
        store = step.cls == "mov_s"
        mem = Mem(reg, 64 * step.b + (32 if store else 16))
        other = next(r for r in sorted(self._regs.values, key=lambda r: self._regs.age(r)) if r != reg)
        wide = 1 if other >= 8 or mem.high else 0
        if store:
            self._put(f"mov {r32(other)}, {mem.text}", 2 + wide + mem.extra, 1 << reg | 1 << other)
        else:
            self._put(f"mov {mem.text}, {r32(other)}", 2 + wide + mem.extra, 1 << reg, 1 << other)

    def _do_sweep_next(self, step: Step) -> None:
        reg = self._cursor[step.a]
        mem = Mem(reg, 64 * step.b)
        self._put(f"mov {mem.text}, {r64(reg)}", 3 + mem.extra, 1 << reg, 1 << reg)

    def _do_cursor_touch(self, step: Step) -> None:
        reg = self._cursor[step.a]
        src = self._regs.source()
        self._put(f"mov {r64(src)}, 32({r64(reg)})", 4, 1 << reg | 1 << src)

    def _do_cursor_store(self, step: Step) -> None:
        reg = self._cursor[step.a]
        mem = Mem(BODY, BODY_CURSORS + 8 * step.a)
        self._put(f"mov {r64(reg)}, {mem.text}", 3 + mem.extra, 1 << BODY | 1 << reg)
