"""When each thread of a run was on a processor: its run time, looked at many times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ditto.host.app import AppRun
from ditto.host.process import threads_of

EVERY_S = 0.02
MOST_TASKS = 256
"""Threads looked at: more would take the time of a processor that the run needs."""
LIST_EVERY = 5
"""Looks between two lists of the threads there are."""

Task = tuple[int, int]


class ThreadWatch:
    """Looks while it is entered.

    Args:
        run: whose threads.
    """

    def __init__(self, run: AppRun) -> None:
        self._run = run
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._seen: dict[Task, tuple[list[float], list[int]]] = {}
        self._began = self._stopped = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._stopped = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it was looked."""
        return self._stopped - self._began

    def busy(self, bins: int) -> dict[Task, NDArray[np.float64]]:
        """[bins] share of each part of the time for which each thread was on a processor (0 to 1)."""
        edges = np.linspace(self._began, self._stopped, bins + 1)
        width = max(1e-9, self.seconds / bins)
        found = {}
        for task, (times, run_ns) in self._seen.items():
            total = np.interp(edges, times, np.asarray(run_ns, np.float64))
            found[task] = np.clip(np.diff(total) / 1e9 / width, 0.0, 1.0)
        return found

    def _look(self) -> None:
        tasks: list[Task] = []
        looks = 0
        while True:
            if looks % LIST_EVERY == 0:
                tasks = tasks_of(self._run.pids())[:MOST_TASKS]
            looks += 1
            for task in tasks:
                ran = _run_ns(task)
                if ran is not None:
                    times, values = self._seen.setdefault(task, ([], []))
                    times.append(time.monotonic())
                    values.append(ran)
            if self._ended.is_set():
                return
            self._ended.wait(EVERY_S)


def tasks_of(pids: Iterable[int]) -> list[Task]:
    """All threads of these processes that live now, by process."""
    return [(pid, tid) for pid in pids for tid in threads_of(pid)]


def _run_ns(task: Task) -> int | None:
    try:
        return int(Path(f"/proc/{task[0]}/task/{task[1]}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
