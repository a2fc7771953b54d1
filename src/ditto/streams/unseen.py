"""Kinds of requests that the instruction run never came to, as its client had not got so far when counting ended.

How long a thread ran between two calls is known of the native run.  Of the kinds that both runs have, so is what was
executed there: the rate between the two tells from the one what the other would have been.  What the recorder itself
takes after each call is the least that is found anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from ditto.streams.cycles import Work
from ditto.streams.evidence import MAX_CLASSES, Gaps, Requests, class_works, gap_names, op_gaps
from ditto.streams.programs import ClassWork, OpName

NOTED = 0.01
"""Share of the requests from which on it is told that they were not seen."""
FEW = 3
"""Calls from which on the mean time after them is known."""


def unseen_classes(native: Requests, seen: Requests) -> dict[bytes, int]:
    """How many requests the native run has of each class that the instruction run has none of.

    Of more classes than are kept, which ones are is chance, and tells nothing.
    """
    if len(seen.classes) >= MAX_CLASSES:
        return {}
    return {key: len(cycles) for key, cycles in native.classes.items() if not seen.classes.get(key)}


def estimated(
    native: Requests, work: Work, gaps: Gaps, unseen: Mapping[bytes, int]
) -> dict[bytes, dict[OpName, float]]:
    """Instructions after each operation of classes that the instruction run has not; nothing where no time is known.

    Args:
        native: the requests of the native run, ``work`` all that it recorded.
        gaps: what was counted, by requests.
        unseen: the classes.
    """
    works = class_works(native)
    times = op_gaps(works, work).inside
    common = [key for key in gaps.inside if key in times]
    least = min((spent for key in common for spent in _often(works[key], times[key]).values()), default=0.0)
    times = {key: {name: max(0.0, spent - least) for name, spent in found.items()} for key, found in times.items()}
    taken = sum(_in_all(works[key], times[key]) for key in common)
    counted = sum(_in_all(works[key], gaps.inside[key]) for key in common)
    if taken <= 0 or counted <= 0:
        return {}
    rate = counted / taken
    return {
        key: {name: spent * rate for name, spent in times[key].items()}
        for key in unseen
        if _in_all(works[key], times.get(key, {})) > 0
    }


def _often(work: ClassWork, times: Mapping[OpName, float]) -> dict[OpName, float]:
    """The times after operations that were seen often enough for a mean."""
    names = gap_names(work)
    return {
        names[name]: times[names[name]] for name, op in work.ops.items() if op.count >= FEW and names[name] in times
    }


def _in_all(work: ClassWork, amounts: Mapping[OpName, float]) -> float:
    """What follows all operations of all requests of a class."""
    names = gap_names(work)
    return sum(op.count * amounts.get(names[name], 0.0) for name, op in work.ops.items())


def unseen_note(unseen: Mapping[bytes, int], total: int, known: bool) -> str | None:
    """A sentence on requests of classes that were not seen, if they are more than a few.

    ``known`` tells that what they execute is estimated by their time.
    """
    missed = sum(unseen.values())
    if missed < NOTED * max(1, total):
        return None
    kinds = "a kind" if len(unseen) == 1 else f"{len(unseen)} kinds"
    others = "taken to be that of others" if missed < total else "not known"
    body = "estimated by their CPU time natively" if known else others
    return (
        f"{missed / total:.0%} of the requests are of {kinds} that did not come while instructions were counted: what "
        f"they execute is {body}; raise load.requests.lens in app.toml, or make the phases of the client shorter"
    )
