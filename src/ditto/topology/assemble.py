"""The tables of the queries → the graph."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from ditto.artifacts import graph as g
from ditto.topology.engine import Engine
from ditto.topology.latency import latencies
from ditto.topology.names import Names
from ditto.topology.passes import Edge
from ditto.topology.rows import UNKNOWN_SERVICE, Lost

# Edges that run beside each other in at least this share of the requests that make both are a parallel group.
_TOGETHER = 0.5


@dataclass(frozen=True)
class _Requests:
    """What is known of the requests of an endpoint."""

    requests: int
    failed: int
    request_bytes: float | None
    response_bytes: float | None


def assemble(engine: Engine, names: Names, edges: list[Edge], lost: Lost, broken_files: int) -> g.Graph:
    """Put the graph together; services by name, edges by caller, endpoint and order."""
    asked = _requests(engine)
    made = _sums(engine, "edge", "call", "request", "response", "failed")
    _count_targets(asked, edges, made, names)
    given = _queue_edges(engine, asked)
    spans_of_endpoint = latencies(engine, "endpoint", "entry")
    spans_of_edge = latencies(engine, "edge", "call")
    steps = _branch_steps(engine)
    shares = _branch_requests(engine)
    groups = _parallel(engine, steps, shares)
    use = {
        int(edge): (int(owners), float(places) / float(units))
        for edge, owners, places, units in engine.rows("SELECT edge, owners, places, units FROM edge_use")
    }
    orders = _orders(edges, use)

    def ends(endpoint: int) -> tuple[str, str]:
        service, name = names.endpoints[endpoint]
        return names.services[service][0], name

    listed: list[tuple[int | None, g.Edge]] = []
    for number, edge in enumerate(edges):
        (caller, endpoint), (to, target) = ends(edge.endpoint), ends(edge.target)
        requests = max(1, asked[edge.endpoint].requests)
        owners = use[number][0]
        listed.append((number, g.Edge(
            caller=caller, to=to, endpoint=endpoint, target=target,
            kind=g.EdgeKind.ASYNC if edge.later else g.EdgeKind.CALL, calls=edge.calls,
            calls_per_request=_round(edge.calls / requests), probability=min(1.0, _round(owners / requests)),
            repeats=_round(edge.calls / owners), order=orders[number], parallel_group=groups.get(number),
            errors=made[number].failed, latency=spans_of_edge.get(number),
            request_bytes=made[number].request_bytes, response_bytes=made[number].response_bytes,
        )))  # fmt: skip
    for place, (queue, endpoint_number, calls, failed) in enumerate(given):
        (caller, endpoint), (to, target) = ends(queue), ends(endpoint_number)
        share = calls / max(1, asked[queue].requests)
        listed.append((None, g.Edge(
            caller=caller, to=to, endpoint=endpoint, target=target, kind=g.EdgeKind.ASYNC, calls=calls,
            calls_per_request=_round(share), probability=min(1.0, _round(share)), repeats=max(1.0, _round(share)),
            order=place, errors=failed,
        )))  # fmt: skip
    listed.sort(
        key=lambda item: (item[1].caller, item[1].endpoint, item[1].order, item[1].to, item[1].target, item[1].kind)
    )
    place_of = {number: place for place, (number, _) in enumerate(listed) if number is not None}
    branches = _branches(engine, steps, shares, asked, place_of)
    used = {e for edge in edges for e in (edge.endpoint, edge.target)} | set(asked)
    used |= {e for queue, endpoint_number, _, _ in given for e in (queue, endpoint_number)}
    services = _services(names, used, asked, spans_of_endpoint, branches)
    return g.Graph(
        services=services, edges=[edge for _, edge in listed], **_totals(engine, names, edges, lost, broken_files)
    )


def _round(value: float) -> float:
    return float(f"{value:.9g}")


def _mean(value: Any) -> float | None:
    return None if value is None else _round(float(value))


def _sums(engine: Engine, key: str, source: str, request: str, response: str, failed: str) -> dict[int, _Requests]:
    return {
        int(number): _Requests(int(count), int(wrong), _mean(sent), _mean(received))
        for number, count, wrong, sent, received in engine.rows(
            f"SELECT {key}, COUNT(*), SUM({failed}), AVG({request}), AVG({response}) FROM {source} GROUP BY {key}"
        )
    }


def _requests(engine: Engine) -> dict[int, _Requests]:
    return _sums(engine, "endpoint", "entry", "request", "response", "flags % 2")


def _count_targets(asked: dict[int, _Requests], edges: list[Edge], made: dict[int, _Requests], names: Names) -> None:
    """Endpoints that only their callers show have as many requests as calls."""
    seen: dict[int, list[_Requests]] = defaultdict(list)
    for number, edge in enumerate(edges):
        if edge.target not in asked:
            seen[edge.target].append(made[number])
    for target, calls in seen.items():
        asked[target] = _Requests(
            sum(c.requests for c in calls), sum(c.failed for c in calls),
            _weighted([(c.request_bytes, c.requests) for c in calls]),
            _weighted([(c.response_bytes, c.requests) for c in calls]),
        )  # fmt: skip


def _weighted(values: list[tuple[float | None, int]]) -> float | None:
    told = [(value, weight) for value, weight in values if value is not None]
    return _round(sum(v * w for v, w in told) / sum(w for _, w in told)) if told else None


def _queue_edges(engine: Engine, asked: dict[int, _Requests]) -> list[tuple[int, int, int, int]]:
    """Queue endpoint, consuming endpoint, messages, failures.  Messages sent in no file count as requests."""
    for queue, missing in engine.rows("SELECT queue, COUNT(*) FROM taken WHERE given = 0 GROUP BY queue"):
        before = asked.get(int(queue), _Requests(0, 0, None, None))
        asked[int(queue)] = _Requests(
            before.requests + int(missing), before.failed, before.request_bytes, before.response_bytes
        )
    return [
        (int(a), int(b), int(c), int(d))
        for a, b, c, d in engine.rows(
            "SELECT queue, endpoint, COUNT(*), SUM(failed) FROM taken GROUP BY queue, endpoint ORDER BY queue, endpoint"
        )
    ]


Steps = dict[tuple[int, int], dict[int, list[tuple[int, int, int]]]]


def _branch_steps(engine: Engine) -> Steps:
    """By endpoint and branch, by step: edge, rounds and calls, summed over the branch's requests."""
    found: Steps = defaultdict(lambda: defaultdict(list))
    for endpoint, place, step, edge, rounds, wide in engine.rows(
        "SELECT endpoint, place, step, edge, rounds, wide FROM branch_call ORDER BY endpoint, place, step, edge"
    ):
        found[int(endpoint), int(place)][int(step)].append((int(edge), int(rounds), int(wide)))
    return found


