"""Running clones watched, for the commands that do: what is shown of them, and where their logs are."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from ditto.cli.common import show
from ditto.cli.progress import shown
from ditto.host.running import Running, RunOptions


def watch(folder: Path, options: RunOptions, logs: Path | None, as_json: bool) -> None:
    """Build what is not built, run it until it is interrupted, and print what runs once it is ready.

    Without a folder for logs a temporary one is made, and left only if something ended by itself.
    """
    from ditto import pipeline

    with shown() as progress:
        pipeline.build_all(folder, progress, again=False)
    place = logs or Path(tempfile.mkdtemp(prefix="ditto-logs-"))
    trouble = False

    def ready(running: list[Running]) -> None:
        _show(options, running, place, as_json)

    def say(text: str) -> None:
        nonlocal trouble
        trouble = True
        typer.echo(f"ditto: {text}", err=True)

    try:
        pipeline.run_here(folder, options, place, ready, say)
    except Exception:
        trouble = True
        raise
    finally:
        if logs is None and trouble:
            typer.echo(f"ditto: the logs are left in {place}", err=True)
        elif logs is None:
            shutil.rmtree(place, ignore_errors=True)


def _show(options: RunOptions, running: list[Running], logs: Path, as_json: bool) -> None:
    tiers: list[dict[str, Any]] = [
        {"name": one.name, "pid": one.pid, "port": one.port, "log": str(one.log)} for one in running
    ]
    lines = [f"{one.name}: process {one.pid}, port {one.port}, log {one.log}" for one in running]
    text = "\n".join([*lines, f"serving on {options.host} port {options.port}; logs in {logs}"])
    show({"host": options.host, "port": options.port, "logs": str(logs), "tiers": tiers}, as_json, text)
    sys.stdout.flush()
