"""The search for the knobs that make a clone as fast as its original, apart from how the two are compared."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

from ditto.artifacts.profile import Knobs, Profile
from ditto.host.progress import Progress

Rows = list[tuple[int, float, str]]

GOAL = 0.05
"""Error of the user CPU time per request at which it is right."""
DOUBTED = 0.08
"""Error above which waits, once some were needed, are changed even where the pairs may agree: what these tell is
the best guess there is."""
SLOWER = ({"dependence": 0.5}, {"dependence": 0.25, "irregular": 1.5}, {"dependence": 0.12, "irregular": 2.5})
FASTER = (
    {"irregular": 0.5, "dependence": 1.5},
    {"irregular": 0.1, "dependence": 2.5},
    {"irregular": 0.0, "dependence": 5.0},
)
PERIOD, SHORT_PERIOD, LONG_PERIOD = 8, 2, 32
"""Of unpredictable branches in a slow clone; the others where it is still too slow, or too fast, with the first."""
CALM_TRIES = 3
CALM_SHARE = 0.35
"""Part of a slow clone's user CPU time that unpredictable branches are taken to cost before it was measured."""
LEAST_ENTROPY = 0.1
MISS_NS = 15.0
"""What an unpredictable branch or jump costs at most."""
FAR_OFF = 0.5
"""Error from which on it is worked out whether these can be the cause."""
CALM_HELPS = 0.85
"""Part of the error that is left at which it is another cause that has to be found."""
SCALINGS = 3
"""Attempts at the number of instructions of an app where it was not counted."""
BODY_SHARE = 0.5
"""Least part of a clone's user CPU time that its bodies are taken to have."""
STALL_INSTRUCTIONS = 3.0
"""Instructions that a wait of the runtime costs."""
STALL_SHARE = 0.03
"""Share of a request's instructions that waits may add to it."""
STALL_TRIES = 4
STALL_NS = 50.0
"""What a wait is taken to cost before it was measured."""


LEAST_FRESH = 0.01
"""Page faults a request below which there is no need of more."""


