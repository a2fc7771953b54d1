"""Plots of studies as inline SVG: both sides against the settings, medians with the spread of their runs.

Positions across are percentages, so that a plot takes any width while its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 13.0, 97.0, 10.0, 190.0, 232.0
_SIDES = ("original", "clone")
_LOG_FROM = 25.0
"""Largest over smallest value from which a scale is logarithmic."""
_LABEL_WIDTH = 0.14
"""Of a plot's width, on a narrow screen."""


@dataclass(frozen=True)
class Place:
    """One setting in a plot: where it is (0 to 1), its label (may be empty), and the runs of both sides there."""

    at: float
    label: str
    original: Sequence[float]
    clone: Sequence[float]

    def of(self, side: str) -> Sequence[float]:
        """The runs of one side."""
        return self.original if side == "original" else self.clone


def curves(places: Sequence[Place], axis: str, title: str, text: Callable[[float], str]) -> Markup:
    """Both sides' medians as lines and their runs' range as bands, across the settings in ascending order.

    Args:
        text: a value as a tick's label.
    """
    values = [v for place in places for v in (*place.original, *place.clone)]
    if len(places) < 2 or not values:
        return Markup("")
    scale = _Scale.over(values)
    parts: list[Markup] = []
    for value in scale.ticks:
        y = _BOTTOM - (_BOTTOM - _TOP) * scale.share(value)
        css = "axis" if value == scale.ticks[0] else "grid"
        parts.append(_line(css, _x(0), _x(1), y, y))
        parts.append(_text(f"{_LEFT - 1:.2f}%", y + 4, text(value), "end"))
    for place in places:
        if place.label:
            parts.append(_text(_x(place.at), _BOTTOM + 16, place.label, "middle"))
    parts.append(_text(_x(0.5), _BOTTOM + 35, axis, "middle"))
    inner = [_band(places, side, scale) for side in _SIDES] + [_curve(places, side, scale) for side in _SIDES]
    width = f"{_RIGHT - _LEFT:.2f}%"
    parts.append(
        Markup(
            '<svg x="{}" y="{}" width="{}" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{}</svg>'
        ).format(_x(0), _TOP, width, _BOTTOM - _TOP, Markup("").join(inner))
    )
    for side in _SIDES:
        for place in places:
            if runs := place.of(side):
                y = _BOTTOM - (_BOTTOM - _TOP) * scale.share(_median(runs))
                parts.append(
                    Markup('<circle class="fill-{}" cx="{}" cy="{}" r="3"/>').format(side, _x(place.at), f"{y:.1f}")
                )
    described = "Medians of both sides; bands from the lowest to the highest run; the table has the numbers"
    return _svg(_HEIGHT, title, described, parts, "plot")


def bars(original: float | None, clone: float | None, largest: float, title: str) -> Markup:
    """Two bars, the original above the clone, on a scale to ``largest``; a mark at 1, the unchanged run."""
    scale = 100.0 / largest if largest > 0 else 0.0
    parts = [
        Markup('<rect class="fill-{}" x="0" y="{}" width="{}" height="6"/>').format(
            side, y, f"{max(0.0, value) * scale:.2f}%"
        )
        for side, y, value in (("original", 2, original), ("clone", 10, clone))
        if value is not None
    ]
    parts.append(_line("bound", f"{scale:.2f}%", f"{scale:.2f}%", 0, 18))
    return _svg(18, title, "original above, clone below, a mark at the unchanged run", parts, "pair")


@dataclass(frozen=True)
class _Scale:
    """The scale of values: linear from 0, or logarithmic over whole decades."""

    low: float
    high: float
    logarithmic: bool
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> _Scale:
        positive = [v for v in values if v > 0]
        largest = max(values)
        if positive and min(values) > 0 and largest / min(positive) >= _LOG_FROM:
            first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(largest))
            stride = math.ceil((last - first) / 5)
            return cls(10.0**first, 10.0**last, True, tuple(10.0**e for e in range(first, last + 1, stride)))
        step = _step(largest)
        count = max(1, math.ceil(largest / step - 1e-9))
        return cls(0.0, step * count, False, tuple(step * number for number in range(count + 1)))

    def share(self, value: float) -> float:
        if self.logarithmic:
            low, high = math.log10(self.low), math.log10(self.high)
            return (math.log10(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)


def _step(largest: float) -> float:
    """Between ticks, so that there are at most five: 1, 2, 2.5 or 5 times a power of ten."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest / 5))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if power * k * 5 >= largest * (1 - 1e-9))


def _band(places: Sequence[Place], side: str, scale: _Scale) -> Markup:
    """The range of the runs, without settings that had none."""
    there = [place for place in places if place.of(side)]
    upper = [(place.at, max(place.of(side))) for place in there]
    lower = [(place.at, min(place.of(side))) for place in reversed(there)]
    return Markup('<polygon class="band-{}" points="{}"/>').format(side, _points([*upper, *lower], scale))


def _curve(places: Sequence[Place], side: str, scale: _Scale) -> Markup:
    points = [(place.at, _median(place.of(side))) for place in places if place.of(side)]
    return Markup('<polyline class="curve line-{}" points="{}"/>').format(side, _points(points, scale))


def _points(points: Sequence[tuple[float, float]], scale: _Scale) -> str:
    return " ".join(f"{1000 * at:.1f},{1000 * (1 - scale.share(value)):.1f}" for at, value in points)


def spread(labels: Sequence[str], positions: Sequence[float]) -> list[str]:
    """``labels``, those emptied that would run into a later one at their ascending ``positions`` (0 to 1)."""
    kept = list(labels)
    next_at = math.inf
    for number in range(len(labels) - 1, -1, -1):
        if next_at - positions[number] < _LABEL_WIDTH:
            kept[number] = ""
        else:
            next_at = positions[number]
    return kept


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _x(share: float) -> str:
    return f"{_LEFT + (_RIGHT - _LEFT) * share:.2f}%"


def _line(css: str, x1: str, x2: str, y1: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(css, x1, x2, f"{y1:.1f}", f"{y2:.1f}")


def _text(x: str, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, f"{y:.1f}", anchor, text)


def _svg(height: float, title: str, description: str, parts: Sequence[Markup], css: str) -> Markup:
    return Markup(
        '<svg class="{}" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(css, f"{height:g}", f"{title}. {description}", title, description, Markup("").join(parts))
