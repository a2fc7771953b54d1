"""Iform classes: the coarse instruction classes in which mixes are measured, fitted and generated.

A class is ``group_form``.  The group says what the instruction does; the form where its operands are: ``r``
registers and immediates only, ``l`` reads memory, ``s`` writes memory, ``m`` reads and writes the same memory
operand.  Control transfers have no form.  Implicit stack accesses of push, pop, call and ret belong to their group and
are not a form.
"""

from __future__ import annotations

from functools import cache

from iced_x86 import Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register

CONTROL = ("jcc", "jmp", "call", "ret", "ijmp", "icall")
"""Groups without a form."""

_GROUP_OF_NAME: dict[str, str] = {}


def _group(name: str, *mnemonics: str) -> None:
    for mnemonic in mnemonics:
        _GROUP_OF_NAME[mnemonic] = name


_group("mov", "MOV", "MOVBE", "XCHG", "BSWAP", "CBW", "CWDE", "CDQE", "CWD", "CDQ", "CQO", "MOVNTI")
_group("movx", "MOVZX", "MOVSX", "MOVSXD")
_group("lea", "LEA")
_group("push", "PUSH", "PUSHFQ", "ENTER")
_group("pop", "POP", "POPFQ", "LEAVE")
_group("arith", "ADD", "SUB", "INC", "DEC", "NEG", "ADC", "SBB", "ADCX", "ADOX", "XADD")
_group("logic", "AND", "OR", "XOR", "NOT", "ANDN")
_group("cmp", "CMP", "TEST")
_group("shift", "SHL", "SHR", "SAR", "SAL", "ROL", "ROR", "RCL", "RCR", "SHLD", "SHRD", "SHLX", "SHRX", "SARX", "RORX")
_group("mul", "MUL", "IMUL", "MULX")
_group("div", "DIV", "IDIV")
_group("bit", "BT", "BTS", "BTR", "BTC", "BSF", "BSR", "TZCNT", "LZCNT", "POPCNT", "BLSR", "BLSI", "BLSMSK", "BZHI",
       "BEXTR", "PEXT", "PDEP")  # fmt: skip
_group("crc", "CRC32")
_group("nop", "NOP", "ENDBR64", "PAUSE", "FNOP", "LFENCE", "SFENCE", "MFENCE", "PREFETCHT0", "PREFETCHT1", "PREFETCHT2",
       "PREFETCHNTA", "PREFETCHW")  # fmt: skip
_group("atomic", "CMPXCHG", "CMPXCHG8B", "CMPXCHG16B")

_SSE_MOVES = ("MOVAPS", "MOVAPD", "MOVUPS", "MOVUPD", "MOVDQA", "MOVDQU", "MOVD", "MOVQ", "MOVSS", "MOVSD", "MOVHPS",
              "MOVLPS", "MOVHPD", "MOVLPD", "MOVHLPS", "MOVLHPS", "LDDQU", "MOVNTDQ", "MOVNTPS", "MOVMSKPS",
              "PMOVMSKB", "MOVMSKPD", "PEXTRB", "PEXTRW", "PEXTRD", "PEXTRQ", "PINSRB", "PINSRW", "PINSRD",
              "PINSRQ")  # fmt: skip
_STRING = ("MOVSB", "MOVSW", "MOVSQ", "STOSB", "STOSW", "STOSD", "STOSQ", "LODSB", "LODSW", "LODSD", "LODSQ", "SCASB",
           "SCASW", "SCASD", "SCASQ", "CMPSB", "CMPSW", "CMPSQ")  # fmt: skip
_group("string", *_STRING)

_MNEMONIC_NAMES = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}


@cache
def _group_of(mnemonic: int, code: int) -> str:
    name = _MNEMONIC_NAMES[mnemonic]
    if code in (Code.MOVSD_M32_M32, Code.CMPSD_M32_M32):
        return "string"
    if name in _GROUP_OF_NAME:
        return _GROUP_OF_NAME[name]
    if name.startswith("CMOV"):
        return "cmov"
    if name.startswith("SET"):
        return "setcc"
    vector = name.startswith("V")
    stem = name[1:] if vector else name
    if stem.startswith(("CVT",)):
        return "cvt"
    if stem in _SSE_MOVES or (
        vector and stem.startswith(("MOV", "PMOVMSK", "EXTRACT", "INSERT", "BROADCAST", "PBROADCAST"))
    ):
        return "avxmov" if vector else "ssemov"
    if stem.startswith("F") and not vector and stem not in ("FXSAVE", "FXRSTOR"):
        return "x87"
    if stem.endswith(("PS", "PD", "SS", "SD")) and not stem.startswith("P"):
        return "avxfp" if vector else "ssefp"
    if vector:
        return "avxint"
    if stem.startswith(("P", "SHUF", "UNPCK", "AES", "SHA", "PALIGNR")):
        return "sseint"
    return "other"


_INFO = InstructionInfoFactory()


def classify(instruction: Instruction) -> str:
    """The iform class of a decoded instruction, such as ``arith_r``, ``mov_l`` or ``jcc``."""
    if instruction.is_jcc_short_or_near or instruction.is_jcx_short or instruction.is_loop:
        return "jcc"
    if instruction.is_call_near_indirect:
        return "icall"
    if instruction.is_jmp_near_indirect:
        return "ijmp"
    if instruction.is_call_near:
        return "call"
    if instruction.is_jmp_short_or_near:
        return "jmp"
    name = _MNEMONIC_NAMES[instruction.mnemonic]
    if name in ("RET", "IRETQ"):
        return "ret"
    group = _group_of(instruction.mnemonic, instruction.code)
    if group in ("push", "pop", "nop", "lea"):
        return (
            group
            if group == "nop"
            else f"{group}_r"
            if not _has_memory(instruction) or group == "lea"
            else f"{group}_l"
        )
    form = memory_form(instruction)
    if instruction.has_lock_prefix or (name == "XCHG" and form != "r"):
        group = "atomic"
    return f"{group}_{form}"


def _has_memory(instruction: Instruction) -> bool:
    return any(instruction.op_kind(i) == OpKind.MEMORY for i in range(instruction.op_count))


def memory_form(instruction: Instruction) -> str:
    """``r``, ``l``, ``s`` or ``m``: what the instruction does to memory, the stack engine's own accesses left out."""
    reads = writes = False
    for used in _INFO.info(instruction).used_memory():
        if used.base == Register.RSP and not _has_memory(instruction):
            continue
        access = used.access
        if access in (OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE):
            reads = True
        if access in (OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE):
            writes = True
    if reads and writes:
        return "m"
    return "l" if reads else "s" if writes else "r"
