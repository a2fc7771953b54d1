"""Tuning measured CPU time: original and clone in turn, one knob, bounded rounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.profile import Profile
from ditto.host.progress import Progress

Rows = list[tuple[int, float, str]]


def tune_native(
    spec: AppSpec, profile: Profile, remake: Callable[[Profile], Path], progress: Progress
) -> tuple[Profile, Rows]:
    return profile, []
