"""``ditto topology``: the dependency graph, from trace files or from a recording of the app."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditto.cli.common import AsJson, show
from ditto.cli.progress import shown
from ditto.errors import BadInputError, CheckFailedError

if TYPE_CHECKING:
    from ditto.artifacts.graph_difference import GraphDifference

NAME = "topology"
EXAMPLE = "ditto topology traces/ -o graph.json --plot graph.html"

_MOST_LINES = 20
_WORTH_TELLING = 0.01


class Collector(StrEnum):
    """How system calls are recorded."""

    AUTO = "auto"
    EBPF = "ebpf"
    PTRACE = "ptrace"


def command(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The graph, as JSON.")],
    traces: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="TRACES...",
            help="Files or folders: OTLP (JSON or protobuf), Jaeger query-API JSON, Zipkin v2 JSON; gzip or zstd.",
        ),
    ] = None,
    observe: Annotated[
        Path | None,
        typer.Option("--observe", metavar="APP.toml", help="Without traces: run this app and record who calls whom."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, max=600, help="With --observe: how long to record at most.")
    ] = None,
    collector: Annotated[
        Collector, typer.Option("--collector", help="With --observe: what records system calls.")
    ] = Collector.AUTO,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="FOLDER", help="With --observe: keep the (private) recording here."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PAGE.html", help="Also draw it: one page that opens offline.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="GRAPH.json", help="Tell where another graph of this app differs."),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error",
            min=0.0,
            metavar="E",
            help="With --against: end with code 4 if services or edges differ, or calls per request by more than this.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recover who calls whom, in what order and how often: from distributed traces, or from the app itself."""
    if bool(traces) == (observe is not None):
        raise BadInputError("give either TRACES or --observe APP.toml", EXAMPLE)
    if max_error is not None and against is None:
        raise BadInputError("--max-error needs --against GRAPH.json", EXAMPLE)
    from ditto import pipeline
    from ditto.artifacts.graph import load_graph
    from ditto.artifacts.graph_difference import compare_graphs

    other = None if against is None else load_graph(against)
    with shown() as progress:
        if observe is not None:
            graph = pipeline.topology_of_app(observe, out, plot, seconds, collector.value, keep, progress)
        else:
            graph = pipeline.topology(traces or [], out, plot, progress)
    repaired = {name: count for name, count in graph.repaired.model_dump().items() if count}
    dropped = {name: count for name, count in graph.dropped.model_dump().items() if count}
    result = {
        "graph": str(out), "services": len(graph.services), "edges": len(graph.edges), "traces": graph.traces,
        "spans": graph.spans, "complete_traces": graph.complete_traces, "coverage": graph.coverage,
        "repaired": repaired, "dropped": dropped,
    }  # fmt: skip
    if plot is not None:
        result["plot"] = str(plot)
    seen = "traces" if observe is None else "requests to the entry"
    lines = [
        f"{len(graph.services)} services, {len(graph.edges)} edges from {graph.spans} spans of {graph.traces} {seen}",
        f"coverage {graph.coverage:.1%}: {graph.complete_traces} traces are complete",
    ]
    for title, counts in (("repaired", repaired), ("dropped", dropped)):
        if counts:
            lines.append(
                f"{title}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
            )
    lines.append(f"graph: {out}" + (f", page: {plot}" if plot is not None else ""))
    difference = None if other is None else compare_graphs(graph, other)
    if difference is not None:
        result["against"] = asdict(difference) | {"same_shape": difference.same_shape(), "worst": difference.worst}
        lines += _told(difference)
    show(result, as_json, "\n".join(lines))
    if max_error is not None and difference is not None:
        _check(difference, max_error)


def _told(difference: GraphDifference) -> list[str]:
    """A difference in lines: what only one graph has, then the edges whose calls per request differ most."""
    lines = []
    for where, services, edges in (
        ("only here", difference.services_only_in_one, difference.edges_only_in_one),
        ("only there", difference.services_only_in_other, difference.edges_only_in_other),
    ):
        lines += [f"{where}: service {name}" for name in services[:_MOST_LINES]]
        lines += [
            f"{where}: {_edge(edge.key)}, {edge.calls} calls, {edge.share:.2%} of those to it"
            for edge in edges[:_MOST_LINES]
        ]
        left = max(0, len(services) - _MOST_LINES) + max(0, len(edges) - _MOST_LINES)
        lines += [f"{where}: {left} more"] if left else []
    for call in difference.calls[:_MOST_LINES]:
        if abs(call.relative) >= _WORTH_TELLING or not call.same_kind:
            kind = "" if call.same_kind else ", waited for in one of them alone"
            lines.append(
                f"differs: {_edge(call.key)}: {call.one:.4g} calls a request, there {call.other:.4g}"
                f" ({call.relative:+.1%}{kind})"
            )
    lines.append(
        f"against: {len(difference.calls)} edges in both, calls per request differ by at most {difference.worst:.2%}"
    )
    return lines


def _edge(key: tuple[str, str, str, str]) -> str:
    return f"{key[0]} {key[1]} -> {key[2]} {key[3]}"


def _check(difference: GraphDifference, most: float) -> None:
    if not difference.same_shape(most):
        raise CheckFailedError("the graphs have different services or edges", "the lines above name them")
    if difference.worst > most:
        raise CheckFailedError(
            f"calls per request differ by {difference.worst:.2%}, more than {most:.2%}",
            "the lines above name the edges",
        )
