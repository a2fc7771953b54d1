"""``ditto run``: become the clone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ditto.cli.common import CloneFolder
from ditto.cli.progress import shown
from ditto.errors import BadInputError
from ditto.host import ports

NAME = "run"
EXAMPLE = "ditto run build/redis/clone --port 7000"


def command(
    clone: CloneFolder,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Port to listen on.")],
    host: Annotated[str, typer.Option("--host", "-H", help="Address to listen on.")] = "127.0.0.1",
    downstream: Annotated[
        list[str] | None,
        typer.Option(
            "--downstream",
            metavar="N=HOST:PORT",
            help="Where the service is that it calls as number N; stood in for by a process of its own without it.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder for the files it reads and writes.")] = None,
) -> None:
    """Run a clone in the foreground; this process becomes the clone itself."""
    binary = clone / "build" / "clone"
    if not clone.is_dir():
        raise BadInputError(f"{clone}: no such folder", "give the folder that ditto generate wrote")
    if not binary.is_file():
        from ditto import pipeline

        with shown() as progress:
            binary = pipeline.build(clone, progress)
    ports.require_free(port, f"--port {port}", host)
    words = [str(binary), "--port", str(port), "--host", host]
    for told in downstream or []:
        words += ["--downstream", told]
    if data is not None:
        words += ["--data", str(data)]
    sys.stdout.flush()
    # Python ignores SIGPIPE, and ignored signals stay ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(binary, words)
