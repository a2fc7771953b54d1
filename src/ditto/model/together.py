"""What comes together of a request's operations, and what comes as evenly as by counting.

A log that a transaction may find written by another is written and synced, or left alone: both or neither, and of
several files one or the other.  What a cache does not have is asked of a database, and then put into the cache.  Drawn
each for itself, there would be syncs of what nobody has written, which cost next to nothing, and writes that nobody
waits for.  So a program draws one number for all of them, and each is made if it falls into a range of its own: the
same for those that come together, ranges side by side for those of which one excludes the other.

Likewise a file that only some requests open, since others find it open still: what is done with it comes with its
opening.  Drawn by itself, a read would often be of a file that this request never opened, and bring nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from ditto.streams.programs import ClassWork, OpName, OpWork

FILES = frozenset({"file_write", "file_sync"})
CALLS = frozenset({"call"})
FILE_DRAW = 511
"""Number of the draw for files that some requests open; a request may keep one for longer than a wait."""
FEWEST = 5
"""Courses with an operation from which on it is told what comes with it."""
MOSTLY = 0.8
SURE = 0.995
"""Share of cycles from which on an operation is made by all."""
WINDOW = 32
"""Requests that follow each other, of which it is counted how many make a call."""
WINDOWS = 16
"""As many of those as are needed to tell their spread."""
EVENLY = 0.5
"""Spread of those counts, in that of chance, up to which calls come evenly."""


def draws_of(
    work: ClassWork, ordered: Sequence[tuple[OpName, OpWork]], settled: Collection[OpName] = ()
) -> dict[OpName, dict[str, object]]:
    """The fields of `Op` that tell how operations are drawn, of those that are not just drawn by chance each.

    Args:
        work: a class.
        ordered: its operations that are part of its program, in order.
        settled: those that something else tells the draw of: what is done with a file that one of them opens, too.
    """
    total = max(1, len(work.cycles))
    shares = {name: op.count / total for name, op in ordered}
    opened = {name.slot for name in shares if name.kind == "file_open" and name.slot and shares[name] <= SURE}
    opened -= {name.slot for name in settled}
    own = {name: share for name, share in shares.items() if name.slot in opened}
    made: dict[OpName, dict[str, object]] = {
        name: {"start": start} for name, start in starts_of(shares, work.courses).items()
    }
    of_files = starts_of(own, work.courses, frozenset(name.kind for name in own))
    made |= {name: {"start": start, "draw": FILE_DRAW} for name, start in of_files.items()}
    starts = starts_of(shares, work.courses, CALLS)
    evenly = {name: comes_evenly(_made(work, op)) for name, op in ordered if _varies(name, shares)}
    all_even = all(evenly[name] for name in starts)
    for number, (name, even) in enumerate(evenly.items(), 2):
        if name in starts:
            made[name] = {"start": starts[name], "draw": 1, "even": all_even}
        elif even:
            made[name] = {"draw": number, "even": True}
    return made


def _varies(name: OpName, shares: Mapping[OpName, float]) -> bool:
    """Whether a call is made by some requests."""
    return name.kind in CALLS and shares[name] <= SURE


def _made(work: ClassWork, op: OpWork) -> list[bool]:
    """Which requests make a call, in the order in which they came."""
    calling = {id(call.cycle) for call in op.calls}
    return [id(cycle) in calling for cycle in sorted(work.cycles, key=lambda cycle: cycle.receive.t_out)]


def comes_evenly(made: Sequence[bool]) -> bool:
    """Whether a call is made by about as many of any few requests, as by every fourth or where a client goes round."""
    windows = [made[at : at + WINDOW] for at in range(0, len(made) - WINDOW + 1, WINDOW)]
    share = sum(made) / max(1, len(made))
    by_chance = WINDOW * share * (1 - share)
    if len(windows) < WINDOWS or by_chance <= 0:
        return False
    spread = sum((sum(window) - WINDOW * share) ** 2 for window in windows) / len(windows)
    return spread <= EVENLY * by_chance


def starts_of(
    shares: Mapping[OpName, float], courses: Iterable[Sequence[OpName]], kinds: frozenset[str] = FILES
) -> dict[OpName, float]:
    """Where in a program's one draw, from 0 to 1, the shares of those operations begin that come together.

    Args:
        shares: of the cycles that make each operation, in the program's order.
        courses: the operations of some cycles.
        kinds: of operations that may.

    Returns:
        Nothing of operations that come by themselves, and of a single one.
    """
    names = [name for name, share in shares.items() if name.kind in kinds and share <= SURE]
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
