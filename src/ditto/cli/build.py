"""``ditto build``: compile a clone."""

from __future__ import annotations

from ditto.cli.common import AsJson, CloneFolder, show
from ditto.cli.progress import shown

NAME = "build"
EXAMPLE = "ditto build build/redis/clone"


def command(clone: CloneFolder, as_json: AsJson = False) -> None:
    """Compile a clone into one static binary, CLONE/build/clone; an application's into one for each tier."""
    from ditto import pipeline

    with shown() as progress:
        made = pipeline.build(clone, progress)
    show({"binary": str(made)}, as_json, f"binary: {made}")
