"""``ditto observe``: record what an app does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, OutFolder, show
from ditto.cli.progress import shown
from ditto.errors import BadInputError

NAME = "observe"
EXAMPLE = "ditto observe examples/redis.toml -o build/redis"


def command(
    out: OutFolder,
    app: Annotated[Path | None, typer.Argument(metavar="[APP.toml]", help="The app to start and observe.")] = None,
    pid: Annotated[int | None, typer.Option("--pid", min=1, help="Observe this running process instead.")] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, help="How long to record (needed with --pid).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Record an app under its own load, or a process that runs already, into OUT/observation (private).

    Each service of an app of several gets OUT/NAME/observation, for ditto model OUT.
    """
    if (app is None) == (pid is None):
        raise BadInputError("give either APP.toml or --pid", EXAMPLE)
    if pid is not None and seconds is None:
        raise BadInputError("--pid needs --seconds", f"ditto observe --pid {pid} --seconds 10 -o OUT")
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.observe(app, out, pid, seconds, progress)
    show({"observation": str(made)}, as_json, f"observation: {made}")
