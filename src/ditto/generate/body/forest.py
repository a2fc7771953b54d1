"""The shape of a block's code: nested loops over code lines that meet a stack-distance histogram.

A loop of w lines that runs T times, entered m times, gives w (T-1) m line touches at distance w-1.  Lines are split by
halves, one level for each power-of-two bucket, from the whole footprint down to one line; at each level the trip counts
are chosen so that the touches of its bucket come out; what cannot be placed is carried to the next smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from ditto.generate.body.target import Target

MAX_LINES = 12_000
MAX_HEIGHT = 8
"""Loops inside each other: as many as there are counters (four registers, four memory words)."""


FEW_BRANCHES = 0.05
"""Conditional branches per instruction below which lines are touched again by loops."""


@dataclass(slots=True)
class Node:
    """Children in order (line numbers or nodes), repeated ``trips`` times."""

    trips: int
    children: list[int | Node] = field(default_factory=list)

    def height(self) -> int:
        """Nested loops from here down, this one included."""
        inner = max((c.height() for c in self.children if isinstance(c, Node)), default=0)
        return inner + (1 if self.trips > 1 else 0)


@dataclass(slots=True)
class _Group:
    low: int
    high: int
    times: int
    depth: int
    trips: int = 1
    parts: list[_Group] = field(default_factory=list)


LEAST_LINES = 16
LEAST_LINES_EACH = 48
"""Where the runtime's own code takes nearly all lines that a request touches once, a block has so many all the same, or
one for so many instructions: in a handful of lines there is no place for calls, and every choice counts many times."""


def footprint(target: Target) -> int:
    """Distinct code lines of one pass, the first and last included."""
    touches = sum(target.code_distance[1:])
    if target.code_lines > 0:
        lines = min(target.code_lines, touches)
    else:
        lines = 1.0
        for bucket in range(len(target.code_distance)):
            deeper = sum(target.code_distance[bucket + 1 :])
            if deeper >= 2**bucket:
                lines = min(deeper, 2.0 ** (bucket + 1))
    lines = max(lines, min(LEAST_LINES, target.instructions / LEAST_LINES_EACH))
    return int(max(1, min(lines, MAX_LINES, target.instructions / 3)))


MOST_EACH, LEAST_EACH = 4.0, 3.0
"""Slots of a line at most, and instructions of a slot on average at least."""


@dataclass(frozen=True)
class Grown:
    """The code of one pass.

    Attributes:
        root: the forest; its leaves are slots, numbered in order.
        slots: how many there are.
        opening: the slots that have a line of their own; the others are put onto lines that are there already.
        near: touches, by bucket of distances, that come from slots on the same line.
    """

    root: Node
    slots: int
    opening: frozenset[int]
    near: tuple[float, ...]


def grow(target: Target, inline: float, room: float, rng: Random) -> Grown:
    """The forest over ``footprint`` lines.

    Code comes back to a line soon because it left it in the middle, for a call or for a branch, or because it loops.
    The exit of a loop is a branch that few predictors foresee, so the nearest touches are met by lines of several slots
    as far as these fit, and loops are left with the farther ones, of which one loop gives many.

    Args:
        inline: touches at distance 0 that branches inside a line give; the rest come from one-line loops.
        room: slots that a line holds.
    """
    lines = footprint(target)
    need = list(target.code_distance)
    # Branches inside a line touch it again; a loop over one line is a branch too, and needs a counter besides.
    need[0] = max(0.0, need[0] - inline) if target.branches < FEW_BRANCHES * target.instructions else 0.0
    top = max(0, (lines - 1).bit_length())
    visits = sum(need[1:])
    room = min(room, MOST_EACH, target.instructions / LEAST_EACH / lines)
    near = [0.0] * len(need)
    left = visits * (1 - 1 / room) if room > 1 else 0.0
    for bucket in range(1, top):
        near[bucket] = min(need[bucket], left)
        need[bucket] -= near[bucket]
        left -= near[bucket]
    each = visits / (visits - sum(near)) if visits > sum(near) else 1.0
    numbers = [int(line * each) for line in range(lines + 1)]
    root = _divided(nested(need, lines, rng), numbers)
    return Grown(root, numbers[-1], frozenset(numbers[:-1]), tuple(near))


def _divided(node: Node, numbers: list[int]) -> Node:
    """The forest with slots in place of lines: those of line i are ``numbers[i]`` to ``numbers[i + 1]``."""
    out = Node(node.trips)
    for child in node.children:
        if isinstance(child, Node):
            out.children.append(_divided(child, numbers))
        else:
            out.children += range(numbers[child], numbers[child + 1])
    return out


def nested(need: Sequence[float], lines: int, rng: Random) -> Node:
    """Loops over ``lines`` lines that touch them as often at each distance as ``need`` tells by buckets."""
    top = max(0, (lines - 1).bit_length())
    # Touches beyond the block's own reach are first touches of a run; what is left over is reused at the largest loop.
    beyond = sum(need[top:]) - lines
    root = _Group(0, lines, 1, 0)
    level = [root]
    carry = 0.0
    for bucket in range(top, -1, -1):
        wanted = (beyond if bucket == top else need[bucket]) + carry
        level, carry = _trips(level, wanted, bucket, rng)
        if bucket:
            level = _split(level, 2 ** (bucket - 1))
    return _node(root)


MANY_TRIPS = 16
"""Loops run about so often where there is enough to reuse: a loop of two trips is a branch that alternates, which
ordinary code has few of."""


CUT_FROM = 4
"""Smallest bucket in which a loop is fitted to what is left to reuse; below, so little is left to the next bucket."""


def _trips(level: list[_Group], wanted: float, bucket: int, rng: Random) -> tuple[list[_Group], float]:
    """Choose trip counts of the groups of one level, heaviest first; the last loop takes as many lines as are left.

    Returns:
        The groups to split further, and the touches that could not be placed.
    """
    low = 2 ** (bucket - 1) if bucket else 0
    fit = [g for g in level if g.high - g.low > low and g.depth < MAX_HEIGHT]
    rng.shuffle(fit)
    fit.sort(key=lambda g: (g.high - g.low) * g.times, reverse=True)
    rest = float(sum((g.high - g.low) * g.times for g in fit))
    cut: dict[int, list[_Group]] = {}
    for group in fit:
        size = group.high - group.low
        weight = float(size * group.times)
        even = wanted / rest if rest > 0 else 0.0
        rest -= weight
        # Many trips of few groups, unless all of them must run so often anyway.
        more = int(even) if even >= MANY_TRIPS - 1 else min(MANY_TRIPS - 1, int(wanted / weight))
        part = int(wanted / group.times + 0.5)
        if more >= 1:
            group.trips = 1 + min(more, 1 << 24)
            wanted -= weight * more
        elif low < part < size and bucket >= CUT_FROM:
            begin = group.low + rng.randint(0, size - part)
            edges = sorted({group.low, begin, begin + part, group.high})
            group.parts = [_Group(a, b, group.times, group.depth) for a, b in pairwise(edges)]
            next(g for g in group.parts if g.low == begin).trips = 2
            cut[id(group)] = group.parts
            wanted -= part * group.times
    return [g for group in level for g in cut.get(id(group), [group])], wanted


def _split(level: list[_Group], most: int) -> list[_Group]:
    out: list[_Group] = []
    for group in level:
        depth = group.depth + (1 if group.trips > 1 else 0)
        times = group.times * group.trips
        size = group.high - group.low
        pieces = max(1, -(-size // most))
        cuts = [group.low + size * i // pieces for i in range(pieces + 1)]
        group.parts = [_Group(a, b, times, depth) for a, b in pairwise(cuts)]
        out += group.parts
    return out


def _node(group: _Group) -> Node:
    """The group as a tree in which only loops are nodes (and the root)."""
    node = Node(group.trips)
    if not group.parts:
        node.children = list(range(group.low, group.high))
    for part in group.parts:
        child = _node(part)
        if child.trips == 1:
            node.children += child.children
        else:
            node.children.append(child)
    return node


def sequence(node: Node) -> list[int]:
    """Line numbers in execution order."""
    out: list[int] = []
    for child in node.children:
        if isinstance(child, Node):
            out += sequence(child)
        else:
            out.append(child)
    return out * node.trips
