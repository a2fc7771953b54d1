"""How control passes from line to line: transfers, calls, indirect jumps, branches inside lines.

A slot is what a line executes.  Its transfer decides where it may lie: a slot that falls through or calls must end at
the end of its line, and the slot that is fallen into or returned to begins at the start of the next one.  So a slot
that is landed on neither falls through nor calls, unless slots are so full that lines join without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from ditto.generate.body.forest import Grown, Node
from ditto.generate.body.target import Target

FALL, JUMP, TAKEN, NOT_TAKEN, CALL, ICALL, IJUMP, RET, END = (
    "fall", "jmp", "taken", "not_taken", "call", "icall", "ijmp", "ret", "end",
)  # fmt: skip
ADJACENT = (FALL, NOT_TAKEN, CALL, ICALL)
DENSE_BYTES = 50
"""Mean bytes a slot from which lines are joined without gaps."""
LINE_FILLED = 54.0
"""Bytes of a line that slots of uneven lengths fill."""

KEPT_INSIDE = 0.5
"""Share of the touches of the same line for which branches inside of lines are kept, though more jumps are needed."""


EXCHANGED = 0.55
"""Of a transfer's executions, as many that lack for it to be exchanged."""


@dataclass(slots=True)
class Inline:
    """A conditional branch inside a slot: ``never``, ``always``, or ``random`` taken with ``rate``."""

    kind: str
    rate: float = 0.0


@dataclass(slots=True)
class Slot:
    """One line's work.

    Attributes:
        times: executions in one pass.
        enters: (height, trips) of loops that begin here, outermost first.
        leaves: (height, trips) of loops that end here, innermost first.
        transfer: how control leaves; goes to ``to`` (a slot number).
        landing: the slot begins at the start of the line after the one physically before it.
        opens: it has a line of its own; else it is put onto one that is there already.
        fill: filler instructions.
        trips: trip count of the innermost loop around, 1 outside loops.
        loop: number of the innermost loop; 0 outside loops.
    """

    number: int
    times: int
    enters: list[tuple[int, int]] = field(default_factory=list)
    leaves: list[tuple[int, int]] = field(default_factory=list)
    transfer: str = END
    to: int = -1
    landing: bool = False
    opens: bool = True
    inline: list[Inline] = field(default_factory=list)
    pools: list[tuple[int, bool, int, bool]] = field(default_factory=list)
    fill: int = 0
    trips: int = 1
    height: int = 0
    loop: int = 0
    first: bool = False
    last: bool = False
    spread: int = 1
    """Places that an indirect transfer goes to."""

    @property
    def entries(self) -> float:
        """Times the slot is come to from elsewhere, loops that begin here counted once."""
        count = float(self.times)
        for _, trips in self.enters:
            count /= trips
        return count

    @property
    def exits(self) -> float:
        """Times its transfer executes: loops that end here leave once."""
        count = float(self.times)
        for _, trips in self.leaves:
            count /= trips
        return count


