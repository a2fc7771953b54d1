"""How often lens' reference predictor misses in generated code, apart from what is unpredictable.

A predictor of limited size misses in code of many branches though each goes the same way every time: they share
counters.  The original misses for both reasons, so what the clone has of the one is taken off the other.  Without that,
clones of interpreters and of Go servers had twice the mispredictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ditto.generate.body.plan import NOT_TAKEN, TAKEN, Slot

Drawn = TypeVar("Drawn", np.uint8, np.uint32)

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
    rates = [[_rate(branch.kind, branch.rate) for branch in s.inline] for s in slots]
    codes, sites, chances = _one_pass(order, slots, rates)
    others = min(MOST_BESIDE, int(beside))
    recurs = period <= FORESEEN and len(order) < LONG
    judged = period if recurs else 1
    passes = max(PASSES, 3 * period) if recurs else PASSES if len(order) < LONG else LONG_PASSES
    places = np.concatenate([_drawn(rng, others, np.uint8), _drawn(rng, sites, np.uint8)[codes >> 1]]) % ADDRESS
    outcomes = np.empty((passes, len(places)), dtype=bool)
    outcomes[:, :others] = _drawn(rng, others, np.uint32) < taken * _WHOLE
    outcomes[:, others:] = codes & 1
    courses = min(passes, period) if recurs else passes
    limits = chances * _WHOLE
    at = others + np.flatnonzero(limits)
    course = _drawn(rng, courses * len(at), np.uint32).reshape(courses, len(at)) < limits[limits > 0]
    outcomes[:, at] = course[np.arange(passes) % courses]
    if not len(codes):
        return 0.0
    counts = np.full(outcomes.shape, -1)
    counts[passes - judged :, others:] = 0
    return counted(np.tile(places, passes), outcomes.ravel(), counts.ravel(), 1)[0] / judged


def _one_pass(
    order: Sequence[int], slots: Sequence[Slot], rates: Sequence[Sequence[float]]
) -> tuple[NDArray[np.int64], int, NDArray[np.float64]]:
    """Branches of a pass in order.

    Returns:
        Twice the number of each one's place, and 1 where it is taken; the number of places; how often each one that is
        unpredictable is taken, 0 for others.
    """
    begins = list(accumulate((len(s.inline) + len(s.leaves) + 1 for s in slots), initial=0))
    inline = [
        [2 * (begin + n) + (rate == 1.0) for n, rate in enumerate(of)] for begin, of in zip(begins, rates, strict=False)
    ]
    chance = np.zeros(begins[-1])
    for begin, of in zip(begins, rates, strict=False):
        chance[begin : begin + len(of)] = [0.0 if rate == 1.0 else rate for rate in of]
    visits = [0] * len(slots)
    codes: list[int] = []
    for number in order:
        codes += inline[number]
        slot = slots[number]
        at = begins[number] + len(slot.inline)
        visit = visits[number] = visits[number] + 1
        for _height, trips in slot.leaves:
            again = visit % trips != 0
            codes.append(2 * at + again)
            if again:
                break
            at += 1
            visit //= trips
        else:
            if slot.transfer in (TAKEN, NOT_TAKEN):
                codes.append(2 * at + (slot.transfer == TAKEN))
    found = np.array(codes, dtype=np.int64)
    return found, begins[-1], chance[found >> 1]


def counted(
    places: NDArray[np.integer[Any]], outcomes: NDArray[np.bool_], labels: NDArray[np.integer[Any]], count: int
) -> list[int]:
    """Misses of counters of two bits, chosen by place and the outcomes before, at the branches of each label.

    Which counter a branch uses depends on outcomes alone.  Those of one counter are put together, and outcomes that
    are the same are counted at once.

    Args:
        places: of which the low bits tell.
        labels: below ``count``; -1 for branches that are not judged.
    """
    keys = (places % ADDRESS).astype(np.uint16)
    for back in range(1, HISTORY.bit_length()):
        keys[back:] |= outcomes[:-back].astype(np.uint16) << np.uint16(back - 1 + ADDRESS.bit_length() - 1)
    order = np.argsort(keys, kind="stable")
    keys, outcomes, labels = keys[order], outcomes[order], labels[order]
    other = keys[1:] != keys[:-1]
    begins = np.flatnonzero(
        np.concatenate([[True], other | (outcomes[1:] != outcomes[:-1]) | (labels[1:] != labels[:-1])])
    )
    anew = np.concatenate([[True], other])[begins]
    missed, state = [0] * count, 0
    runs = (anew, outcomes[begins], np.diff(begins, append=len(keys)), labels[begins])
    for new, outcome, times, label in zip(*(run.tolist() for run in runs), strict=True):
        if new:
            state = 0
        if outcome:
            wrong, state = 2 - state, state + times if state + times < 3 else 3
        else:
            wrong, state = state - 1, state - times if state > times else 0
        if label >= 0 and wrong > 0:
            missed[label] += times if times < wrong else wrong
    return missed


_WHOLE = 2.0**32


def _drawn(rng: Random, count: int, kind: type[Drawn]) -> NDArray[Drawn]:
    """Whole numbers, all that there are of their type equally likely."""
    return np.frombuffer(rng.randbytes(count * np.dtype(kind).itemsize), dtype=kind)


def _rate(kind: str, rate: float) -> float:
    return {"never": 0.0, "always": 1.0}.get(kind, rate)
