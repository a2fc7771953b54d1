"""From counted values to the profile's discrete distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ditto.artifacts.profile import Dist

MAX_POINTS = 64


def dist(counts: Mapping[int, float], points: int = MAX_POINTS) -> Dist | None:
    """The distribution of counted values; None if nothing was counted.

    More than ``points`` distinct values are reduced to that many quantile bins, each standing at its weighted mean, so
    that the mean is kept.
    """
    total = sum(counts.values())
    if total <= 0:
        return None
    items = sorted((max(0, int(v)), float(w)) for v, w in counts.items() if w > 0)
    if len(items) <= points:
        return Dist(values=[v for v, _ in items], weights=[w for _, w in items])
    values: list[int] = []
    weights: list[float] = []
    share = total / points
    bin_weight = bin_sum = 0.0
    for value, weight in items:
        bin_weight += weight
        bin_sum += value * weight
        if bin_weight >= share:
            values.append(round(bin_sum / bin_weight))
            weights.append(bin_weight)
            bin_weight = bin_sum = 0.0
    if bin_weight:
        values.append(round(bin_sum / bin_weight))
        weights.append(bin_weight)
    merged: Counter[int] = Counter()
    for value, weight in zip(values, weights, strict=True):
        merged[value] += weight  # type: ignore[assignment]
    ordered = sorted(merged.items())
    return Dist(values=[v for v, _ in ordered], weights=[w for _, w in ordered])


def constant(value: int) -> Dist:
    """The distribution of one value."""
    return Dist(values=[value], weights=[1.0])
