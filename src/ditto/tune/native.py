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
from ditto.host.app import AppRun
from ditto.host.clones import clone_command
from ditto.host.progress import Progress
from ditto.host.requests import count_requests
from ditto.host.usage import Meter

Rows = list[tuple[int, float, str]]

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
SCALINGS = 3
"""Attempts at the number of instructions of an app where it was not counted."""
BODY_SHARE = 0.5
"""Least part of a clone's user CPU time that its bodies are taken to have."""
STALL_INSTRUCTIONS = 1.5
"""Instructions that a far read of the runtime costs."""
STALL_SHARE = 0.03
"""Share of a request's instructions that far reads may add to it."""
STALL_TRIES = 4
STALL_NS = 60.0
"""What a far read is taken to cost before it was measured."""


@dataclass(frozen=True)
class Compared:
    """User CPU time per request of the clone against the original's.

    Attributes:
        error: relative, of medians.
        doubt: standard error of ``error``, from the pairs.
        noise: relative spread of the original's own runs.
        original_ns: user nanoseconds a request of the original, median.
        resident: median resident bytes of the clone less the original's.
    """

    error: float
    doubt: float
    noise: float
    original_ns: float
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
    uncounted: bool = False,
) -> tuple[Profile, Rows]:
    """Turn the knobs until the clone's user CPU time per request is the original's.

    Args:
        seconds: after which no further knob is tried.
        uncounted: how many instructions the app executes here was not counted: it makes code at run time, and its
            compiler gets to little under an instrument; or no instrument could run it.  Their number is a knob then,
            and the first.

    Returns:
        The profile with the best knobs and with resident memory put right, and the rounds.

    Raises:
        AppError: app, clone or client failed.
    """
    progress.update("user CPU time of original and clone")
    ends = time.monotonic() + seconds
    search = _Search(spec, profile, remake, progress, ends, _asked(spec))
    step: dict[str, float] = {}
    now = search.attempt(step)
    if uncounted:
        now = search.scale(now)
    if now.error > GOAL:
        for faster in FASTER:
            if search.over or now.error < 0:
                break
            step = faster
            now = search.attempt(step)
    if now.error < 0:
        search.stall(now, step)
    if search.best.error < 0:
        for slower in SLOWER:
            if search.over:
                break
            search.attempt({**slower, "stalls": search.knobs.stalls})
    return search.best_profile, search.rows


class _Search:
    """Comparisons so far, and the best of them."""

    def __init__(
        self,
        spec: AppSpec,
        profile: Profile,
        remake: Callable[[Profile], Path],
        progress: Progress,
        ends: float,
        asked: int | None,
    ) -> None:
        self._spec, self._remake, self._progress, self._ends, self._asked = spec, remake, progress, ends, asked
        self._profile = self.best_profile = profile
        self.rows: Rows = []
        self.best = Compared(float("inf"), 0.0, 0.0, 0.0, 0.0)

    @property
    def over(self) -> bool:
        """Whether there is nothing to gain or no time left."""
        return self.best.right or time.monotonic() > self._ends

    @property
    def knobs(self) -> Knobs:
        """Of the best comparison."""
        return self.best_profile.knobs

    def attempt(self, step: dict[str, float]) -> Compared:
        """Compare a clone with these knobs turned; the first attempt puts the resident memory right too."""
        number = len(self.rows)
        words = ", ".join(f"{name} {value:.3g}" for name, value in step.items()) or "as the work left it"
        self._progress.update(f"user CPU time, round {number}", number / (len(SLOWER) + 3))
        knobs = Knobs.model_validate({**self._profile.knobs.model_dump(), **step})
        tried = self._profile.model_copy(update={"knobs": knobs})
        now = compare(self._spec, self._remake(tried), self._asked, SHARE * (self._ends - time.monotonic()))
        if not self.rows:
            tried = self._profile = _resident(tried, now)
        better = abs(now.error) < abs(self.best.error)
        if better:
            self.best, self.best_profile = now, tried
        self.rows.append((number, now.error, f"{words}: {'kept' if better else 'dropped'}"))
        self._progress.note(
            f"tune: user CPU per request {now.error:+.1%}, give or take {now.doubt:.1%}, with {words}"
            f" (the original's own spread is {now.noise:.1%})"
        )
        return now

    def scale(self, now: Compared) -> Compared:
        """As many instructions as take the original's time, at the rate at which the clone executes them.

        The first attempt takes all of the clone's time for its bodies'; two attempts tell what part of it that is, but
        not less than `BODY_SHARE`: the difference of two noisy times may be anything.
        """
        factor, error, slope = self.knobs.instructions, now.error, float("inf")
        for _ in range(SCALINGS):
            if self.over:
                break
            all_of_it = (1.0 + error) / factor
            before = factor
            factor -= error / min(all_of_it, max(BODY_SHARE * all_of_it, slope))
            factor = min(9.0, max(0.11, factor))
            now = self.attempt({"instructions": factor})
            slope = (now.error - error) / (factor - before) if factor != before else float("inf")
            error = now.error
        self._profile = self.best_profile
        return self.best

    def stall(self, now: Compared, base: dict[str, float]) -> None:
        """Let a clone that is too fast wait for memory as long as it lacks.

        What a read costs is measured; once a try was too slow, the next is between those on either side.

        Args:
            now: how far off it is with the knobs ``base``.
        """
        most = STALL_SHARE * _instructions(self._profile) / STALL_INSTRUCTIONS
        below, above = (0.0, now.error), None
        reads = min(most, -now.error * now.original_ns / STALL_NS)
        for _ in range(STALL_TRIES):
            if self.over or reads < 0.01:
                return
            then = self.attempt({**base, "stalls": reads})
            if then.right:
                return
            before = reads
            if then.error > 0:
                above = (reads, then.error)
            else:
                below = (reads, then.error)
            if above is None:
                gain = (then.error - now.error) / reads
                reads = min(most, -now.error / gain if gain > 0 else 2 * reads)
            else:
                reads = below[0] + (above[0] - below[0]) * below[1] / (below[1] - above[1])
            if abs(reads - before) < 0.05 * before:
                return


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
    return Compared(b / a - 1, doubt, (max(times) - min(times)) / a, 1e9 * a, memory)


def _instructions(profile: Profile) -> float:
    """Instructions of a request that blocks execute, by their aims."""
    return sum(block.wanted.instructions * block.runs_per_request for block in profile.services[0].blocks)


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
