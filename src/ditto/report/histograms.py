"""Branches and register dependences by bucket, both sides beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.fidelity import Histogram
from ditto.report import plots
from ditto.report.text import NO_BREAK, points_text, share_text

_TITLES = {
    "branch_taken": ("Branches by how often they are taken", "Taken"),
    "branch_transition": ("Branches by how often they change course", "Changes"),
    "raw": ("Reads of a register after its write", "Distance"),
    "war": ("Writes of a register after its read", "Distance"),
    "waw": ("Writes of a register after its write", "Distance"),
}


@dataclass(frozen=True)
class ShareRow:
    """One class or bucket and its share on each side, as texts."""

    name: str
    bars: Markup
    original: str
    clone: str
    empty: str
    difference: str


@dataclass(frozen=True)
class HistogramView:
    """One histogram: ``column`` heads its buckets."""

    title: str
    column: str
    rows: tuple[ShareRow, ...]


def share_row(name: str, title: str, original: float, clone: float, empty: float | None, largest: float) -> ShareRow:
    """A row whose bars are on a scale to ``largest``; ``title`` is what a screen reader calls them."""
    return ShareRow(
        name,
        plots.pair(original, clone, largest, title),
        share_text(original),
        share_text(clone),
        share_text(empty),
        points_text(original, clone),
    )


def histogram_views(histograms: Sequence[Histogram]) -> list[HistogramView]:
    """Those that both sides have."""
    return [_view(h) for h in histograms if len(h.original) == len(h.clone) == len(h.labels) > 0]


def _view(h: Histogram) -> HistogramView:
    title, column = _TITLES.get(h.name, (h.name, ""))
    largest = max(h.original + h.clone)
    empty: list[float | None] = list(h.empty_body) if len(h.empty_body) == len(h.labels) else [None] * len(h.labels)
    rows = [
        share_row(label.replace(" ", NO_BREAK), f"{title}: {label}", a, b, c, largest)
        for label, a, b, c in zip(h.labels, h.original, h.clone, empty, strict=True)
    ]
    return HistogramView(title, column, tuple(rows))
