"""The tuning loop: first instructions, which are counted and do not depend on the machine; then measured CPU time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.observation import LensRun, Observation
from ditto.artifacts.profile import Profile
from ditto.errors import MissingCapabilityError
from ditto.host.lens_session import run_under_lens
from ditto.host.progress import Progress
from ditto.streams.instructions import InstructionRun, read_instruction_run
from ditto.tune.instructions import correct, costs_of, subtract_skeleton, worst_error
from ditto.tune.native import tune_native

INSTRUCTION_ROUNDS = 3
INSTRUCTION_GOAL = 0.005

Remake = Callable[[Profile], Path]
"""Generates and builds the clone of a profile; returns the program."""


@dataclass(frozen=True)
class Round:
    """One round of tuning: what was compared, by how much the clone was off, what was changed."""

    phase: str
    number: int
    error: float
    change: str


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
) -> Tuned:
    """Correct a profile until its clone executes and costs what the original does.

    Args:
        spec: the app, whose client drives every run.
        profile: as fitted.
        folder: the observation's.
        observation: with its instruction run; without one only CPU time is tuned.
        remake: generates and builds a clone.
        native: whether to tune measured CPU time too.

    Raises:
        AppError: app, clone or client failed.
        MissingCapabilityError: valgrind or the lens tool is missing though the observation has an instruction run.
    """
    tuned = Tuned(profile)
    codec = profile.services[0].codec
    if observation.lens is not None:
        original = _read(folder, observation.lens)
        try:
            _tune_instructions(spec, tuned, original, codec, remake, progress)
        except MissingCapabilityError as error:
            progress.note(f"instructions not corrected: {error}")
    if native:
        tuned.profile, rounds = tune_native(spec, tuned.profile, remake, progress)
        tuned.rounds += [Round("CPU time", *row) for row in rounds]
    remake(tuned.profile)
    return tuned


def _read(folder: Path, lens: LensRun) -> InstructionRun:
    return read_instruction_run([folder / name for name in lens.files], lens.descriptors, lens.codec, segments=False)


def _tune_instructions(
    spec: AppSpec, tuned: Tuned, original_run: InstructionRun, codec: str, remake: Remake, progress: Progress
) -> None:
    service = tuned.profile.services[0]
    original = costs_of(service, original_run)
    progress.update("measuring the skeleton")
    binary = remake(tuned.profile)
    skeleton = costs_of(service, _measure(spec, binary, codec, progress, skeleton=True))
    tuned.profile = subtract_skeleton(tuned.profile, original, skeleton)
    tuned.rounds.append(Round("instructions", 0, worst_error(original, skeleton), "skeleton measured and taken off"))
    for number in range(1, INSTRUCTION_ROUNDS + 1):
        progress.update(f"instructions, round {number}", number / (INSTRUCTION_ROUNDS + 1))
        binary = remake(tuned.profile)
        clone = costs_of(service, _measure(spec, binary, codec, progress, skeleton=False))
        error = worst_error(original, clone)
        progress.note(f"tune: instructions per request {error:+.1%} (round {number})")
        if abs(error) <= INSTRUCTION_GOAL or number == INSTRUCTION_ROUNDS:
            tuned.rounds.append(Round("instructions", number, error, "kept"))
            break
        tuned.profile = correct(tuned.profile, original, clone)
        tuned.rounds.append(Round("instructions", number, error, "bodies corrected class by class"))


def _measure(spec: AppSpec, binary: Path, codec: str, progress: Progress, skeleton: bool) -> InstructionRun:
    command = clone_command(binary) + (["--skeleton"] if skeleton else [])
    with tempfile.TemporaryDirectory(prefix="ditto-tune-") as name:
        folder = Path(name)
        made = run_under_lens(spec, folder, codec, progress, clone=command)
        return read_instruction_run([folder / f for f in made.files], made.descriptors, codec, segments=False)


def clone_command(binary: Path) -> list[str]:
    """The command of a built clone, with ``{port}`` for the app component to fill in."""
    return [str(binary.resolve()), "--port", "{port}", "--host", "127.0.0.1"]
