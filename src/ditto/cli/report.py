"""``ditto report``: render the report again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import AsJson, show
from ditto.cli.progress import shown

NAME = "report"
EXAMPLE = "ditto report build/redis"


def command(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that ditto clone wrote.")],
    as_json: AsJson = False,
) -> None:
    """Render OUT/report.html, one file that opens offline."""
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.report(out, progress)
    show({"report": str(made)}, as_json, f"report: {made}")
