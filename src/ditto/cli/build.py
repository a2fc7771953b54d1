"""``ditto build``: compile a clone."""

from __future__ import annotations

from ditto.artifacts.application import is_application
from ditto.cli.common import AsJson, CloneFolder, show
from ditto.cli.progress import shown

NAME = "build"
EXAMPLE = "ditto build build/redis/clone"


def command(clone: CloneFolder, as_json: AsJson = False) -> None:
    """Compile a clone into one static binary, CLONE/build/clone; of an application's folder, those of all tiers."""
    from ditto import pipeline

    with shown() as progress:
        made = [str(path) for path in pipeline.build_all(clone, progress)]
    result = {"binaries": made} if is_application(clone) else {"binary": made[0]}
    show(result, as_json, "\n".join(f"binary: {path}" for path in made))
