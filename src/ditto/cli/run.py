"""``ditto run``: become the clone, or run all tiers of an application's."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from ditto.artifacts.application import is_application
from ditto.cli.common import AsJson, CloneFolder
from ditto.cli.progress import shown
from ditto.cli.watch import watch
from ditto.errors import BadInputError
from ditto.host import ports
from ditto.host.running import RunOptions

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
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", min=1, max=65535, help="Application: first of the other tiers' ports."),
    ] = None,
    logs: Annotated[
        Path | None,
        typer.Option("--logs", metavar="FOLDER", help="Application: where each tier's log is; temporary without it."),
    ] = None,
    no_restart: Annotated[
        bool, typer.Option("--no-restart", help="Application: end when a tier ends, do not start it again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a clone in the foreground: this process becomes the clone itself.

    Of an application's folder all tiers are run and watched: those that are called first, each until it answers; a tier
    that ends is started again.  Ctrl-C or SIGTERM ends them all.
    """
    if not clone.is_dir():
        raise BadInputError(f"{clone}: no such folder", "give the folder that ditto generate wrote")
    if is_application(clone):
        if downstream:
            raise BadInputError(f"--downstream: {clone} is an application, whose tiers call each other", "leave it out")
        watch(clone, RunOptions(port, host, base_port, data, restart=not no_restart), logs, as_json)
        return
    for name, given in (
        ("--base-port", base_port),
        ("--logs", logs),
        ("--no-restart", no_restart),
        ("--json", as_json),
    ):
        if given:
            raise BadInputError(f"{name}: {clone} is the clone of one service", "leave it out, or give an application")
    binary = clone / "build" / "clone"
    if not binary.is_file():
        from ditto import pipeline

        with shown() as progress:
            (binary,) = pipeline.build_all(clone, progress)
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
