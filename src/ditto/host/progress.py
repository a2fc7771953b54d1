"""How long work tells what it is doing, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A listener for the progress of one piece of work.  Calls are cheap and may come from one thread only."""

    def stage(self, name: str) -> None:
        """A named stage begins; the one before it, if any, is done."""

    def update(self, text: str, fraction: float | None = None) -> None:
        """What is running inside the stage, and how far it is (0 to 1, or None where that is unknown)."""

    def note(self, text: str) -> None:
        """Something the user should know even after the work is done: a loss, a fallback, a figure."""


class SilentProgress:
    """Listens to nothing: for tests and for work inside other work."""

    def stage(self, name: str) -> None:
        """Ignore."""

    def update(self, text: str, fraction: float | None = None) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
