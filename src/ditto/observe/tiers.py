"""Observing each service of an app of several: one native run of all, its recording split, lens on one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ditto.artifacts.app import AppSpec
from ditto.artifacts.app_recording import RECORDING, AppRecording, owners
from ditto.artifacts.observation import ClientRun, FileSeen, NativeRun, Observation, ProcessSeen
from ditto.artifacts.plan import Framing
from ditto.artifacts.records import HEADER, RECORD, Kind, Mode, load_recording
from ditto.host.app import AppRun
from ditto.host.code_samples import CodeSampler
from ditto.host.drive import callers_of
from ditto.host.exchanges import FRAMINGS
from ditto.host.exchanges_sql import DATABASES
from ditto.host.progress import Progress
from ditto.host.snapshot import connections_to, file_sizes, makes_code, tree
from ditto.observe import native_phase
from ditto.observe.alone_phase import ALONE
from ditto.observe.app_phase import AppOptions, Looks, record_app
from ditto.observe.stage import client_of, lens_of, make_private, save_observation
from ditto.streams import h2
from ditto.streams.events import RECEIVES, SENDFILES, SENDS, WAITS
from ditto.streams.wire import wire_of

_MOVING = RECEIVES | SENDS | SENDFILES | WAITS
"""Calls that are not recorded while only descriptors are followed."""


class _Looks(Looks):
    """What is seen of each service from outside while all run.

    Attributes:
        processes: under load, by service.
        connections: that clients have to it under load, by service.
        makes_code: whether it has code of no file, by service.
        files: that any of them used, with their sizes at the end.
    """

    def __init__(self, recording: Path) -> None:
        self.recording = recording
        self.files: list[FileSeen] = []
        self.processes: dict[str, list[ProcessSeen]] = {}
        self.connections: dict[str, int] = {}
        self.makes_code: dict[str, bool] = {}
        self.sampler: CodeSampler | None = None

    def during(self, run: AppRun) -> CodeSampler:
        self.sampler = CodeSampler(run.pids())
        return self.sampler

    def look(self, run: AppRun, complete: bool) -> None:
        if complete:
            self.files = file_sizes(self.recording, run.pids())
            return
        for service, server in zip(_entry_first(run), run.services, strict=True):
            self.processes[server.name] = tree(p.pid for p in server.processes())
            self.makes_code[server.name] = makes_code(p.pid for p in server.processes())
            self.connections[server.name] = connections_to(run.port_of(service))


def _entry_first(run: AppRun) -> list[str | None]:
    """The names of the services in the order of `AppRun.services`."""
    order = run.spec.start_order()
    return [order[-1].name, *(service.name for service in order[:-1])]


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
    options = AppOptions(seconds=seconds or native_phase.WINDOW_S, apart=True)
    made = record_app(spec, out, options, progress, looks)
    observations = []
    natives = {service.name: _part(made, service.name, out, looks) for service in made.services}
    (out / RECORDING).unlink()
    callers = _callers(spec, out, natives, progress)
    for number, (name, native) in enumerate(natives.items()):
        progress.update(f"{name} under valgrind", number / len(natives))
        folder = out / name / "observation"
        notes = list(made.notes)
        wire = wire_of(folder / native.recording)
        lens = lens_of(spec, folder, wire, native, notes, progress, only=name)
        client = client_of(spec, folder, notes, progress) if name == spec.service.name else callers.get(name)
        observations.append(save_observation(name, folder, native, lens, notes, client))
    return observations


def _callers(spec: AppSpec, out: Path, natives: dict[str, NativeRun], progress: Progress) -> dict[str, ClientRun]:
    """What is asked of the databases behind the entry, and what they answer."""
    protocols = {
        name: FRAMINGS.get(wire_of(out / name / "observation" / native.recording).codec, Framing.BYTES)
        for name, native in natives.items()
        if name != spec.service.name
    }
    databases = {name: framing for name, framing in protocols.items() if framing in DATABASES}
    return callers_of(spec, databases, progress) if databases else {}


def _apart(records: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """The requests that came one at a time, if any, and those of the load; each with the descriptors made before."""
    starts = np.flatnonzero((records["kind"] == Kind.MARK) & (records["nr"] == Mode.ALL))
    if len(starts) < 2:
        return None, records
    first, second = int(starts[0]), int(starts[1])
    load = records.copy()
    load["nr"][first] = Mode.STRUCTURE
    places = np.arange(len(records))
    moved = np.isin(records["nr"], sorted(_MOVING)) & np.isin(records["kind"], (Kind.SYSCALL, Kind.MORE))
    return records[:second], load[~(moved & ~_multiplexed(records) & (places > first) & (places < second))]


def _multiplexed(records: np.ndarray) -> np.ndarray:
    """Which records are of connections of HTTP/2: later heads refer to what earlier ones told."""
    calls = records["kind"] == Kind.SYSCALL
    place = records["pid"].astype(np.uint64) << np.uint64(32) | (records["args"][:, 0] & np.uint64(0xFFFFFFFF))
    preface = np.frombuffer(h2.PREFACE, np.uint8)
    begun = np.ascontiguousarray(records["payload"]).view(np.uint8).reshape(len(records), RECORD["payload"].itemsize)
    begins = (begun[:, : len(preface)] == preface).all(axis=1)
    of_them: np.ndarray = calls & np.isin(place, np.unique(place[calls & begins]))
    further: np.ndarray = (records["kind"] == Kind.MORE) & np.isin(records["t_ns"], records["t_ns"][of_them])
    both: np.ndarray = of_them | further
    return both


def _part(app: AppRecording, name: str, out: Path, looks: _Looks) -> NativeRun:
    """One service's part of the recording, in its own folder."""
    folder = out / name / "observation"
    make_private(folder)
    recording = load_recording(out / RECORDING)
    records = recording.records
    pids = [pid for pid, owner in owners(app, recording).items() if owner == name]
    marks = records["kind"] == Kind.MARK
    kept = records[marks | np.isin(records["pid"], pids)]
    header = (out / RECORDING).read_bytes()[: HEADER.itemsize]
    alone, kept = _apart(kept)
    for name_, part in ((ALONE, alone), (native_phase.RECORDING, kept)):
        path = folder / name_
        path.unlink(missing_ok=True)
        if part is not None:
            path.write_bytes(header + np.ascontiguousarray(part, dtype=RECORD).tobytes())
            path.chmod(0o600)
    return NativeRun(
        recording=native_phase.RECORDING,
        alone="" if alone is None else ALONE,
        collector=app.collector,
        records=len(kept),
        lost=app.lost,
        seconds=app.seconds,
        connections=looks.connections.get(name, 0),
        port=next(service.port for service in app.services if service.name == name),
        descriptors=[],
        processes=looks.processes.get(name, []),
        files=looks.files,
        makes_code=looks.makes_code.get(name, False),
        samples=native_phase.save_samples(looks.sampler, folder, pids) if looks.sampler else "",
    )
