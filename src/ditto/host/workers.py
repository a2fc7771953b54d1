"""Processes that work on parts of what a stage does, one for each CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor


def worker_pool(most: int | None = None, first: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Processes that take calls, as many as there are CPUs; they end when this process does, however it ends.

    Args:
        most: more are not needed.
        first: called once in each.
    """
    workers = max(1, min(len(os.sched_getaffinity(0)), most or 1 << 10))
    # Not forked: this process may have threads by now.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(first,))


def _begin(first: Callable[[], object] | None) -> None:
    """Leave interrupts to the process that started this one, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    if first is not None:
        first()
