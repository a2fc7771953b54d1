"""``ditto doctor``: what can be observed here."""

from __future__ import annotations

import typer

from ditto.cli.common import AsJson

NAME = "doctor"
EXAMPLE = "ditto doctor --json"


def command(as_json: AsJson = False) -> None:
    """Show what can be observed on this machine, what is missing, and the command that adds it."""
    from ditto.host import doctor

    examination = doctor.examine()
    typer.echo(examination.model_dump_json(indent=2) if as_json else examination.text())
    if not examination.sufficient:
        raise typer.Exit(3)
