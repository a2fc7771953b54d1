"""Rounds of work on the tiers of an application, several at a time: each runs a copy of its clone among the others'.

What is compared are counts, which do not depend on what else the machine does.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import Observation
from ditto.artifacts.profile import Profile
from ditto.host.place import Place
from ditto.host.progress import Progress
from ditto.host.workers import worker_pool

if TYPE_CHECKING:
    from ditto.tune.loop import Tuned

MOST_TOGETHER = 4
"""Tiers at a time, one for each CPU: each run has all tiers' processes and a client."""


@dataclass(frozen=True)
class Untuned:
    """A tier before its rounds of work.

    Attributes:
        service: whose it is.
        folder: of its observation.
        profile: as fitted, or as tuned before.
        built: its clone was made of this profile by this program.
    """

    service: str
    folder: Path
    observation: Observation
    profile: Profile
    built: bool


def together() -> int:
    """Tiers whose work is tuned at a time."""
    return max(1, min(MOST_TOGETHER, len(os.sched_getaffinity(0))))


def tune_work(
    tiers: Mapping[str, Untuned], driven: AppSpec, wired: AppSpec, clone: Path, progress: Progress, seconds: float
) -> dict[str, Tuned]:
    """Correct what the tiers' clones execute; they are remade in ``clone`` when all are done.

    Args:
        tiers: by name, in order.
        driven: the app.
        wired: the app with the clones in ``clone`` in their services' place.
        clone: the application's, built.
        seconds: after which no further round of a tier begins.

    Raises:
        AppError: app, clones or client failed.
    """
    done: dict[str, Tuned] = {}
    lock, ended = threading.Lock(), threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="ditto-tiers-") as scratch,
        worker_pool(min(together(), len(tiers))) as pool,
        ThreadPoolExecutor(together()) as threads,
    ):
        copies = {name: Path(scratch) / name for name in tiers}
        running = {
            threads.submit(
                _tune_one, one, driven, wired, clone / name, copies[name], pool,
                _Shared(progress, name, lock, ended), seconds,
            ): name
            for name, one in tiers.items()
        }  # fmt: skip
        try:
            for future in as_completed(running):
                done[running[future]] = future.result()
        except BaseException:
            # The others end with what they tell next.
            ended.set()
            raise
        for name, copy in copies.items():
            shutil.copytree(copy, clone / name, dirs_exist_ok=True)
    return {name: done[name] for name in tiers}


def _tune_one(
    tier: Untuned,
    driven: AppSpec,
    wired: AppSpec,
    made: Path,
    copy: Path,
    pool: Executor,
    progress: Progress,
    seconds: float,
) -> Tuned:
    from ditto.generate.clone import body_of, has_body, keep_body
    from ditto.pipeline import write_clone
    from ditto.run.build import binary_of, build_clone
    from ditto.tune.loop import tune_profile

    progress.update("copying its clone")
    shutil.copytree(made, copy)
    known = tier.profile if tier.built else None

    def remake(profile: Profile) -> Path:
        nonlocal known
        if profile != known:
            progress.update("generating")
            if not has_body(profile):
                # In another process, for this one has one core for all of its threads.
                keep_body(profile, None, pool.submit(body_of, profile).result())
            write_clone(profile, copy, None)
            build_clone(copy)
            known = profile
        return binary_of(copy)

    place = Place(driven, _with_program(wired, tier.service, binary_of(copy)), tier.service)
    return tune_profile(
        place, tier.profile, tier.folder, tier.observation, remake, progress, False, work_seconds=seconds
    )


def _with_program(wired: AppSpec, name: str, program: Path) -> AppSpec:
    """The application with another program for one of its clones."""
    services = tuple(
        service.model_copy(update={"command": (str(program), *service.command[1:])})
        if service.name == name
        else service
        for service in wired.services
    )
    return wired.model_copy(update={"services": services})


class _Shared:
    """Progress of one of several tiers; it raises once the work of all is to end."""

    def __init__(self, progress: Progress, tier: str, lock: threading.Lock, ended: threading.Event) -> None:
        self._progress, self._tier, self._lock, self._ended = progress, tier, lock, ended

    def stage(self, name: str) -> None:
        self.update(name)

    def update(self, text: str, fraction: float | None = None) -> None:
        if self._ended.is_set():
            raise CancelledError
        with self._lock:
            self._progress.update(f"{self._tier}: {text}")

    def note(self, text: str) -> None:
        with self._lock:
            self._progress.note(f"{self._tier}: {text}")
