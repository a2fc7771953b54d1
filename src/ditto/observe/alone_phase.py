"""One service's requests by themselves, recorded natively: the load is let through one request at a time."""

from __future__ import annotations

import os
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.records import Mode
from ditto.errors import AppError, RecordingError
from ditto.host.progress import Progress
from ditto.host.turns import Turns
from ditto.observe.app_phase import TURNS_S, load_for
from ditto.observe.native_phase import AppRunHeld, NativeOptions
from ditto.observe.native_run import NativeRecorder

ALONE = "alone.rec"


def record_alone(spec: AppSpec, folder: Path, options: NativeOptions, notes: list[str], progress: Progress) -> str:
    """Record them into the observation's folder.

    Returns:
        The recording's file; empty, with a note, where the client or the recorder failed.

    Raises:
        AppError: the service did not start, or ended.
    """
    path = folder / ALONE
    path.unlink(missing_ok=True)
    if not any("{port}" in word for word in spec.load.command):
        notes.append("the load does not take {port}: requests could not be looked at one at a time")
        progress.note(notes[-1])
        return ""
    progress.update("recording one request at a time")
    with AppRunHeld(spec) as run, NativeRecorder() as recorder:
        collector = options.collector
        recorder.start([run.pid], path, collector, options.buffer_mb, Mode.STRUCTURE, options.more)  # type: ignore[arg-type]
        os.chmod(path, 0o600)
        run.release()
        run.wait_ready()
        run.prepare()
        try:
            recorder.set_mode(Mode.ALL)
            with Turns(run.port) as relay:
                load_for(run, TURNS_S, relay.port)
            recorder.set_mode(Mode.STRUCTURE)
            recorder.stop()
        except (AppError, RecordingError) as error:
            # A client may give up where it waits for its turn; a service may not.
            run.check_alive()
            notes.append(f"the client failed one request at a time: {error.message}")
            progress.note(notes[-1])
            path.unlink(missing_ok=True)
            return ""
    return ALONE
