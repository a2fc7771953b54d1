"""What the commands share: their common options, and printing a result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

AppFile = Annotated[Path, typer.Argument(metavar="APP.toml", help="The app: how to start, fill and load it.")]
OutFolder = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="Folder for everything that is made.")]
CloneFolder = Annotated[Path, typer.Argument(metavar="CLONE", help="A generated clone's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of generation; same profile and seed, same bytes.")]
KeepNames = Annotated[
    bool, typer.Option("--keep-names", help="Name the tiers of an app of several services as the app does.")
]
WorkSeconds = Annotated[
    float | None,
    typer.Option(
        "--work-seconds",
        min=0.0,
        help="Time after which no further round corrects what is executed, but a second if far off; 30 s without it.",
    ),
]


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a command's result on standard output: ``result`` as JSON, or ``text``."""
    typer.echo(json.dumps(result, indent=2, sort_keys=True) if as_json else text)