def _branch_requests(engine: Engine) -> dict[tuple[int, int], int]:
    return {
        (int(endpoint), int(place)): int(requests)
        for endpoint, place, requests in engine.rows("SELECT endpoint, place, requests FROM branch")
    }


def _parallel(engine: Engine, steps: Steps, shares: dict[tuple[int, int], int]) -> dict[int, int]:
    """Edge → its parallel group's number within its endpoint."""
    uses: dict[int, int] = defaultdict(int)
    pairs: dict[tuple[int, int], int] = defaultdict(int)
    endpoint_of: dict[int, int] = {}
    for (endpoint, place), by_step in steps.items():
        requests = shares[endpoint, place]
        seen: set[int] = set()
        for calls in by_step.values():
            numbers = [edge for edge, _, _ in calls]
            for edge in numbers:
                endpoint_of[edge] = endpoint
                seen.add(edge)
            # Neighbours are enough to join all of a step; every pair would be too many.
            for first, second in itertools.pairwise(numbers):
                pairs[first, second] += requests
        for edge in seen:
            uses[edge] += requests
    head: dict[int, int] = {}

    def root(edge: int) -> int:
        while head.get(edge, edge) != edge:
            edge = head[edge]
        return edge

    joined: set[int] = set()
    for (first, second), requests in pairs.items():
        if requests >= _TOGETHER * min(uses[first], uses[second]):
            joined |= {first, second}
            head[root(second)] = root(first)
    for edge, calls, beside in engine.rows("SELECT edge, calls, beside_itself FROM edge_use"):
        if beside >= _TOGETHER * calls:
            joined.add(int(edge))
            endpoint_of.setdefault(int(edge), -1)
    numbers_of: dict[int, dict[int, int]] = defaultdict(dict)
    groups = {}
    for edge in sorted(joined):
        known = numbers_of[endpoint_of[edge]]
        groups[edge] = known.setdefault(root(edge), len(known))
    return groups


def _orders(edges: list[Edge], use: dict[int, tuple[int, float]]) -> dict[int, int]:
    """Each edge's place among those of its endpoint; edges of the same step, on average, share theirs."""
    by_endpoint: dict[int, list[int]] = defaultdict(list)
    for number, edge in enumerate(edges):
        by_endpoint[edge.endpoint].append(number)
    orders = {}
    for numbers in by_endpoint.values():
        means = sorted({use[number][1] for number in numbers})
        for number in numbers:
            orders[number] = means.index(use[number][1])
    return orders


