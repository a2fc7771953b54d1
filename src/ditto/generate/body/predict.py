"""How often lens' reference predictor misses in generated code, apart from what is unpredictable.

A predictor of limited size misses in code of many branches though each goes the same way every time: they share
counters.  The original misses for both reasons, so what the clone has of the one is taken off the other.  Without that,
clones of interpreters and of Go servers had twice the mispredictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from random import Random

from ditto.generate.body.plan import NOT_TAKEN, TAKEN, Slot

COUNTERS = 4096
"""Of two bits, and as many bits of history; as in native/lens/run.c."""
PASSES, LONG_PASSES = 4, 2
"""Of code in the steady state; code of more visits than there are counters is in it after one."""
MOST_VISITS = 60_000
"""Visits of lines that are followed in one pass."""


def misses(order: Sequence[int], slots: Sequence[Slot], beside: float, taken: float, rng: Random) -> float:
    """Misses of one pass in the steady state.

    Args:
        order: numbers of slots as they run in a pass.
        slots: with their branches; conditional ones alone tell.
        beside: branches that other code executes between two passes.
        taken: share of these that is taken.
    """
    order = order[:MOST_VISITS]
    hashes = [[rng.randrange(COUNTERS) for _ in range(len(s.inline) + len(s.leaves) + 1)] for s in slots]
    inline = [[_rate(branch.kind, branch.rate) for branch in s.inline] for s in slots]
    counters = bytearray(COUNTERS)
    strange = 1.0 - exp(-beside / COUNTERS)
    history = missed = 0
    for _ in range(PASSES if len(order) < COUNTERS else LONG_PASSES):
        for at in range(COUNTERS) if strange > 0 else ():
            if rng.random() < strange:
                counters[at] = 3 if rng.random() < taken else 0
        missed = 0
        visits = [0] * len(slots)
        for number in order:
            visits[number] += 1
            slot, places = slots[number], hashes[number]
            outcomes = [rate if rate in (0.0, 1.0) else float(rng.random() < rate) for rate in inline[number]]
            visit = visits[number]
            for _height, trips in slot.leaves:
                again = visit % trips != 0
                outcomes.append(float(again))
                if again:
                    break
                visit //= trips
            else:
                if slot.transfer in (TAKEN, NOT_TAKEN):
                    outcomes.append(float(slot.transfer == TAKEN))
            for place, outcome in zip(places, outcomes, strict=False):
                at = (place ^ history) & (COUNTERS - 1)
                state = counters[at]
                if outcome:
                    missed += state < 2
                    counters[at] = min(3, state + 1)
                else:
                    missed += state > 1
                    counters[at] = max(0, state - 1)
                history = (history << 1 | int(outcome)) & (COUNTERS - 1)
    return float(missed)


def _rate(kind: str, rate: float) -> float:
    return {"never": 0.0, "always": 1.0}.get(kind, rate)
