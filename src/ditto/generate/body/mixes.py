"""Which classes of a mix can be generated, and into which the others are folded."""

from __future__ import annotations

from collections.abc import Mapping, Set

CONTROL = ("jcc", "jmp", "call", "ret", "ijmp", "icall")

REGISTER_CLASSES = frozenset(
    f"{g}_r" for g in ("mov", "movx", "lea", "mul", "bit", "crc", "cmov", "setcc", "shift", "arith", "logic", "cmp",
                       "div", "ssemov", "sseint", "ssefp", "cvt", "avxmov", "avxint", "avxfp")
) | {"nop"}  # fmt: skip
LOAD_CLASSES = frozenset(
    f"{g}_l" for g in ("mov", "movx", "shift", "mul", "bit", "crc", "cmov", "arith", "logic", "cmp", "ssemov",
    "sseint",
                       "ssefp", "cvt", "avxmov", "avxint", "avxfp")
)  # fmt: skip
STORE_CLASSES = frozenset({"mov_s", "setcc_s", "ssemov_s", "avxmov_s"})
UPDATE_CLASSES = frozenset({"arith_m", "logic_m", "shift_m", "atomic_m"})
CROSSING_CLASSES = ("ssemov_l", "avxmov_l")
STACK_CLASSES = frozenset({"push_r", "pop_r"})
STORES = STORE_CLASSES | UPDATE_CLASSES | {"push_r", "push_l", "call", "icall"}
LOADS = LOAD_CLASSES | UPDATE_CLASSES | {"pop_r", "push_l", "ret", "icall", "ijmp"}
FILLERS = REGISTER_CLASSES | LOAD_CLASSES | STORE_CLASSES | UPDATE_CLASSES | STACK_CLASSES

DEFAULT = {
    "mov_l": 0.19, "mov_s": 0.09, "mov_r": 0.11, "arith_r": 0.09, "cmp_r": 0.09, "cmp_l": 0.04, "jcc": 0.14,
    "jmp": 0.02, "lea_r": 0.06, "logic_r": 0.05, "push_r": 0.025, "pop_r": 0.025, "call": 0.012, "ret": 0.012,
    "shift_r": 0.02,
    "movx_l": 0.02,
}  # fmt: skip
"""For a block that says nothing about its mix: ordinary compiled code."""

_NEAR = {"x87": "ssefp", "other": "arith", "string": "mov", "xchg": "mov"}


def fold(name: str) -> str:
    """The class generated in place of ``name``: itself, or the nearest that exists."""
    if name in FILLERS or name in CONTROL:
        return name
    group, _, form = name.rpartition("_")
    group = _NEAR.get(group or name, group or name)
    others = {"s": "m", "m": "sl"}.get(form, "")
    for candidate in [f"{group}_{f}" for f in (form, *others)]:
        if candidate in FILLERS:
            return candidate
    fallback: dict[str, str] = {"l": "mov_l", "s": "mov_s", "m": "arith_m"}
    return fallback.get(form, "mov_r")


def made_by_mix(mix: Mapping[str, float], accesses: Set[str]) -> float:
    """Accesses an instruction that the classes of ``accesses`` make: one each, repeated ones left out."""
    return sum(share for name, share in sorted(mix.items()) if name in accesses)


def folded(mix: dict[str, float]) -> dict[str, float]:
    """The mix over generated classes, normalised to 1."""
    out: dict[str, float] = {}
    for name in sorted(mix):
        if mix[name] > 0:
            out[fold(name)] = out.get(fold(name), 0.0) + mix[name]
    total = sum(out.values())
    if total <= 1e-9:
        return dict(DEFAULT)
    return {name: share / total for name, share in out.items()}
