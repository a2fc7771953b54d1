"""The study stage: original and clone under the same change, and the error of the clone's change.

Under every setting the original (A) and the clone (B) run in turn, A B A B ..., each started anew and filled, with the
requests of the app's own client from ditto's load generator; `ditto.study.runs` says which stand at once.  A study of
rates starts each side once a round and goes through all rates.  `ditto.study.statistics` says what change, error and
noise are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.fidelity import without_paths
from ditto.artifacts.study import Study, StudyConditions
from ditto.artifacts.study_kind import StudyKind
from ditto.errors import BadInputError
from ditto.host.clones import application_spec, built_clone, clone_command, tier_names
from ditto.host.drive import CONNECTIONS, plan_file
from ditto.host.machine import read_facts
from ditto.host.progress import Progress, SilentProgress
from ditto.study.records import Collected, records_of
from ditto.study.runs import SIDES, Bench, Placement, Readings, Side, placement_of, readings, scale_of, sweep
from ditto.study.settings import AXES, LEAST_CORES, Change, Scale, changes_of, check_values

__all__ = ["StudyOptions", "study"]


@dataclass(frozen=True)
class StudyOptions:
    """How to study.

    Attributes:
        rounds: runs of each side under each setting.
        seconds: measured in each of them.
        at: values in place of the usual ones: cores, connections, fractions of the memory or of the rate.
        plan: requests to send; recorded from the app's own client without it.
        connections: as many as the app's own client has without it.
    """

    rounds: int = 3
    seconds: float = 2.0
    at: tuple[float, ...] = ()
    plan: Path | None = None
    connections: int | None = None


def study(
    kind: StudyKind,
    spec: AppSpec,
    clone_dir: Path,
    options: StudyOptions | None = None,
    progress: Progress | None = None,
) -> Study:
    """Study the app and the clone built in ``clone_dir`` under one kind of change.

    Raises:
        BadInputError: there is no built clone, it is of one service where tiers are studied, or an option is out of
            range.
        MissingCapabilityError: control groups, a second CPU, stress-ng or the load generator are missing.
        AppError: the app, the clone or the load failed.
    """
    options = options or StudyOptions()
    progress = progress or SilentProgress()
    if options.rounds < 1 or options.seconds <= 0:
        raise BadInputError("study: at least one round and a time above 0 are needed", "use --rounds 3 --seconds 2")
    check_values(kind, options.at)
    if kind is StudyKind.TIERS and not spec.several:
        raise BadInputError(f"study {kind}: {spec.name} is one service", "study cores changes the CPU time of that")
    clone = application_spec(spec, clone_dir) if spec.several else tuple(clone_command(built_clone(clone_dir)))
    tiers = tier_names(spec, clone_dir) if spec.several else {}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    progress.stage(f"study {kind}")
    placement = placement_of(kind)
    late: set[str] = set()
    connections = options.connections or spec.load.connections or CONNECTIONS
    with plan_file(spec, options.plan, None, progress) as plan:
        bench = Bench(
            kind, spec, clone, plan, connections, options.seconds, placement, lambda setting: late.add(setting.name)
        )
        progress.update("what the original reaches unchanged")
        scale = scale_of(bench)
        changes = changes_of(kind, options.at, scale, tiers)
        collected = Collected()
        for side, change, found in _runs(bench, changes, scale, options.rounds, progress):
            collected.add(change.setting.name, side, found)
    settings = [change.setting for change in changes]
    idle = [tier for name, tier in tiers.items() if kind is StudyKind.TIERS and scale.cores[name] < LEAST_CORES]
    notes = _notes(placement, [setting.text for setting in settings if setting.name in late], idle)
    for note in notes:
        progress.note(note)
    return Study(
        kind=kind,
        app=spec.name,
        when=when,
        machine=read_facts(),
        conditions=StudyConditions(
            connections=connections,
            rounds=options.rounds,
            seconds=options.seconds,
            load=without_paths(spec.load.command),
            order=" ".join(["A B"] * options.rounds),
            placement=placement.text if placement is not None else "",
            together=bench.together,
        ),
        axis=AXES[kind],
        settings=settings,
        records=records_of(kind, settings, collected, options.seconds, options.rounds),
        notes=notes,
    )


def _notes(placement: Placement | None, late: list[str], idle: list[str]) -> list[str]:
    notes = []
    if idle:
        notes.append(f"not studied, for they use less than {LEAST_CORES:g} cores: {', '.join(idle)}")
    if late:
        notes.append(
            "the load generator itself was behind its schedule, so that latencies and rates are partly its own, at: "
            + "; ".join(late)
        )
    if placement is not None and placement.shared:
        notes.append("two CPUs only: a neighbour on the other core has what the load leaves of it")
    return notes


def _runs(
    bench: Bench, changes: list[Change], scale: Scale, rounds: int, progress: Progress
) -> Iterator[tuple[Side, Change, Readings]]:
    total = rounds * len(changes) * len(SIDES)
    done = 0

    def tell(number: int, change: Change, sides: Sequence[Side]) -> None:
        nonlocal done
        progress.update(f"round {number + 1} of {rounds}: {change.setting.text}: {', '.join(sides)}", done / total)
        done += len(sides)

    for number in range(rounds):
        if bench.kind is StudyKind.LOAD:
            for side in SIDES:
                found = sweep(bench, side, changes, partial(tell, number, sides=(side,)))
                yield from ((side, change, values) for change, values in zip(changes, found, strict=True))
            continue
        for change in changes:
            for side, values in readings(bench, change, scale, partial(tell, number, change)).items():
                yield side, change, values
