"""``ditto model``: fit the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, Seed, show
from ditto.cli.progress import shown

NAME = "model"
EXAMPLE = "ditto model build/redis"


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that ditto observe wrote.")],
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Fit the profile OUT/profile.json from OUT/observation: numbers and shapes only."""
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.model(out, progress, seed)
    show({"profile": str(made)}, as_json, f"profile: {made}")
