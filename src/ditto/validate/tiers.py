"""What is compared of an application's clone beyond its entry: CPU and memory of each tier, and calls between tiers.

All are per request of the entry, so that what a tier does and how often it is called both count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ditto.artifacts.fidelity import Samples
from ditto.artifacts.graph import Graph
from ditto.artifacts.verdict import Bound
from ditto.validate.compare import Figures, figure, missing
from ditto.validate.runs import Side, TimedRun

TIER_CPU = Bound(relative=0.15)
CALLS = Bound(relative=0.03, absolute=0.01)
RARE = 0.01
"""Calls per request below which an edge's error is absolute."""
PERCENTILES = {
    50.0: Bound(relative=0.15, noise_multiple=2.0),
    95.0: Bound(relative=0.25, noise_multiple=2.0),
    99.0: Bound(relative=0.25, noise_multiple=2.0),
}
"""Asked of an application's latency."""
THROUGHPUT = Bound(relative=0.15)
SHARES = (0.3, 0.6)
"""Of the original's saturation, at which latency is compared."""


@dataclass(frozen=True)
class Tiers:
    """What validating an application's clone takes beside its runs.

    Attributes:
        names: the tier of each service, the entry first.
        graphs: of both sides' calls, one of each recording; empty where calls could not be recorded.
        why: of that.
    """

    names: Mapping[str, str]
    graphs: Mapping[Side, Sequence[Graph]]
    why: str = ""


def tier_figures(runs: Sequence[TimedRun], tiers: Tiers, seed: int) -> Figures:
    """CPU time per request and resident memory of each tier."""
    total = Figures()
    for service, tier in tiers.names.items():
        total += figure(
            f"tier.{tier}.cpu.per_request", "ns", "tiers",
            _samples(runs, service, lambda run, name: run.tiers[name].run_s * 1e9 / run.requests),
            "measured: the scheduler's run time of the tier's threads over the client's run, by requests of the entry",
            TIER_CPU, seed=seed,
        )  # fmt: skip
    for service, tier in tiers.names.items():
        total += figure(
            f"tier.{tier}.memory.resident_bytes", "bytes", "tiers",
            _samples(runs, service, lambda run, name: float(run.tiers[name].resident_bytes)),
            "measured: resident pages of the tier's processes at the end of the client's run", seed=seed,
        )  # fmt: skip
    return total


def _samples(runs: Sequence[TimedRun], service: str, value: Callable[[TimedRun, str], float]) -> Samples:
    def of(side: Side) -> list[float]:
        return [value(run, service) for run in runs if run.side == side and service in run.tiers]

    return Samples(original=of("original"), clone=of("clone"))


def edge_figures(tiers: Tiers, seed: int) -> Figures:
    """Calls of each edge per request of the entry."""
    entry = next(iter(tiers.names))
    counted: dict[Side, list[dict[tuple[str, str], float]]] = {
        side: [calls_per_request(graph, entry) for graph in tiers.graphs.get(side, ())] for side in SIDES
    }
    if not all(counted.values()):
        return missing("edges.calls_per_request", "calls", "edges", tiers.why or "calls were not recorded", CALLS)
    total = Figures()
    mean: dict[tuple[str, str], float] = defaultdict(float)
    for run in counted["original"] + counted["clone"]:
        for edge, calls in run.items():
            mean[edge] += calls
    for edge in sorted(mean, key=lambda edge: (-mean[edge], edge)):
        caller, called = (tiers.names.get(name, "outside") for name in edge)
        samples = {side: [run.get(edge, 0.0) for run in runs] for side, runs in counted.items()}
        total += figure(
            f"edge.{caller}.{called}.calls_per_request", "calls", "edges",
            Samples(original=samples["original"], clone=samples["clone"]),
            "measured: calls found in a recording of all tiers, by requests of the entry", CALLS, RARE, seed,
        )  # fmt: skip
    return total


SIDES: tuple[Side, ...] = ("original", "clone")


def calls_per_request(graph: Graph, entry: str) -> dict[tuple[str, str], float]:
    """Calls between services, by caller and called, per request of the entry."""
    requests = sum(e.requests for service in graph.services if service.name == entry for e in service.endpoints)
    calls: dict[tuple[str, str], float] = defaultdict(float)
    for edge in graph.edges:
        calls[edge.caller, edge.to] += edge.calls / max(1, requests)
    return dict(calls)
