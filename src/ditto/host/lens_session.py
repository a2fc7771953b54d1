"""One run of an app, or of its clone, under the lens tool and the app's own client."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import DescriptorSeen, LensRun, ProcessSeen
from ditto.errors import RecordingError
from ditto.host.app import AppRun
from ditto.host.lens import Codec, LensMode
from ditto.host.lens import LensRun as Instrument
from ditto.host.progress import Progress
from ditto.host.snapshot import descriptors, tree

EVENTS = 3_000_000
WARM_S = 1.5
COUNT_S = 4.0
WARM_MOST_S, COUNT_MOST_S, FEWER_MOST_S = 20.0, 60.0, 20.0
"""After which clients that make a number of requests are ended: what was counted by then will do."""
FEWER = 10
"""By which the requests of a client are divided that was ended."""
REST_S, REST_MOST_S = 0.3, 20.0
"""For which a service that has begun is watched at a time, and at most."""
BUSY = 0.1
"""Of one CPU, from which on it still does what it began with."""
COMPILE_S = 25.0
"""How long an app that compiles at run time is loaded, uncounted, before: compilers wait for code to be used often."""

_CODECS: dict[str, Codec] = {
    "resp2": "resp", "http1": "http1", "memcached": "memcached", "opaque": "opaque", "dns": "opaque",
    "pgsql": "pgsql", "mysql": "mysql", "fastcgi": "fastcgi", "h2": "h2",
}  # fmt: skip


def run_under_lens(
    spec: AppSpec,
    folder: Path,
    codec: str,
    progress: Progress,
    clone: Sequence[str] | None = None,
    requests: int | None = None,
    compiles: bool = False,
    only: str | None = None,
    folds: bool = False,
    untraced: Sequence[str] = (),
) -> LensRun:
    """Start under lens, fill, warm up, count the whole load, stop.

    Args:
        spec: the app, whose client drives the run.
        folder: gets the files; earlier ones there are removed.
        codec: the profile's name of the wire protocol.
        clone: a clone's command (with ``{port}``) to run in the app's place.
        requests: instead of the app's own number for such runs.
        compiles: the app makes code at run time; it is loaded for long before, so that what is counted is that code.
        only: of several services the one that runs under lens; the others run natively.
        folds: digits in paths tell no class.
        untraced: files of programs that run natively when the service executes them; ``*`` stands for anything.

    Returns:
        The run's facts; file names are relative to ``folder``.

    Raises:
        AppError: the app or its client failed.
        MissingCapabilityError: valgrind or the lens tool is missing.
        RecordingError: nothing was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.lens"):
        old.unlink()
    # Servers that change their user must be able to write: a folder of its own under the system's temporary one.
    work = Path(tempfile.mkdtemp(prefix="ditto-lens-"))
    try:
        work.chmod(0o755)
        extra = ["--fold=yes"] if folds else []
        if patterns := ",".join(name for name in untraced if "," not in name):
            extra.append(f"--trace-children-skip={patterns}")
        instrument = Instrument.create(work / "out", _CODECS[codec], EVENTS, extra, LensMode.OFF)
        seen = _drive(spec, instrument, progress, clone, requests, COMPILE_S if compiles else 0.0, only)
        files = []
        for path in sorted((work / "out").glob("run.*.lens")):
            shutil.copyfile(path, folder / path.name)
            (folder / path.name).chmod(0o600)
            files.append(path.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not files:
        raise RecordingError(f"{spec.name}: the run under valgrind wrote nothing", "see 'ditto doctor'")
    return LensRun(files=files, codec=codec, descriptors=seen[0], processes=seen[1], folds=folds)


def _drive(
    spec: AppSpec,
    instrument: Instrument,
    progress: Progress,
    clone: Sequence[str] | None,
    requests: int | None,
    compile_s: float,
    only: str | None,
) -> tuple[list[DescriptorSeen], list[ProcessSeen]]:
    def wrap(command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        return instrument.command(command), instrument.env(environment)

    if clone is None:
        run = AppRun(spec, wrap=wrap, which="lens", only=only)
    else:
        run = AppRun.for_clone(spec, list(clone), wrap=wrap, which="lens")
    counted = any("{requests}" in word for word in spec.load.command)
    requests = requests or spec.load.requests.lens
    progress.update("starting under valgrind")
    with run:
        progress.update("filling under valgrind")
        run.prepare()
        if clone is None:
            come_to_rest(run)
        if compile_s:
            progress.update("letting the app compile its code under valgrind")
            run.load_for(compile_s, requests if counted else None)
        progress.update("warming up under valgrind")
        instrument.control.warm()
        warm_up(run, requests if counted else None, clone is None)
        open_now = descriptors(run.pids())
        progress.update("counting instructions")
        instrument.control.count()
        if counted:
            count_load(run, requests)
        else:
            run.load_for(COUNT_S)
        processes = tree(run.pids())
        instrument.stop()
    instrument.control.close()
    return open_now, processes


def count_load(run: AppRun, requests: int) -> None:
    """Load what is counted.

    A client that makes one kind of request after the other may not come to the last ones in the time there is, so one
    that was ended is run again with fewer of each, until it ends by itself.

    Raises:
        AppError: the service or its client failed.
    """
    results = run.load_for(COUNT_MOST_S, requests, again=False)
    while results[-1].ended_by_us and (requests := requests // FEWER) >= max(1, run.spec.load.connections):
        results = run.load_for(FEWER_MOST_S, requests, again=False)


def come_to_rest(run: AppRun) -> None:
    """Wait until an app that runs under lens has nothing to do, or for as long as is waited at most.

    A server whose listener is there may have workers that still load their program, for tens of seconds under an
    instrument; counted, that would be work of the first few requests.

    Raises:
        AppError: the service ended.
    """
    until = time.monotonic() + REST_MOST_S
    busy = True
    while busy and time.monotonic() < until:
        before, began = run.cpu_times().run_s, time.monotonic()
        time.sleep(REST_S)
        run.check_alive()
        busy = run.cpu_times().run_s - before > BUSY * (time.monotonic() - began)


def warm_up(run: AppRun, requests: int | None, original: bool) -> None:
    """Load what runs under lens before anything is counted.

    The LRU stacks of a clone are warm after a quarter of the load.  An app is loaded once before: what it does for the
    first requests after it was filled, as rebuilding its tables, is over then, and no part of what a request costs.

    Args:
        run: filled.
        requests: of the load that will be counted; None for a client that is bound by time.
        original: whether it is the app itself.

    Raises:
        AppError: the service or its client failed.
    """
    if requests is None:
        run.load_for(WARM_S)
    else:
        run.load_for(WARM_MOST_S, requests if original else min(requests, max(100, requests // 4)), again=False)
