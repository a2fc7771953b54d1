"""From the figures of the runs to records: medians, changes, errors and noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ditto.artifacts.study import Setting, StudyRecord, StudySamples, verdict_of
from ditto.artifacts.study_kind import StudyKind
from ditto.study.runs import CPU, HELD, PACED_SHARE, PROCESSES, SERVED, THREADS, THROUGHPUT, Readings, Side
from ditto.study.statistics import change_of, noise_of

_UNITS = {
    THROUGHPUT: "requests/s",
    CPU: "ns",
    SERVED: "of the runs",
    HELD: "bytes",
    PROCESSES: "processes",
    THREADS: "threads",
}
_JUDGED = (THROUGHPUT, CPU, PROCESSES, THREADS)
_TIERS_LATENCY = "latency.closed.p50"
_FACTORS = (StudyKind.CONNECTIONS, StudyKind.TIERS)
"""Kinds whose errors are quotients."""


class Collected:
    """The figures of all runs, by setting, metric and side."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, Side], list[float]] = {}
        self.metrics: dict[str, None] = {}

    def add(self, setting: str, side: Side, found: Readings) -> None:
        """Keep the figures of one run."""
        for metric, value in found.items():
            self.metrics.setdefault(metric)
            self._values.setdefault((setting, metric, side), []).append(value)

    def of(self, setting: str, metric: str, side: Side) -> list[float]:
        """The figures of one side in the order of the runs; fewer where some gave none."""
        return self._values.get((setting, metric, side), [])


def records_of(
    kind: StudyKind, settings: Sequence[Setting], collected: Collected, seconds: float, rounds: int
) -> list[StudyRecord]:
    """The records, metric by metric."""
    base = next(setting.name for setting in settings if setting.unchanged)
    return [
        _record(kind, setting, base, metric, collected, seconds, rounds)
        for metric in collected.metrics
        for setting in settings
    ]


def _record(
    kind: StudyKind, setting: Setting, base: str, metric: str, collected: Collected, seconds: float, rounds: int
) -> StudyRecord:
    original = collected.of(setting.name, metric, "original")
    clone = collected.of(setting.name, metric, "clone")
    first = clone_first = error = factor = noise = None
    if not setting.unchanged:
        unchanged = collected.of(base, metric, "original")
        first = change_of(original, unchanged)
        clone_first = change_of(clone, collected.of(base, metric, "clone"))
        if first is not None and clone_first is not None:
            error = 100.0 * (clone_first - first)
            factor = (1.0 + clone_first) / (1.0 + first) - 1.0 if first > -1.0 else None
            noise = noise_of(original, unchanged, f"{setting.name} {metric}")
    if kind in _FACTORS and first is not None and error is not None and first > -1.0:
        # Changes of many times: what counts is the quotient, in points of the original's own.
        error = 100.0 * factor if factor is not None else None
        noise = noise / (1.0 + first) if noise is not None else None
    judged = not setting.unchanged and (metric in _JUDGED or (kind is StudyKind.TIERS and metric == _TIERS_LATENCY))
    return StudyRecord(
        setting=setting.name,
        metric=metric,
        unit=_UNITS.get(metric, "us"),
        original=float(np.median(original)) if original else None,
        clone=float(np.median(clone)) if clone else None,
        original_change=first,
        clone_change=clone_first,
        error_points=error,
        error_factor=factor,
        noise_points=noise,
        judged=judged,
        verdict=verdict_of(error, noise, judged),
        how=_how(kind, metric, seconds, rounds),
        samples=StudySamples(original=original, clone=clone),
    )


def _how(kind: StudyKind, metric: str, seconds: float, rounds: int) -> str:
    runs = f"median of {rounds} runs of {seconds:g} s"
    if metric == SERVED:
        return "measured: runs in which the server lived to the end, of all runs"
    if metric == HELD:
        return "measured: the most that its control group held, what the kernel and the page cache hold for it included"
    if metric in (PROCESSES, THREADS):
        return f"measured: median of ten looks a second, a closed loop, {runs}"
    if kind is StudyKind.LOAD:
        what = "Poisson arrivals at the rate that is offered"
    elif metric.startswith("latency.paced."):
        what = f"Poisson arrivals at {PACED_SHARE * 100:g} % of what the original reaches unchanged"
    else:
        what = "a closed loop"
    if metric == CPU:
        return f"measured: CPU time of the server's processes over requests answered, {what}, {runs}"
    if metric == THROUGHPUT:
        return f"measured: requests answered, {what}, {runs}"
    return f"measured: from the time each request was meant to be sent, {what}, {runs}"
