"""Tuning measured CPU time: original and clone in turn, two knobs, bounded rounds.

What a clone executes is right by then; how fast it executes it depends on what no histogram tells: how long chains of
dependent instructions are and how many far accesses wait for each other.  The knobs stretch or shorten these.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.profile import Knobs, Profile
from ditto.errors import AppError
from ditto.host.app import AppRun, clone_command
from ditto.host.progress import Progress
from ditto.host.requests import count_requests
from ditto.host.usage import read_usage

Rows = list[tuple[int, float, str]]

PAIRS = 3
GOAL = 0.05
"""Error of the user CPU time per request at which it is right."""
SECONDS = 1.2
ALL_SECONDS = 30.0
"""After which no further knob is tried."""
SLOWER = ({"dependence": 0.5}, {"dependence": 0.25, "irregular": 1.5}, {"dependence": 0.12, "irregular": 2.5})
FASTER = (
    {"irregular": 0.5, "dependence": 1.5},
    {"irregular": 0.1, "dependence": 2.5},
    {"irregular": 0.0, "dependence": 5.0},
)


@dataclass(frozen=True)
class Compared:
    """User CPU time per request of the clone against the original's.

    Attributes:
        error: relative, of medians.
        noise: relative spread of the original's own runs.
        resident: median resident bytes of the clone less the original's.
    """

    error: float
    noise: float
    resident: float


def tune_native(
    spec: AppSpec, profile: Profile, remake: Callable[[Profile], Path], progress: Progress
) -> tuple[Profile, Rows]:
    """Turn the knobs until the clone's user CPU time per request is the original's.

    Returns:
        The profile with the best knobs and with resident memory put right, and the rounds.

    Raises:
        AppError: app, clone or client failed.
    """
    rows: Rows = []
    progress.update("user CPU time of original and clone")
    began = time.monotonic()
    asked = _asked(spec)
    now = compare(spec, remake(profile), asked)
    progress.note(f"tune: user CPU per request {now.error:+.1%} (the original's own spread is {now.noise:.1%})")
    profile = _resident(profile, now)
    best, best_profile = now, profile
    rows.append((0, now.error, "as the work left it"))
    steps = FASTER if now.error > 0 else SLOWER
    for number, step in enumerate(steps, 1):
        if abs(best.error) <= max(GOAL, best.noise / 2) or time.monotonic() - began > ALL_SECONDS:
            break
        progress.update(f"user CPU time, round {number}", number / (len(steps) + 1))
        knobs = Knobs.model_validate({**profile.knobs.model_dump(), **step})
        tried = profile.model_copy(update={"knobs": knobs})
        now = compare(spec, remake(tried), asked)
        words = ", ".join(f"{name} x {value:g}" for name, value in step.items())
        better = abs(now.error) < abs(best.error)
        rows.append((number, now.error, f"{words}: {'kept' if better else 'dropped'}"))
        progress.note(f"tune: user CPU per request {now.error:+.1%} with {words}")
        crossed = now.error * best.error < 0
        if better:
            best, best_profile = now, tried
        if crossed:
            break
    return best_profile, rows


def _resident(profile: Profile, now: Compared) -> Profile:
    wanted = max(-(1 << 42), min(1 << 42, int(profile.knobs.resident_bytes - now.resident)))
    return profile.model_copy(update={"knobs": profile.knobs.model_copy(update={"resident_bytes": wanted})})


def compare(spec: AppSpec, binary: Path, asked: int | None) -> Compared:
    """Original and clone in turn, each started anew and filled.

    Args:
        binary: the clone.
        asked: requests of one run; None where the client is bound by time.

    Raises:
        AppError: app, clone or client failed.
    """
    command = clone_command(binary)
    original: list[tuple[float, float]] = []
    clone: list[tuple[float, float]] = []
    for _ in range(PAIRS):
        original.append(_one(AppRun(spec), asked))
        clone.append(_one(AppRun.for_clone(spec, command), asked))
    a, b = statistics.median(t for t, _ in original), statistics.median(t for t, _ in clone)
    if a <= 0:
        raise AppError(f"{spec.name}: the original used no CPU time under its load", "give the load more requests")
    spread = (max(t for t, _ in original) - min(t for t, _ in original)) / a
    memory = statistics.median(m for _, m in clone) - statistics.median(m for _, m in original)
    return Compared(b / a - 1, spread, memory)


def _one(run: AppRun, asked: int | None) -> tuple[float, float]:
    """User seconds per request of one run, and resident bytes at its end."""
    with run:
        run.prepare()
        before = read_usage(run)
        result = run.load(asked)
        usage = read_usage(run) - before
        requests = count_requests(result, asked, run.spec.load.count).requests
        return usage.split_user_s / max(1.0, requests), float(run.memory().rss_bytes)


def _asked(spec: AppSpec) -> int | None:
    """Requests that take the original about SECONDS."""
    if not spec.load.counts_requests:
        return None
    asked = spec.load.requests.native
    with AppRun(spec) as run:
        run.prepare()
        took = run.load(max(100, asked // 10)).seconds
    return max(100, int(asked / 10 * SECONDS / max(took, 0.01)))
