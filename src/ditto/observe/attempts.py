"""Recording again with a larger buffer where too much was lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ditto.errors import RecordingError
from ditto.host.progress import Progress
from ditto.observe.native_run import RecorderStatus

LOST_SHARE = 0.001
"""Share of the records that a recording may lose."""
ATTEMPTS = 3
GROWTH = 4

Made = TypeVar("Made")


def nearly_whole(
    what: str,
    once: Callable[[float], tuple[Made, RecorderStatus]],
    buffer_mb: float,
    notes: list[str],
    progress: Progress,
    remedy: str,
) -> Made:
    """What a recording gave that lost no more than `LOST_SHARE`; each attempt has a buffer four times as large.

    Args:
        what: is recorded, for notes and errors.
        once: records with a buffer of so many MiB.
        notes: gets a sentence for each repetition.
        remedy: where all attempts lose too much.

    Raises:
        RecordingError: they do.
    """
    for attempt in range(ATTEMPTS):
        made, status = once(buffer_mb * GROWTH**attempt)
        if status.lost_share <= LOST_SHARE:
            return made
        if attempt < ATTEMPTS - 1:
            notes.append(f"{what} lost {status.lost_share:.2%} of its records and was repeated with a larger buffer")
            progress.note(notes[-1])
    raise RecordingError(f"{what} lost {status.lost_share:.2%} of its records {ATTEMPTS} times", remedy)
