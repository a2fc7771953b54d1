"""``ditto generate``: write a clone's sources from a profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, Seed, show
from ditto.cli.progress import shown

NAME = "generate"
EXAMPLE = "ditto generate build/redis/profile.json -o build/redis/clone"


def command(
    profile: Annotated[
        Path, typer.Argument(metavar="PROFILE", help="A profile.json, or an application's folder of them.")
    ],
    clone: Annotated[Path, typer.Option("--out", "-o", metavar="CLONE", help="Folder for the clone.")],
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Write a clone (C, assembly, Makefile, Dockerfile) from a profile alone."""
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.generate(profile, clone, seed, progress)
    show({"clone": str(made)}, as_json, f"clone: {made}")
