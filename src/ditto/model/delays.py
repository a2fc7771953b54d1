"""How long called services take to reply, from replies that were waited for and from those that were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ditto.artifacts.profile import Dist
from ditto.model.distributions import dist
from ditto.streams.calls import Call

FEW = 20
"""Delays that were seen exactly, below which they are taken from what they were at least."""
ROUNDS = 200


def fit_delays(calls: Sequence[Call]) -> Dist | None:
    """Time to the reply, in microseconds, in steps of about a tenth.

    Where the called service is busy with others, replies take as long as its queue, and what stands in for it has a
    queue of its own: what each other request that waited there added is taken off.  A caller that is busy finds most
    replies there when it looks, and waits for those that take long: of the others it is known what they took at most.
    """
    exact = [call for call in calls if call.delay_ns >= 0]
    if len(exact) < min(FEW, len(calls)):
        return dist(Counter(_rounded(call.delay_least_ns / 1000) for call in calls))
    least, each = min(call.delay_ns for call in exact), _queueing(exact)
    found = [call for call in calls if call.delay_ns < 0 and call.delay_most_ns > 0]
    return dist(
        with_found(
            Counter(_rounded(max(least, call.delay_ns - each * call.beside) / 1000) for call in exact),
            Counter(_rounded(max(least, call.delay_most_ns - each * call.beside) / 1000) for call in found),
        )
    )


def with_found(exact: Counter[int], most: Counter[int]) -> dict[int, float]:
    """How many took each time, most likely.

    Args:
        exact: number of those of which it is known, by time.
        most: number of those of which it is known what they took at most, by that.
    """
    values = np.array(sorted({*exact, *most}))
    known = np.array([exact[value] for value in values.tolist()], dtype=float)
    bounded = np.array([most[value] for value in values.tolist()], dtype=float)
    taken = known + bounded
    for _ in range(ROUNDS):
        # Each of the bounded is shared out to what is not above its bound, as much as is there.
        share = bounded / np.maximum(np.cumsum(taken), 1e-300)
        taken = known + taken * np.cumsum(share[::-1])[::-1]
    return {value: count for value, count in zip(values.tolist(), taken.tolist(), strict=True) if count >= 0.5}


def _queueing(calls: Sequence[Call]) -> float:
    """Nanoseconds that each request beside a call adds to its delay, by least squares."""
    mean = sum(call.beside for call in calls) / len(calls)
    spread = sum((call.beside - mean) ** 2 for call in calls)
    joint = sum((call.beside - mean) * call.delay_ns for call in calls)
    return max(0.0, joint / spread) if spread else 0.0


def _rounded(value: float) -> int:
    step = 10 ** max(0, len(str(int(value))) - 2)
    return int(round(value / step) * step)
