"""Plots as inline SVG.  Positions are percentages, so that a plot takes any width while its text keeps its size.

Every function returns markup whose texts are escaped; colours come from classes of the style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.fidelity import Curve, Record
from ditto.report.text import error_text, size_text

BAR_HEIGHT = 18


def svg(height: float, title: str, description: str, parts: Sequence[Markup], css: str) -> Markup:
    """A plot that screen readers can name; ``css`` is its class."""
    return Markup(
        '<svg class="{}" width="100%" height="{}" role="img" aria-label="{}"><title>{}</title><desc>{}</desc>{}</svg>'
    ).format(css, height, f"{title}. {description}", title, description, Markup("").join(parts))


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def bar(value: float, largest: float, samples: Sequence[float], side: str, title: str) -> Markup:
    """One bar from 0 to ``value`` on a scale to ``largest`` (same unit), a mark for each of ``samples``."""
    scale = 96.0 / largest if largest > 0 else 0.0
    parts = [
        Markup('<rect class="fill-{}" x="0" y="3" width="{}" height="{}"/>').format(
            side, _percent(max(0.0, value) * scale), BAR_HEIGHT - 6
        )
    ]
    for sample in samples:
        x = _percent(max(0.0, sample) * scale)
        parts.append(Markup('<line class="sample" x1="{}" x2="{}" y1="0" y2="{}"/>').format(x, x, BAR_HEIGHT))
    return svg(BAR_HEIGHT, title, f"{len(samples)} runs marked" if samples else "", parts, "bar")


def error_strip(record: Record, title: str) -> Markup:
    """The error as a point, its interval as a line, the noise floor as a band, the bound as two ticks."""
    if record.error is None:
        return Markup("")
    limit = _limit(record)
    reach = _reach(record, limit)

    def at(value: float) -> str:
        return _percent(50.0 + 46.0 * max(-1.0, min(1.0, value / reach)))

    parts = []
    if record.noise is not None:
        low, high = at(-record.noise), at(record.noise)
        width = _percent(float(high[:-1]) - float(low[:-1]))
        parts.append(Markup('<rect class="noise" x="{}" y="4" width="{}" height="18"/>').format(low, width))
    parts.append(Markup('<line class="axis" x1="4%" x2="96%" y1="13" y2="13"/>'))
    parts.append(Markup('<line class="axis" x1="50%" x2="50%" y1="2" y2="24"/>'))
    marked = limit if limit is not None else record.noise
    if limit is not None:
        for value in (-limit, limit):
            parts.append(Markup('<line class="bound" x1="{0}" x2="{0}" y1="2" y2="24"/>').format(at(value)))
    if marked and marked / reach > 0.4:
        parts += [_label(at(value), 38, error_text(record, value), "middle") for value in (-marked, marked)]
        parts.append(_label("50%", 38, "0", "middle"))
    elif marked:
        # Too near each other for a label each.
        parts.append(_label("50%", 38, f"\N{PLUS-MINUS SIGN}{error_text(record, marked, signed=False)}", "middle"))
    if record.interval is not None:
        parts.append(
            Markup('<line class="interval" x1="{}" x2="{}" y1="13" y2="13"/>').format(
                at(record.interval.low), at(record.interval.high)
            )
        )
    point = "point outside" if record.verdict == "outside" else "point"
    parts.append(Markup('<circle class="{}" cx="{}" cy="13" r="4"/>').format(point, at(record.error)))
    said = [f"error {error_text(record, record.error)}"]
    if record.noise is not None:
        said.append(f"noise floor {error_text(record, record.noise, signed=False)}")
    if limit is not None:
        said.append(f"bound {error_text(record, limit, signed=False)}")
    return svg(44, title, ", ".join(said), parts, "strip")


def _limit(record: Record) -> float | None:
    if record.bound is None:
        return None
    return record.bound.relative if record.error_kind == "relative" else record.bound.absolute


def _reach(record: Record, limit: float | None) -> float:
    """Half the width of the strip: the bound and the error fit; a wide interval or noise floor may leave it."""
    sizes = [abs(record.error or 0.0), 1.3 * (limit or 0.0)]
    wide = [record.noise or 0.0]
    if record.interval is not None:
        wide += [abs(record.interval.low), abs(record.interval.high)]
    sizes.append(max(wide) if limit is None else min(max(wide), 3 * limit))
    return max(sizes) * 1.05 or 1.0


def _label(x: str, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


@dataclass(frozen=True)
class _Frame:
    """A plot area inside an SVG: percentages across, pixels down."""

    left: float = 12.0
    right: float = 98.0
    top: float = 8.0
    bottom: float = 208.0
    height: float = 246.0

    def x(self, share: float) -> str:
        return _percent(self.left + (self.right - self.left) * share)

    def y(self, share: float) -> float:
        return self.bottom - (self.bottom - self.top) * share


def miss_curve(curve: Curve, title: str) -> Markup:
    """Misses per access against cache size (logarithmic), of every side that has a curve."""
    frame = _Frame()
    sizes = curve.sizes_bytes
    sides = [
        (name, values)
        for name, values in (("empty", curve.empty_body), ("original", curve.original), ("clone", curve.clone))
        if len(values) == len(sizes) > 1
    ]
    if not sides:
        return Markup("")
    first, last = math.log2(max(1, sizes[0])), math.log2(max(2, sizes[-1]))
    top = _nice_top(max(max(values) for _, values in sides))
    parts: list[Markup] = []
    for step in range(5):
        y = frame.y(step / 4)
        css = "axis" if step == 0 else "grid"
        parts.append(
            Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(css, frame.x(0), frame.x(1), y, y)
        )
        parts.append(_label(_percent(frame.left - 1), y + 4, f"{top * step / 4 * 100:.3g} %", "end"))
    for exponent in range(math.ceil(first), math.floor(last) + 1):
        # Every third power of two from 1 KiB keeps the labels apart at 360 pixels.
        if (exponent - 10) % 5 == 0:
            x = frame.x((exponent - first) / (last - first))
            parts.append(
                Markup('<line class="grid" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, frame.top, frame.bottom)
            )
            parts.append(_label(x, frame.bottom + 16, size_text(2**exponent), "middle"))
    parts.append(_label(frame.x(0.5), frame.bottom + 33, "cache size", "middle"))
    inner = []
    for name, values in sides:
        points = " ".join(
            f"{1000 * (math.log2(max(1, size)) - first) / (last - first):.1f},{1000 * (1 - value / top):.1f}"
            for size, value in zip(sizes, values, strict=True)
        )
        inner.append(Markup('<polyline class="curve line-{}" points="{}"/>').format(name, points))
    parts.append(
        Markup(
            '<svg x="{}" y="{}" width="{}" height="{}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{}</svg>'
        ).format(
            frame.x(0), frame.top, _percent(frame.right - frame.left), frame.bottom - frame.top, Markup("").join(inner)
        )
    )  # fmt: skip
    return svg(frame.height, title, "Misses per access by cache size; the table below has the numbers", parts, "plot")


def _nice_top(largest: float) -> float:
    """The smallest of 1, 2, 4 or 10 times a power of ten that is no less."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next((power * k for k in (1, 2, 4, 10) if power * k >= largest - 1e-12), power * 10)


def pair(original: float, clone: float, largest: float, title: str) -> Markup:
    """Two thin bars, the original above the clone, on a scale to ``largest``."""
    scale = 100.0 / largest if largest > 0 else 0.0
    parts = [
        Markup('<rect class="fill-{}" x="0" y="{}" width="{}" height="5"/>').format(side, y, _percent(value * scale))
        for side, y, value in (("original", 1, original), ("clone", 8, clone))
    ]
    return svg(14, title, "original above, clone below", parts, "pair")
