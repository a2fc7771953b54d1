"""Hardware counters of processes, in user and in kernel mode, where the machine has a PMU.

Each event is counted for every thread that is alive at the beginning and for whatever these start later.  A PMU has
fewer counters than there are events, so the kernel lets them take turns; a count stands for the whole time by the share
of it in which the event was counted.
"""

from __future__ import annotations

import os
import resource
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from ditto.host.perf_event import (
    EXCLUDE_HYPERVISOR,
    EXCLUDE_KERNEL,
    EXCLUDE_USER,
    INHERIT,
    attributes,
    perf_event_open,
)
from ditto.host.process import threads_of

Mode = Literal["user", "kernel"]
MODES: tuple[Mode, ...] = ("user", "kernel")
READING_BYTES = 24
_ENABLED, _RUNNING = 1 << 0, 1 << 1
_HARDWARE, _CACHE, _RAW = 0, 3, 4
_MISSES = 1 << 16
_LEAST_RUNNING = 0.01
"""Share of the time for which an event has to have been counted."""
_SPARE_FILES = 64


@dataclass(frozen=True)
class Event:
    """An event as ``perf_event_open`` names it: kind (``type``) and config."""

    name: str
    kind: int
    config: int


_EVENTS = (
    Event("cycles", _HARDWARE, 0),
    Event("instructions", _HARDWARE, 1),
    Event("branch_misses", _HARDWARE, 5),
    Event("l1d_misses", _CACHE, 0 | _MISSES),
    Event("l1i_misses", _CACHE, 1 | _MISSES),
    Event("llc_misses", _HARDWARE, 3),
    Event("dtlb_misses", _CACHE, 3 | _MISSES),
    Event("itlb_misses", _CACHE, 4 | _MISSES),
)
_L2 = {"GenuineIntel": 0x3F24, "AuthenticAMD": 0x0964}
"""Raw events: L2_RQSTS.MISS, and l2_cache_req_stat.ic_dc_miss_in_l2.  The kernel has no name of its own for it."""


def events_of(vendor: str) -> tuple[Event, ...]:
    """The events to count on a processor of this vendor, as ``/proc/cpuinfo`` names it."""
    raw = _L2.get(vendor)
    return _EVENTS if raw is None else (*_EVENTS, Event("l2_misses", _RAW, raw))


Key = tuple[str, Mode]


@dataclass(frozen=True)
class Counts:
    """What was counted, by event and mode.

    Attributes:
        values: events over the whole time; those that could not be counted are not there.
        running: least share of the time for which one of these was counted itself.
        missing: why others are not there.
    """

    values: Mapping[Key, float] = field(default_factory=dict)
    running: float = 1.0
    missing: Mapping[Key, str] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        """Of both times together: what could be counted in each."""
        both = self.values.keys() & other.values.keys()
        return Counts(
            {key: self.values[key] + other.values[key] for key in both},
            min(self.running, other.running),
            {**self.missing, **other.missing},
        )

    @property
    def reason(self) -> str:
        """Why nothing was counted; empty where something was."""
        return "" if self.values else next(iter(self.missing.values()), "no event was counted")


def counts_of(readings: Iterable[tuple[Key, bytes]], missing: Mapping[Key, str] | None = None) -> Counts:
    """Readings of all threads together.

    Args:
        readings: event and mode, and what a descriptor gave: the count, the nanoseconds for which it was enabled, and
            those for which it was counted, 8 bytes each.
        missing: why others could not be counted.
    """
    seen: dict[Key, tuple[int, int, int]] = {}
    for key, data in readings:
        if len(data) == READING_BYTES:
            here = struct.unpack("<QQQ", data)
            before = seen.get(key, (0, 0, 0))
            seen[key] = (before[0] + here[0], before[1] + here[1], before[2] + here[2])
    rare = {
        key: f"counted for {running / enabled:.2%} of the time only, for others took its place"
        for key, (_, enabled, running) in seen.items()
        if enabled and running < _LEAST_RUNNING * enabled
    }
    kept = {key: reading for key, reading in seen.items() if key not in rare}
    values = {key: value * (enabled / running if running else 1.0) for key, (value, enabled, running) in kept.items()}
    shares = [running / enabled for _, enabled, running in kept.values() if enabled]
    return Counts(values, min(shares, default=1.0), {**(missing or {}), **rare})


def open_counter(event: Event, mode: Mode, task: int) -> int:
    """A descriptor that counts from now on, of a thread and of what it starts.

    Raises:
        OSError: there is no PMU, no such event, no permission, or no such thread any more.
    """
    flags = INHERIT | EXCLUDE_HYPERVISOR | (EXCLUDE_KERNEL if mode == "user" else EXCLUDE_USER)
    return perf_event_open(attributes(event.kind, event.config, read=_ENABLED | _RUNNING, flags=flags), task, -1)


class Counters:
    """Counts while it is entered; `counts` once that is over.

    Args:
        pids: of the processes.
        events: to count; without the first one none of the others is tried.
    """

    def __init__(self, pids: Iterable[int], events: Iterable[Event]) -> None:
        self._pids, self._events = tuple(pids), tuple(events)
        self._open: list[tuple[Key, int]] = []
        self._missing: dict[Key, str] = {}
        self.counts = Counts()

    def __enter__(self) -> Self:
        tasks = [task for pid in self._pids for task in threads_of(pid)]
        _room_for(len(tasks) * len(self._events) * len(MODES))
        for event in self._events:
            for mode in MODES:
                self._open += self._opened(event, mode, tasks)
            if not self._open:
                break
        return self

    def __exit__(self, *_: object) -> None:
        readings = []
        for key, descriptor in self._open:
            with suppress(OSError):
                readings.append((key, os.read(descriptor, READING_BYTES)))
            os.close(descriptor)
        self._open.clear()
        self.counts = counts_of(readings, self._missing)

    def _opened(self, event: Event, mode: Mode, tasks: list[int]) -> list[tuple[Key, int]]:
        """Of all threads or, where one cannot be counted, of none: the sum of some tells nothing."""
        found: list[tuple[Key, int]] = []
        key = (event.name, mode)
        for task in tasks:
            try:
                found.append((key, open_counter(event, mode, task)))
            except ProcessLookupError:
                continue
            except OSError as error:
                self._missing[key] = error.strerror or str(error)
                for _, descriptor in found:
                    os.close(descriptor)
                return []
        return found


def _room_for(descriptors: int) -> None:
    """Let this process have so many more descriptors, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = descriptors + len(list(Path("/proc/self/fd").iterdir())) + _SPARE_FILES
    if wanted > soft:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
