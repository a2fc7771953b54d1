"""How far a clone's execution is from the original's: each figure by the bound that is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np

from ditto.artifacts.amounts import Amounts, Vector

RELATIVE = {
    "instructions": 0.02, "loads": 0.03, "stores": 0.03, "branches": 0.03, "indirect": 0.05, "predictor_misses": 0.10,
}  # fmt: skip
MISSED = ("indirect_misses", "code_set_misses")
"""Judged by their number per 1000 instructions: within `MISSES` of the original's, or `FEW` apart."""
FEW = 0.3
MIX = 0.04
POINTS = 0.015
MISSES = 0.10
WEIGHTS = {"instructions": 4.0, "loads": 2.0, "stores": 2.0, "branches": 2.0, "predictor_misses": 2.0, "mix": 2.0}
"""Of figures when rounds are compared; 1 for the others.  Instructions come first: all others are shares of them."""
MISSES_FROM = 1.0
"""Misses per 1000 instructions from which they are judged by their number as well."""
CURVE = slice(5, 22)
"""The judged sizes, 1 KiB to 64 MiB: a cache of 2**k lines misses buckets from k + 1 on."""


@dataclass(frozen=True)
class Score:
    """Errors by figure, each in units of its bound (1: just inside)."""

    errors: dict[str, float]

    @property
    def total(self) -> float:
        """What rounds are compared by: bounds that are missed weigh most, and by their order of magnitude.

        A figure that is off twentyfold is seldom worth as much as nineteen that are just outside.
        """
        return sum(WEIGHTS.get(n, 1.0) * (log2(1 + max(0.0, e - 1)) + 0.1 * min(e, 1)) for n, e in self.errors.items())

    @property
    def inside(self) -> bool:
        return all(e <= 1 for e in self.errors.values())

    @property
    def worst(self) -> list[str]:
        """What is outside, the worst first."""
        return [n for n, e in sorted(self.errors.items(), key=lambda item: -item[1]) if e > 1]


def score(original: Amounts, clone: Amounts) -> Score:
    """Compare what a request executes in both."""
    errors: dict[str, float] = {}
    for name, bound in RELATIVE.items():
        a, b = original.number(name), clone.number(name)
        errors[name] = abs(b - a) / max(a, 1.0) / bound
    instructions = max(original.instructions, 1.0), max(clone.instructions, 1.0)
    for name in MISSED:
        a, b = (1e3 * side.number(name) / n for side, n in zip((original, clone), instructions, strict=True))
        errors[name] = abs(b - a) / max(MISSES * a, FEW)
    names = original.mix.keys() | clone.mix.keys()
    parts = [abs(original.mix.get(n, 0) / instructions[0] - clone.mix.get(n, 0) / instructions[1]) for n in names]
    errors["mix"] = sum(parts) / 2 / MIX
    data = [_data(side) for side in (original, clone)]
    code = [side.of("code_distance") for side in (original, clone)]
    for name, (a_hist, b_hist) in (("data", data), ("code", code)):
        a_miss, b_miss = _misses(a_hist), _misses(b_hist)
        points = np.abs(a_miss / max(a_miss[0], 1e-9) - b_miss / max(b_miss[0], 1e-9))[CURVE]
        errors[f"{name} curve"] = float(points.max()) / POINTS
        a_rate, b_rate = a_miss[CURVE] * 1e3 / instructions[0], b_miss[CURVE] * 1e3 / instructions[1]
        judged = a_rate >= MISSES_FROM
        off = np.abs(b_rate - a_rate)[judged] / a_rate[judged]
        errors[f"{name} misses"] = float(off.max()) / MISSES if judged.any() else 0.0
    return Score(errors)


def _data(side: Amounts) -> Vector:
    return side.of("load_distance") + side.of("store_distance")


def _misses(histogram: Vector) -> Vector:
    """[25] accesses of bucket k and beyond."""
    return np.concatenate([np.cumsum(histogram[::-1])[::-1], [0.0]])
