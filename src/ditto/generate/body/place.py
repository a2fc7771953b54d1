"""Where slots lie: which of them share a line, and which lines follow each other in memory.

A slot that is fallen into or returned to begins at the start of a line, and the one before it ends at the end of the
line before; between such a first and such a last slot, a line has room for others.  What is returned to may also lie
behind the call on its line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random

from ditto.generate.body.lru import Stack
from ditto.generate.body.plan import ADJACENT, CALL, ICALL, Slot
from ditto.generate.body.render import SlotCode

LINE = 64
NEAR, FARTHEST = 16, 512
"""Lines up to which it matters little how far away one is, and beyond which none is looked for."""


@dataclass
class Placed:
    """Byte offset of each slot from the block start, the total bytes, the order in which to write the slots, and those
    of them that need not lie right behind the one before."""

    start: list[int]
    bytes: int
    order: list[int]
    heads: frozenset[int]


@dataclass(frozen=True)
class Gaps:
    """Lines left free before what may lie anywhere: ``most`` at most; of ``choices`` the one where sets are fullest."""

    most: int = 0
    choices: int = 1


def spaced(placed: Placed, gaps: Gaps, base: int, used: list[int], rng: Random) -> Placed:
    """The same with gaps.

    Args:
        base: line at which it begins.
        used: lines of each set of a cache; those of this code are added.
    """
    start = list(placed.start)
    offset = 0
    for number in placed.order:
        if number in placed.heads:
            here = base + (start[number] + offset) // LINE
            free = [rng.randint(0, gaps.most) for _ in range(gaps.choices)]
            offset += LINE * max(free, key=lambda gap: used[(here + gap) % len(used)])
        start[number] += offset
        if start[number] % LINE == 0:
            used[(base + start[number] // LINE) % len(used)] += 1
    return Placed(start, placed.bytes + offset, placed.order, placed.heads)


@dataclass(slots=True)
class _Line:
    """Some slots of one loop on one line; a long slot has several lines, joined without a gap.

    Attributes:
        first: begins at its start, for it is gone on to from the line before.
        last: ends at its end, or where ``back`` begins, to which its call returns.
        before, after: the lines that must lie next to it.
    """

    loop: int
    size: int = 0
    first: int = -1
    last: int = -1
    back: int = -1
    middle: list[int] = field(default_factory=list)
    before: int = -1
    after: int = -1

    @property
    def lines(self) -> int:
        return -(-self.size // LINE)


def place(slots: list[Slot], codes: list[SlotCode], near: Sequence[float], rng: Random) -> Placed:
    """Lay the slots out.

    Args:
        slots: in the order in which they first run.
        codes: theirs.
        near: touches, by bucket of distances, to be met by slots on the same line.
    """
    follows = _follows(slots)
    if any(slot.landing and slot.number in follows for slot in slots):
        return _joined(slots, codes, follows)
    return _Sharing(slots, codes, follows, near, rng).place()


def _follows(slots: list[Slot]) -> dict[int, int]:
    """What lies right behind each slot that falls through or calls."""
    by_number = {s.number: s for s in slots}
    follows: dict[int, int] = {}
    for slot in slots:
        if slot.transfer in ADJACENT:
            follows[slot.number] = _return_of(slot, by_number) if slot.transfer in (CALL, ICALL) else slot.to
    return follows


class _Sharing:
    """Puts slots onto lines, in the order in which they run, where their lines are as far away as is wanted."""

    def __init__(
        self, slots: list[Slot], codes: list[SlotCode], follows: dict[int, int], near: Sequence[float], rng: Random
    ) -> None:
        self._slots = slots
        self._codes = codes
        self._follows = follows
        self._before = {after: number for number, after in follows.items()}
        self._left = list(near)
        self._rng = rng
        self._lines: list[_Line] = []
        self._of: dict[int, int] = {}
        self._stack = Stack()
        self._owed = 0
        """Lines too many: slots that were to share one and found none."""

    def place(self) -> Placed:
        for slot in self._slots:
            found = None if slot.first or (slot.opens and not self._owed) else self._shared(slot)
            self._owed += (found is None) - slot.opens
            if found is None:
                found = len(self._lines)
                self._lines.append(_Line(slot.loop))
            self._put(slot, found)
            self._stack.touch(found)
        return self._laid_out()

    def _shared(self, slot: Slot) -> int | None:
        """A line at a distance that is wanted, else the nearest one; None if no line has room."""
        weights = [max(0.0, v) for v in self._left]
        if sum(weights) <= 0:
            return None
        bucket = self._rng.choices(range(len(weights)), weights)[0]
        low, high = 2 ** (bucket - 1), 2**bucket
        for begin, end in ((low, high), (high, max(NEAR, high)), (1, low), (max(NEAR, high), FARTHEST)):
            for line in islice(self._stack.lines, begin, end):
                if self._fits(slot, line):
                    self._left[bucket] -= slot.times
                    return line
        return None

    def _fits(self, slot: Slot, number: int) -> bool:
        line = self._lines[number]
        if line.loop != slot.loop or line.size + self._codes[slot.number].size > LINE:
            return False
        if slot.landing:
            caller = self._before[slot.number]
            behind = self._of[caller]
            if number == behind:
                return self._slots[caller].transfer in (CALL, ICALL)
            return number > 0 and line.first < 0 and self._head(behind) != number  # the block begins with its line 0
        return slot.number not in self._follows or line.last < 0

    def _head(self, number: int) -> int:
        """The first of the lines that lie before this one without a gap."""
        while self._lines[number].before >= 0:
            number = self._lines[number].before
        return number

    def _put(self, slot: Slot, number: int) -> None:
        line = self._lines[number]
        line.size += self._codes[slot.number].size
        self._of[slot.number] = number
        if slot.landing and self._of[self._before[slot.number]] == number:
            line.back = slot.number
            return
        if slot.number in self._follows:
            line.last = slot.number
        elif slot.landing or slot.first:
            line.first = slot.number
        else:
            line.middle.append(slot.number)
        if slot.landing:
            line.before = self._of[self._before[slot.number]]
            self._lines[line.before].after = number

    def _laid_out(self) -> Placed:
        start = [0] * len(self._slots)
        order: list[int] = []
        heads: set[int] = set()
        offset = 0
        for head in range(len(self._lines)):
            if self._lines[head].before >= 0:
                continue
            number, first = head, len(order)
            while number >= 0:
                line = self._lines[number]
                at = offset
                for slot in (line.first, *line.middle):
                    if slot >= 0:
                        start[slot] = at
                        at += self._codes[slot].size
                        order.append(slot)
                offset += line.lines * LINE
                at = offset
                for slot in (line.back, line.last):
                    if slot >= 0:
                        at -= self._codes[slot].size
                        start[slot] = at
                order += [slot for slot in (line.last, line.back) if slot >= 0]
                number = line.after
            heads.add(order[first])
        return Placed(start, offset, order, frozenset(heads - {0}))


def _joined(slots: list[Slot], codes: list[SlotCode], follows: dict[int, int]) -> Placed:
    """Runs of slots so full that they are joined without gaps; a run's first join is at a line's end."""
    followed = set(follows.values())
    start = [0] * len(slots)
    order: list[int] = []
    heads: set[int] = set()
    offset = 0
    for slot in slots:
        if slot.number in followed:
            continue
        heads.add(slot.number)
        run = [slot.number]
        while run[-1] in follows:
            run.append(follows[run[-1]])
        offset = -(-offset // LINE) * LINE
        if len(run) > 1:
            offset += -codes[run[0]].size % LINE
        for number in run:
            # A slot after a full line's join begins at the next line, if what lies between is never executed.
            start[number] = offset
            order.append(number)
            offset += codes[number].size
    return Placed(start, -(-offset // LINE) * LINE, order, frozenset(heads - {0}))


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
