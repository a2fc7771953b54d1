"""``ditto topology``: the dependency graph, from trace files or from a recording of the app."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, show
from ditto.cli.progress import shown
from ditto.errors import BadInputError

NAME = "topology"


class Collector(StrEnum):
    """How system calls are recorded."""

    AUTO = "auto"
    EBPF = "ebpf"
    PTRACE = "ptrace"


EXAMPLE = "ditto topology traces/ -o graph.json --plot graph.html"


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
    as_json: AsJson = False,
) -> None:
    """Recover who calls whom, in what order and how often: from distributed traces, or from the app itself."""
    if bool(traces) == (observe is not None):
        raise BadInputError("give either TRACES or --observe APP.toml", EXAMPLE)
    from ditto import pipeline

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
    show(result, as_json, "\n".join(lines))