@dataclass(frozen=True)
class Compared:
    """User CPU time per request of the clone against the original's.

    Attributes:
        error: relative, of medians.
        doubt: standard error of ``error``, from the pairs.
        noise: relative spread of the original's own runs.
        original_ns: user nanoseconds a request of the original, median.
        resident: median resident bytes of the clone less the original's; 0 within what the original's runs are apart.
        faults: page faults for each process born for a connection, of the clone less the original's; 0 without such.
        fresh: page faults a request likewise, where no process is born for a connection.
    """

    error: float
    doubt: float
    noise: float
    original_ns: float
    resident: float
    faults: float = 0.0
    fresh: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the pairs cannot tell clone from original any more."""
        return abs(self.error) <= max(GOAL, self.doubt)

    @property
    def near(self) -> bool:
        """Whether it is right, and not only because the pairs tell little."""
        return abs(self.error) <= max(GOAL, min(self.doubt, DOUBTED))


class Search:
    """Comparisons so far, and the best of them.

    Its steps are generators: they yield a profile to be compared and are sent what came out, so that several clones can
    be compared in the same runs.

    Args:
        name: of the service, for people; empty where there is only one.
        uncounted: how many instructions the app executes here was not counted: it makes code at run time, and its
            compiler gets to little under an instrument; or no instrument could run it.  Their number is a knob then,
            and the first.
        ends: when no further knob is tried, by the monotonic clock.
    """

    def __init__(
        self, profile: Profile, progress: Progress, ends: float, uncounted: bool = False, name: str = ""
    ) -> None:
        self._progress, self._uncounted, self._name = progress, uncounted, name
        self.ends = ends
        self._profile = self.best_profile = profile
        self.rows: Rows = []
        self.best = Compared(float("inf"), 0.0, 0.0, 0.0, 0.0)

    @property
    def over(self) -> bool:
        """Whether there is nothing to gain or no time left."""
        return self.best.right or self.late

    @property
    def late(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() > self.ends

    @property
    def knobs(self) -> Knobs:
        """Of the best comparison."""
        return self.best_profile.knobs

    def steps(self) -> Generator[Profile, Compared, None]:
        """Turn the knobs until the clone's user CPU time per request is the original's."""
        step: dict[str, float] = {}
        now = yield from self._attempt(step)
        if self._uncounted:
            now = yield from self._scale(now)
        calmed = now.error > GOAL and not now.right and self._may_be_branches(now)
        if calmed:
            now = yield from self._calm(now)
        if now.error > GOAL:
            for faster in FASTER:
                if self.over or now.error < 0:
                    break
                step = faster
                now = yield from self._attempt(step)
        if not calmed and now.error > GOAL and not self.over and self._may_be_branches(self.best):
            self._profile = self.best_profile
            now = yield from self._calm(self.best)
        if now.error < 0:
            yield from self._stall(now, step)
        if self.best.error < 0:
            for slower in SLOWER:
                if self.over:
                    break
                yield from self._attempt({**slower, "stalls": self.knobs.stalls})

    def _attempt(self, step: dict[str, float]) -> Generator[Profile, Compared, Compared]:
        """Compare a clone with these knobs turned; the first attempt puts memory right too."""
        number = len(self.rows)
        words = ", ".join(f"{name} {value:.3g}" for name, value in step.items()) or "as the work left it"
        self._progress.update(f"user CPU time, round {number}", number / (len(SLOWER) + 3))
        tried = self._turned(step)
        now = yield tried
        if not self.rows:
            tried = self._profile = _resident(tried, now)
        better = abs(now.error) < abs(self.best.error)
        if better:
            self.best, self.best_profile = now, tried
        self.rows.append((number, now.error, f"{words}: {'kept' if better else 'dropped'}"))
        self._progress.note(
            f"tune: {self._name and self._name + ': '}user CPU per request {now.error:+.1%},"
            f" give or take {now.doubt:.1%}, with {words} (the original's own spread is {now.noise:.1%})"
        )
        return now

    def _take(self, step: dict[str, float]) -> None:
        """Keep knobs that lie between two tries, one too fast and one too slow: there is no time to compare them."""
        words = ", ".join(f"{name} {value:.3g}" for name, value in step.items())
        self.best_profile = self._turned(step)
        self.rows.append((len(self.rows), self.best.error, f"{words}: kept, as between two tries; itself not compared"))

    def _turned(self, step: dict[str, float]) -> Profile:
        computed = {"stalls_in_store": False, "stalls_computed": step["stalls"] > 0} if "stalls" in step else {}
        knobs = Knobs.model_validate({**self._profile.knobs.model_dump(), **step, **computed})
        return self._profile.model_copy(update={"knobs": knobs})

    def _scale(self, now: Compared) -> Generator[Profile, Compared, Compared]:
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
            now = yield from self._attempt({"instructions": factor})
            slope = (now.error - error) / (factor - before) if factor != before else float("inf")
            error = now.error
        self._profile = self.best_profile
        return self.best

    def _may_be_branches(self, now: Compared) -> bool:
        """Whether what a clone takes too long could be its mispredictions."""
        missed = sum(
            (block.wanted.predictor_misses + block.wanted.indirect_misses) * block.runs_per_request
            for block in self._profile.services[0].blocks
        )
        return now.error <= FAR_OFF or now.error * now.original_ns <= MISS_NS * missed

    def _recur(self, now: Compared) -> Generator[Profile, Compared, Compared]:
        """Let unpredictable branches and targets take the same course again after fewer requests.

        This machine's predictor learns longer patterns of the original than the reference predictor does, by whose
        misses branches were made so.  With a short period it can learn them, and the reference misses as many.
        """
        kept = self.best, self.best_profile
        then = yield from self._attempt({"period": PERIOD})
        if then.error > CALM_HELPS * now.error:
            self._undo(*kept)
        elif not self.over:
            yield from self._attempt({"period": SHORT_PERIOD if then.error > 0 else LONG_PERIOD})
        self._profile = self.best_profile
        return self.best

    def _undo(self, best: Compared, profile: Profile) -> None:
        """Drop the last attempt, which may be better only by chance."""
        self.best, self.best_profile = best, profile
        number, error, words = self.rows[-1]
        self.rows[-1] = (number, error, words.replace(": kept", ": dropped"))

    def _calm(self, now: Compared) -> Generator[Profile, Compared, Compared]:
        """Let the branches of a clone that is too slow recur sooner, then make fewer of them unpredictable."""
        now = yield from self._recur(now)
        if now.error <= GOAL or self.over:
            return now
        kept = self.best, self.best_profile
        slow, fast = (1.0, now.error), None
        entropy = 1.0 - now.error / (1.0 + now.error) / CALM_SHARE
        for _ in range(CALM_TRIES):
            entropy = max(LEAST_ENTROPY, entropy)
            if self.over or entropy >= slow[0]:
                break
            then = yield from self._attempt({"entropy": entropy})
            if slow[0] == 1.0 and then.error > CALM_HELPS * slow[1]:
                self._undo(*kept)
            if then.right or then.error > CALM_HELPS * slow[1]:
                break
            gain = (slow[1] - then.error) / (slow[0] - entropy)
            if then.error > 0:
                slow = (entropy, then.error)
            else:
                fast = (entropy, then.error)
            if fast is not None:
                entropy = fast[0] + (slow[0] - fast[0]) * fast[1] / (fast[1] - slow[1])
            else:
                entropy = slow[0] - slow[1] / gain
        self._profile = self.best_profile
        return self.best

    def _stall(self, now: Compared, base: dict[str, float]) -> Generator[Profile, Compared, None]:
        """Let a clone that is too fast wait as long as it lacks.

        What a wait costs is measured; once a try was too slow, the next is between those on either side.

        Args:
            now: how far off it is with the knobs ``base``.
        """
        most = STALL_SHARE * _instructions(self._profile) / STALL_INSTRUCTIONS
        below, above = (0.0, now.error), None
        waits = min(most, -now.error * now.original_ns / STALL_NS)
        for _ in range(STALL_TRIES):
            if self.late or waits < 0.01:
                break
            then = yield from self._attempt({**base, "stalls": waits})
            if then.near:
                return
            before = waits
            if then.error > 0:
                above = (waits, then.error)
            else:
                below = (waits, then.error)
            if above is None:
                gain = (then.error - now.error) / waits
                waits = min(most, -now.error / gain if gain > 0 else 2 * waits)
            else:
                waits = below[0] + (above[0] - below[0]) * below[1] / (below[1] - above[1])
            if abs(waits - before) < 0.05 * before:
                return
        if above is not None and not self.best.near:
            self._take({**base, "stalls": waits})


def _resident(profile: Profile, now: Compared) -> Profile:
    wanted = max(-(1 << 42), min(1 << 42, int(profile.knobs.resident_bytes - now.resident)))
    born = max(0, min(1 << 16, int(profile.knobs.born_pages - now.faults)))
    fresh = max(0.0, min(float(1 << 14), profile.knobs.fresh_pages - now.fresh))
    fresh = fresh if fresh >= LEAST_FRESH else 0.0
    knobs = profile.knobs.model_copy(update={"resident_bytes": wanted, "born_pages": born, "fresh_pages": fresh})
    return profile.model_copy(update={"knobs": knobs})


def _instructions(profile: Profile) -> float:
    """Instructions of a request that blocks execute, by their aims."""
    return sum(block.wanted.instructions * block.runs_per_request for block in profile.services[0].blocks)
