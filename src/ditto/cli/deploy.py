"""``ditto deploy``: a clone as containers, or supervised on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ditto.artifacts.application import is_application
from ditto.cli.common import AsJson, CloneFolder, show
from ditto.cli.progress import shown
from ditto.cli.watch import watch
from ditto.errors import BadInputError
from ditto.host.running import RunOptions

NAME = "deploy"
EXAMPLE = "ditto deploy build/redis/clone --to compose -o build/redis/compose"
_NEXT = {
    "compose": "docker compose -f {0} up --build; with --profile load it is loaded too",
    "kubernetes": "build and push the images, then kubectl apply -f {0}; load.yaml loads it",
}


def command(
    clone: CloneFolder,
    to: Annotated[str, typer.Option("--to", metavar="local|compose|kubernetes", help="Where to.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where to write; for local, the logs.")
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port that clients use.")] = 8080,
    host: Annotated[str, typer.Option("--host", "-H", help="For local: the address to listen on.")] = "127.0.0.1",
    replicas: Annotated[
        list[str] | None,
        typer.Option(
            "--replicas", metavar="[TIER=]N", help="For Kubernetes; of an application's entry without a tier."
        ),
    ] = None,
    registry: Annotated[str, typer.Option("--registry", help="Put before the names of images.")] = "",
    seconds: Annotated[float | None, typer.Option("--seconds", min=0.1, help="For local: end after so long.")] = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="For local: end when a clone ends, do not start it again.")
    ] = False,
    built: Annotated[
        bool,
        typer.Option("--built", help="Images of what is built here: making them needs no compiler, nor a network."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write files that compose or Kubernetes take, sized by what the clone used; or run and watch it here.

    Of an application's folder all tiers are deployed, wired to each other by name.
    """
    from ditto import pipeline
    from ditto.artifacts.target import Target

    try:
        target = Target(to)
    except ValueError:
        raise BadInputError(f"--to {to}: no such target", "give local, compose or kubernetes") from None
    if target is Target.LOCAL:
        logs = out if out is not None or is_application(clone) else clone.parent
        watch(clone, RunOptions(port, host, seconds=seconds, restart=not no_restart), logs, as_json)
        return
    if out is None:
        raise BadInputError("nowhere to write to", "give a folder with -o FOLDER")
    with shown() as progress:
        made = pipeline.deploy(clone, target, out, port, _numbers(replicas or []), registry, built, progress)
    text = [f"wrote {path}" for path in made]
    show({"files": [str(p) for p in made]}, as_json, "\n".join([*text, _NEXT[target].format(made[0])]))


def _numbers(told: list[str]) -> dict[str, int]:
    """Replicas by tier; "" is the entry, or the only one."""
    numbers = {}
    for text in told:
        name, _, number = text.rpartition("=")
        if not number.isascii() or not number.isdigit() or not 1 <= int(number[:6]) <= 10000 or len(number) > 5:
            raise BadInputError(f"--replicas {text}: not a number from 1 to 10000", "give N, or TIER=N")
        numbers[name] = int(number)
    return numbers
