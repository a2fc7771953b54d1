"""Instruction templates: text and exact length of everything the generator can emit.

Lengths are computed here because fall-through and return addresses must land on line boundaries; the tests decode the
assembled object and compare.  Only registers below xmm8 are used, so that vector encodings have one length.
"""

from __future__ import annotations

from dataclasses import dataclass

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)
NAMES64 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16)))
NAMES32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", *(f"r{i}d" for i in range(8, 16)))
NAMES16 = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di", *(f"r{i}w" for i in range(8, 16)))
NAMES8 = ("al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", *(f"r{i}b" for i in range(8, 16)))

BASE = RSI
"""Holds arena + BIAS in every block."""
BODY = RDI
WORD = R14
"""Random word, where a block has random branches."""
COUNTERS = (RBX, RBP, R12, R13)
"""Loop counters by height: innermost first."""
VALUES = (RAX, RCX, RDX, R8, R9, R10, R11)
SHARED_LINES = "ditto_shared_lines"
"""The symbol of that memory, in every object with blocks that use it."""
BIAS = 128
VEC_INT = (0, 1, 2, 3)
VEC_FP = (4, 5, 6, 7)
"""Hold 1.0 and stay 1.0, so that no operation is slow, inexact or sets a status flag."""


def r64(reg: int) -> str:
    return "%" + NAMES64[reg]


def r32(reg: int) -> str:
    return "%" + NAMES32[reg]


@dataclass(frozen=True, slots=True)
class Mem:
    """A memory operand: base + disp (+ index * 8); without a base (-1), ``disp`` is in what threads share."""

    base: int
    disp: int
    index: int = -1

    @property
    def text(self) -> str:
        if self.base < 0:
            return f"{SHARED_LINES}+{self.disp}(%rip)"
        disp = str(self.disp) if self.disp else ""
        if self.index >= 0:
            return f"{disp}({r64(self.base)},{r64(self.index)},8)"
        return f"{disp}({r64(self.base)})"

    @property
    def extra(self) -> int:
        """Bytes beyond ModRM: SIB and displacement."""
        if self.base < 0:
            return 4
        sib = 1 if self.index >= 0 or self.base & 7 == RSP else 0
        if self.disp == 0 and self.base & 7 != RBP:
            return sib
        return sib + (1 if -128 <= self.disp <= 127 else 4)

    @property
    def high(self) -> bool:
        return self.base >= 8 or self.index >= 8


@dataclass(slots=True)
class Ins:
    """One emitted instruction: its class, text, length and register effects (bit masks over the sixteen registers)."""

    cls: str
    text: str
    size: int
    reads: int = 0
    writes: int = 0


def _bits(*regs: int) -> int:
    mask = 0
    for reg in regs:
        if reg >= 0:
            mask |= 1 << reg
    return mask


def mem_reads(mem: Mem) -> int:
    """The registers that its address is made of."""
    return _bits(mem.base, mem.index)


def rex32(*regs: int) -> int:
    return 1 if any(reg >= 8 for reg in regs) else 0


_ARITH = ("add", "sub")
_LOGIC = ("and", "or", "xor")
_TWO = {"arith": _ARITH, "logic": _LOGIC, "cmp": ("cmp", "test")}


