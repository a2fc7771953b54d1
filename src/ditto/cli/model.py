"""``ditto model``: fit the profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, KeepNames, Seed, show
from ditto.cli.progress import shown

NAME = "model"
EXAMPLE = "ditto model build/redis"


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that ditto observe wrote.")],
    seed: Seed = None,
    keep_names: KeepNames = False,
    as_json: AsJson = False,
) -> None:
    """Fit the profile OUT/profile.json from OUT/observation: numbers and shapes only.

    Of an app of several services, OUT/profiles from OUT/NAME/observation: one a tier, and which calls which.
    """
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.model(out, progress, seed, keep_names)
    show({"profile": str(made)}, as_json, f"profile: {made}")
