"""``ditto topology``: the dependency graph from trace files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, show
from ditto.cli.progress import shown

NAME = "topology"
EXAMPLE = "ditto topology traces/ -o graph.json --plot graph.html"


def command(
    traces: Annotated[
        list[Path],
        typer.Argument(
            metavar="TRACES...",
            help="Files or folders: OTLP (JSON or protobuf), Jaeger query-API JSON, Zipkin v2 JSON; gzip or zstd.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The graph, as JSON.")],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PAGE.html", help="Also draw it: one page that opens offline.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recover who calls whom, in what order and how often, from distributed traces."""
    from ditto import pipeline

    with shown() as progress:
        graph = pipeline.topology(traces, out, plot, progress)
    repaired = {name: count for name, count in graph.repaired.model_dump().items() if count}
    dropped = {name: count for name, count in graph.dropped.model_dump().items() if count}
    result = {
        "graph": str(out), "services": len(graph.services), "edges": len(graph.edges), "traces": graph.traces,
        "spans": graph.spans, "complete_traces": graph.complete_traces, "coverage": graph.coverage,
        "repaired": repaired, "dropped": dropped,
    }  # fmt: skip
    if plot is not None:
        result["plot"] = str(plot)
    lines = [
        f"{len(graph.services)} services, {len(graph.edges)} edges from {graph.spans} spans of {graph.traces} traces",
        f"coverage {graph.coverage:.1%}: {graph.complete_traces} traces are complete",
    ]
    for title, counts in (("repaired", repaired), ("dropped", dropped)):
        if counts:
            lines.append(
                f"{title}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
            )
    lines.append(f"graph: {out}" + (f", page: {plot}" if plot is not None else ""))
    show(result, as_json, "\n".join(lines))
