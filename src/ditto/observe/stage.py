"""The observe stage: an app's native run and its instruction run, or a running process for a while."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import ClientRun, LensRun, NativeRun, Observation, ProcessSeen
from ditto.artifacts.plan import PLAN_NAME
from ditto.artifacts.records import Mode, load_recording
from ditto.errors import AppError, BadInputError, MissingCapabilityError, RecordingError
from ditto.host.code_samples import CodeSampler
from ditto.host.drive import recorded
from ditto.host.lens_session import run_under_lens
from ditto.host.machine import read_facts
from ditto.host.progress import Progress
from ditto.host.snapshot import descriptors, file_sizes, makes_code, tree
from ditto.observe.alone_phase import record_alone
from ditto.observe.native_phase import RECORDING, WINDOW_S, NativeOptions, record_native, save_samples
from ditto.observe.native_run import NativeRecorder
from ditto.streams.protocol import MOST_FURTHER, further_records
from ditto.streams.started import gone_before_load
from ditto.streams.wire import Wire, wire_of

LENS_FOLDER = "lens"


def observe_app(spec: AppSpec, folder: Path, seconds: float | None, progress: Progress) -> Observation:
    """Record an app under its own load: natively, then under lens, then what its client sends.

    Args:
        spec: the app.
        folder: made if need be, for the owner's eyes only; an earlier observation there is replaced.
        seconds: how long the native window is.

    Raises:
        AppError: the app or its client failed.
        MissingCapabilityError: nothing here can record system calls.
        RecordingError: a recording failed or lost too much.
    """
    make_private(folder)
    options = NativeOptions(seconds=seconds or WINDOW_S)
    native, notes = record_native(spec, folder, options, progress)
    progress.update("recognising the protocol")
    wire = wire_of(folder / native.recording)
    if further := MOST_FURTHER if wire.mixed else further_records(wire.codec):
        progress.note(f"recording again with more of each request: {wire.codec} tells them apart further on")
        options = replace(options, more=further)
        native, notes = record_native(spec, folder, options, progress)
    if wire.tasks:
        native = native.model_copy(update={"alone": record_alone(spec, folder, options, notes, progress)})
    lens = lens_of(spec, folder, wire, native, notes, progress)
    client = client_of(spec, folder, notes, progress)
    return save_observation(spec.name, folder, native, lens, notes, client)


def client_of(spec: AppSpec, folder: Path, notes: list[str], progress: Progress) -> ClientRun | None:
    """What the app's client sends to the entry, its plan saved in the observation's folder; None, with a note."""
    (folder / PLAN_NAME).unlink(missing_ok=True)
    try:
        made = recorded(spec, progress)
        made.plan.save(folder / PLAN_NAME)
        return made.client
    except AppError as error:
        notes.append(f"no requests recorded for the load generator: {error.message}")
        progress.note(notes[-1])
        return None


def lens_of(
    spec: AppSpec,
    folder: Path,
    wire: Wire,
    native: NativeRun,
    notes: list[str],
    progress: Progress,
    only: str | None = None,
) -> LensRun | None:
    """The instruction run of a service, in its observation's folder.

    None, with a note, where there is no valgrind, or where the service does not run in it as it is: natively it did.

    Args:
        native: its native run.
        only: the service, of several.
    """
    if wire.pulls:
        notes.append("no instruction run: it fetches its jobs, and lens tells work apart by requests")
        progress.note(notes[-1])
        return None
    try:
        made = run_under_lens(
            spec,
            folder / LENS_FOLDER,
            wire.codec,
            progress,
            compiles=native.makes_code,
            only=only,
            folds=wire.folds,
            untraced=gone_before_load(load_recording(folder / native.recording)),
        )
    except MissingCapabilityError as error:
        notes.append(f"no instruction run{f' of {only}' if only else ''}: {error}")
    except (AppError, RecordingError) as error:
        notes.append(
            f"no instruction run: {only or spec.name} does not run under valgrind ({error.message}); "
            "give lens_command in app.toml, the same program as valgrind needs it started"
        )
    else:
        return made.model_copy(update={"files": [f"{LENS_FOLDER}/{name}" for name in made.files]})
    progress.note(notes[-1])
    return None


def attach_to(pid: int, folder: Path, seconds: float, progress: Progress) -> Observation:
    """Record a running process and everything below it for ``seconds``; it is not disturbed.

    Raises:
        BadInputError: no such process.
        RecordingError: the recording failed.
    """
    if not Path(f"/proc/{pid}").is_dir():
        raise BadInputError(f"no process {pid}", "give the number of a running process")
    make_private(folder)
    path = folder / RECORDING
    path.unlink(missing_ok=True)
    pids = _with_children(pid)
    with NativeRecorder() as recorder:
        progress.update(f"recording process {pid} for {seconds:g} s")
        recorder.start([pid], path, mode=Mode.OFF)
        os.chmod(path, 0o600)
        open_now = descriptors(pids)
        with CodeSampler(pids) as sampler:
            recorder.set_mode(Mode.ALL)
            began = time.monotonic()
            processes: list[ProcessSeen] = []
            while time.monotonic() - began < seconds:
                time.sleep(0.05)
                if not processes and time.monotonic() - began > seconds * 0.3:
                    processes = tree(_with_children(pid))
            recorder.set_mode(Mode.OFF)
        status = recorder.stop()
        collector = str(recorder.collector)
    ports = [d.port for d in open_now if d.kind == "listener" and d.port]
    native = NativeRun(
        recording=RECORDING,
        collector=collector,
        records=status.records,
        lost=status.lost,
        seconds=seconds,
        connections=sum(d.kind == "connection" for d in open_now),
        port=ports[0] if ports else 0,
        descriptors=open_now,
        processes=processes or tree(pids),
        files=file_sizes(path, pids),
        makes_code=makes_code(pids),
        samples=save_samples(sampler, folder),
    )
    notes = ["no instruction run: the process was observed while it ran; give an app.toml for one"]
    return save_observation(f"pid-{pid}", folder, native, None, notes)


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone can look into."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def _with_children(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, pending = [], [pid]
    while pending:
        current = pending.pop()
        found.append(current)
        pending += children.get(current, [])
    return sorted(found)


def save_observation(
    app: str,
    folder: Path,
    native: NativeRun,
    lens: LensRun | None,
    notes: list[str],
    client: ClientRun | None = None,
) -> Observation:
    """Write what was recorded of one service, with this machine's facts."""
    observation = Observation(
        app=app,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=read_facts().model_dump(mode="json"),
        native=native,
        lens=lens,
        client=client,
        notes=notes,
    )
    observation.save(folder)
    return observation
