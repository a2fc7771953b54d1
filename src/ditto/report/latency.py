"""Latency against throughput: a plot of both sides with bands, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.fidelity import LatencyPoint, LatencySide
from ditto.report.plots import svg
from ditto.report.text import figure

SHOWN = (50.0, 95.0, 99.0)
"""Percentiles that have a plot each."""
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 13.0, 97.0, 8.0, 208.0, 246.0


@dataclass(frozen=True)
class LatencyView:
    """The plot of one percentile."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class LatencyRow:
    """One percentile at one level, as texts; times in microseconds."""

    load: str
    percent: str
    original: str
    original_range: str
    clone: str
    clone_range: str
    difference: str


def latency_views(points: Sequence[LatencyPoint]) -> list[LatencyView]:
    """A plot for each of `SHOWN` that the points have."""
    return [LatencyView(f"p{p:g}", _plot(points, p)) for p in SHOWN if points and all(p in x.percents for x in points)]


def latency_rows(points: Sequence[LatencyPoint]) -> list[LatencyRow]:
    """All percentiles at all levels."""
    rows = []
    for point in points:
        load = "closed loop" if point.offered is None else f"{point.share * 100:.0f} %: {figure(point.offered)}/s"
        for at, percent in enumerate(point.percents):
            a, b = point.original, point.clone
            change = b.median_ns[at] / a.median_ns[at] - 1 if a.median_ns[at] > 0 else 0.0
            rows.append(
                LatencyRow(
                    load, f"p{percent:g}", _micro(a.median_ns[at]), _range(a, at), _micro(b.median_ns[at]),
                    _range(b, at), f"{change * 100:+.1f} %".replace("-", "\N{MINUS SIGN}"),
                )
            )  # fmt: skip
    return rows


def _micro(nanoseconds: float) -> str:
    return figure(nanoseconds / 1e3, 3)


def _range(side: LatencySide, at: int) -> str:
    return f"{_micro(side.least_ns[at])} \N{EN DASH} {_micro(side.most_ns[at])}"


def _plot(points: Sequence[LatencyPoint], percent: float) -> Markup:
    """Replies a second across, latency up (logarithmic); a band from the least to the most over the runs."""
    at = points[0].percents.index(percent)
    sides = {name: [getattr(point, name) for point in points] for name in ("original", "clone")}
    every = [side for values in sides.values() for side in values]
    right = max(side.rate for side in every) * 1.03 or 1.0
    low = max(1.0, min(side.least_ns[at] for side in every))
    high = max(low * 1.01, max(side.most_ns[at] for side in every))
    first, last = math.log10(low) - 0.05, math.log10(high) + 0.05

    def x(rate: float) -> float:
        return 1000 * rate / right

    def y(nanoseconds: float) -> float:
        return 1000 * (1 - (math.log10(max(low, nanoseconds)) - first) / (last - first))

    parts = [_grid(step, first, last) for step in _decades(first, last)]
    step = _step(right)
    for number in range(int(right / step) + 1):
        place = f"{_LEFT + (_RIGHT - _LEFT) * number * step / right:.2f}%"
        label = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        parts.append(label.format(place, _BOTTOM + 16, figure(number * step, 2)))
    parts.append(Markup('<text x="55%" y="{}" text-anchor="middle">replies per second</text>').format(_BOTTOM + 33))
    inner = []
    for name, values in sides.items():
        upper = [f"{x(side.rate):.1f},{y(side.most_ns[at]):.1f}" for side in values]
        lower = [f"{x(side.rate):.1f},{y(side.least_ns[at]):.1f}" for side in reversed(values)]
        line = [f"{x(side.rate):.1f},{y(side.median_ns[at]):.1f}" for side in values]
        inner.append(Markup('<polygon class="band band-{}" points="{}"/>').format(name, " ".join(upper + lower)))
        inner.append(Markup('<polyline class="curve line-{}" points="{}"/>').format(name, " ".join(line)))
    inside = '<svg x="{}%" y="{}" width="{}%" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{}</svg>'
    size = (_RIGHT - _LEFT, _BOTTOM - _TOP)
    parts.append(Markup(inside).format(_LEFT, _TOP, *size, Markup("").join(inner)))
    title = f"p{percent:g} of the latency against throughput"
    return svg(_HEIGHT, title, "The table below has the numbers", parts, "plot")


def _step(largest: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most four of it fit."""
    power: float = 10.0 ** math.floor(math.log10(largest / 4))
    return next(power * k for k in (1, 2, 5, 10) if power * k * 4 >= largest)


def _decades(first: float, last: float) -> list[float]:
    """Exponents to mark: 1, 2 and 5 of every decade, or decades alone where that is too many."""
    steps = [d + math.log10(k) for d in range(math.floor(first), math.ceil(last) + 1) for k in (1, 2, 5)]
    shown = [s for s in steps if first <= s <= last]
    return shown if len(shown) <= 7 else [s for s in shown if abs(s - round(s)) < 1e-9]


def _grid(exponent: float, first: float, last: float) -> Markup:
    y = _BOTTOM - (_BOTTOM - _TOP) * (exponent - first) / (last - first)
    return Markup(
        '<line class="grid" x1="{0}%" x2="{1}%" y1="{2}" y2="{2}"/><text x="{3}%" y="{4}" text-anchor="end">{5}</text>'
    ).format(_LEFT, _RIGHT, f"{y:.1f}", _LEFT - 1, f"{y + 4:.1f}", _time(10**exponent))


def _time(nanoseconds: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if nanoseconds >= 0.999 * size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"
