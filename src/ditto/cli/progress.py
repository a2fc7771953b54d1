"""Showing progress on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ditto.host.progress import Progress

_QUIET_S = 2.0
_LINE_EVERY_S = 10.0


@contextmanager
def shown() -> Iterator[Progress]:
    """A `Progress` that the user sees, for the length of the block."""
    if sys.stderr.isatty():
        with _LiveProgress() as live:
            yield live
    else:
        with _PlainProgress() as plain:
            yield plain


class _PlainProgress:
    """Lines with the elapsed time: each stage, and every ten seconds what is running.  Work under 2 s prints none."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._printed = self._began
        self._text = ""
        self._stage = ""
        self._fraction: float | None = None
        self._pending: list[str] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="ditto-progress", daemon=True)

    def __enter__(self) -> _PlainProgress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()

    def stage(self, name: str) -> None:
        with self._lock:
            self._stage, self._text, self._fraction = name, "", None
            self._line(name)

    def update(self, text: str, fraction: float | None = None) -> None:
        with self._lock:
            self._text, self._fraction = text, fraction

    def note(self, text: str) -> None:
        with self._lock:
            self._flush()
            print(f"ditto: note: {text}", file=sys.stderr, flush=True)

    def _tick(self) -> None:
        while not self._done.wait(0.2):
            with self._lock:
                self._flush()
                if time.monotonic() - self._printed >= _LINE_EVERY_S:
                    far = f" ({self._fraction:.0%})" if self._fraction is not None else ""
                    self._line(f"{self._stage}: {self._text or 'running'}{far}")

    def _line(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        self._pending.append(f"[{elapsed:6.1f} s] {text}")
        self._printed = time.monotonic()
        self._flush()

    def _flush(self) -> None:
        if time.monotonic() - self._began >= _QUIET_S:
            for line in self._pending:
                print(line, file=sys.stderr, flush=True)
            self._pending.clear()


class _LiveProgress:
    """One live line: what is running, how far, elapsed; ended stages and notes stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._bar = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._stage = ""
        self._stage_began = time.monotonic()

    def __enter__(self) -> _LiveProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_stage()
        self._bar.stop()

    def stage(self, name: str) -> None:
        self._end_stage()
        self._stage, self._stage_began = name, time.monotonic()
        self._bar.update(self._task, description=name, total=None, completed=0)

    def update(self, text: str, fraction: float | None = None) -> None:
        description = f"{self._stage}: {text}" if self._stage else text
        if fraction is None:
            self._bar.update(self._task, description=description, total=None)
        else:
            self._bar.update(self._task, description=description, total=1.0, completed=fraction)

    def note(self, text: str) -> None:
        self._console.print(f"note: {text}", markup=False, highlight=False)

    def _end_stage(self) -> None:
        seconds = time.monotonic() - self._stage_began
        if self._stage:
            self._console.print(f"done: {self._stage} ({seconds:.1f} s)", markup=False, highlight=False)
        self._stage = ""
