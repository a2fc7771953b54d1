"""What the choice of lines is made with: the accesses, the requests that they are walked through in, and loops."""

from __future__ import annotations

from dataclasses import dataclass, field

SHARED = 1 << 30
"""Lines from here on are those of the memory that all threads of a process work on."""


@dataclass(slots=True)
class Site:
    """A drawn access: line (or the first of ``trips`` strided ones); ``mates``: accesses in a trip of its loop."""

    store: bool
    times: int
    trips: int
    height: int
    both: bool
    crossing: bool
    loop: int = 0
    line: int = -1
    strided: bool = False
    mates: int = 0


@dataclass(frozen=True)
class Plan:
    """One kind of request.

    Attributes:
        blocks: in order.
        runtime_lines: that the runtime touches in one.
        rare: too rare to be worth more than one look.
    """

    blocks: tuple[int, ...]
    runtime_lines: int
    rare: bool = False


@dataclass
class Request:
    """The state of one simulated request; ``shared``: of new lines for loads, and for stores, those of all threads."""

    plan: int
    runtime_lines: int
    touched: set[int] = field(default_factory=set)
    fresh: int = 0
    next_once: int = 0
    once: int = -1
    shared: tuple[float, float] = (0.0, 0.0)

    def distance(self, depth: int) -> int:
        """A depth of the stack with the runtime's lines put in, which it touches before the blocks of the request."""
        return depth + self.runtime_lines if depth >= len(self.touched) + self.fresh else depth

    def depths(self, low: int, high: int) -> tuple[int, int]:
        """The depths of the stack at which distances from ``low`` to ``high`` are found; empty where none is."""
        above = len(self.touched) + self.fresh
        if high < above:
            return low, high
        if low < above:
            return low, max(above - 1, high - self.runtime_lines)
        return max(above, low - self.runtime_lines), high - self.runtime_lines


@dataclass
class Loop:
    """An innermost loop: the lines it may work on at most, and those it does."""

    most: int
    lines: list[int] = field(default_factory=list)


@dataclass
class Simulated:
    """Counts of one pass of a block, loads and stores apart, and the lines touched."""

    load: list[float]
    store: list[float]
    lines: int


def loop_lines(needs: tuple[list[float], list[float]], edge: int, accesses: int) -> int:
    """How many lines a loop works on: as many as its accesses of one trip shall find farther away than that.

    Later trips touch a line first at the distance of all of them, and then at the distances of the trip that drew them.
    """
    weights = [max(0.0, a) + max(0.0, b) for a, b in zip(*(need[: edge + 1] for need in needs), strict=True)]
    farther, scale = sum(weights[1:]), accesses / max(1e-9, sum(weights))
    for bucket in range(1, edge + 1):
        low, inside = 2.0 ** (bucket - 1), weights[bucket]
        if (farther - inside) * scale < 2 * low:
            # Within a bucket, needs are taken to lie evenly: lines = scale * (farther - inside * (lines - low) / low).
            return max(1, int(scale * (farther + inside) / (1 + scale * inside / low) + 0.5))
        farther -= inside
    return 1 << edge