def _branches(
    engine: Engine,
    steps: Steps,
    shares: dict[tuple[int, int], int],
    asked: dict[int, _Requests],
    place_of: dict[int, int],
) -> dict[int, tuple[list[g.Branch], float]]:
    """By endpoint: the listed branches, that of requests which call nothing included, and the share of the others."""
    found: dict[int, list[g.Branch]] = defaultdict(list)
    for (endpoint, place), requests in sorted(shares.items()):
        made = []
        for _, calls in sorted(steps[endpoint, place].items()):
            rounds = max(r for _, r, _ in calls)
            step_calls = [
                g.StepCall(edge=place_of[edge], count=_round(wide / max(1, r))) for edge, r, wide in calls[:4096]
            ]
            made.append(g.Step(rounds=_round(rounds / requests), calls=step_calls))
        found[endpoint].append(_branch(requests, asked[endpoint].requests, made))
    result = {}
    for number, calling in engine.rows("SELECT endpoint, COUNT(*) FROM course GROUP BY endpoint"):
        endpoint, requests = int(number), asked[int(number)].requests
        branches = found[endpoint]
        other = (int(calling) - sum(branch.requests for branch in branches)) / max(1, requests)
        if requests > int(calling):
            branches.append(_branch(requests - int(calling), requests, []))
            branches.sort(key=lambda branch: -branch.requests)
        result[endpoint] = (branches, min(1.0, max(0.0, _round(other))))
    return result


def _branch(requests: int, of: int, steps: list[g.Step]) -> g.Branch:
    return g.Branch(probability=min(1.0, _round(requests / max(1, of))), requests=requests, steps=steps)


def _services(
    names: Names,
    used: set[int],
    asked: dict[int, _Requests],
    spans: dict[int, g.Latency],
    branches: dict[int, tuple[list[g.Branch], float]],
) -> list[g.Service]:
    by_service: dict[int, list[g.Endpoint]] = defaultdict(list)
    for number in used:
        service, name = names.endpoints[number]
        known = asked.get(number, _Requests(0, 0, None, None))
        listed, other = branches.get(number, ([], 0.0))
        by_service[service].append(
            g.Endpoint(
                name=name, requests=known.requests, errors=known.failed, latency=spans.get(number),
                request_bytes=known.request_bytes, response_bytes=known.response_bytes,
                branches=listed, other_branches=other,
            )
        )  # fmt: skip
    services = []
    for number, (name, kind, observed) in enumerate(names.services):
        endpoints = sorted(by_service.get(number, []), key=lambda e: e.name)
        if not endpoints and not observed:
            # Named by clients whose calls the called side shows under its own name.
            continue
        services.append(g.Service(name=name, kind=kind, observed=observed, endpoints=endpoints))
    return sorted(services, key=lambda s: s.name)


def _totals(engine: Engine, names: Names, edges: list[Edge], lost: Lost, broken_files: int) -> dict[str, Any]:
    """The counts of the whole graph."""
    spans, traces, orphans, untimed, first, last = engine.rows(
        "SELECT COUNT(*), COUNT(DISTINCT trace), COALESCE(SUM(orphan), 0), COALESCE(SUM(untimed), 0),"
        " MIN(CASE WHEN start > 0 THEN start END), MAX(CASE WHEN start > 0 THEN start END) FROM rel"
    )[0]
    copies = engine.rows("SELECT COUNT(*) FROM copies")[0][0]
    cyclic = engine.rows("SELECT COUNT(*) FROM cyclic")[0][0]
    moved = engine.rows("SELECT COUNT(*) FROM skew")[0][0]
    complete = engine.rows(
        "SELECT COUNT(*) FROM (SELECT trace FROM rel GROUP BY trace"
        " HAVING SUM(CASE WHEN up IS NULL THEN 1 ELSE 0 END) = 1 AND SUM(orphan) = 0) x"
    )[0][0]
    loose = engine.rows(
        "SELECT COUNT(*) FROM rel r JOIN (SELECT DISTINCT trace FROM rel WHERE orphan = 1) t ON t.trace = r.trace"
    )[0][0]
    nameless = {n for n, (name, _, seen) in enumerate(names.services) if not seen and name.startswith(UNKNOWN_SERVICE)}
    no_peer = sum(edge.calls for edge in edges if names.endpoints[edge.target][0] in nameless)
    read = int(spans) + lost.no_id + lost.wrong_types
    return {
        "traces": int(traces),
        "spans": int(spans),
        "seconds": round((int(last or 0) - int(first or 0)) / 1e9, 6),
        "complete_traces": int(complete),
        "coverage": _round((int(spans) - int(loose)) / read) if read else 0.0,
        "repaired": g.Repaired(
            clock_skew=int(moved), missing_parents=int(orphans), cycles=int(cyclic), no_time=int(untimed),
            negative_durations=lost.negative_durations, no_service=lost.no_service, no_peer=no_peer,
            long_names=lost.long_names,
            other_endpoints=names.folded,
        ),
        "dropped": g.Dropped(
            duplicates=int(copies), no_id=lost.no_id, wrong_types=lost.wrong_types,
            broken_documents=lost.broken_documents, broken_files=broken_files,
        ),
    }  # fmt: skip
