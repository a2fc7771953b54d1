"""How often lens' reference predictor misses in generated code, apart from what is unpredictable.

A predictor of limited size misses in code of many branches though each goes the same way every time: they share
counters.  The original misses for both reasons, so what the clone has of the one is taken off the other.  Without that,
clones of interpreters and of Go servers had twice the mispredictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from ditto.generate.body.plan import NOT_TAKEN, TAKEN, Slot

HISTORY, ADDRESS = 128, 128
"""Outcomes and addresses told apart: the last 7 of the ones, the low 7 bits of the others; as in native/lens/run.c."""
PASSES, LONG_PASSES = 16, 2
"""Of code in the steady state, which it comes to slowly where outcomes before a branch differ; long code is in it after
one."""
LONG = 4096
"""Visits of lines from which code is long."""
MOST_VISITS = 60_000
"""Visits of lines that are followed in one pass."""
MOST_BESIDE = 20_000
FORESEEN = 8
"""Passes after which unpredictable branches take the same course again, up to which the predictor foresees some; in
long code it has forgotten them by then."""


def misses(
    order: Sequence[int], slots: Sequence[Slot], beside: float, taken: float, rng: Random, period: int = 64
) -> float:
    """Misses of one pass in the steady state.

    Args:
        order: numbers of slots as they run in a pass.
        slots: with their branches; conditional ones alone tell.
        beside: branches that other code executes between two passes.
        taken: share of these that is taken.
        period: passes after which unpredictable branches take the same course again.
    """
    order = order[:MOST_VISITS]
    places = [[rng.randrange(ADDRESS) for _ in range(len(s.inline) + len(s.leaves) + 1)] for s in slots]
    inline = [[_rate(branch.kind, branch.rate) for branch in s.inline] for s in slots]
    counters = bytearray(HISTORY * ADDRESS)
    others = [(rng.randrange(ADDRESS), rng.random() < taken) for _ in range(min(MOST_BESIDE, int(beside)))]
    history = 0
    recurs = period <= FORESEEN and len(order) < LONG
    judged, seed = (period, rng.random()) if recurs else (1, 0.0)
    passes = max(PASSES, 3 * period) if recurs else PASSES if len(order) < LONG else LONG_PASSES
    counts: list[int] = []

    def follow(place: int, outcome: bool) -> bool:
        nonlocal history
        at = history * ADDRESS + place
        state = counters[at]
        counters[at] = min(3, state + 1) if outcome else max(0, state - 1)
        history = (history << 1 | outcome) % HISTORY
        return (state > 1) != outcome

    for turn in range(passes):
        chance = Random(f"{seed}/{turn % period}") if recurs else rng
        for place, outcome in others:
            follow(place, outcome)
        missed = 0
        visits = [0] * len(slots)
        for number in order:
            visits[number] += 1
            slot = slots[number]
            outcomes = [rate == 1.0 if rate in (0.0, 1.0) else chance.random() < rate for rate in inline[number]]
            visit = visits[number]
            for _height, trips in slot.leaves:
                again = visit % trips != 0
                outcomes.append(again)
                if again:
                    break
                visit //= trips
            else:
                if slot.transfer in (TAKEN, NOT_TAKEN):
                    outcomes.append(slot.transfer == TAKEN)
            for place, outcome in zip(places[number], outcomes, strict=False):
                missed += follow(place, outcome)
        counts.append(missed)
    return sum(counts[-judged:]) / judged


def _rate(kind: str, rate: float) -> float:
    return {"never": 0.0, "always": 1.0}.get(kind, rate)
