"""Indirect jumps apart from each other: predictors that tell them by few bits of their address then tell them all.

A jump that shares its place in such a table with another is missed though it always goes to the same place.  Programs
have few such jumps in a request and come to them often; bodies have many, each come to once, and of 80 a seventh would
share one by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ditto.generate.body.place import LINE, Placed
from ditto.generate.body.plan import ADJACENT, ICALL, IJUMP, Slot
from ditto.generate.body.render import Rendered, SlotCode

TABLE = 512
"""Addresses told apart, as callgrind's predictor of targets does."""
ONE_PLACE, SOME_PLACES = 6, 3
"""Bytes of the instruction that jumps, at its slot's end: through one pointer, or one of a table's."""
MOST_PREFIXES = 4
"""No instruction may have more than 15 bytes, and some that bodies have take 11."""
PREFIX = 0x2E
"""A segment override, which means nothing in 64-bit mode: assemblers align branches so."""


def all_apart(
    placed: Sequence[Placed],
    slots: Sequence[Sequence[Slot]],
    rendered: Sequence[Rendered],
    bases: Sequence[int],
    weights: Sequence[float],
    shared: float = 0.0,
) -> tuple[list[Placed], list[Rendered]]:
    """The indirect jumps of all blocks apart from each other, those that run most often first; see `apart`.

    Args:
        shared: executions a request that are to find another jump's target at their place.
    """
    used = [0.0] * TABLE
    left = [shared]
    moved, longer = list(placed), list(rendered)
    for n in sorted(range(len(weights)), key=lambda n: (-weights[n], n)):
        moved[n], codes = apart(placed[n], slots[n], rendered[n].slots, bases[n], weights[n], used, left)
        longer[n] = replace(rendered[n], slots=codes)
    return moved, longer


def apart(
    placed: Placed,
    slots: Sequence[Slot],
    codes: Sequence[SlotCode],
    base: int,
    weight: float,
    used: list[float],
    left: list[float],
) -> tuple[Placed, list[SlotCode]]:
    """The same with the instructions that jump indirectly at other bytes, within the lines where they are.

    A slot that nobody falls into lies later on its line if there is room; one that must begin where it does gets a
    longer instruction before its jump, one that must end where it does a longer jump.

    Args:
        base: byte at which the code begins.
        weight: runs of the code.
        used: executions of indirect jumps and calls by place; those of this code are added.
        left: executions that may still share a place, which are taken off.
    """
    start, longer = list(placed.start), list(codes)
    for at in range(len(placed.order) - 1, -1, -1):
        number = placed.order[at]
        slot, begin, end = slots[number], start[number], start[number] + codes[number].size
        if slot.transfer not in (ICALL, IJUMP):
            continue
        line_ends = -(-end // LINE) * LINE
        behind = (min(line_ends, start[placed.order[at + 1]]) if at + 1 < len(placed.order) else line_ends) - end
        before = placed.order[at - 1] if at else number
        ahead = begin - max(start[before] + codes[before].size, begin // LINE * LINE) if at else 0
        begins, ends = slot.landing or slot.first, slot.transfer in ADJACENT
        lengthened = begins or ends
        if begins and ends:
            most = 0
        elif ends:
            most = min(MOST_PREFIXES, ahead)
        elif begins:
            most = min(MOST_PREFIXES, behind) if _is_plain(codes[number].text[-2:-1]) else 0
        else:
            most = min(behind, LINE - 1 - begin % LINE)
        jump, way = base + end - (SOME_PLACES if slot.spread > 1 else ONE_PLACE), -1 if ends else 1
        runs = slot.exits * weight
        cost = [_shared(used[(jump + way * k) % TABLE], runs) for k in range(most + 1)]
        # The most that may share, else the least.
        by = min(range(most + 1), key=lambda k: (-cost[k] if cost[k] <= left[0] else cost[k], k))
        left[0] -= min(left[0], cost[by])
        used[(jump + way * by) % TABLE] += runs
        if not begins:
            start[number] += way * by
        if by and lengthened:
            longer[number] = _prefixed(codes[number], by, before_last=begins)
    return replace(placed, start=start), longer


def _shared(there: float, runs: float) -> float:
    """Executions before which the other was at their place, of two jumps in any order."""
    return 2 * there * runs / (there + runs) if there > 0 else 0.0


def _is_plain(line: Sequence[str]) -> bool:
    """Whether it is one instruction that prefixes mean nothing to: no label, no branch."""
    return bool(line) and line[0].startswith("\t") and not line[0].startswith(("\tj", "\t{", "\t.", "\tcall", "\tret"))


def _prefixed(code: SlotCode, count: int, before_last: bool) -> SlotCode:
    """The code with prefixes before its last instruction, or the one before it."""
    at = len(code.text) - 1 - before_last
    prefixes = f"\t.byte {', '.join([str(PREFIX)] * count)}"
    return replace(code, text=[*code.text[:at], prefixes, *code.text[at:]], size=code.size + count)
