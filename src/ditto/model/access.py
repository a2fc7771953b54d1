"""Where in a file reads and writes at given offsets go: aligned how, one after the other or not, and how unevenly.

What a page cache that is smaller than the file keeps depends on how often each part of the file is asked for, so the
places are taken for a few kinds, each of so many places that are all asked for equally often.  From the number of
places that were asked for once, twice and so on, with those that never were, the kinds follow as a mixture of Poisson
distributions: the places of a small hot set are told from those that happened to be asked for twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ditto.artifacts.profile import Dist

LARGEST_UNIT = 1 << 20
ALIGNED = 0.99
"""Share of the offsets that must be multiples of a unit."""
MOST_KINDS = 6
ROUNDS = 300
PER_MILLE = 1000


@dataclass(frozen=True)
class Place:
    """One read or write: who made it, where, and of how many bytes."""

    tid: int
    offset: int
    size: int


@dataclass(frozen=True)
class Access:
    """How an operation goes about a file.

    Attributes:
        unit: bytes that offsets are multiples of.
        onward: share that begins where the same thread's access before ended, per mille.
        where: of the others: numbers of places, hottest first, each with those before it, and the shares that go there.
    """

    unit: int
    onward: int
    where: Dist


def fit_access(places: list[Place], size: int) -> Access | None:
    """The access to a file of ``size`` bytes; None where nothing is known of it."""
    if not places or size <= 0:
        return None
    unit = _unit(place.offset for place in places)
    onward, jumps = 0, []
    ends: dict[int, int] = {}
    for place in places:
        if ends.get(place.tid) == place.offset:
            onward += 1
        else:
            jumps.append(place.offset // unit)
        ends[place.tid] = place.offset + place.size
    total = max(1, -(-size // unit), *(jump + 1 for jump in jumps))
    return Access(unit, round(PER_MILLE * onward / len(places)), _kinds(Counter(jumps), total))


def _unit(offsets: Iterable[int]) -> int:
    known = np.fromiter(offsets, dtype=np.int64)
    unit = LARGEST_UNIT
    while unit > 1 and np.mean(known % unit == 0) < ALIGNED:
        unit //= 2
    return unit


def _kinds(asked: Counter[int], total: int) -> Dist:
    """The kinds of ``total`` places, of which some were asked for so often."""
    seen = Counter(asked.values())
    seen[0] = total - len(asked)
    often = np.array(sorted(seen), dtype=np.float64)
    number = np.array([seen[int(k)] for k in often], dtype=np.float64)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for kinds in range(1, MOST_KINDS + 1):
        shares, rates, likelihood = _mixture(often, number, kinds)
        # Each kind more must explain more than chance would: two numbers each, by the Bayesian criterion.
        score = likelihood - (2 * kinds - 1) / 2 * np.log(total)
        if best is None or score > best[0]:
            best = (score, shares, rates)
    assert best is not None
    _, shares, rates = best
    values: list[int] = []
    weights: list[float] = []
    before = 0.0
    for share, rate in sorted(zip(shares, rates, strict=True), key=lambda kind: -kind[1]):
        before += share * total
        if share * rate <= 0:
            continue
        end = min(total, max(1, round(before)))
        if values and end <= values[-1]:
            weights[-1] += float(share * rate)
        else:
            values.append(end)
            weights.append(float(share * rate))
    return Dist(values=values or [total], weights=weights or [1.0])


def _mixture(often: np.ndarray, number: np.ndarray, kinds: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Shares and rates of a mixture of Poisson distributions, and the logarithm of its likelihood."""
    mean = max(1e-9, float((often * number).sum() / number.sum()))
    rates = np.geomspace(mean / 4, max(mean, float(often.max())), kinds) if kinds > 1 else np.array([mean])
    shares = np.full(kinds, 1.0 / kinds)
    steady = np.cumsum(np.log(np.maximum(1.0, np.arange(int(often.max()) + 1))))[often.astype(np.int64)]
    likelihood = 0.0
    for _ in range(ROUNDS):
        logs = np.log(shares) + np.outer(often, np.log(rates)) - rates - steady[:, None]
        top = logs.max(axis=1, keepdims=True)
        parts = np.exp(logs - top)
        sums = parts.sum(axis=1, keepdims=True)
        likelihood = float((number * (top[:, 0] + np.log(sums[:, 0]))).sum())
        held = parts / sums * number[:, None]
        weight = held.sum(axis=0)
        shares = np.maximum(1e-12, weight / number.sum())
        rates = np.maximum(1e-12, (held * often[:, None]).sum(axis=0) / np.maximum(1e-12, weight))
    return shares, rates, likelihood
