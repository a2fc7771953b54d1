"""What the page shows of a graph, as plain values: figures as text, places in pixels."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

from ditto.artifacts.graph import Branch, Edge, Endpoint, Graph, Service
from ditto.plot.layout import places

WIDTH, HEIGHT = 190, 46
COLUMN, ROW = 280, 62
MARGIN = 16
# With more services than this, the page begins with those near the entries.
MOST_AT_ONCE = 60
_LONGEST_LABEL = 23
_MOST_ENDPOINTS = 10
_MOST_BRANCHES = 4
_FEW_EDGES = 24


@dataclass(frozen=True)
class Line:
    """Calls from one service to another, all endpoints together."""

    number: int
    caller: int
    to: int
    label: str
    title: str
    width: float
    later: bool


@dataclass(frozen=True)
class Row:
    """One endpoint in a service's details."""

    name: str
    rate: str
    latency: str
    fan_out: str
    courses: list[tuple[str, list[str]]]


@dataclass
class Node:
    """One service."""

    number: int
    name: str
    label: str
    kind: str
    observed: bool
    layer: int
    order: int
    x: int
    y: int
    rate: str
    latency: str
    fan_out: str
    summary: str
    endpoints: list[Row] = field(default_factory=list)
    more: int = 0
    calls: list[tuple[int, str, str]] = field(default_factory=list)
    called_by: list[tuple[int, str, str]] = field(default_factory=list)


def nodes_of(graph: Graph) -> tuple[list[Node], list[Line]]:
    """Services with their places, and the calls between them."""
    number_of = {service.name: number for number, service in enumerate(graph.services)}
    joined: dict[tuple[int, int], list[Edge]] = defaultdict(list)
    by_endpoint: dict[tuple[str, str], int] = defaultdict(int)
    for edge in graph.edges:
        joined[number_of[edge.caller], number_of[edge.to]].append(edge)
        by_endpoint[edge.caller, edge.endpoint] += edge.calls
    where = places(len(graph.services), list(joined))
    nodes = [
        _node(graph, number, service, where[number].layer, where[number].order, by_endpoint)
        for number, service in enumerate(graph.services)
    ]
    lines: list[Line] = []
    most = max((sum(e.calls for e in edges) for edges in joined.values()), default=1)
    for (caller, to), edges in sorted(joined.items()):
        calls = sum(edge.calls for edge in edges)
        requests = max(1, sum(e.requests for e in graph.services[caller].endpoints))
        rate = rate_text(calls, graph.seconds, "call")
        share = f"{calls / requests:.3g} a request"
        middle = _middle(edges)
        title = f"{nodes[caller].name} → {nodes[to].name}: {rate}, {share}{', ' + middle if middle else ''}"
        lines.append(
            Line(
                len(lines), caller, to, rate if len(joined) <= _FEW_EDGES else "", title,
                1.0 + 3.0 * math.log1p(calls) / math.log1p(most), all(e.kind == "async" for e in edges),
            )
        )  # fmt: skip
        told = f"{rate}, {share}{', ' + middle if middle else ''}"
        nodes[caller].calls.append((to, nodes[to].name, told))
        nodes[to].called_by.append((caller, nodes[caller].name, told))
    return nodes, lines


def _node(
    graph: Graph, number: int, service: Service, layer: int, order: int, calls: dict[tuple[str, str], int]
) -> Node:
    requests = sum(endpoint.requests for endpoint in service.endpoints)
    made = sum(calls[service.name, endpoint.name] for endpoint in service.endpoints)
    timed = [e for e in service.endpoints if e.latency is not None]
    largest = max(timed, key=lambda e: e.requests, default=None)
    latency = duration_text(largest.latency.p50_us) if largest is not None and largest.latency is not None else ""
    rate = rate_text(requests, graph.seconds, "request")
    fan_out = f"{made / requests:.3g}" if requests and made else ""
    kind = service.kind.value if service.observed or service.kind != "service" else "external"
    summary = " · ".join(filter(None, (rate, latency and f"p50 {latency}", fan_out and f"{fan_out} calls each")))
    ranked = sorted(service.endpoints, key=lambda e: (-e.requests, e.name))
    rows = [_row(graph, service, endpoint, calls) for endpoint in ranked[:_MOST_ENDPOINTS]]
    return Node(
        number=number, name=service.name, label=_short(service.name, _LONGEST_LABEL), kind=kind,
        observed=service.observed, layer=layer, order=order, x=MARGIN + layer * COLUMN, y=MARGIN + order * ROW,
        rate=rate, latency=latency, fan_out=fan_out, summary=summary, endpoints=rows, more=len(ranked) - len(rows),
    )  # fmt: skip


