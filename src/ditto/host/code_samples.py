"""Where a service's threads run in user mode, sampled, with the code that lies there.

For services that cannot run under an instrument: what they execute is estimated from that (`ditto.streams.sampled`).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ditto.artifacts.samples import PAGE, PAGE_BYTES, SAMPLE, Samples
from ditto.host.cpu_clock import PERIOD_NS, PLACED, Sampler, records_of, with_descendants

DRAIN_S = 0.4
"""Processes that live for less may be gone before their code is read."""
REACH_BYTES = 256
"""Code is read so far beyond a sample."""
MAX_PAGES = 8192


class CodeSampler(Sampler):
    """Samples a service's code.

    Args:
        pids: the service's processes now; those born below them belong to it too.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        super().__init__(DRAIN_S, placed=True)
        self._pids = set(pids)
        self._kept: list[NDArray[Any]] = []
        self._parents: dict[int, int] = {}
        self._pages: dict[tuple[int, int], bytes] = {}

    def made(self, pids: Collection[int] | None = None) -> Samples | None:
        """What was sampled, of some processes or of all; None where that is nothing.  To be asked for after the end."""
        records = np.concatenate(self._kept) if self._kept else np.zeros(0, PLACED)
        if pids is not None:
            records = records[np.isin(records["pid"], list(pids))]
        if not len(records):
            return None
        samples = np.zeros(len(records), SAMPLE)
        for name in SAMPLE.names or ():
            samples[name] = records[name]
        wanted = [key for key in self._pages if pids is None or key[0] in pids]
        pages = np.array([(address, pid) for pid, address in wanted], PAGE)
        code = np.frombuffer(b"".join(self._pages[key] for key in wanted), np.uint8).reshape(len(pages), PAGE_BYTES)
        return Samples(PERIOD_NS, np.sort(samples, order="t_ns"), pages, code)

    def _take(self) -> None:
        for ring in self._rings:
            records, parents = records_of(ring.drain(), PLACED)
            self._parents |= parents
            own = records[np.isin(records["pid"], list(with_descendants(self._pids, self._parents)))]
            self._kept.append(own.copy())
            self._read_code(own)

    def _read_code(self, records: NDArray[Any]) -> None:
        """Pages of code that samples are in and that were not read before."""
        for pid in np.unique(records["pid"]).tolist():
            ips = records["ip"][records["pid"] == pid]
            pages = np.unique(np.concatenate((ips, ips + np.uint64(REACH_BYTES))) & np.uint64(-PAGE_BYTES % (1 << 64)))
            wanted = [page for page in pages.tolist() if (pid, page) not in self._pages]
            if not wanted or len(self._pages) >= MAX_PAGES:
                continue
            try:
                memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # it has ended
                continue
            try:
                for page in wanted:
                    self._read_page(memory, pid, page)
            finally:
                os.close(memory)

    def _read_page(self, memory: int, pid: int, page: int) -> None:
        try:
            code = os.pread(memory, PAGE_BYTES, page)
        except (OSError, OverflowError):  # not mapped any more, or the kernel's own
            return
        if len(code) == PAGE_BYTES:
            self._pages[pid, page] = code
