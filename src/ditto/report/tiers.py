"""The tiers of an application's clone as a drawing: boxes in columns by how far from the entry, lines for calls."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.fidelity import Fidelity, Record
from ditto.report.plots import svg
from ditto.report.text import error_text, figure

_ROW = 76.0
_BOX = 46.0


@dataclass(frozen=True)
class EdgeSeen:
    """Calls of one tier to another; ``record`` is of calls per request of the entry."""

    caller: str
    called: str
    record: Record


def edges_of(fidelity: Fidelity) -> list[EdgeSeen]:
    """The edges of the application, as the records name them."""
    found = []
    for record in fidelity.records:
        words = record.metric.split(".")
        if words[0] == "edge" and len(words) == 4 and record.original is not None and record.clone is not None:
            found.append(EdgeSeen(words[1], words[2], record))
    return found


def tier_graph(fidelity: Fidelity) -> Markup:
    """Tiers with their CPU time per request, calls with their number per request: original and clone, and the error.

    Nothing where no calls between tiers were compared.
    """
    edges = edges_of(fidelity)
    tiers = [r.metric.split(".")[1] for r in fidelity.records if r.metric.endswith(".cpu.per_request")]
    if not edges or not tiers:
        return Markup("")
    names = list(dict.fromkeys([*tiers, *(name for e in edges for name in (e.caller, e.called))]))
    columns = _columns(names, edges)
    width = max(columns.values()) + 1
    rows: dict[int, list[str]] = defaultdict(list)
    for name in names:
        rows[columns[name]].append(name)
    tall = max(len(column) for column in rows.values())
    height = tall * _ROW
    place = {
        name: ((columns[name] + 0.5) * 100 / width, (at + 0.5) * height / len(column))
        for column in rows.values()
        for at, name in enumerate(column)
    }
    parts = [_line(edge, place) for edge in edges]
    parts += [_box(name, place[name], fidelity, 74 / width) for name in names]
    parts += [_label(edge, place) for edge in edges]
    described = f"{len(names)} tiers, {len(edges)} edges; the table below has the figures"
    return svg(height, "Calls between tiers", described, parts, "tiers")


def _columns(names: list[str], edges: list[EdgeSeen]) -> dict[str, int]:
    """How many calls each is from the entry, at least; what is not reached from there is in the last column."""
    found = {names[0]: 0}
    pending = [names[0]]
    for name in pending:
        for edge in edges:
            if edge.caller == name and edge.called not in found:
                found[edge.called] = found[name] + 1
                pending.append(edge.called)
    last = max(found.values()) + 1
    return {name: found.get(name, last) for name in names}


def _line(edge: EdgeSeen, place: dict[str, tuple[float, float]]) -> Markup:
    (x1, y1), (x2, y2) = place[edge.caller], place[edge.called]
    return Markup('<line class="axis" x1="{:.2f}%" y1="{:.1f}" x2="{:.2f}%" y2="{:.1f}"/>').format(x1, y1, x2, y2)


def _box(name: str, at: tuple[float, float], fidelity: Fidelity, width: float) -> Markup:
    x, y = at
    cpu = fidelity.record(f"tier.{name}.cpu.per_request")
    told = ""
    if cpu is not None and cpu.original is not None and cpu.clone is not None:
        told = f"{figure(cpu.original / 1e3, 3)} → {figure(cpu.clone / 1e3, 3)} µs"
    return Markup(
        '<rect class="tier" x="{:.2f}%" y="{:.1f}" width="{:.2f}%" height="{:.1f}" rx="4"/>'
        '<text class="name" x="{:.2f}%" y="{:.1f}">{}</text><text x="{:.2f}%" y="{:.1f}">{}</text>'
    ).format(x - width / 2, y - _BOX / 2, width, _BOX, x, y - 4, name, x, y + 14, told)


def _label(edge: EdgeSeen, place: dict[str, tuple[float, float]]) -> Markup:
    """Nearer to the called tier, where fewer lines are."""
    (x1, y1), (x2, y2) = place[edge.caller], place[edge.called]
    record = edge.record
    told = f"{figure(record.original, 3)} → {figure(record.clone, 3)} ({error_text(record, record.error)})"
    at = (0.55 * x1 + 0.45 * x2, 0.45 * y1 + 0.55 * y2)
    return Markup('<text class="calls" x="{:.2f}%" y="{:.1f}">{}</text>').format(*at, told)
