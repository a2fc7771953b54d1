"""Requests that leave a sync of a file to another request, and wait until that one's has done it for them too."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from ditto.artifacts.profile import OpKind, RequestClass
from ditto.artifacts.syscalls import numbers
from ditto.streams.cycles import Cycle, Work
from ditto.streams.events import Event
from ditto.streams.sharing import is_parked

SYNCS = numbers("fsync", "fdatasync", "sync_file_range")
FEWEST = 10
"""Requests of a class without a sync from which on it is told why."""
MOSTLY = 0.9
"""Share of those that waited for another's, from which on all that have none are taken to have."""


class Syncs:
    """All syncs of a recording, by when they ended."""

    def __init__(self, work: Work) -> None:
        made = (event for thread in work.threads.values() for event in thread.events if event.nr in SYNCS)
        self._made = sorted(made, key=lambda event: event.t_out)
        self._ends = [event.t_out for event in self._made]

    def awaited(self, cycles: Sequence[Cycle]) -> float:
        """Share of the requests of a class that found theirs done by another's sync, which began after they came."""
        without = [cycle for cycle in cycles if not any(event.nr in SYNCS for event in cycle.events)]
        if not FEWEST <= len(without) < len(cycles):
            return 0.0
        waited = sum(any(self._ended(event, cycle) for event in cycle.events) for cycle in without)
        return len(without) / len(cycles) if waited >= MOSTLY * len(without) else 0.0

    def of_class(self, cls: RequestClass, cycles: Sequence[Cycle]) -> RequestClass:
        """The class with the share of it that leaves syncs to others; the waking of those is the runtime's own."""
        share = self.awaited(cycles) if any(op.start is not None for op in cls.program) else 0.0
        if not share:
            return cls
        program = [op for op in cls.program if op.kind is not OpKind.FUTEX_WAKE]
        return cls.model_copy(update={"awaits_sync": share, "program": program})

    def _ended(self, event: Event, cycle: Cycle) -> bool:
        """Whether a wait for another thread lasted until such a sync was made."""
        if not is_parked(event):
            return False
        during = self._made[bisect_left(self._ends, event.t_in) : bisect_right(self._ends, event.t_out)]
        return any(sync.t_in >= cycle.receive.t_out and sync.tid != cycle.tid for sync in during)
