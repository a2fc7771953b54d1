"""A slot's instructions before registers and lines are chosen: one step is one instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from ditto.generate.body.plan import CALL, END, FALL, ICALL, IJUMP, JUMP, NOT_TAKEN, RET, TAKEN, Slot

STACK_LINE, BODY_LINE = -1, -2
SAME_LINE = -3
"""The line of the access before."""
TABLE_LINES = -1000
"""Lines of jump tables count down from here, one for 8 pointers."""
NEXT_LINE = -4
"""The line after that: of an access that crosses from one to the other."""
CURSOR_LINES = -10
"""Lines of cursor slots count down from here, one for 8 cursors."""


@dataclass(slots=True)
class Step:
    """One instruction.

    Attributes:
        cls: its iform class.
        kind: what the code generator makes of it; ``op`` is a filler.
        a, b: arguments of the kind.
        weight: share of the slot's executions in which it executes.
        lines: its accesses, in order: (store, line); lines below 0 are fixed places, None is to be drawn.
        site: number of the drawn access; -1 none.
    """

    cls: str
    kind: str
    a: int = 0
    b: int = 0
    weight: float = 1.0
    lines: tuple[tuple[bool, int | None], ...] = ()
    site: int = -1


@dataclass
class Context:
    """What the steps of one block share."""

    rng: Random
    word: bool = False
    bits: int = 0
    tables: int = 0
    table_words: int = 0
    left: dict[str, float] = field(default_factory=dict)
    """Executions of each class that are wanted and not had yet, for what can be done by instructions of several."""

    def most_wanted(self, classes: Sequence[str], times: float) -> str:
        """Of some classes the one that lacks most, which is taken off; the first where none lacks."""
        name = max(classes, key=lambda one: self.left.get(one, 0.0))
        self.left[name] = self.left.get(name, 0.0) - times
        return name


LOAD_BODY = ((False, BODY_LINE),)
STORE_BODY = ((True, BODY_LINE),)
PUSH = ((True, STACK_LINE),)
POP = ((False, STACK_LINE),)


def next_word() -> list[Step]:
    """The next of the random words, which come in turn; mixed from which turn it is."""
    return [
        Step("mov_l", "word_turn", lines=LOAD_BODY),
        Step("lea_r", "word_next"),
        Step("mov_s", "word_keep", lines=STORE_BODY),
        Step("logic_r", "word_mask"),
        *(step for _ in range(2) for step in (Step("mul_r", "remix"), Step("shift_r", "rotate"))),
        Step("mov_s", "word_store", lines=STORE_BODY),
    ]


def _setter(context: Context, times: float) -> str:
    """Class of the instruction that sets the flags of a branch whose outcome is fixed."""
    budget = context.left
    names = [n for n in ("cmp_r", "cmp_l", "logic_r") if budget.get(n, 0.0) >= times]
    if not names:
        return "cmp_r"
    name = context.rng.choices(names, [budget[n] * (0.3 if n == "logic_r" else 1.0) for n in names])[0]
    budget[name] -= times
    return name


def fixed_branch(context: Context, times: float, taken: bool, far: int = -1) -> list[Step]:
    """A branch always or never taken; ``far`` is the slot it goes to, -1 for a place in its own line."""
    setter = _setter(context, times)
    lines: tuple[tuple[bool, int | None], ...] = ((False, None),) if setter == "cmp_l" else ()
    carry = 1 if setter == "logic_r" else 0
    steps = [Step(setter, "set", lines=lines), Step("jcc", "taken" if taken else "never", far, carry)]
    if taken and far < 0:
        steps.append(Step("mov_r", "skipped", weight=0.0))
    return steps


def random_branch(context: Context, rate: float, times: float) -> list[Step]:
    """A branch taken with about ``rate`` in each of ``times`` runs, by fresh bits of the random word; skips a move."""
    inverse = rate > 0.5
    small = 1 - rate if inverse else rate
    bits = min(6, max(1, round(-_log2(max(small, 1e-3)))))
    steps: list[Step] = []
    if times > 1 or context.bits + bits > 31:
        cls = context.most_wanted(("mul_r", "lea_r"), times)
        steps = [Step(cls, "remix" if cls == "mul_r" else "remix_add"), Step("shift_r", "rotate")]
        context.bits = 0
    mask = ((1 << bits) - 1) << context.bits
    context.bits += bits
    taken = 1 - 0.5**bits if inverse else 0.5**bits
    steps.append(Step("cmp_r", "test_word", mask))
    steps.append(Step("jcc", "random_not" if inverse else "random", b=int(taken * 1e6)))
    steps.append(Step("mov_r", "skipped", weight=1 - taken))
    return steps


def _log2(value: float) -> float:
    from math import log2

    return log2(value)


def enter(slot: Slot) -> list[Step]:
    steps = []
    times = slot.entries
    for height, trips in slot.enters:
        memory = height > 4
        cls, lines = ("mov_s", STORE_BODY) if memory else ("mov_r", ())
        steps.append(Step(cls, "loop_init", height, trips, weight=times / slot.times, lines=lines))
        times *= trips
        steps.append(Step("", "loop_head", height))
    return steps


def leave(slot: Slot) -> list[Step]:
    steps = []
    weight = 1.0
    for height, trips in slot.leaves:
        memory = height > 4
        lines = ((False, BODY_LINE), (True, BODY_LINE)) if memory else ()
        steps.append(Step("arith_m" if memory else "arith_r", "loop_count", height, weight=weight, lines=lines))
        steps.append(Step("jcc", "loop_back", height, trips, weight=weight))
        weight /= trips
    return steps


def transfer(slot: Slot, context: Context) -> list[Step]:
    """The instructions that take control to the next slot; may open a jump table."""
    kind = slot.transfer
    if kind in (END, FALL):
        return []
    if kind == JUMP:
        return [Step("jmp", "jump", slot.to)]
    if kind == TAKEN:
        return fixed_branch(context, slot.exits, True, slot.to)
    if kind == NOT_TAKEN:
        return fixed_branch(context, slot.exits, False)
    if kind == CALL:
        return [Step("call", "call", slot.to, lines=PUSH)]
    if kind == RET:
        return [Step("ret", "ret", lines=POP)]
    assert kind in (ICALL, IJUMP)
    table, context.tables = context.tables, context.tables + 1
    place: tuple[bool, int | None] = (False, TABLE_LINES - context.table_words // 8)
    spread = slot.spread
    context.table_words += spread
    cls = "icall" if kind == ICALL else "ijmp"
    last = Step(cls, cls, table, slot.to, lines=(place, *(PUSH if kind == ICALL else ())))
    if spread == 1:
        last.kind += "_one"
        return [last]
    return [
        Step(context.most_wanted(("movx_l", "mov_l"), slot.exits), "index_load", table % 8, lines=LOAD_BODY),
        Step("logic_r", "index_mask", spread - 1),
        Step("lea_r", "index_base", table),
        last,
    ]


def pool_unit(cursor: int, store: bool, lines: int, sweep: bool) -> list[Step]:
    """Go on by some lines of a pool: load the cursor, touch each line by a load or a store, keep where it is.

    In a sweep the lines lie one after the other and only the last one tells where to go on, so that nothing waits for
    the one before; otherwise each tells where the next one is.
    """
    slot = CURSOR_LINES - cursor // 8
    far = -(1 << 20) - cursor
    steps = [Step("mov_l", "cursor_load", cursor, lines=((False, slot),))]
    for number in range(lines):
        if sweep:
            steps.append(Step("mov_s" if store else "mov_l", "sweep_touch", cursor, number, lines=((store, far),)))
        elif store:
            steps.append(Step("mov_s", "cursor_touch", cursor, lines=((True, far),)))
            steps.append(Step("mov_l", "cursor_next", cursor, lines=((False, SAME_LINE),)))
        else:
            steps.append(Step("mov_l", "cursor_next", cursor, lines=((False, far),)))
    if sweep:
        steps.append(Step("mov_l", "sweep_next", cursor, lines - 1, lines=((False, SAME_LINE),)))
    return [*steps, Step("mov_s", "cursor_store", cursor, lines=((True, slot),))]
