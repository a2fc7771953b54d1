"""How many processes and threads a run has while it is under load."""

from __future__ import annotations

import threading
from statistics import median
from types import TracebackType

from ditto.host.app import AppRun
from ditto.host.usage import thread_count

EACH_S = 0.1


class Census:
    """Counts while it is entered; afterwards ``processes`` and ``threads`` are the medians over the later half of that.

    In the beginning some of the load before are still there, and not all of this one's connections.

    Servers that start some for each connection end them with it, so that there are none left to count after a load.
    """

    def __init__(self, run: AppRun) -> None:
        self._seen: list[tuple[int, int]] = []
        self._run = run
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def processes(self) -> float:
        """0 where there was no time to look."""
        return median([processes for processes, _ in self._late] or [0])

    @property
    def threads(self) -> float:
        """Of all processes together."""
        return median([threads for _, threads in self._late] or [0])

    @property
    def _late(self) -> list[tuple[int, int]]:
        return self._seen[len(self._seen) // 2 :]

    def _count(self) -> None:
        while not self._ended.wait(EACH_S):
            self._seen.append(thread_count(self._run))
