"""How evenly lines use the sets of a cache: misses beyond those that stack distances tell.

A program's functions lie where the linker put them, so that some sets of a cache have more of its lines than they keep.
Code without gaps uses all sets alike; with gaps of random lengths it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from ditto.artifacts.work import CACHE_SETS
from ditto.generate.body.count import Touched
from ditto.generate.body.place import Gaps

CODE_WAYS = 8
"""As in native/lens/sets.h."""
GAPS = (Gaps(2), Gaps(4), Gaps(8), Gaps(8, 2), Gaps(8, 3), Gaps(8, 5), Gaps(8, 8))
"""That are tried, each several times."""
TRIES = 2
MOST_TOUCHES = 500_000
"""Touches simulated in all tries together."""
NEAR = 0.05

T = TypeVar("T")
Schedule = Sequence[tuple[int, tuple[int, ...], bool]]


class Sets:
    """A cache of sets that keep the lines used last."""

    def __init__(self, ways: int) -> None:
        self._ways = ways
        self._sets: list[list[int]] = [[] for _ in range(CACHE_SETS)]

    def touch(self, line: int) -> bool:
        """Whether it was missed; it is there now."""
        lines = self._sets[line % CACHE_SETS]
        if lines and lines[-1] == line:
            return False
        if line in lines:
            lines.remove(line)
            lines.append(line)
            return False
        lines.append(line)
        if len(lines) > self._ways:
            del lines[0]
        return True


def pass_lines(order: Sequence[int], lines: Sequence[Touched]) -> Iterator[int]:
    """The code lines of one pass of a block, in order."""
    visits = [0] * len(lines)
    for number in order:
        visits[number] += 1
        for period, touched in lines[number]:
            if visits[number] % period:
                break
            yield from touched


def code_misses(
    passes: Sequence[Sequence[int]], bases: Sequence[int], beside: Sequence[int], schedule: Schedule
) -> list[float]:
    """Misses of one pass of each block in the steady state of the requests.

    Args:
        passes: lines of one pass of each block.
        bases: line at which each block begins.
        beside: lines that the runtime touches in a request.
        schedule: (kind, blocks, counts) of requests.
    """
    sets = Sets(CODE_WAYS)
    missed, runs = [0] * len(passes), [0] * len(passes)
    for counting in (False, True):
        for _, blocks, counts in schedule:
            for line in beside:
                sets.touch(line)
            for at in blocks:
                base = bases[at]
                found = sum([sets.touch(base + line) for line in passes[at]])
                if counting and counts:
                    missed[at] += found
                    runs[at] += 1
    return [m / max(1, n) for m, n in zip(missed, runs, strict=True)]


def chosen(wanted: float, touches: int, make: Callable[[Gaps, Random], tuple[T, float]], rng: Random) -> T:
    """What comes nearest to ``wanted`` misses.

    Args:
        touches: that one try simulates.
        make: something with such gaps, and its misses.
    """
    best, found = make(Gaps(), rng)
    tries = MOST_TOUCHES // max(1, touches) - 1
    for gaps in (gaps for gaps in GAPS for _ in range(TRIES)) if wanted > found else ():
        if tries <= 0 or abs(found - wanted) <= NEAR * wanted:
            break
        tries -= 1
        other, missed = make(gaps, rng)
        if abs(missed - wanted) < abs(found - wanted):
            best, found = other, missed
    return best
