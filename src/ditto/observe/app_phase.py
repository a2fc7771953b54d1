"""One native run of all services of an app together, every system call recorded.

The calls between the services are found in it.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.app_recording import RECORDING, AppRecording, BesideRecorded, ServiceRecorded
from ditto.artifacts.records import Mode
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.progress import Progress
from ditto.host.server import Server
from ditto.host.turns import Turns
from ditto.observe.attempts import nearly_whole
from ditto.observe.native_run import NativeRecorder, RecorderStatus

WINDOW_S = 6.0
"""The load is recorded from before its beginning: to its end, or for this long."""
TURNS_S = 2.0
"""Before, the same load is let through one request at a time, for this long: what a request does is plain then."""
BUFFER_MB = 128.0
MORE = 3
"""Further records of 64 bytes of what a call moved: requests are told apart by more than their first bytes."""
# Calls that are under way when the load ends.
_SETTLE_S = 0.3


@dataclass(frozen=True)
class AppOptions:
    """How to record.

    Attributes:
        collector: ``auto``, ``ebpf`` or ``ptrace``.
        seconds: of the load, at most.
        turns: whether the load is let through one request at a time first.
        more: further records of 64 bytes of what a call moved.
        apart: whether marks tell the requests that were let through one at a time from the others.
    """

    collector: str = "auto"
    seconds: float = WINDOW_S
    turns: bool = True
    more: int = MORE
    apart: bool = False


class Looks:
    """What else is seen of the app while it is recorded: nothing, unless a class that is derived from this does."""

    def during(self, run: AppRun) -> AbstractContextManager[object]:
        """Is entered while everything is recorded."""
        return nullcontext()

    def look(self, run: AppRun, complete: bool) -> None:
        """Called with the running app while the load runs (False) and when the recording is complete (True)."""


_BLIND = Looks()


def record_app(
    spec: AppSpec, folder: Path, options: AppOptions, progress: Progress, looks: Looks = _BLIND
) -> AppRecording:
    """Start all services with the recorder attached, load the entry, record, and stop everything.

    A recording that lost more than 0.1 % is made again with a buffer four times as large.

    Args:
        folder: made if need be, for the owner's eyes only.

    Raises:
        AppError: a service or the client failed.
        MissingCapabilityError: nothing here can record system calls.
        RecordingError: the recording failed, or lost too much three times.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    notes: list[str] = []
    made = nearly_whole(
        f"the recording of {spec.name}",
        lambda buffer_mb: _record_once(spec, folder, options, buffer_mb, progress, notes, looks),
        BUFFER_MB,
        notes,
        progress,
        "lower the load, or record a shorter time with --seconds",
    )
    made.save(folder)
    return made


def _record_once(
    spec: AppSpec,
    folder: Path,
    options: AppOptions,
    buffer_mb: float,
    progress: Progress,
    notes: list[str],
    looks: Looks,
) -> tuple[AppRecording, RecorderStatus]:
    path = folder / RECORDING
    path.unlink(missing_ok=True)
    recorder = NativeRecorder()
    pids: dict[str, int] = {}

    def follow(server: Server) -> None:
        progress.update(f"starting {server.name}")
        if pids:
            recorder.add(server.pid)
        else:
            recorder.start([server.pid], path, options.collector, buffer_mb, Mode.STRUCTURE, options.more)  # type: ignore[arg-type]
            os.chmod(path, 0o600)
        pids[server.name] = server.pid

    with recorder, AppRun(spec, on_start=follow) as run:
        if recorder.reason and not any(note.startswith("recorded with") for note in notes):
            notes.append(f"recorded with {recorder.collector}: {recorder.reason}")
            progress.note(notes[-1])
        progress.update("filling the app")
        run.prepare()
        recorder.set_mode(Mode.ALL)
        began = time.monotonic()
        if options.turns and any("{port}" in word for word in spec.load.command):
            progress.update("recording one request at a time")
            try:
                with Turns(run.port) as relay:
                    load_for(run, TURNS_S, relay.port)
                if options.apart:
                    recorder.set_mode(Mode.STRUCTURE)
                    recorder.set_mode(Mode.ALL)
                    began = time.monotonic()
            except AppError as error:
                # A client may give up where it waits for its turn; a service may not.
                run.check_alive()
                notes.append(f"the client failed one request at a time: {error.message}")
                progress.note(notes[-1])
        elif options.turns:
            notes.append("the load does not take {port}: requests could not be looked at one at a time")
            progress.note(notes[-1])
        progress.update("recording all services under load")
        with looks.during(run):
            load_for(run, options.seconds, None, looks)
        seconds = time.monotonic() - began
        recorder.set_mode(Mode.STRUCTURE)
        status = recorder.stop()
        looks.look(run, True)
        return _made(spec, run, pids, str(recorder.collector), status, seconds, notes), status


def load_for(run: AppRun, seconds: float, port: int | None, looks: Looks = _BLIND) -> None:
    """Run the client to its end, or for so long; what is under way then may end."""
    client = run.start_load(port=port)
    began = time.monotonic()
    looked = False
    while client.is_running() and time.monotonic() - began < seconds:
        run.check_alive()
        client.pause(0.05)
        if not looked and time.monotonic() - began > seconds * 0.3:
            looks.look(run, False)
            looked = True
    if not looked:
        looks.look(run, False)
    if client.is_running():
        client.stop()
    else:
        client.wait(check=run.check_alive)
    time.sleep(_SETTLE_S)


def _made(
    spec: AppSpec,
    run: AppRun,
    pids: dict[str, int],
    collector: str,
    status: RecorderStatus,
    seconds: float,
    notes: list[str],
) -> AppRecording:
    services = [
        ServiceRecorded(name=name, pid=pids[name], port=run.port_of(service.name))
        for service in spec.services
        for name in [service.name or spec.name]
    ]
    beside = [
        BesideRecorded(name=name, port=run.port_of(name))
        for index, server in enumerate(spec.beside)
        if server.port is not None
        for name in [server.name or f"beside{index}"]
    ]
    return AppRecording(
        app=spec.name, made_at=datetime.now(UTC).isoformat(timespec="seconds"), collector=collector,
        records=status.records, lost=status.lost, seconds=seconds, services=services, beside=beside,
        notes=list(notes),
    )  # fmt: skip
