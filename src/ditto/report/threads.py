"""When the threads of both sides ran: a row a thread, a cell for each part of the time, the fuller the busier.

The fullest colour is that of the busiest cell of both sides: a service may never use more than a part of a processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.fidelity import ThreadLine, Timeline
from ditto.report import plots
from ditto.report.text import share_text

_LINE, _LABEL, _GAP = 13, 20, 3
_LEAST, _FAINTEST = 0.005, 0.08
"""Part of the busiest below which a cell is left empty, and the colour of those above."""


@dataclass(frozen=True)
class ThreadRow:
    """One thread, as texts."""

    role: str
    busy: str
    busiest: str


@dataclass(frozen=True)
class TimelineView:
    """One side."""

    title: str
    svg: Markup
    rows: tuple[ThreadRow, ...]
    more: int


def timeline_views(timeline: Timeline | None) -> list[TimelineView]:
    """Original, then clone; none where threads were not looked at."""
    if timeline is None:
        return []
    top = busiest_cell(timeline)
    return [
        _side("Original", "original", timeline.original, timeline.original_ms, timeline.original_more, top),
        _side("Clone", "clone", timeline.clone, timeline.clone_ms, timeline.clone_more, top),
    ]


def busiest_cell(timeline: Timeline) -> float:
    """The largest share of a part of the time, of both sides."""
    return max((share for line in [*timeline.original, *timeline.clone] for share in line.busy), default=0.0)


def _side(title: str, css: str, lines: Sequence[ThreadLine], part_ms: float, more: int, top: float) -> TimelineView:
    rows = tuple(
        ThreadRow(line.role, share_text(sum(line.busy) / len(line.busy)), share_text(max(line.busy)))
        for line in lines
        if line.busy
    )
    return TimelineView(title, _plot(title, css, lines, part_ms, top), rows, more)


def _plot(title: str, css: str, lines: Sequence[ThreadLine], part_ms: float, top: float) -> Markup:
    parts: list[Markup] = []
    y, role = 0.0, ""
    for line in lines:
        if line.role != role:
            role = line.role
            parts.append(Markup('<text x="0" y="{}">{}</text>').format(y + _LABEL - 6, role))
            y += _LABEL
        parts.append(Markup('<rect class="track" x="0" y="{}" width="100%" height="{}"/>').format(y, _LINE - _GAP))
        width = 100.0 / max(1, len(line.busy))
        cell = Markup('<rect class="fill-{}" x="{:.2f}%" y="{}" width="{:.2f}%" height="{}" fill-opacity="{:.2f}"/>')
        parts += [
            cell.format(css, number * width, y, width, _LINE - _GAP, _FAINTEST + (1 - _FAINTEST) * share / top)
            for number, share in enumerate(line.busy)
            if share > _LEAST * top
        ]
        y += _LINE
    seconds = part_ms * max((len(line.busy) for line in lines), default=0) / 1e3
    parts.append(Markup('<text x="0" y="{}">0</text>').format(y + 14))
    parts.append(Markup('<text x="100%" y="{}" text-anchor="end">{:.3g} s</text>').format(y + 14, seconds))
    said = "A row a thread, a cell for each part of the time; the table below has the numbers"
    return plots.svg(y + 20, f"{title}: threads over the time of one run of the client", said, parts, "timeline")
