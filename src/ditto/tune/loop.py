"""The tuning loop: first instructions, which are counted and do not depend on the machine; then measured CPU time."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import LensRun, Observation
from ditto.artifacts.profile import Profile, ServiceProfile
from ditto.errors import MissingCapabilityError
from ditto.host.app import AppRun
from ditto.host.clones import clone_command
from ditto.host.lens_session import run_under_lens
from ditto.host.progress import Progress
from ditto.streams.instructions import InstructionRun, read_instruction_run
from ditto.tune.native import LEAST_SECONDS, tune_native
from ditto.tune.score import score
from ditto.tune.work import Measured, correct, measured, predicted, runtime_lines, with_service

WORK_ROUNDS = 12
WORK_SECONDS = 44.0
"""After which no further round begins: clients that take seconds a run make rounds long."""
PATIENCE = 4
"""Rounds without a better one after which it ends."""
DAMPING = 0.6
"""Share of a difference that later rounds put right: what is left by then is partly chance."""

STORE_S = 0.5
"""For which a clone is loaded to see what its store takes, after it was filled."""
STORED_FROM = 1 << 20
"""Growth below which it is buffers and stacks rather than a store."""

Remake = Callable[[Profile], Path]
"""Generates and builds the clone of a profile; returns the program."""


@dataclass(frozen=True)
class Round:
    """One round of tuning.

    Attributes:
        phase: what was compared.
        number: from 0.
        error: relative, of instructions or of CPU time per request.
        change: what was done about it.
        errors: by figure, in units of its bound.
    """

    phase: str
    number: int
    error: float
    change: str
    errors: dict[str, float] = field(default_factory=dict)


@dataclass
class Tuned:
    """The profile as tuned, and every round."""

    profile: Profile
    rounds: list[Round] = field(default_factory=list)

    def rounds_json(self) -> str:
        """The rounds as JSON."""
        rows = [asdict(r) for r in self.rounds]
        return json.dumps({"format_version": 1, "rounds": rows}, indent=1) + "\n"


def tune_profile(
    spec: AppSpec,
    profile: Profile,
    folder: Path,
    observation: Observation,
    remake: Remake,
    progress: Progress,
    native: bool = True,
    seconds: float = 0.0,
) -> Tuned:
    """Correct a profile until its clone executes and costs what the original does.

    Args:
        spec: the app, whose client drives every run.
        profile: as fitted.
        folder: the observation's.
        observation: with its instruction run; without one only CPU time is tuned.
        remake: generates and builds a clone.
        native: whether to tune measured CPU time too.
        seconds: that tuning may take; CPU time gets what the rounds of work leave of it, and its least time anyway.

    Raises:
        AppError: app, clone or client failed.
        MissingCapabilityError: valgrind or the lens tool is missing though the observation has an instruction run.
    """
    tuned = Tuned(with_service(profile, {"stored_bytes": _stored(spec, remake(profile), progress)}))
    service = profile.services[0]
    began = time.monotonic()
    if observation.lens is not None:
        original = _read(folder, observation.lens)
        try:
            _tune_work(spec, tuned, original, service.codec, remake, progress)
        except MissingCapabilityError as error:
            progress.note(f"instructions not corrected: {error}")
    if native:
        left = max(LEAST_SECONDS, seconds - (time.monotonic() - began))
        uncounted = observation.native.makes_code or service.body == "sampled"
        tuned.profile, rounds = tune_native(spec, tuned.profile, remake, progress, left, uncounted)
        tuned.rounds += [Round("CPU time", *row) for row in rounds]
    remake(tuned.profile)
    return tuned


def _tune_work(
    spec: AppSpec, tuned: Tuned, original_run: InstructionRun, codec: str, remake: Remake, progress: Progress
) -> None:
    """Correct the blocks' aims round by round; the best round is kept."""
    service = tuned.profile.services[0]
    original = measured(service, original_run)
    progress.update("measuring the skeleton")
    skeleton = _measure(spec, service, remake(tuned.profile), codec, progress, skeleton=True)
    best = tuned.profile
    best_score = score(original.per_request(), skeleton.per_request())
    tuned.rounds.append(Round("work", 0, _missing(original, skeleton), "skeleton measured and taken off"))
    tuned.profile = with_service(tuned.profile, {"runtime_lines": runtime_lines(skeleton)})
    profile = correct(tuned.profile, original, predicted(tuned.profile, skeleton, original))
    since = 0
    began = time.monotonic()
    for number in range(1, WORK_ROUNDS + 1):
        progress.update(f"executing what the original does, round {number}", number / (WORK_ROUNDS + 1))
        clone = _measure(spec, service, remake(profile), codec, progress, skeleton=False)
        now = score(original.per_request(), clone.per_request())
        error = _missing(original, clone)
        outside = ", ".join(now.worst[:4]) or "nothing"
        progress.note(f"tune: round {number}: instructions {error:+.1%}, score {now.total:.2f}, outside: {outside}")
        since += 1
        if now.total < best_score.total or number == 1:
            best, best_score, since = profile, now, 0
        late = time.monotonic() - began > WORK_SECONDS
        ended = now.inside or number == WORK_ROUNDS or since >= PATIENCE or late
        change = "kept" if best is profile else "dropped"
        tuned.rounds.append(Round("work", number, error, f"{change}; outside: {outside}", dict(now.errors)))
        if ended:
            break
        profile = correct(profile, original, clone, 1.0 if number < 3 else DAMPING)
    tuned.profile = best


def _stored(spec: AppSpec, binary: Path, progress: Progress) -> int:
    """Bytes that the clone's memory grows by as it is filled and loaded: what clients store in it, nothing else."""
    progress.update("memory for what clients store")
    with AppRun.for_clone(spec, [*clone_command(binary), "--skeleton"]) as run:
        before = run.memory().rss_bytes
        run.prepare()
        run.load_for(STORE_S)
        grown = run.memory().rss_bytes - before
    return grown if grown >= STORED_FROM else 0


def _missing(original: Measured, clone: Measured) -> float:
    return clone.per_request().instructions / max(1.0, original.per_request().instructions) - 1


def _read(folder: Path, lens: LensRun) -> InstructionRun:
    return read_instruction_run([folder / name for name in lens.files], lens.descriptors, lens.codec)


def _measure(
    spec: AppSpec, service: ServiceProfile, binary: Path, codec: str, progress: Progress, skeleton: bool
) -> Measured:
    command = clone_command(binary) + (["--skeleton"] if skeleton else [])
    with tempfile.TemporaryDirectory(prefix="ditto-tune-") as name:
        folder = Path(name)
        made = run_under_lens(spec, folder, codec, progress, clone=command)
        run = read_instruction_run([folder / f for f in made.files], made.descriptors, codec)
    return measured(service, run)
