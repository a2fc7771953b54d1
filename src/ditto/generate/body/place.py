"""Where slots lie: runs of adjacent slots, each aligned so that joins fall on line boundaries."""

from __future__ import annotations

from dataclasses import dataclass

from ditto.generate.body.plan import ADJACENT, CALL, ICALL, Slot
from ditto.generate.body.render import SlotCode


@dataclass
class Placed:
    """Byte offset of each slot from the block's start, the total bytes, and the order in which to write the slots."""

    start: list[int]
    bytes: int
    order: list[int]


def place(slots: list[Slot], codes: list[SlotCode]) -> Placed:
    """Lay the slots out; a slot that is fallen into or returned to follows its predecessor with no gap."""
    follows: dict[int, int] = {}
    returns = {s.number: s for s in slots}
    for slot in slots:
        if slot.transfer in ADJACENT:
            after = slot.to
            if slot.transfer in (CALL, ICALL):
                after = _return_of(slot, returns)
            follows[slot.number] = after
    followed = set(follows.values())
    start = [0] * len(slots)
    order: list[int] = []
    offset = 0
    for slot in slots:
        if slot.number in followed:
            continue
        run = [slot.number]
        while run[-1] in follows:
            run.append(follows[run[-1]])
        offset = -(-offset // 64) * 64
        if len(run) > 1:
            # The first join is at a line boundary; later ones are where the lengths put them.
            offset += -codes[run[0]].size % 64
        for number in run:
            # A slot after a full line's join begins at the next line, if what lies between is never executed.
            start[number] = offset
            order.append(number)
            offset += codes[number].size
    return Placed(start, -(-offset // 64) * 64, order)


def _return_of(caller: Slot, slots: dict[int, Slot]) -> int:
    """Where a call returns to: the target of the return that ends the callee, nested calls skipped."""
    number, depth = caller.to, 0
    while True:
        slot = slots[number]
        if slot.transfer == "ret":
            return slot.to
        number = _return_of(slot, slots) if slot.transfer in (CALL, ICALL) else slot.to
        depth += 1
        if depth > len(slots):
            raise AssertionError("a call without a return")