def _row(graph: Graph, service: Service, endpoint: Endpoint, calls: dict[tuple[str, str], int]) -> Row:
    latency = ""
    if endpoint.latency is not None:
        latency = " / ".join(
            duration_text(value)
            for value in (endpoint.latency.p50_us, endpoint.latency.p95_us, endpoint.latency.p99_us)
        )
    made = calls[service.name, endpoint.name]
    return Row(
        name=endpoint.name,
        rate=rate_text(endpoint.requests, graph.seconds, "request"),
        latency=latency,
        fan_out=f"{made / endpoint.requests:.3g}" if endpoint.requests and made else "",
        courses=[
            (f"{branch.probability:.1%}", _course(graph, branch)) for branch in endpoint.branches[:_MOST_BRANCHES]
        ],
    )


def _course(graph: Graph, branch: Branch) -> list[str]:
    """The steps of a branch, each as a line."""
    steps = [] if branch.steps else ["no calls"]
    for step in branch.steps[:12]:
        calls = []
        for call in step.calls[:6]:
            edge = graph.edges[call.edge]
            times = f" {call.count:.3g} times" if call.count > 1.005 else ""
            calls.append(f"{_short(edge.to, 30)} {_short(edge.target, 40)}{times}")
        if len(step.calls) > 6:
            calls.append(f"and {len(step.calls) - 6} more")
        rounds = f" ({step.rounds:.3g} rounds)" if step.rounds > 1.005 else ""
        steps.append(" beside ".join(calls) + rounds)
    if len(branch.steps) > 12:
        steps.append(f"and {len(branch.steps) - 12} more steps")
    return steps


def _middle(edges: list[Edge]) -> str:
    timed = [edge for edge in edges if edge.latency is not None]
    if not timed:
        return ""
    most = max(timed, key=lambda edge: edge.calls)
    return f"p50 {duration_text(most.latency.p50_us)}" if most.latency is not None else ""


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def duration_text(us: float) -> str:
    """A duration in microseconds with the unit that suits it."""
    for limit, unit, scale in ((1000.0, "µs", 1.0), (1e6, "ms", 1e3), (float("inf"), "s", 1e6)):
        if us < limit:
            return f"{us / scale:.3g} {unit}"
    raise AssertionError("unreachable")


def rate_text(count: int, seconds: float, what: str) -> str:
    """How often: a rate where the traces span some time and many requests, else the number."""
    if seconds >= 1.0 and count >= 20 and count >= 0.1 * seconds:
        rate = count / seconds
        return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def path_of(caller: Node, to: Node) -> str:
    """The curve from one box to another."""
    x1, y1 = caller.x + WIDTH, caller.y + HEIGHT / 2
    x2, y2 = to.x, to.y + HEIGHT / 2
    if caller is to:
        return f"M{x1} {y1 - 8}C{x1 + 40} {y1 - 34} {x1 + 40} {y1 + 34} {x1} {y1 + 8}"
    if x2 < x1:
        # Back to a layer before: along below the boxes.
        under = max(caller.y, to.y) + HEIGHT + 44
        middle, other = caller.x + WIDTH / 2, to.x + WIDTH / 2
        return f"M{middle} {caller.y + HEIGHT}C{middle} {under} {other} {under} {other} {to.y + HEIGHT}"
    bend = max(40.0, abs(x2 - x1) / 2)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
