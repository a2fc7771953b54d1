"""Runs that have not been stopped: whatever ends this process in an orderly way stops them."""

from __future__ import annotations

import atexit
import os
from typing import Protocol


class Stoppable(Protocol):
    """Anything that has started processes."""

    def stop(self) -> None: ...


_live: dict[Stoppable, int] = {}


def add(run: Stoppable) -> None:
    """To be stopped at this process' end, not at that of one that it forks."""
    _live[run] = os.getpid()


def discard(run: Stoppable) -> None:
    """It has been stopped."""
    _live.pop(run, None)


@atexit.register
def _stop_forgotten() -> None:
    for run, owner in list(_live.items()):
        if owner == os.getpid():
            run.stop()
