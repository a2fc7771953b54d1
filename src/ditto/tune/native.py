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
from ditto.host.usage import Meter

Rows = list[tuple[int, float, str]]
Tried = tuple[float, dict[str, float]]

PAIRS = 3
MOST_PAIRS = 7
GOAL = 0.05
"""Error of the user CPU time per request at which it is right."""
SURE = 0.03
"""Standard error of a comparison from which on further pairs tell nothing new."""
SECONDS = 1.2
LEAST_SECONDS = 30.0
"""For which knobs are tried, however long everything before took."""
MEDIAN = 1.25
"""Standard error of a median in those of a mean, for runs spread normally."""
SHARE = 0.4
"""Share of the time left that one comparison may take for pairs beyond the least number."""
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
        doubt: standard error of ``error``, from the pairs.
        noise: relative spread of the original's own runs.
        resident: median resident bytes of the clone less the original's.
    """

    error: float
    doubt: float
    noise: float
    resident: float

    @property
    def right(self) -> bool:
        """Whether the pairs cannot tell clone from original any more."""
        return abs(self.error) <= max(GOAL, self.doubt)


def tune_native(
    spec: AppSpec,
    profile: Profile,
    remake: Callable[[Profile], Path],
    progress: Progress,
    seconds: float = LEAST_SECONDS,
) -> tuple[Profile, Rows]:
    """Turn the knobs until the clone's user CPU time per request is the original's.

    Args:
        seconds: after which no further knob is tried.

    Returns:
        The profile with the best knobs and with resident memory put right, and the rounds.

    Raises:
        AppError: app, clone or client failed.
    """
    rows: Rows = []
    progress.update("user CPU time of original and clone")
    ends = time.monotonic() + seconds
    asked = _asked(spec)
    now = compare(spec, remake(profile), asked, SHARE * (ends - time.monotonic()))
    progress.note(
        f"tune: user CPU per request {now.error:+.1%}, give or take {now.doubt:.1%}"
        f" (the original's own spread is {now.noise:.1%})"
    )
    profile = _resident(profile, now)
    best, best_profile = now, profile
    rows.append((0, now.error, "as the work left it"))
    steps = list(FASTER if now.error > 0 else SLOWER)
    before: Tried = (now.error, {})
    number = 0
    while steps and not best.right and time.monotonic() < ends:
        step = steps.pop(0)
        number += 1
        progress.update(f"user CPU time, round {number}", number / (len(SLOWER) + 1))
        knobs = Knobs.model_validate({**profile.knobs.model_dump(), **step})
        tried = profile.model_copy(update={"knobs": knobs})
        now = compare(spec, remake(tried), asked, SHARE * (ends - time.monotonic()))
        words = ", ".join(f"{name} x {value:.3g}" for name, value in step.items())
        better = abs(now.error) < abs(best.error)
        rows.append((number, now.error, f"{words}: {'kept' if better else 'dropped'}"))
        progress.note(f"tune: user CPU per request {now.error:+.1%} with {words}")
        if better:
            best, best_profile = now, tried
        if now.error * before[0] < 0:
            # The right value lies between this step and the last: one more try there, and no step further.
            steps = [between(before, (now.error, step))] if before[0] * rows[0][1] > 0 else []
        before = (now.error, step)
    return best_profile, rows


def between(one: Tried, other: Tried) -> dict[str, float]:
    """Knobs between two tries of errors of opposite signs, where a straight line would put the error at zero.

    Args:
        one: error and knobs of a try; a knob that is not named is 1.
        other: of another.
    """
    part = one[0] / (one[0] - other[0])
    names = sorted(one[1].keys() | other[1].keys())
    return {name: (1 - part) * one[1].get(name, 1.0) + part * other[1].get(name, 1.0) for name in names}


def _resident(profile: Profile, now: Compared) -> Profile:
    wanted = max(-(1 << 42), min(1 << 42, int(profile.knobs.resident_bytes - now.resident)))
    return profile.model_copy(update={"knobs": profile.knobs.model_copy(update={"resident_bytes": wanted})})


def compare(spec: AppSpec, binary: Path, asked: int | None, seconds: float) -> Compared:
    """Original and clone in turn, each started anew and filled.

    Args:
        binary: the clone.
        asked: requests of one run; None where the client is bound by time.
        seconds: time for pairs beyond the least number, where these do not agree.

    Raises:
        AppError: app, clone or client failed.
    """
    command = clone_command(binary)
    original: list[tuple[float, float]] = []
    clone: list[tuple[float, float]] = []
    began = time.monotonic()
    while True:
        original.append(_one(AppRun(spec), asked))
        clone.append(_one(AppRun.for_clone(spec, command), asked))
        if len(original) < PAIRS:
            continue
        now = _compared(spec.name, original, clone)
        each = (time.monotonic() - began) / len(original)
        late = time.monotonic() + each > began + seconds
        if now.doubt <= SURE or len(original) == MOST_PAIRS or late:
            return now


def _compared(name: str, original: list[tuple[float, float]], clone: list[tuple[float, float]]) -> Compared:
    times = [t for t, _ in original]
    a, b = statistics.median(times), statistics.median(t for t, _ in clone)
    if a <= 0:
        raise AppError(f"{name}: the original used no CPU time under its load", "give the load more requests")
    ratios = [after / before for before, (after, _) in zip(times, clone, strict=True) if before > 0]
    doubt = MEDIAN * statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    memory = statistics.median(m for _, m in clone) - statistics.median(m for _, m in original)
    return Compared(b / a - 1, doubt, (max(times) - min(times)) / a, memory)


def _one(run: AppRun, asked: int | None) -> tuple[float, float]:
    """User seconds per request of one run, and resident bytes at its end."""
    with run:
        run.prepare()
        with Meter(run) as meter:
            result = run.load(asked)
        requests = count_requests(result, asked, run.spec.load.count).requests
        return meter.usage.split_user_s / max(1.0, requests), float(run.memory().rss_bytes)


def _asked(spec: AppSpec) -> int | None:
    """Requests that take the original about SECONDS."""
    if not spec.load.counts_requests:
        return None
    asked = spec.load.requests.native
    with AppRun(spec) as run:
        run.prepare()
        took = run.load(max(100, asked // 10)).seconds
    return max(100, int(asked / 10 * SECONDS / max(took, 0.01)))
