"""Running clones watched, for the commands that do: what is shown of them, and where their logs are."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ditto.cli.common import show
from ditto.cli.progress import shown

if TYPE_CHECKING:
    from ditto.run.supervise import Running


@dataclass(frozen=True)
class Watch:
    """What a command was told; see `ditto.pipeline.RunOptions`.  Logs go to a temporary folder without one."""

    port: int
    host: str
    logs: Path | None
    base_port: int | None = None
    data: Path | None = None
    seconds: float | None = None
    restart: bool = True


def watch(folder: Path, told: Watch, as_json: bool) -> None:
    """Build what is not built, run it until it is interrupted, and print what runs once it is ready.

    A temporary folder of logs is left only if something ended by itself.
    """
    from ditto import pipeline

    with shown() as progress:
        pipeline.build_all(folder, progress, again=False)
    logs = told.logs or Path(tempfile.mkdtemp(prefix="ditto-logs-"))
    trouble = False

    def ready(running: list[Running]) -> None:
        _show(told, running, logs, as_json)

    def say(text: str) -> None:
        nonlocal trouble
        trouble = True
        typer.echo(f"ditto: {text}", err=True)

    options = pipeline.RunOptions(told.port, told.host, logs, told.base_port, told.data, told.seconds, told.restart)
    try:
        pipeline.run_here(folder, options, ready, say)
    except Exception:
        trouble = True
        raise
    finally:
        if told.logs is None and trouble:
            typer.echo(f"ditto: the logs are left in {logs}", err=True)
        elif told.logs is None:
            shutil.rmtree(logs, ignore_errors=True)


def _show(told: Watch, running: list[Running], logs: Path, as_json: bool) -> None:
    tiers: list[dict[str, Any]] = [
        {"name": one.name, "pid": one.pid, "port": one.port, "log": str(one.log)} for one in running
    ]
    lines = [f"{one.name}: process {one.pid}, port {one.port}, log {one.log}" for one in running]
    text = "\n".join([*lines, f"serving on {told.host} port {told.port}; logs in {logs}"])
    show({"host": told.host, "port": told.port, "logs": str(logs), "tiers": tiers}, as_json, text)
    sys.stdout.flush()
