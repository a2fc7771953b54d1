"""The tuning loop: first instructions, which are counted and do not depend on the machine; then measured CPU time."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ditto.artifacts.observation import LensRun, Observation
from ditto.artifacts.profile import KEYED_CODECS, Profile, ServiceProfile
from ditto.errors import MissingCapabilityError
from ditto.host.app import AppRun
from ditto.host.place import Place
from ditto.host.progress import Progress
from ditto.streams.instructions import InstructionRun, read_instruction_run
from ditto.tune.native import LEAST_SECONDS, tune_native, tune_together
from ditto.tune.score import score
from ditto.tune.work import Measured, correct, measured, paced, predicted, runtime_lines, with_service

WORK_ROUNDS = 12
WORK_SECONDS = 30.0
"""After which no further round begins: clients that take seconds a run make rounds long."""
FAR = 0.1
"""Instructions off by which the second round begins in any case: one round may leave what it corrected at once."""
PATIENCE = 4
"""Rounds without a better one after which it ends."""
DAMPING = 0.6
"""Share of a difference that later rounds put right: what is left by then is partly chance."""

STORE_S = 0.5
"""For which both are loaded to see what the store takes, after they were filled, where requests cannot be counted."""
STORE_SHARE = 0.25
"""Of the requests of a native run, how many are made for that where they can."""
STORED_FROM = 1 << 20
"""Growth below which it is buffers and stacks rather than a store."""
MOST_STORED = 16.0
"""Memory that a stored value may take, in its own size."""

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


def rounds_json(rounds: Sequence[Round]) -> str:
    """Rounds as JSON."""
    return json.dumps({"format_version": 1, "rounds": [asdict(r) for r in rounds]}, indent=1) + "\n"


def tune_profile(
    place: Place,
    profile: Profile,
    folder: Path,
    observation: Observation,
    remake: Remake,
    progress: Progress,
    native: bool = True,
    seconds: float = 0.0,
    work_seconds: float = WORK_SECONDS,
    cpu_seconds: float | None = None,
) -> Tuned:
    """Correct a profile until its clone executes and costs what the original does.

    Args:
        place: where the clone stands; the app's client drives every run.
        profile: as fitted.
        folder: the observation's.
        observation: with its instruction run; without one only CPU time is tuned.
        remake: generates and builds a clone.
        native: whether to tune measured CPU time too.
        seconds: that tuning may take; CPU time gets what the rounds of work leave of it, and its least time anyway.
        work_seconds: after which no further round of work begins.
        cpu_seconds: for which CPU time is tuned, whatever ``seconds`` leave.

    Raises:
        AppError: app, clone or client failed.
        MissingCapabilityError: valgrind or the lens tool is missing though the observation has an instruction run.
    """
    tuned = Tuned(with_service(profile, stored(place, profile, remake(profile), progress)))
    service = profile.services[0]
    began = time.monotonic()
    if observation.lens is not None:
        original = _read(folder, observation.lens)
        try:
            _tune_work(place, tuned, original, service.codec, remake, progress, work_seconds)
        except MissingCapabilityError as error:
            progress.note(f"instructions not corrected: {error}")
    if native:
        left = max(LEAST_SECONDS, seconds - (time.monotonic() - began)) if cpu_seconds is None else cpu_seconds
        uncounted = is_uncounted(observation, profile)
        tuned.profile, rounds = tune_native(place, tuned.profile, remake, progress, left, uncounted)
        tuned.rounds += [Round("CPU time", *row) for row in rounds]
    remake(tuned.profile)
    return tuned


def _tune_work(
    place: Place,
    tuned: Tuned,
    original_run: InstructionRun,
    codec: str,
    remake: Remake,
    progress: Progress,
    seconds: float,
) -> None:
    """Correct the blocks' aims round by round; the best round is kept."""
    service = tuned.profile.services[0]
    original = measured(service, original_run)
    progress.update("measuring the skeleton")
    skeleton = _measure(place, service, remake(tuned.profile), codec, progress, skeleton=True)
    adapting = paced(tuned.profile, original, skeleton)
    if adapting != tuned.profile:
        tuned.profile = adapting
        skeleton = _measure(place, service, remake(adapting), codec, progress, skeleton=True)
    best = tuned.profile
    best_score = score(original.per_request(), skeleton.per_request())
    tuned.rounds.append(Round("work", 0, _missing(original, skeleton), "skeleton measured and taken off"))
    tuned.profile = with_service(
        tuned.profile, {"runtime_lines": runtime_lines(skeleton), "runtime_sets": skeleton.code_sets}
    )
    profile = correct(tuned.profile, original, predicted(tuned.profile, skeleton, original))
    since = 0
    began = time.monotonic()
    for number in range(1, WORK_ROUNDS + 1):
        progress.update(f"executing what the original does, round {number}", number / (WORK_ROUNDS + 1))
        clone = _measure(place, service, remake(profile), codec, progress, skeleton=False)
        now = score(original.per_request(), clone.per_request())
        error = _missing(original, clone)
        outside = ", ".join(now.worst[:4]) or "nothing"
        progress.note(f"tune: round {number}: instructions {error:+.1%}, score {now.total:.2f}, outside: {outside}")
        since += 1
        if now.total < best_score.total or number == 1:
            best, best_score, since = profile, now, 0
        late = time.monotonic() - began > seconds and (number > 1 or abs(error) <= FAR)
        ended = now.inside or number == WORK_ROUNDS or since >= PATIENCE or late
        change = "kept" if best is profile else "dropped"
        tuned.rounds.append(Round("work", number, error, f"{change}; outside: {outside}", dict(now.errors)))
        if ended:
            break
        profile = correct(profile, original, clone, 1.0 if number < 3 else DAMPING)
    tuned.profile = best


