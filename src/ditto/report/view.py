"""What the template shows, worked out beforehand: lists of rows with their texts and plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ditto.artifacts.fidelity import Curve, Fidelity, MixShare, Record, Samples, SyscallRow
from ditto.artifacts.machine import MachineFacts
from ditto.artifacts.observation import Observation
from ditto.artifacts.profile import Profile
from ditto.artifacts.verdict import Verdict
from ditto.report import plots
from ditto.report.histograms import ShareRow, histogram_views, share_row
from ditto.report.latency import latency_rows, latency_views
from ditto.report.text import (
    CURVES,
    NARROW,
    figure,
    grouped,
    label_of,
    points_text,
    share_text,
    size_text,
    verdict_sentence,
)
from ditto.report.threads import busiest_cell, timeline_views
from ditto.report.tiers import tier_graph
from ditto.report.tuning import tuning_effects, tuning_figures, tuning_rows

_KEY = (
    "throughput.saturation",
    "cpu.ns_per_request",
    "cpu.user_ns_per_request",
    "cpu.system_ns_per_request",
    "instructions.user_per_request",
    "syscalls.total",
)


@dataclass(frozen=True)
class Bar:
    """One bar of a key figure."""

    name: str
    value: float
    svg: Markup


@dataclass(frozen=True)
class KeyFigure:
    """A key figure; without bars it is not available."""

    record: Record
    bars: tuple[Bar, ...]
    strip: Markup


@dataclass(frozen=True)
class CallRow:
    """A row of the table of system calls."""

    row: SyscallRow
    bars: Markup


@dataclass(frozen=True)
class CurveRow:
    """One cache size of a curve, as texts."""

    size: str
    original: str
    clone: str
    difference: str


@dataclass(frozen=True)
class CurveView:
    """One curve: plot and numbers."""

    title: str
    svg: Markup
    rows: tuple[CurveRow, ...]


_UNMEASURED = "it was not measured"


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def page_of(fidelity: Fidelity, profile: Profile | None, observation: Observation | None) -> dict[str, Any]:
    """The template's variables."""
    lens = next((u.why for u in fidelity.unavailable if "instruction" in u.what), _UNMEASURED)
    return {
        "f": fidelity,
        "s": fidelity.summary,
        "sentence": verdict_sentence(fidelity),
        "outside": [r for r in fidelity.records if r.verdict is Verdict.OUTSIDE],
        "noisy": [r for r in fidelity.records if r.too_noisy and r.verdict is Verdict.INSIDE_NOISE],
        "key": [_key_figure(r, fidelity.raw.get(r.metric, Samples())) for m in _KEY if (r := fidelity.record(m))],
        "tier_graph": tier_graph(fidelity),
        "groups": grouped(fidelity),
        "calls": _calls(fidelity.syscall_table),
        "curves": [_curve(curve) for curve in fidelity.curves],
        "curve_empty": any(curve.empty_body for curve in fidelity.curves),
        "mix": _mix(fidelity),
        "histograms": histogram_views(fidelity.histograms),
        "timelines": timeline_views(fidelity.timeline),
        "busiest": share_text(busiest_cell(fidelity.timeline) if fidelity.timeline is not None else None),
        "latency": latency_views(fidelity.latency),
        "latency_rows": latency_rows(fidelity.latency),
        "latency_missing": _sentence(next((u.why for u in fidelity.unavailable if "latency" in u.what), _UNMEASURED)),
        "tuning_figures": tuning_figures(fidelity.tuning),
        "tuning": tuning_rows(fidelity.tuning),
        "tuning_effects": tuning_effects(fidelity.tuning),
        "lens_missing": _sentence(lens),
        "conditions": _conditions(fidelity),
        "machine": _machine(fidelity.machine),
        "machine_line": _machine_line(fidelity.machine),
        "profile": _profile(profile),
        "notes": _notes(observation),
        "hows": _hows(fidelity.records),
    }


def _key_figure(record: Record, samples: Samples) -> KeyFigure:
    sides = (
        ("Original", "original", record.original, samples.original),
        ("Clone", "clone", record.clone, samples.clone),
        ("Empty body", "empty", record.empty_body, samples.empty_body),
    )
    if record.error is None:
        return KeyFigure(record, (), Markup(""))
    largest = max([v for _, _, v, _ in sides if v is not None] + [x for *_, xs in sides for x in xs])
    bars = tuple(
        Bar(name, value, plots.bar(value, largest, xs, css, f"{label_of(record)}, {name.lower()}: {figure(value)}"))
        for name, css, value, xs in sides
        if value is not None
    )
    return KeyFigure(record, bars, plots.error_strip(record, f"{label_of(record)}: clone against original"))


