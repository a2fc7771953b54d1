"""Requests that came alone, as many of each kind as there are under load.

What a request calls may depend on what came before: a cache that was just filled, or is not yet, makes its callers ask
another service more or less often while requests come one at a time than later.  Whose a call is cannot be told under
load where several requests are under way, but how many there are is certain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ditto.streams.cycles import Cycle

ALIKE = 1.25
"""Factor up to which calls that a part of the requests make are as many alone as under load."""
HARDLY = 0.005
"""Calls a request by which the two always may differ."""
MOST = 0.98
FEWEST = 30
"""Requests of a class that are left at least."""
STRAYS = 50
"""One request of so many may have made fewer calls than all others by mistake."""

Classes = Mapping[bytes, Sequence[Cycle]]


def as_under_load(alone: Classes, loaded: Classes) -> dict[bytes, list[Cycle]]:
    """Those of the requests that came alone, by class, that call each service as often as all do under load."""
    kept = {key: list(found) for key, found in alone.items()}
    total = sum(map(len, loaded.values()))
    under_load = Counter(call.peer.path for found in loaded.values() for cycle in found for call in cycle.calls)
    for path in sorted(under_load):
        factor = _factor(path, kept, loaded, under_load[path] / max(1, total))
        if factor is None:
            continue
        for key, found in kept.items():
            counts = [_calls(cycle, path) for cycle in found]
            least = _least(counts)
            kept[key] = _thinned(found, [count > least for count in counts], factor)
    return kept


def _calls(cycle: Cycle, path: bytes) -> int:
    return sum(call.peer.path == path for call in cycle.calls)


def _least(counts: Sequence[int]) -> int:
    """What every request calls."""
    return sorted(counts)[len(counts) // STRAYS] if counts else 0


def _factor(path: bytes, alone: Classes, loaded: Classes, rate: float) -> float | None:
    """How many times more of the calls that only some requests make are made under load; None if as many."""
    total = max(1, sum(map(len, loaded.values())))
    always = further = 0.0
    for key, found in loaded.items():
        counts = [_calls(cycle, path) for cycle in alone.get(key) or found]
        mean, least = sum(counts) / max(1, len(counts)), _least(counts)
        told = least if alone.get(key) else mean
        always += told * len(found) / total
        further += (mean - told) * len(found) / total
    wanted = max(0.0, rate - always)
    if not further or abs(wanted - further) <= HARDLY or 1 / ALIKE < wanted / further < ALIKE:
        return None
    return wanted / further


def _thinned(cycles: list[Cycle], more: Sequence[bool], factor: float) -> list[Cycle]:
    """Without a part of those that call more, or of the others: the share of the first is then so many times larger."""
    some = sum(more)
    others = len(cycles) - some
    if not some or not others:
        return cycles
    share = min(MOST, factor * some / len(cycles))
    if factor < 1:
        left = {True: round(share * others / (1 - share)), False: others}
    else:
        left = {True: some, False: max(1, round(some * (1 - share) / share))}
    if sum(left.values()) < min(FEWEST, len(cycles)):
        return cycles
    of_kind, seen = {True: some, False: others}, Counter[bool]()
    kept = []
    for cycle, kind in zip(cycles, more, strict=True):
        at = seen[kind]
        seen[kind] += 1
        # Evenly spaced: the number kept grows by one with some.
        if (at + 1) * left[kind] // of_kind[kind] > at * left[kind] // of_kind[kind]:
            kept.append(cycle)
    return kept
