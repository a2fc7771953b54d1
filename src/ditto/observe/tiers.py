"""Observing each service of an app of several: one native run of all, its recording split, lens on one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ditto.artifacts.app import AppSpec
from ditto.artifacts.app_recording import RECORDING, AppRecording, owners
from ditto.artifacts.observation import FileSeen, LensRun, NativeRun, Observation, ProcessSeen
from ditto.artifacts.records import HEADER, RECORD, Kind, load_recording
from ditto.errors import MissingCapabilityError
from ditto.host.app import AppRun
from ditto.host.lens_session import run_under_lens
from ditto.host.progress import Progress
from ditto.host.snapshot import file_sizes, tree
from ditto.observe import native_phase
from ditto.observe.app_phase import AppOptions, record_app
from ditto.observe.stage import LENS_FOLDER, make_private, save_observation
from ditto.streams.evidence import codec_of

_ESTABLISHED = "01"


class _Looks:
    """What is seen of each service from outside while all run.

    Attributes:
        processes: under load, by service.
        connections: that clients have to it under load, by service.
        files: that any of them used, with their sizes at the end.
    """

    def __init__(self, recording: Path) -> None:
        self.recording = recording
        self.files: list[FileSeen] = []
        self.processes: dict[str, list[ProcessSeen]] = {}
        self.connections: dict[str, int] = {}

    def look(self, run: AppRun, complete: bool) -> None:
        if complete:
            self.files = file_sizes(self.recording, run.pids())
            return
        for service, server in zip(_entry_first(run), run.services, strict=True):
            self.processes[server.name] = tree(p.pid for p in server.processes())
            self.connections[server.name] = _connections_to(run.port_of(service))


def _entry_first(run: AppRun) -> list[str | None]:
    """The names of the services in the order of `AppRun.services`."""
    order = run.spec.start_order()
    return [order[-1].name, *(service.name for service in order[:-1])]


def _connections_to(port: int) -> int:
    """Connections that a server on this port has."""
    count = 0
    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        rows = [line.split() for line in lines]
        count += sum(row[3] == _ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port for row in rows)
    return count


def observe_tiers(spec: AppSpec, out: Path, seconds: float | None, progress: Progress) -> list[Observation]:
    """Record all services of an app under its load, then each under lens while the others run natively.

    Args:
        out: each service gets ``out/NAME/observation``, for the owner's eyes only.
        seconds: how long the native window is.

    Raises:
        AppError: a service or the client failed.
        MissingCapabilityError: nothing here can record system calls.
        RecordingError: a recording failed or lost too much.
    """
    make_private(out)
    looks = _Looks(out / RECORDING)
    options = AppOptions(seconds=seconds or native_phase.WINDOW_S, turns=False, more=0)
    made = record_app(spec, out, options, progress, looks.look)
    observations = []
    natives = {service.name: _part(made, service.name, out, looks) for service in made.services}
    (out / RECORDING).unlink()
    for number, (name, native) in enumerate(natives.items()):
        progress.update(f"{name} under valgrind", number / len(natives))
        folder = out / name / "observation"
        notes = list(made.notes)
        lens = _lens(spec, name, folder, native, notes, progress)
        observations.append(save_observation(name, folder, native, lens, notes))
    return observations


def _part(app: AppRecording, name: str, out: Path, looks: _Looks) -> NativeRun:
    """One service's part of the recording, in its own folder."""
    folder = out / name / "observation"
    make_private(folder)
    recording = load_recording(out / RECORDING)
    records = recording.records
    pids = [pid for pid, owner in owners(app, recording).items() if owner == name]
    marks = records["kind"] == Kind.MARK
    kept = records[marks | (np.isin(records["pid"], pids) & (records["kind"] != Kind.MORE))]
    path = folder / native_phase.RECORDING
    with path.open("wb") as file, (out / RECORDING).open("rb") as whole:
        path.chmod(0o600)
        file.write(whole.read(HEADER.itemsize))
        file.write(np.ascontiguousarray(kept, dtype=RECORD).tobytes())
    return NativeRun(
        recording=native_phase.RECORDING,
        collector=app.collector,
        records=len(kept),
        lost=app.lost,
        seconds=app.seconds,
        connections=looks.connections.get(name, 0),
        port=next(service.port for service in app.services if service.name == name),
        descriptors=[],
        processes=looks.processes.get(name, []),
        files=looks.files,
    )


def _lens(
    spec: AppSpec, name: str, folder: Path, native: NativeRun, notes: list[str], progress: Progress
) -> LensRun | None:
    """The service's instruction run; None, with a note, where there is no valgrind."""
    codec = codec_of(folder / native.recording)
    try:
        made = run_under_lens(spec, folder / LENS_FOLDER, codec, progress, only=name)
    except MissingCapabilityError as error:
        notes.append(f"no instruction run of {name}: {error}")
        progress.note(notes[-1])
        return None
    return made.model_copy(update={"files": [f"{LENS_FOLDER}/{file}" for file in made.files]})
