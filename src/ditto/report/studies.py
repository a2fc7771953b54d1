"""What the section on studies shows, worked out beforehand: plots and rows of texts, one view a study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ditto.artifacts.study import BOUND_POINTS, Setting, Study, StudyRecord
from ditto.artifacts.study_kind import StudyKind
from ditto.artifacts.verdict import Verdict
from ditto.report import study_plots
from ditto.report.study_plots import Place
from ditto.report.text import MINUS, NARROW, NONE, figure

_TITLES = {
    StudyKind.INTERFERENCE: "A busy neighbour",
    StudyKind.CORES: "Less CPU time",
    StudyKind.MEMORY: "Less memory",
    StudyKind.LOAD: "Another load",
    StudyKind.CONNECTIONS: "More connections",
    StudyKind.TIERS: "Less CPU time for one tier",
}
_LABELS = {
    "throughput": "Requests answered",
    "cpu": "CPU time per request",
    "served": "Runs in which the server lived to the end",
    "memory.held": "Memory held at most",
    "processes": "Processes",
    "threads": "Threads",
}
_LOOPS = {"closed": "closed loop", "paced": "at a rate"}
_UNPLOTTED = ("p95",)
_TIMES_FROM = 10.0


@dataclass(frozen=True)
class StudyRow:
    """One setting of one metric, as texts."""

    setting: str
    bars: Markup
    original: str
    clone: str
    original_change: str
    clone_change: str
    error: str
    noise: str
    verdict: str
    css: str


@dataclass(frozen=True)
class MetricRows:
    """The rows of one metric."""

    label: str
    metric: str
    unit: str
    rows: tuple[StudyRow, ...]


@dataclass(frozen=True)
class StudyView:
    """One study.

    Attributes:
        plots: pairs of title and plot.
        judged: the metrics that the verdict is on; ``rest`` are the others.
    """

    kind: str
    title: str
    sentence: str
    outside: str
    plots: tuple[tuple[str, Markup], ...]
    judged: tuple[MetricRows, ...]
    rest: tuple[MetricRows, ...]
    conditions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    hows: tuple[tuple[str, str], ...]


def view_of(study: Study) -> StudyView:
    """The view of a study."""
    groups = {metric: _rows(study, metric) for metric in study.metrics}
    judged = [metric for metric in study.metrics if any(record.judged for record in study.of_metric(metric))]
    return StudyView(
        kind=study.kind,
        title=_TITLES[study.kind],
        sentence=_sentence(study),
        outside=_outside(study),
        plots=tuple(_plots(study)),
        judged=tuple(groups[metric] for metric in judged),
        rest=tuple(rows for metric, rows in groups.items() if metric not in judged),
        conditions=tuple(_conditions(study)),
        notes=tuple(study.notes),
        hows=tuple((label_of(metric), study.of_metric(metric)[0].how) for metric in study.metrics),
    )


def label_of(metric: str) -> str:
    """What a metric is called."""
    parts = metric.split(".")
    if parts[0] == "latency" and len(parts) == 3:
        return f"Latency {parts[2]}, {_LOOPS.get(parts[1], parts[1])}"
    return _LABELS.get(metric, metric)


def _sentence(study: Study) -> str:
    verdicts = [record.verdict for record in study.records if record.judged]
    have = [verdict for verdict in verdicts if verdict is not Verdict.NOT_AVAILABLE]
    if not have:
        return "No change could be judged."
    close = sum(verdict is not Verdict.OUTSIDE for verdict in have)
    noisy = sum(record.too_noisy for record in study.records)
    rest = f", {noisy} of them with noise wider than that" if noisy else ""
    return (
        f"{close} of {len(have)} judged changes of the clone are within {BOUND_POINTS:g} points of the original's, "
        f"or within its own noise{rest}."
    )


def _outside(study: Study) -> str:
    texts = {setting.name: setting.text for setting in study.settings}
    found = [record for record in study.records if record.judged and record.verdict is Verdict.OUTSIDE]
    return "; ".join(
        f"{label_of(r.metric)}, {texts.get(r.setting, r.setting)}: {_points(r.error_points, True)} points"
        for r in found
    )


def _plots(study: Study) -> list[tuple[str, Markup]]:
    if not study.axis:
        return []
    ordered = sorted(study.settings, key=lambda s: (s.value is None, s.value or 0.0))
    made = []
    for metric in study.metrics:
        records = {record.setting: record for record in study.of_metric(metric)}
        if metric.endswith(_UNPLOTTED) or len(records) != len(study.settings):
            continue
        unit, divisor = _plot_unit(next(iter(records.values())).unit, records.values())
        positions = _positions(study, ordered)
        labels = study_plots.spread([_axis_label(study, setting) for setting in ordered], positions)
        places = [
            Place(
                at,
                label,
                [value / divisor for value in records[setting.name].samples.original],
                [value / divisor for value in records[setting.name].samples.clone],
            )
            for setting, at, label in zip(ordered, positions, labels, strict=True)
        ]
        title = f"{label_of(metric)}, {unit}"
        plot = study_plots.curves(places, study.axis, title, _tick)
        if plot:
            made.append((title, plot))
    return made


def _tick(value: float) -> str:
    """A round value without digits that say nothing."""
    return f"{value:,.6g}".replace(",", NARROW)


def _plot_unit(unit: str, records: Iterable[StudyRecord]) -> tuple[str, float]:
    """A unit in which the numbers beside an axis stay short, and how many of the first make one of it."""
    largest = max([0.0, *(v for r in records for v in (*r.samples.original, *r.samples.clone))])
    larger = {"ns": ("\N{MICRO SIGN}s", 1e3), "us": ("ms", 1e3), "requests/s": ("thousand requests/s", 1e3)}
    if unit == "bytes":
        return "MiB", float(1 << 20)
    if unit in larger and largest >= 1e4:
        return larger[unit]
    return ("\N{MICRO SIGN}s" if unit == "us" else unit), 1.0


def _positions(study: Study, ordered: Sequence[Setting]) -> list[float]:
    """Rates where they are; cores and shares of memory, which are steps of a factor, side by side."""
    values = [setting.value for setting in ordered]
    known = [value for value in values if value is not None]
    if study.kind is StudyKind.LOAD and len(known) == len(values) and max(known) > min(known):
        # From 0, so that the distance of the first from none is seen.
        return [value / max(known) for value in known]
    return [0.03 + 0.94 * number / max(1, len(values) - 1) for number in range(len(values))]


def _axis_label(study: Study, setting: Setting) -> str:
    if setting.value is None:
        return setting.text
    return f"{figure(setting.value / 1000, 3)}k" if study.kind is StudyKind.LOAD else f"{setting.value:g}"


def _rows(study: Study, metric: str) -> MetricRows:
    texts = {setting.name: setting.text for setting in study.settings}
    unchanged = {setting.name for setting in study.settings if setting.unchanged}
    records = study.of_metric(metric)
    factors = [1.0 + c for r in records for c in (r.original_change, r.clone_change) if c is not None]
    largest = max([1.0, *factors])
    unit = records[0].unit
    label = label_of(metric)
    return MetricRows(
        label,
        metric,
        "\N{MICRO SIGN}s" if unit == "us" else unit,
        tuple(_row(r, texts.get(r.setting, r.setting), r.setting in unchanged, largest, label) for r in records),
    )


def _row(record: StudyRecord, text: str, unchanged: bool, largest: float, label: str) -> StudyRow:
    first = 1.0 if unchanged else None if record.original_change is None else 1.0 + record.original_change
    second = 1.0 if unchanged else None if record.clone_change is None else 1.0 + record.clone_change
    outside = record.judged and record.verdict is Verdict.OUTSIDE
    good = record.judged and record.error_points is not None and not record.too_noisy
    return StudyRow(
        setting=text,
        bars=study_plots.bars(first, second, largest, f"{label}, {text}: over the unchanged run"),
        original=figure(record.original),
        clone=figure(record.clone),
        original_change="unchanged" if unchanged else _change(record.original_change),
        clone_change="unchanged" if unchanged else _change(record.clone_change),
        error=_points(record.error_points, signed=True),
        noise=_points(record.noise_points, signed=False),
        verdict=NONE if not record.judged else f"{record.verdict.value}{', noisy' if record.too_noisy else ''}",
        css="bad" if outside else "good" if good else "plain",
    )


def _change(value: float | None) -> str:
    """A change in percent; from tenfold on as a multiple."""
    if value is None:
        return NONE
    if value >= _TIMES_FROM:
        return f"\N{MULTIPLICATION SIGN}{NARROW}{figure(1.0 + value, 3)}"
    return f"{100 * value:+.1f}{NARROW}%".replace("-", MINUS)


def _points(value: float | None, signed: bool) -> str:
    if value is None:
        return NONE
    text = f"{value:+,.1f}" if signed else f"{value:,.1f}"
    return text.replace("-", MINUS).replace(",", NARROW)


def _conditions(study: Study) -> list[tuple[str, str]]:
    c = study.conditions
    turns = "both standing at once and in turn within each run" if c.together else "original and clone in turn"
    rows = [
        ("Requests of", c.load),
        ("Connections", str(c.connections)),
        ("Runs", f"{c.rounds} of each side under each setting, {c.seconds:g} s each, {turns}"),
        ("Placement", c.placement),
        ("When", study.when.replace("T", " ").replace("+00:00", " UTC")),
    ]
    return [(name, value) for name, value in rows if value]
