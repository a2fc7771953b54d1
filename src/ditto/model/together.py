"""Writes and syncs of files that come together: both or neither, and of several files one or the other.

A log that a transaction may find written by another is written and synced, or left alone.  Drawn each for itself, there
would be syncs of what nobody has written, which cost next to nothing, and writes that nobody waits for.  So a program
draws one number for all of them, and each is made if it falls into a range of its own: the same for those that come
together, ranges side by side for those of which one excludes the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from ditto.streams.programs import OpName

KINDS = frozenset({"file_write", "file_sync"})
FEWEST = 5
"""Courses with an operation from which on it is told what comes with it."""
MOSTLY = 0.8
SURE = 0.995
"""Share of cycles from which on an operation is made by all."""


def starts_of(shares: Mapping[OpName, float], courses: Iterable[Sequence[OpName]]) -> dict[OpName, float]:
    """Where in a program's one draw, from 0 to 1, the shares of those operations begin that come together.

    Args:
        shares: of the cycles that make each operation, in the program's order.
        courses: the operations of some cycles.

    Returns:
        Nothing of operations that come by themselves, and of a single one.
    """
    names = [name for name, share in shares.items() if name.kind in KINDS and share <= SURE]
    known = set(names)
    made: Counter[OpName] = Counter()
    both: Counter[frozenset[OpName]] = Counter()
    for course in courses:
        own = known.intersection(course)
        made.update(own)
        both.update(frozenset(pair) for pair in combinations(own, 2))
    starts: dict[OpName, float] = {}
    for name in names:
        if made[name] < FEWEST:
            continue
        with_it = {other: both[frozenset((name, other))] / min(made[name], made[other]) for other in starts}
        end = max((starts[other] + shares[other] for other in starts), default=0.0)
        if (nearest := max(with_it, key=lambda other: with_it[other], default=None)) is None:
            starts[name] = 0.0
        elif with_it[nearest] >= MOSTLY:
            starts[name] = starts[nearest]
        elif with_it[nearest] <= 1 - MOSTLY and end + shares[name] <= 1.0:
            starts[name] = end
    return starts if len(starts) > 1 else {}