def _calls(table: Sequence[SyscallRow]) -> list[CallRow]:
    largest = max((max(row.original, row.clone) for row in table), default=0.0)
    return [CallRow(row, plots.pair(row.original, row.clone, largest, row.name)) for row in table]


def _curve(curve: Curve) -> CurveView:
    title = CURVES.get(curve.name, curve.name)
    rows = []
    for index, size in enumerate(curve.sizes_bytes):
        a = curve.original[index] if index < len(curve.original) else None
        b = curve.clone[index] if index < len(curve.clone) else None
        rows.append(CurveRow(size_text(size), share_text(a), share_text(b), points_text(a, b)))
    return CurveView(title, plots.miss_curve(curve, f"{title}: miss ratio by cache size"), tuple(rows))


_RARE_SHARE = 0.001


def _mix(fidelity: Fidelity) -> list[ShareRow]:
    """The classes by share; those below a thousandth on both sides are put together in a last row."""
    largest = max((max(m.original, m.clone) for m in fidelity.mix), default=0.0)
    shown = [m for m in fidelity.mix if max(m.original, m.clone) >= _RARE_SHARE]
    rare = [m for m in fidelity.mix if max(m.original, m.clone) < _RARE_SHARE]
    rest = [
        MixShare(
            name=f"{len(rare)} more",
            original=sum(m.original for m in rare),
            clone=sum(m.clone for m in rare),
            empty_body=sum(m.empty_body or 0.0 for m in rare) if rare[0].empty_body is not None else None,
        )
    ] if rare else []  # fmt: skip
    return [
        share_row(m.name, m.name, m.original, m.clone, m.empty_body, largest)
        for m in [*sorted(shown, key=lambda m: (-m.original, m.name)), *rest]
    ]


def _conditions(fidelity: Fidelity) -> list[tuple[str, str]]:
    c = fidelity.conditions
    requests = f"{c.requests:,}".replace(",", NARROW) if c.requests else "as many as the client makes in its own time"
    each = f", about {c.seconds:g} s" if c.requests else ""
    turns = f"; all sides stand at once, and the {c.parts} parts of a run take turns" if c.together else ""
    return [
        ("Load", c.load),
        ("Connections", str(c.connections)),
        ("Timed runs", f"{c.rounds} rounds, each run on a newly started server{each}{turns}"),
        ("Requests a run", requests),
        ("Requests counted by", c.counted),
        ("Order", f"{c.order} (A original, B clone, C clone with an empty body)"),
    ]


def _machine(facts: MachineFacts) -> list[tuple[str, str]]:
    caches = ", ".join(f"L{c.level} {c.kind} {size_text(c.size_bytes)}" for c in facts.caches)
    rows = [
        ("Processor", facts.cpu_model or facts.cpu_family),
        ("Processors used", f"{facts.cpus} of {facts.cpus_online}" if facts.cpus else ""),
        ("Caches", caches),
        ("Memory", size_text(facts.memory_bytes) if facts.memory_bytes else ""),
        ("Transparent huge pages", facts.thp),
        ("Kernel", facts.kernel),
        ("Distribution", facts.distribution),
        ("Frequency governor", facts.governor),
        ("Virtual machine", facts.hypervisor or "no"),
        ("Hardware counters", "yes" if facts.hardware_counters else "none on this machine"),
        ("Mitigations", ", ".join(sorted(facts.mitigations))),
        ("Ditto", facts.ditto),
    ]
    return [(name, value) for name, value in rows if value]


def _machine_line(facts: MachineFacts) -> str:
    cpus = f"{facts.cpus} CPUs" if facts.cpus else ""
    parts = [facts.cpu_model, cpus, f"Linux {facts.kernel}" if facts.kernel else ""]
    return ", ".join(part for part in parts if part)


BODIES = {
    "counted": "measured (lens)",
    "sampled": "modelled from samples of the CPU clock",
    "empty": "for nothing is known of the body",
}
"""How blocks are known."""


def _profile(profile: Profile | None) -> list[tuple[str, str]]:
    if profile is None:
        return []
    rows = [("Seed", str(profile.seed)), ("Services", str(len(profile.services)))]
    for service in profile.services:
        parts = f"{len(service.classes)} request classes, {len(service.roles)} thread roles"
        blocks = f"{len(service.blocks)} compute blocks, {BODIES[service.body]}"
        rows.append((service.name, f"codec {service.codec}, {parts}, {blocks}"))
    return rows


def _notes(observation: Observation | None) -> list[str]:
    if observation is None:
        return []
    native = observation.native
    first = f"Native recording ({native.collector}): {native.records:,} records, {native.lost:,} lost."
    return [first, *observation.notes]


def _hows(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(record.how, []).append(record.metric)
    return list(found.items())
