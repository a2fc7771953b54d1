"""How a service is spoken to, as the beginning of its native recording shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ditto.artifacts.records import Kind, Mode, Recording, load_recording
from ditto.streams.cycles import Cycle
from ditto.streams.earlier import work_of
from ditto.streams.events import from_recording
from ditto.streams.evidence import STRAY_CALLS, Requests, class_works, one_after_the_other, requests_of
from ditto.streams.programs import OpName
from ditto.streams.pulls import pulls
from ditto.streams.sharing import find_sharing

CODEC_RECORDS = 60_000
MANY_ODD = 4
"""Calls that only some requests of a class make, from which on they are taken to be other requests'."""
MIXED = 0.05
"""Share of the requests that came with others from which on these are of several classes: the first and the last of a
recording are cut off."""


@dataclass(frozen=True)
class Wire:
    """How a service is spoken to.

    Attributes:
        codec: the protocol.
        folds: whether digits in paths tell no class.
        pulls: whether it is not spoken to at all, but fetches its jobs.
        tasks: whether requests that call other services go from thread to thread, or are not told apart in a loop.
        mixed: whether requests of several classes come in one receive, so that more of it tells which.
    """

    codec: str
    folds: bool
    pulls: bool
    tasks: bool = False
    mixed: bool = False


def wire_of(recording: Path) -> Wire:
    """The wire protocol that a native recording shows, from the recording's beginning.

    Raises:
        BadInputError: the file is no recording.
    """
    loaded = load_recording(recording)
    every = loaded.records["kind"] == Kind.MARK
    starts = np.flatnonzero(every & (loaded.records["nr"] == Mode.ALL))
    first = int(starts[0]) if len(starts) else 0
    head = Recording(loaded.collector, loaded.start_ns, loaded.records[: first + CODEC_RECORDS])
    work = work_of(from_recording(head))
    requests = requests_of(work)
    cycles = [cycle for found in requests.classes.values() for cycle in found]
    calls = any(cycle.calls for cycle in cycles)
    tasks = calls and (find_sharing(work, cycles).shared or entangled(requests))
    several = requests.codec == "resp2" and mixed(requests.classes)
    return Wire(requests.codec, requests.folds, pulls(cycles), tasks, several)


def mixed(classes: Mapping[bytes, Sequence[Cycle]]) -> bool:
    """Whether requests that came together are of different classes.

    The first of those that came together tells how many there are.  Where they are all alike, it has as many others in
    its own class.
    """
    others = {key: sum(cycle.together == 0 for cycle in found) for key, found in classes.items()}
    told = {key: sum(max(0, cycle.together - 1) for cycle in found) for key, found in classes.items()}
    return sum(abs(others[key] - told[key]) for key in classes) > MIXED * max(1, sum(told.values()))


def entangled(requests: Requests) -> bool:
    """Whether the calls of some class come out as many that a part of its requests make: they were several's."""
    works = class_works(requests).values()
    odd = max(
        (sum(_odd(name, op.count / len(work.cycles)) for name, op in work.ops.items()) for work in works), default=0
    )
    return odd >= MANY_ODD and not one_after_the_other(requests)


def _odd(name: OpName, share: float) -> bool:
    return name.kind == "call" and STRAY_CALLS <= share <= 1 - STRAY_CALLS