def is_uncounted(observation: Observation, profile: Profile) -> bool:
    """Whether a service executes here another number of instructions than was counted, or none was counted."""
    return observation.native.makes_code or profile.services[0].body == "sampled"


def tune_tiers_native(
    tiers: Mapping[str, Place],
    profiles: Mapping[str, Profile],
    uncounted: Collection[str],
    remake: Callable[[Mapping[str, Profile]], object],
    progress: Progress,
    seconds: float,
) -> dict[str, Tuned]:
    """Tune the measured CPU time of all tiers of an application, whose clones are built, in the same runs.

    Args:
        tiers: where each stands, by its name.
        profiles: as the rounds of work left them.
        uncounted: tiers whose instructions were not counted as they are here.
        remake: generates and builds the clones of some.
        seconds: after which no further knob is tried.

    Raises:
        AppError: app, clones or client failed.
    """
    found = tune_together(tiers, profiles, uncounted, remake, progress, seconds)
    return {name: Tuned(profile, [Round("CPU time", *row) for row in rows]) for name, (profile, rows) in found.items()}


def stored(place: Place, profile: Profile, binary: Path, progress: Progress) -> dict[str, object]:
    """How much memory the clone takes for what clients store, as fields of its service; none for services without keys,
    whose clones only grow by what each connection needs.

    ``stored_bytes`` of the original's observed resident memory are its clients', of which the clone keeps copies: what
    that grows by comes on top of what it starts with, and has to be as much as the original has then.
    ``stored_scale`` is what the original grew by in what the clone grew by: in the load, before which an allocator
    has taken what it takes once, or else when both were filled.

    Args:
        place: where the clone stands.
        profile: the clone's, with the original's resident memory as observed.
        binary: the clone.

    Raises:
        AppError: app, clone or client failed.
    """
    service = profile.services[0]
    if service.codec not in KEYED_CODECS:
        return {}
    progress.update("memory for what clients store")
    with place.clone(binary, ["--skeleton"]) as run:
        clone = _filled(run)
    if clone.loaded - clone.began < STORED_FROM:
        return {"stored_bytes": 0}
    with place.original() as run:
        original = _filled(run)
    scale = min(MOST_STORED, max(1.0, _scale(original, clone)))
    grown = scale * (clone.loaded - clone.began)
    # Observed were also the processes of the connections that there were, which have ended here.
    found = service.resident_bytes - service.born_bytes - (original.loaded - grown)
    return {"stored_bytes": max(0, int(found)), "stored_scale": scale}


@dataclass(frozen=True)
class _Filled:
    """Resident bytes of what began, was filled, and was loaded a little."""

    began: int
    filled: int
    loaded: int


def _scale(original: _Filled, clone: _Filled) -> float:
    """What the original grew by, in what the clone grew by; 1 where neither tells."""
    for a, b in (
        (original.loaded - original.filled, clone.loaded - clone.filled),
        (original.filled - original.began, clone.filled - clone.began),
    ):
        if min(a, b) >= STORED_FROM:
            return a / b
    return 1.0


def _filled(run: AppRun) -> _Filled:
    began = run.memory().rss_bytes
    run.prepare()
    filled = run.memory().rss_bytes
    if run.spec.load.counts_requests:
        run.load(max(100, int(run.spec.load.requests.native * STORE_SHARE)))
    else:
        run.load_for(STORE_S)
    return _Filled(began, filled, run.memory().rss_bytes)


def _missing(original: Measured, clone: Measured) -> float:
    return clone.per_request().instructions / max(1.0, original.per_request().instructions) - 1


def _read(folder: Path, lens: LensRun) -> InstructionRun:
    return read_instruction_run([folder / name for name in lens.files], lens.descriptors, lens.codec, folds=lens.folds)


def _measure(
    place: Place, service: ServiceProfile, binary: Path, codec: str, progress: Progress, skeleton: bool
) -> Measured:
    options = ["--skeleton"] if skeleton else []
    with tempfile.TemporaryDirectory(prefix="ditto-tune-") as name:
        folder = Path(name)
        made = place.under_lens(binary, options, folder, codec, service.folds, progress)
        run = read_instruction_run([folder / f for f in made.files], made.descriptors, codec, folds=service.folds)
    return measured(service, run)
