"""An app or its clone under the load generator, with the requests that the app's own client makes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.plan import LoadPlan, load_plan
from ditto.host.app import AppRun
from ditto.host.exchanges import record_plan
from ditto.host.loadgen import LoadMeasured, Offered, drive
from ditto.host.progress import Progress

CONNECTIONS = 20
"""Where the app tells no number."""


def recorded(spec: AppSpec, progress: Progress) -> LoadPlan:
    """What the app's own client sends: the app is started and filled, and the client run once through a relay.

    Raises:
        AppError: app or client failed, or the client cannot be relayed.
    """
    progress.update("recording the client's requests")
    with AppRun(spec) as run:
        run.prepare()
        return record_plan(run, spec.load.requests.lens if spec.load.counts_requests else None)


@contextmanager
def plan_file(spec: AppSpec, plan: Path | None, save: Path | None, progress: Progress) -> Iterator[Path]:
    """The plan to send: a file that is there, or what the app's own client sends, in one that only this user may read.

    Args:
        plan: that is there; recorded without it.
        save: where to keep what was recorded.

    Raises:
        BadInputError: the file is missing or damaged.
        AppError: see `recorded`.
    """
    if plan is not None:
        load_plan(plan)
        yield plan
        return
    made = recorded(spec, progress)
    with tempfile.TemporaryDirectory(prefix="ditto-load-") as folder:
        path = save or Path(folder) / "requests.plan"
        made.save(path)
        yield path


def driven(
    spec: AppSpec, clone: Sequence[str] | None, plan: Path, offered: Offered, progress: Progress
) -> tuple[Offered, LoadMeasured]:
    """Start the app, or a clone in its place, fill it, and offer the load.

    Args:
        clone: the clone's command with ``{port}``; None for the app itself.

    Raises:
        AppError: it failed, or does not answer.
    """
    offered = replace(offered, connections=offered.connections or spec.load.connections or CONNECTIONS)
    run = AppRun(spec) if clone is None else AppRun.for_clone(spec, clone)
    with run:
        run.prepare()
        progress.update(f"{offered.connections} connections for {offered.seconds:g} s")
        measured = drive(plan, run.port, offered, run.host)
        run.check_alive()
    return offered, measured