class Planner:
    """Walks the forest once and gives every slot its transfer, meeting the target's counts of each kind."""

    def __init__(self, target: Target, grown: Grown, rng: Random, dense: bool) -> None:
        self._rng = rng
        self._dense = dense
        root = grown.root
        self.slots = [Slot(i, 0, opens=i in grown.opening) for i in range(grown.slots)]
        self._loops = 0
        self._mark(root, 1, 1, 0, 0)
        total = float(sum(s.exits for s in self.slots))
        loop_branches = sum(_loop_branches(s) for s in self.slots)
        self.loop_branches = loop_branches
        jumps = target.mix.get("jmp", 0.0) * target.instructions
        taken = max(0.0, target.branches * target.taken_share - loop_branches)
        others = jumps + 2 * (target.calls + target.icalls) + target.ijumps
        # Touches that no block begins with are of code that goes on from one line into the next.
        crossings = max(0.0, sum(target.code_distance) - target.branches - others)
        taken = max(0.0, min(taken, total - others - crossings))
        rest = max(0.0, total - others - taken)
        at_end = max(0.0, target.branches - loop_branches - target.code_distance[0] - taken)
        self._left = {
            CALL: target.calls, ICALL: target.icalls, IJUMP: target.ijumps, JUMP: jumps, TAKEN: taken,
            NOT_TAKEN: min(at_end, rest), FALL: max(0.0, rest - at_end),
        }  # fmt: skip
        self._branches = target.branches - loop_branches - KEPT_INSIDE * target.code_distance[0]
        """Left for ends of lines."""
        self._connect(root, total)
        self._exchange(CALL, ICALL)
        self._left[IJUMP] += self._left[ICALL]
        self._exchange(JUMP, IJUMP)
        self.slots[0].first = True
        self.slots[-1].last = True

    def _mark(self, node: Node, times: int, trips: int, height: int, loop: int) -> None:
        if node.trips > 1:
            times, trips, height = times * node.trips, node.trips, node.height()
            self._loops += 1
            loop = self._loops
        for child in node.children:
            if isinstance(child, Node):
                self._mark(child, times, trips, height, loop)
            else:
                slot = self.slots[child]
                slot.times, slot.trips, slot.height, slot.loop = times, trips, height, loop
        if node.trips > 1:
            self.slots[_first(node)].enters.insert(0, (height, node.trips))
            self.slots[_last(node)].leaves.append((height, node.trips))

    def _connect(self, node: Node, total: float) -> None:
        children = node.children
        position = 0
        while position < len(children):
            child = children[position]
            if isinstance(child, Node):
                self._connect(child, total)
            if position + 1 == len(children):
                break
            here, there = self.slots[_last(child)], self.slots[_first(children[position + 1])]
            kind = self._pick(here, position + 2 < len(children))
            here.transfer, here.to = kind, there.number
            if kind in (FALL, NOT_TAKEN):
                there.landing = True
            if kind in (CALL, ICALL):
                length = min(self._rng.choice((1, 1, 2, 3)), len(children) - position - 2)
                self._callee(children[position + 1 : position + 1 + length], total)
                position += length
                back = self.slots[_last(children[position])]
                back.transfer = RET
                self.slots[_first(children[position + 1])].landing = True
                back.to = _first(children[position + 1])
            position += 1

    def _exchange(self, direct: str, indirect: str) -> None:
        """Make indirect what goes to one place, or the other way round, until as many are indirect as wanted."""
        for slot in sorted(self.slots, key=lambda s: (-s.exits, self._rng.random())):
            left = self._left[indirect]
            if slot.transfer == direct and left >= EXCHANGED * slot.exits:
                slot.transfer = indirect
            elif slot.transfer == indirect and -left >= EXCHANGED * slot.exits:
                slot.transfer = direct
            else:
                continue
            moved = slot.exits if slot.transfer == indirect else -slot.exits
            self._left[indirect] -= moved
            self._left[direct] += moved

    def _callee(self, children: list[int | Node], total: float) -> None:
        for child, following in pairwise([*children, None]):
            if isinstance(child, Node):
                self._connect(child, total)
            if child is None or following is None:
                break  # the last one's transfer is the return
            here, there = self.slots[_last(child)], self.slots[_first(following)]
            kind = self._pick(here, False)
            here.transfer, here.to = kind, there.number
            if kind in (FALL, NOT_TAKEN):
                there.landing = True

    def _pick(self, slot: Slot, may_call: bool) -> str:
        """A transfer in proportion to what is still wanted, among those the slot's place allows."""
        left = self._left
        allowed = [JUMP, TAKEN, IJUMP]
        if not slot.landing or self._dense:
            allowed += [FALL, NOT_TAKEN]
        if not slot.landing and may_call:
            allowed += [CALL, ICALL]
        weights = []
        for kind in allowed:
            weight = max(0.0, left[kind])
            if kind in (CALL, ICALL):
                weight *= 6.0 if left[kind] >= 0.5 * slot.exits else 0.0
            elif kind == IJUMP and left[kind] < 0.8 * slot.exits:
                weight = 0.0
            elif kind == FALL:
                # Hardly every other line may be left so.
                weight *= 3.0 if slot.leaves else 1.0 if self._dense else 2.0
            if kind in (ICALL, IJUMP):
                weight *= slot.exits  # of a few places that are come to often, as programs have them
            weights.append(weight)
        if sum(weights) > 0:
            kind = self._rng.choices(allowed, weights)[0]
        elif FALL in allowed:
            kind = FALL
        else:
            kind = TAKEN if self._branches >= slot.exits or left[TAKEN] >= left[JUMP] else JUMP
        left[kind] -= slot.exits
        if kind in (TAKEN, NOT_TAKEN):
            self._branches -= slot.exits
        if kind in (CALL, ICALL):
            left[FALL] -= 0.5 * slot.exits
        return kind


def _loop_branches(slot: Slot) -> float:
    total, times = 0.0, float(slot.times)
    for _, trips in slot.leaves:
        total += times
        times /= trips
    return total


def _first(child: int | Node) -> int:
    while isinstance(child, Node):
        child = child.children[0]
    return child


def _last(child: int | Node) -> int:
    while isinstance(child, Node):
        child = child.children[-1]
    return child


def spread_inline(
    slots: list[Slot], target: Target, loop_branches: float, per_slot: float, rng: Random, share: float = 1.0
) -> None:
    """Put the remaining conditional branches inside lines: unpredictable ones first, then never and always.

    Args:
        share: of the unpredictable ones that the target asks for.
    """
    for slot in slots:
        slot.inline.clear()
    at_end = sum(s.exits for s in slots if s.transfer in (TAKEN, NOT_TAKEN))
    budget = target.branches - loop_branches - at_end
    taken_left = target.branches * target.taken_share - loop_branches
    taken_left -= sum(s.exits for s in slots if s.transfer == TAKEN)
    most = max(1, int(per_slot / 2.2)) if per_slot >= 2 else 0
    if not most:
        return
    pending = sorted(target.random_rates, key=lambda r: abs(r[0] - 0.5))
    supply = [[rate, share * executions] for rate, executions in pending]
    total = float(sum(s.times for s in slots))
    order = sorted(slots, key=lambda s: (-s.times, rng.random()))
    room = total
    for slot in order:
        share = budget / room if room > 0 else 0.0
        count = int(share) + (1 if rng.random() < share - int(share) else 0)
        room -= slot.times
        for _ in range(min(max(count, 0), most)):
            random_left = sum(r[1] for r in supply)
            if random_left >= 0.5 * slot.times and rng.random() < random_left / max(budget, random_left, 1.0):
                choice = max(supply, key=lambda r: r[1])
                choice[1] -= slot.times
                slot.inline.append(Inline("random", choice[0]))
                taken_left -= choice[0] * slot.times
            elif rng.random() < taken_left / max(budget, taken_left, 1.0):
                slot.inline.append(Inline("always"))
                taken_left -= slot.times
            else:
                slot.inline.append(Inline("never"))
            budget -= slot.times
