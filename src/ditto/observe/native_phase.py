"""The native run: the app under its own load, its system calls recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import NativeRun, ProcessSeen
from ditto.artifacts.records import Mode
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.code_samples import CodeSampler
from ditto.host.load import LoadResult
from ditto.host.progress import Progress
from ditto.host.requests import count_requests
from ditto.host.snapshot import file_sizes, makes_code, tree
from ditto.observe.attempts import nearly_whole
from ditto.observe.native_run import NativeRecorder, RecorderStatus

RECORDING = "native.rec"
SAMPLES = "samples.npz"
WINDOW_S = 2.5
"""Everything is recorded for about this long: enough for 100,000 requests of a fast server."""
MOST_BYTES = 160 << 20
"""Of a recording, at which it ends sooner where the client is bound by time: 100,000 requests of nine calls."""
MOST_LEFT = 0.5
"""A load that ends with more of the time left than this is started again."""
LATE = 5.0
"""Times the usual for which a load that makes a number of its own is waited for: its end may differ from its begin."""
LOOKS = 5
"""Of the processes and threads; between two connections a server may have fewer."""
MAX_RECORDS = 4_000_000


@dataclass(frozen=True)
class NativeOptions:
    """How to record: ``collector`` is ``auto``, ``ebpf`` or ``ptrace``; ``more`` further records of a call's bytes."""

    collector: str = "auto"
    seconds: float = WINDOW_S
    buffer_mb: float = 64.0
    more: int = 0


def record_native(
    spec: AppSpec, folder: Path, options: NativeOptions, progress: Progress
) -> tuple[NativeRun, list[str]]:
    """Start the app with the recorder attached, load it, record a window and stop it.

    A recording that lost more than 0.1 % is made again with a buffer four times as large.

    Returns:
        The run and notes on what was lost or replaced.

    Raises:
        AppError: the app or its client failed.
        RecordingError: the recording failed, or lost too much twice.
    """
    notes: list[str] = []
    run = nearly_whole(
        "the native run",
        lambda buffer_mb: _record_once(spec, folder, options, buffer_mb, progress, notes),
        options.buffer_mb,
        notes,
        progress,
        "lower the load",
    )
    return run, notes


def _record_once(
    spec: AppSpec, folder: Path, options: NativeOptions, buffer_mb: float, progress: Progress, notes: list[str]
) -> tuple[NativeRun, RecorderStatus]:
    path = folder / RECORDING
    path.unlink(missing_ok=True)
    with AppRunHeld(spec) as run, NativeRecorder() as recorder:
        progress.update("starting the app")
        recorder.start([run.pid], path, options.collector, buffer_mb, Mode.STRUCTURE, options.more)  # type: ignore[arg-type]
        os.chmod(path, 0o600)
        if recorder.reason:
            note = f"recorded with {recorder.collector}: {recorder.reason}"
            if note not in notes:
                notes.append(note)
                progress.note(note)
        run.release()
        run.wait_ready()
        progress.update("filling the app")
        run.prepare()
        requests = _requests_for(run, options.seconds, progress)
        progress.update("recording under load")
        with CodeSampler(run.pids()) as sampler:
            recorder.set_mode(Mode.ALL)
            began = time.monotonic()
            client = run.start_load(requests)
            ended: LoadResult | None = None
            looks: list[list[ProcessSeen]] = []
            end = began + options.seconds
            late = 0.6 if requests else LATE if spec.load.makes else 0.0
            deadline = end + late * options.seconds
            while time.monotonic() < deadline and (requests or path.stat().st_size < MOST_BYTES):
                if not client.is_running():
                    ended = client.wait(check=run.check_alive)
                    if time.monotonic() > end - MOST_LEFT * options.seconds:
                        break
                    client = run.start_load(requests)
                run.check_alive()
                client.pause(0.05)
                if len(looks) < LOOKS and time.monotonic() - began > options.seconds * 0.3:
                    looks.append(tree(run.pids()))
            processes = _fullest(looks) if looks else tree(run.pids())
            seconds = time.monotonic() - began
            compiles = makes_code(run.pids())
            recorder.set_mode(Mode.STRUCTURE)
        if client.is_running():
            if spec.load.makes:
                progress.note(
                    f"the load goes on after {seconds:.1f} s, when the recording ends: what comes then is not seen"
                )
            client.stop()
        else:
            ended = client.wait(check=run.check_alive)
        if ended is not None:
            _tell_uncounted(ended, requests, spec, progress)
        time.sleep(0.1)
        status = recorder.stop()
        files = file_sizes(path, run.pids())
        result = NativeRun(
            recording=RECORDING,
            collector=str(recorder.collector),
            records=status.records,
            lost=status.lost,
            seconds=seconds,
            connections=spec.load.connections or 0,
            port=run.port,
            descriptors=[],
            processes=processes,
            files=files,
            makes_code=compiles,
            samples=save_samples(sampler, folder),
        )
    return result, status


def _tell_uncounted(ended: LoadResult, requests: int | None, spec: AppSpec, progress: Progress) -> None:
    """Say early that nothing tells how many requests a run of the load makes, by which all else is compared."""
    try:
        count_requests(ended, requests, spec.load.count)
    except AppError as error:
        progress.note(f"{error}, which tuning and validation need: {error.remedy}")


def _fullest(looks: list[list[ProcessSeen]]) -> list[ProcessSeen]:
    """What was seen with the most threads, the last such."""
    return max(reversed(looks), key=lambda seen: sum(len(process.threads) for process in seen))


def save_samples(sampler: CodeSampler, folder: Path, pids: Collection[int] | None = None) -> str:
    """Write what was sampled into an observation's folder; its name there, empty where nothing was sampled.

    Args:
        pids: the processes that it is of; all without them.
    """
    (folder / SAMPLES).unlink(missing_ok=True)
    made = sampler.made(pids)
    if made is None:
        return ""
    made.save(folder / SAMPLES)
    return SAMPLES


def _requests_for(run: AppRun, seconds: float, progress: Progress) -> int | None:
    """How many requests make the load last about ``seconds``, so that the window sees the whole of it.

    None where the load does not take a request count.
    """
    if not any("{requests}" in word for word in run.spec.load.command):
        return None
    progress.update("timing the load")
    requests = run.spec.load.first_requests
    for _ in range(4):
        result = run.load(requests)
        if result.seconds >= 0.3:
            break
        requests *= 4
    return max(1000, min(run.spec.load.requests.native, int(requests * seconds / max(result.seconds, 0.05))))


class AppRunHeld(AppRun):
    """An app whose entry service waits before its exec until a recorder follows it."""

    def __init__(self, spec: AppSpec) -> None:
        super().__init__(spec, hold=True)
