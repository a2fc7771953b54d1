"""``ditto tune``: correct a clone until it executes and costs what the original does."""

from __future__ import annotations

from typing import Annotated

import typer

from ditto.cli.common import AppFile, AsJson, OutFolder, WorkSeconds, show
from ditto.cli.progress import shown

NAME = "tune"
EXAMPLE = "ditto tune examples/redis.toml -o build/redis --seconds 200"


def command(
    app: AppFile,
    out: OutFolder,
    native: Annotated[bool, typer.Option("--cpu/--no-cpu", help="Tune the CPU time measured here as well.")] = True,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="Time that it may take.")] = 120.0,
    work_seconds: WorkSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Correct OUT/profile.json, of which OUT holds the observation, and build OUT/clone anew."""
    from ditto import pipeline

    with shown() as progress:
        profile = pipeline.tune(app, out, progress, native, seconds, work_seconds)
    show({"profile": str(profile), "rounds": str(out / "tuning.json")}, as_json, f"profile: {profile}")
