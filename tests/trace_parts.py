"""Trace files for tests: where the real ones are, and small ones made in each format."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ditto.artifacts.graph import Graph
from ditto.host.progress import SilentProgress
from ditto.topology import graph_of_traces

TRACES = Path(__file__).parent / "data" / "traces"


def graph_of(*paths: Path) -> Graph:
    """The graph of some files."""
    return graph_of_traces(list(paths), SilentProgress(), memory_mb=500)


def calls_of(graph: Graph) -> dict[tuple[str, str], int]:
    """Calls from service to service, all endpoints together."""
    found: Counter[tuple[str, str]] = Counter()
    for edge in graph.edges:
        found[edge.caller, edge.to] += edge.calls
    return dict(found)


def zipkin(
    number: int, parent: int | None, service: str, name: str, kind: str | None, start: int, duration: int, **more: Any
) -> dict[str, Any]:
    """A span of Zipkin's format, of trace 1; times in microseconds."""
    span: dict[str, Any] = {
        "traceId": "1",
        "id": f"{number:x}",
        "name": name,
        "localEndpoint": {"serviceName": service},
    }
    if parent is not None:
        span["parentId"] = f"{parent:x}"
    if kind is not None:
        span["kind"] = kind
    return span | {"timestamp": 1_000_000 + start, "duration": duration} | more


def otlp(service: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    """An OTLP request of one service."""
    attribute = {"key": "service.name", "value": {"stringValue": service}}
    return {"resourceSpans": [{"resource": {"attributes": [attribute]}, "scopeSpans": [{"spans": spans}]}]}


def span(
    number: int, parent: int | None, name: str, kind: int, start: int, end: int, trace: int = 1, **more: Any
) -> dict[str, Any]:
    """A span of OTLP's JSON; times in microseconds."""
    made = {
        "traceId": f"{trace:032x}", "spanId": f"{number:016x}", "name": name, "kind": kind,
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "startTimeUnixNano": str((1_000_000 + start) * 1000), "endTimeUnixNano": str((1_000_000 + end) * 1000),
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in more.items() if k != "links"],
    }  # fmt: skip
    return made | ({"links": more["links"]} if "links" in more else {})


def write(path: Path, value: object) -> Path:
    """Write JSON."""
    path.write_text(json.dumps(value), encoding="utf-8")
    return path
