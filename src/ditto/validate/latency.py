"""From load levels to records and curves of latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from ditto.artifacts.fidelity import Dropped, LatencyPoint, LatencySide, Samples
from ditto.artifacts.verdict import Bound
from ditto.host.loadgen import LATE_NS, percentile
from ditto.validate.compare import Figures, figure
from ditto.validate.levels import SATURATION, LevelRun
from ditto.validate.runs import Side, TimedRun

PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
BOUNDS: Mapping[float, Bound] = {
    50.0: Bound(relative=0.10, noise_multiple=2.0),
    95.0: Bound(relative=0.15, noise_multiple=2.0),
    99.0: Bound(relative=0.20, noise_multiple=2.0),
}
_CPU = Bound(relative=0.10, noise_multiple=2.0)


def latency_figures(runs: Sequence[TimedRun], seed: int, bounds: Mapping[float, Bound] = BOUNDS) -> Figures:
    """Records of p50, p95, p99 and of CPU per request at every level, in the order of the levels."""
    total = Figures()
    for share in _shares(runs):
        total += _figures_at(runs, share, seed, bounds)
    return total


def _figures_at(runs: Sequence[TimedRun], share: float, seed: int, bounds: Mapping[float, Bound]) -> Figures:
    total = Figures()
    load, suffix = _named(share)
    for percent, bound in bounds.items():
        total += figure(
            f"latency.p{percent:g}_at_{suffix}", "µs", "latency",
            _samples(runs, share, lambda level, p=percent: percentile(level.measured.corrected, p) / 1e3),  # type: ignore[misc]
            f"measured: {load}; from the time a request was meant to be sent to the end of its reply",
            bound, seed=seed,
        )  # fmt: skip
    if share != SATURATION:
        total += figure(
            f"cpu.ns_per_request_at_{suffix}", "ns", "cpu",
            _samples(runs, share, lambda level: level.usage.run_s * 1e9 / max(1.0, level.requests)),
            f"measured: {load}; the scheduler's run time of all server threads over the requests", _CPU, seed=seed,
        )  # fmt: skip
    return total


def _named(share: float) -> tuple[str, str]:
    if share == SATURATION:
        return "the load generator's closed loop, as many connections as the app's load has", "saturation"
    return f"Poisson arrivals at {share:.0%} of the original's saturation, the recorded requests", f"{share * 100:.0f}"


def latency_points(runs: Sequence[TimedRun]) -> list[LatencyPoint]:
    """The latency of both sides at every level: medians over the runs, least and most."""
    return [
        LatencyPoint(
            share=share,
            offered=_of(runs, "original", share)[0].rate,
            percents=list(PERCENTS),
            original=_side(_of(runs, "original", share)),
            clone=_side(_of(runs, "clone", share)),
        )
        for share in _shares(runs)
    ]


def _side(levels: Sequence[LevelRun]) -> LatencySide:
    columns = [[percentile(level.measured.corrected, p) for level in levels] for p in PERCENTS]
    return LatencySide(
        rate=median(level.measured.rate for level in levels),
        median_ns=[median(column) for column in columns],
        least_ns=[min(column) for column in columns],
        most_ns=[max(column) for column in columns],
    )


def latency_dropped(runs: Sequence[TimedRun]) -> list[Dropped]:
    """Requests without a proper answer on each side, and levels where the generator was the limit."""
    out = []
    sides: tuple[Side, ...] = ("original", "clone")
    for side in sides:
        levels = [level.measured for run in runs if run.side == side for level in run.levels]
        if not levels:
            continue
        unanswered = sum(m.unanswered + m.unsent for m in levels)
        out.append(Dropped(what=f"requests unanswered at the end of a load level ({side})", count=unanswered))
        out.append(Dropped(what=f"connections broken off in load levels ({side})", count=sum(m.broken for m in levels)))
        late = sum(m.late_p99_ns > LATE_NS for m in levels)
        out.append(Dropped(what=f"load levels in which the generator itself was late ({side})", count=late))
    return out


def _shares(runs: Sequence[TimedRun]) -> list[float]:
    return sorted({level.share for run in runs for level in run.levels})


def _of(runs: Sequence[TimedRun], side: Side, share: float) -> list[LevelRun]:
    return [level for run in runs if run.side == side for level in run.levels if level.share == share]


def _samples(runs: Sequence[TimedRun], share: float, value: Callable[[LevelRun], float]) -> Samples:
    return Samples(
        original=[value(level) for level in _of(runs, "original", share)],
        clone=[value(level) for level in _of(runs, "clone", share)],
    )
