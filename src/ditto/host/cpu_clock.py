"""The user share of CPU time by samples of the CPU clock, where the kernel's own accounting is too coarse.

Most kernels divide CPU time by what the timer tick finds, 100 to 1000 times a second: of a server that uses a quarter
of its time in user mode, a second tells the user time to ten percent or so.  The software CPU clock of
``perf_event_open`` is a high-resolution timer on each CPU that needs no hardware counters.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ditto.host.perf_event import EXCLUDE_IDLE, EXCLUDE_KERNEL, attributes, perf_event_open

PERIOD_NS = 251_003
"""Between two samples of a busy CPU; odd, so that it does not go with anything that is periodic."""
PAGES = 128
"""Of each CPU's ring: two seconds of samples and more."""
DRAIN_S = 1.0

_SOFTWARE, _CPU_CLOCK = 1, 0
_SAMPLE_IP, _SAMPLE_TID, _SAMPLE_TIME = 1 << 0, 1 << 1, 1 << 2
_TASK = 1 << 13
_USE_CLOCK_ID, _CLOCK_ID_AT = 1 << 25, 92
_RECORD_SAMPLE = 9
_RECORD_FORK = 7
_MODE, _KERNEL, _USER = 7, 1, 2
_HEAD, _TAIL = 1024, 1032
_HEAD_FIELDS = [("type", "<u4"), ("misc", "<u2"), ("size", "<u2")]
_RECORD = np.dtype([*_HEAD_FIELDS, ("pid", "<u4"), ("tid", "<u4")])
PLACED = np.dtype([*_HEAD_FIELDS, ("ip", "<u8"), ("pid", "<u4"), ("tid", "<u4"), ("t_ns", "<u8")])
"""A sample of user mode alone that tells where and when (CLOCK_MONOTONIC) it was taken."""


class Ring:
    """The samples of one CPU.

    Raises:
        OSError: it may not be sampled.
    """

    def __init__(self, cpu: int, placed: bool = False) -> None:
        kinds = _SAMPLE_TID | (_SAMPLE_IP | _SAMPLE_TIME if placed else 0)
        flags = EXCLUDE_IDLE | _TASK | (EXCLUDE_KERNEL | _USE_CLOCK_ID if placed else 0)
        attribute = attributes(_SOFTWARE, _CPU_CLOCK, period=PERIOD_NS, sample=kinds, flags=flags)
        struct.pack_into("<i", attribute, _CLOCK_ID_AT, time.CLOCK_MONOTONIC if placed else 0)
        self.fd = perf_event_open(attribute, -1, cpu)
        self._bytes = PAGES * mmap.PAGESIZE
        try:
            self._map = mmap.mmap(self.fd, self._bytes + mmap.PAGESIZE)
        except OSError:
            os.close(self.fd)
            raise

    def drain(self) -> bytes:
        """What came since the last time."""
        head: int = struct.unpack_from("<Q", self._map, _HEAD)[0]
        tail: int = struct.unpack_from("<Q", self._map, _TAIL)[0]
        begin, end = tail % self._bytes, head % self._bytes
        data = self._map[mmap.PAGESIZE :]
        taken = b"" if head == tail else data[begin:end] if begin < end else data[begin:] + data[:end]
        struct.pack_into("<Q", self._map, _TAIL, head)
        return taken

    def close(self) -> None:
        self._map.close()
        os.close(self.fd)


class Sampler(ABC):
    """Samples all CPUs while it is entered.  Where that is not permitted, it samples nothing and says so.

    Args:
        every_s: how often the rings are emptied.
        placed: samples tell where the code was, and when.

    Attributes:
        reason: why there are no samples; empty where there are.
    """

    def __init__(self, every_s: float, placed: bool = False) -> None:
        self.reason = ""
        self._every_s, self._placed = every_s, placed
        self._rings: list[Ring] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            for cpu in sorted(os.sched_getaffinity(0)):
                self._rings.append(Ring(cpu, placed=self._placed))
        except OSError as error:
            self.reason = f"no samples of the CPU clock ({error.strerror or error})"
            self._close()
            return self
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._take()
        self._close()

    def _drain(self) -> None:
        while not self._ended.wait(self._every_s):
            self._take()

    @abstractmethod
    def _take(self) -> None:
        """Empty the rings."""

    def _close(self) -> None:
        for ring in self._rings:
            ring.close()
        self._rings.clear()


class CpuClock(Sampler):
    """Tells the user share of processes' CPU time."""

    def __init__(self) -> None:
        super().__init__(DRAIN_S)
        self._parts: list[bytes] = []
        self._seen: Counter[tuple[int, bool]] = Counter()
        self._parents: dict[int, int] = {}

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for part in self._parts:
            seen, parents = samples_of(part)
            self._seen.update(seen)
            self._parents |= parents
        self._parts.clear()

    def user_share(self, pids: Iterable[int]) -> float | None:
        """User samples in all samples of processes and of those born below them, which may have ended since.

        None without samples.  To be asked for after the end.
        """
        user = kernel = 0
        for pid in with_descendants(set(pids), self._parents):
            user += self._seen[pid, True]
            kernel += self._seen[pid, False]
        return user / (user + kernel) if user + kernel else None

    def _take(self) -> None:
        self._parts += [ring.drain() for ring in self._rings]


def with_descendants(pids: set[int], parents: dict[int, int]) -> set[int]:
    """The processes and all below them."""
    found = set(pids)
    while born := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= born
    return found


def records_of(data: bytes, layout: np.dtype[Any]) -> tuple[NDArray[Any], dict[int, int]]:
    """Samples, and the parent of each process born meanwhile.

    Args:
        data: whole records as the kernel writes them; those of throttling and of losses are left out.
        layout: of a sample.
    """
    kept = []
    parents: dict[int, int] = {}
    at = 0
    while at + 8 <= len(data):
        # Runs of samples are taken at once; anything else is stepped over.
        records = np.frombuffer(data, layout, (len(data) - at) // layout.itemsize, at)
        plain = (records["type"] == _RECORD_SAMPLE) & (records["size"] == layout.itemsize)
        run = len(records) if plain.all() else int(np.argmin(plain))
        kept.append(records[:run])
        at += run * layout.itemsize
        if at + 8 <= len(data):
            kind, size = struct.unpack_from("<I2xH", data, at)
            if kind == _RECORD_FORK and at + 16 <= len(data):
                pid, parent = struct.unpack_from("<II", data, at + 8)
                if pid != parent:
                    parents[pid] = parent
            at += max(8, size)
    return np.concatenate(kept) if kept else np.zeros(0, layout), parents


def samples_of(data: bytes) -> tuple[Counter[tuple[int, bool]], dict[int, int]]:
    """Samples by process and whether they were in user mode, and the parents of those born; see :func:`records_of`."""
    records, parents = records_of(data, _RECORD)
    modes = records["misc"] & _MODE
    counted: Counter[tuple[int, bool]] = Counter()
    for mode, user in ((_USER, True), (_KERNEL, False)):
        pids, numbers = np.unique(records["pid"][modes == mode], return_counts=True)
        counted.update({(int(p), user): int(n) for p, n in zip(pids, numbers, strict=True)})
    return counted, parents
