"""``ditto clone``: everything, from an app.toml to a validated clone and its report."""

from __future__ import annotations

from typing import Annotated

import typer

from ditto.cli.common import AppFile, AsJson, KeepNames, OutFolder, Seed, WorkSeconds, show
from ditto.cli.progress import shown

NAME = "clone"
EXAMPLE = "ditto clone examples/redis.toml -o build/redis"


def command(
    app: AppFile,
    out: OutFolder,
    seed: Seed = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of original and clone in turn.")] = 5,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="Seconds of load per round and side.")] = 3.0,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Correct the clone by the CPU time measured here.")
    ] = True,
    work_seconds: WorkSeconds = None,
    cpu_seconds: Annotated[
        float | None,
        typer.Option("--cpu-seconds", min=0.0, help="Time for CPU time; at least 30 s without it, or to 115 s in all."),
    ] = None,
    keep_names: KeepNames = False,
    as_json: AsJson = False,
) -> None:
    """Observe an app, fit its profile, generate and build its clone, validate it and write a report.

    Of an app of several services each gets a clone, OUT/clone/tier-1 and so on, and these call each other.
    """
    from ditto import pipeline

    options = pipeline.CloneOptions(seed, rounds, seconds, tune, keep_names, work_seconds, cpu_seconds)
    with shown() as progress:
        made = pipeline.clone(app, out, options, progress)
    result = {name: str(getattr(made, name)) for name in ("profile", "clone", "fidelity", "report")}
    show(result, as_json, f"clone: {made.clone}\nreport: {made.report}")
