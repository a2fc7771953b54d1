"""How a service is spoken to, as the beginning of its native recording shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ditto.artifacts.records import Kind, Mode, Recording, load_recording
from ditto.streams.earlier import work_of
from ditto.streams.events import from_recording
from ditto.streams.evidence import requests_of
from ditto.streams.pulls import pulls
from ditto.streams.sharing import find_sharing

CODEC_RECORDS = 60_000


@dataclass(frozen=True)
class Wire:
    """How a service is spoken to.

    Attributes:
        codec: the protocol.
        folds: whether digits in paths tell no class.
        pulls: whether it is not spoken to at all, but fetches its jobs.
        tasks: whether requests go from thread to thread and call other services.
    """

    codec: str
    folds: bool
    pulls: bool
    tasks: bool = False


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
    tasks = any(cycle.calls for cycle in cycles) and find_sharing(work, cycles).shared
    return Wire(requests.codec, requests.folds, pulls(cycles), tasks)
