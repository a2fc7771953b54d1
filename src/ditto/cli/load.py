"""``ditto load``: open-loop load on an app, on its clone, or on a server that runs already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ditto.artifacts.plan import Arrivals
from ditto.cli.common import AsJson, show
from ditto.cli.progress import shown
from ditto.errors import BadInputError

if TYPE_CHECKING:
    from ditto.host.loadgen import LoadMeasured, Offered

NAME = "load"
EXAMPLE = "ditto load examples/redis.toml --clone build/redis/clone --rate 20000 --arrivals poisson"
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


def command(
    app: Annotated[
        Path | None, typer.Argument(metavar="[APP.toml]", help="The app to start, fill, and record the requests of.")
    ] = None,
    clone: Annotated[
        Path | None, typer.Option("--clone", metavar="CLONE", help="Drive this clone in the app's place.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=1, max=65535, help="Start nothing: drive what listens here.")
    ] = None,
    host: Annotated[str, typer.Option("--host", "-H", help="With --port: the server's address.")] = "127.0.0.1",
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Requests to send (from --save-plan); private.")
    ] = None,
    save_plan: Annotated[
        Path | None, typer.Option("--save-plan", metavar="FILE", help="Keep the recorded requests; private.")
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="PROFILE.json", help="With --port: requests drawn from a clone's profile."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", "-r", min=0.001, help="Requests a second (default: a closed loop).")
    ] = None,
    arrivals: Annotated[
        Arrivals | None, typer.Option("--arrivals", help="Default: constant with a rate, closed without.")
    ] = None,
    burst: Annotated[
        str | None, typer.Option("--burst", metavar="ON:OFF", help="Seconds with and without load, in turn.")
    ] = None,
    rate_file: Annotated[
        Path | None, typer.Option("--rate-file", metavar="FILE", help='A rate over time: lines of "seconds rate".')
    ] = None,
    arrivals_file: Annotated[
        Path | None,
        typer.Option("--arrivals-file", metavar="FILE", help="Recorded arrivals: nanoseconds, a line each."),
    ] = None,
    connections: Annotated[
        int | None, typer.Option("--connections", "-c", min=1, help="Connections (default: as the app's load).")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", "-t", min=1, help="Threads of the generator.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", "-s", min=0.01, help="How long to measure.")] = 10.0,
    warmup: Annotated[float, typer.Option("--warmup", min=0.0, help="Seconds before that, not measured.")] = 1.0,
    hdr: Annotated[
        Path | None, typer.Option("--hdr", metavar="FILE", help="Write HdrHistogram's percentiles (ms), corrected.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Offer a load at a rate and measure latency from when each request was meant to be sent."""
    from ditto import pipeline
    from ditto.host.loadgen import Offered, save_percentiles

    paced = rate is not None or rate_file is not None
    kind = arrivals or (Arrivals.RECORDED if arrivals_file else Arrivals.CONSTANT if paced else Arrivals.CLOSED)
    offered = Offered(
        arrivals=kind,
        rate=rate,
        connections=connections or 0,
        threads=threads,
        seconds=seconds,
        warmup=warmup,
        burst=_burst(burst),
        rate_file=rate_file,
        arrivals_file=arrivals_file,
    )
    with shown() as progress:
        offered, measured = pipeline.load(app, clone, port, host, plan, save_plan, profile, offered, progress)
    if hdr is not None:
        save_percentiles(measured.corrected, hdr)
    show(_as_json(offered, measured), as_json, _as_text(offered, measured))


def _burst(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        on, off = (float(part) for part in text.split(":"))
    except ValueError:
        raise BadInputError(f"--burst {text}: not ON:OFF", "give seconds, for instance --burst 0.2:0.8") from None
    return on, off


def _as_json(offered: Offered, measured: LoadMeasured) -> dict[str, object]:
    from ditto.host.loadgen import percentile

    return {
        "requested_rate": offered.rate,
        "achieved_rate": measured.rate,
        "connections": offered.connections,
        "seconds": measured.seconds,
        "sent": measured.sent,
        "received": measured.received,
        "failed": measured.failed,
        "broken": measured.broken,
        "unanswered": measured.unanswered,
        "unsent": measured.unsent,
        "generator_cpu_seconds": measured.cpu_seconds,
        "latency_ns": {f"p{p:g}": percentile(measured.corrected, p) for p in PERCENTILES},
        "uncorrected_latency_ns": {f"p{p:g}": percentile(measured.uncorrected, p) for p in PERCENTILES},
        "warnings": measured.warnings(offered),
    }


def _as_text(offered: Offered, measured: LoadMeasured) -> str:
    from ditto.host.loadgen import percentile

    asked = f" of {offered.rate:,.0f} asked for" if offered.rate is not None else " (closed loop)"
    lines = [
        (
            f"{measured.rate:,.0f} requests/s{asked}, {offered.connections} connections, {measured.received:,} replies "
            f"in {measured.seconds:.1f} s, {measured.failed} with an error, {measured.broken} broken off"
        ),
        f"{'latency':12} {'from intended':>14} {'from sending':>14}",
    ]
    for p in PERCENTILES:
        name = "largest" if p == 100 else f"p{p:g}"
        a, b = percentile(measured.corrected, p) / 1e6, percentile(measured.uncorrected, p) / 1e6
        lines.append(f"{name:12} {a:11.3f} ms {b:11.3f} ms")
    lines += [f"warning: {text}" for text in measured.warnings(offered)]
    return "\n".join(lines)