def reg_reg(group: str, pick: int, src: int, dst: int, wide: bool) -> Ins:
    """A register form of a two-operand integer group; ``pick`` chooses among its mnemonics."""
    name = r64 if wide else r32
    rex = 1 if wide else rex32(src, dst)
    both = _bits(src, dst)
    if group == "mov":
        return Ins("mov_r", f"mov {name(src)}, {name(dst)}", 2 + rex, _bits(src), _bits(dst))
    if group == "movx":
        if pick & 1:
            return Ins("movx_r", f"movzwl %{NAMES16[src]}, {r32(dst)}", 3 + rex32(src, dst), _bits(src), _bits(dst))
        return Ins("movx_r", f"movslq {r32(src)}, {r64(dst)}", 3, _bits(src), _bits(dst))
    if group == "lea":
        return Ins("lea_r", f"lea {8 * (1 + pick % 15)}({r64(src)}), {r64(dst)}", 4, _bits(src), _bits(dst))
    if group == "mul":
        return Ins("mul_r", f"imul {name(src)}, {name(dst)}", 3 + rex, both, _bits(dst))
    if group == "bit":
        op = ("popcnt", "tzcnt", "lzcnt")[pick % 3]
        return Ins("bit_r", f"{op} {name(src)}, {name(dst)}", 4 + rex, _bits(src), _bits(dst))
    if group == "crc":
        return Ins("crc_r", f"crc32q {r64(src)}, {r64(dst)}", 6, both, _bits(dst))
    if group == "cmov":
        op = ("cmove", "cmovb", "cmovne", "cmovs")[pick % 4]
        return Ins("cmov_r", f"{op} {name(src)}, {name(dst)}", 3 + rex, both, _bits(dst))
    if group == "setcc":
        op = ("sete", "setb", "setne", "sets")[pick % 4]
        return Ins("setcc_r", f"{op} %{NAMES8[dst]}", 3 + rex32(dst), 0, _bits(dst))
    if group == "shift":
        if pick % 3 == 2:
            op = ("shlx", "shrx", "sarx")[(pick // 3) % 3]
            return Ins("shift_r", f"{op} {r64(src)}, {r64(src)}, {r64(dst)}", 5, _bits(src), _bits(dst))
        op = ("shl", "shr", "sar")[(pick // 3) % 3]
        return Ins(
            "shift_r", f"{op} ${2 + pick % 29}, {name(dst)}", 3 + (1 if wide else rex32(dst)), _bits(dst), _bits(dst)
        )
    op = _TWO[group][pick % len(_TWO[group])]
    if pick % 5 == 4:
        imm = 1 + pick % 100
        size = 3 + (1 if wide else rex32(dst))
        if op == "test":
            op = "cmp"
        writes = 0 if group == "cmp" else _bits(dst)
        return Ins(f"{group}_r", f"{op} ${imm}, {name(dst)}", size, _bits(dst), writes)
    return Ins(f"{group}_r", f"{op} {name(src)}, {name(dst)}", 2 + rex, both, 0 if group == "cmp" else _bits(dst))


def reg_load(group: str, pick: int, mem: Mem, dst: int, wide: bool) -> Ins:
    """A form that reads memory into (or with) ``dst``."""
    name = r64 if wide else r32
    rex = 1 if wide or dst >= 8 or mem.high else 0
    rex_narrow = 1 if dst >= 8 or mem.high else 0
    reads, out, size = mem_reads(mem), _bits(dst), mem.extra
    if group == "mov":
        return Ins("mov_l", f"mov {mem.text}, {name(dst)}", 2 + rex + size, reads, out)
    if group == "movx":
        op = ("movzbl", "movzwl")[pick % 2]
        return Ins("movx_l", f"{op} {mem.text}, {r32(dst)}", 3 + rex_narrow + size, reads, out)
    if group == "shift":
        return Ins("shift_l", f"shrx {r64(dst)}, {mem.text}, {r64(dst)}", 5 + size, reads | out, out)
    if group == "mul":
        return Ins("mul_l", f"imul {mem.text}, {name(dst)}", 3 + rex + size, reads | out, out)
    if group == "bit":
        op = ("popcnt", "tzcnt", "lzcnt")[pick % 3]
        return Ins("bit_l", f"{op} {mem.text}, {name(dst)}", 4 + rex + size, reads, out)
    if group == "crc":
        return Ins("crc_l", f"crc32q {mem.text}, {r64(dst)}", 6 + size, reads | out, out)
    if group == "cmov":
        op = ("cmove", "cmovb", "cmovne", "cmovs")[pick % 4]
        return Ins("cmov_l", f"{op} {mem.text}, {name(dst)}", 3 + rex + size, reads | out, out)
    op = "cmp" if group == "cmp" else _TWO[group][pick % len(_TWO[group])]
    return Ins(f"{group}_l", f"{op} {mem.text}, {name(dst)}", 2 + rex + size, reads | out, 0 if group == "cmp" else out)


def reg_store(group: str, pick: int, mem: Mem, src: int, wide: bool) -> Ins:
    """A form that writes memory, or reads and writes it (``arith``, ``logic``, ``shift``, ``atomic``)."""
    name = r64 if wide else r32
    rex = 1 if wide or src >= 8 or mem.high else 0
    reads, size = mem_reads(mem) | _bits(src), mem.extra
    if group == "mov":
        return Ins("mov_s", f"mov {name(src)}, {mem.text}", 2 + rex + size, reads)
    if group == "setcc":
        op = ("sete", "setb", "setne")[pick % 3]
        return Ins("setcc_s", f"{op} {mem.text}", 3 + (1 if mem.high else 0) + size, mem_reads(mem))
    if group == "shift":
        return Ins("shift_m", f"shrl ${2 + pick % 9}, {mem.text}", 3 + (1 if mem.high else 0) + size, mem_reads(mem))
    if group == "atomic":
        return Ins("atomic_m", f"lock add {name(src)}, {mem.text}", 3 + rex + size, reads)
    op = _TWO[group][pick % len(_TWO[group])]
    return Ins(f"{group}_m", f"{op} {name(src)}, {mem.text}", 2 + rex + size, reads)


_SSE_INT = ("paddd", "pand", "pxor", "por", "psubd", "pcmpeqb", "pminub")
_FP = ("mulsd", "maxsd", "minsd")


def vector(cls: str, pick: int, a: int, b: int, mem: Mem | None) -> Ins:
    """A vector form; ``a`` and ``b`` index VEC_INT or VEC_FP, ``b`` is written."""
    group, form = cls.rsplit("_", 1)
    reads = mem_reads(mem) if mem else 0
    extra = (mem.extra + (1 if mem.high else 0)) if mem else 0
    x, y = VEC_INT[a], VEC_INT[b]
    f, g = VEC_FP[a], VEC_FP[b]
    m = mem.text if mem else ""
    if group == "ssemov":
        if form == "r":
            return Ins(cls, f"movaps %xmm{x}, %xmm{y}", 3)
        text = f"movups {m}, %xmm{y}" if form == "l" else f"movups %xmm{y}, {m}"
        return Ins(cls, text, 3 + extra, reads)
    if group == "sseint":
        op = _SSE_INT[pick % len(_SSE_INT)]
        return Ins(cls, f"{op} {m or f'%xmm{x}'}, %xmm{y}", 4 + extra, reads)
    if group == "ssefp":
        return Ins(cls, f"{_FP[pick % 3]} {m or f'%xmm{f}'}, %xmm{g}", 4 + extra, reads)
    if group == "cvt":
        if form == "l":
            return Ins(cls, f"cvtsi2sdl {m}, %xmm3", 4 + extra, reads)
        src = VALUES[a]
        return Ins(cls, f"cvtsi2sd {r32(src)}, %xmm3", 4 + rex32(src), _bits(src))
    # Of 16 bytes each: programs clean upper halves of registers before they go on to older instructions, each of which
    # costs hundreds of nanoseconds on some machines else, and a body has both kinds side by side.
    if group == "avxmov":
        if form == "r":
            return Ins(cls, f"vmovdqa %xmm{x}, %xmm{y}", 4)
        text = f"vmovdqu {m}, %xmm{y}" if form == "l" else f"vmovdqu %xmm{y}, {m}"
        return Ins(cls, text, 4 + extra, reads)
    if group == "avxint":
        op = "v" + _SSE_INT[pick % len(_SSE_INT)]
        return Ins(cls, f"{op} {m or f'%xmm{x}'}, %xmm{y}, %xmm{y}", 4 + extra, reads)
    op = "v" + _FP[pick % 3]
    return Ins(cls, f"{op} {m or f'%xmm{f}'}, %xmm{g}, %xmm{g}", 4 + extra, reads)


VECTOR_GROUPS = ("ssemov", "sseint", "ssefp", "cvt", "avxmov", "avxint", "avxfp")
REGISTER_GROUPS = ("mov", "movx", "lea", "mul", "bit", "crc", "cmov", "setcc", "shift", "arith", "logic", "cmp")
