"""The validate stage: original and clone side by side, metric by metric, beside the original's own spread.

The original (A), the clone (B) and the clone with an empty body (C, in the first rounds) run in turn, A B C A B C ...,
each started anew and filled, under the app's own client at its own number of connections; how they take turns within
a round, `ditto.validate.rounds` says.  Calls and bytes come from separate runs, for counting costs time, and so do
instructions.  `ditto.validate.statistics` says what error, interval and noise are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ditto.artifacts.app import AppSpec
from ditto.artifacts.fidelity import Conditions, Fidelity, Unavailable, without_paths
from ditto.artifacts.profile import load_profile
from ditto.errors import AppError, BadInputError, MissingCapabilityError
from ditto.host.drive import plan_file
from ditto.host.in_turn import Length
from ditto.host.machine import read_facts
from ditto.host.progress import Progress, SilentProgress
from ditto.host.requests import Passes
from ditto.validate.compare import counted_figures, timed_figures
from ditto.validate.counting import Counting, count_sides
from ditto.validate.hardware import hardware_figures
from ditto.validate.instructions import compare_instructions
from ditto.validate.latency import latency_dropped, latency_figures, latency_points
from ditto.validate.levels import SHARES, Levels, find_levels
from ditto.validate.rounds import Rounds
from ditto.validate.runs import LETTERS, Sides, TimedRun, calibrate, sides_of
from ditto.validate.tiers import PERCENTILES, THROUGHPUT, Tiers, edge_figures, tier_figures
from ditto.validate.tiers import SHARES as TIER_SHARES

__all__ = ["Tiers", "ValidateOptions", "validate"]


@dataclass(frozen=True)
class ValidateOptions:
    """How to compare.

    Attributes:
        rounds: timed runs of each side.
        seconds: how long a timed run should take (loads that take ``{requests}``).
        count: count system calls and bytes.
        instructions: compare instructions and miss ratios with the lens tool.
        latency: offer load levels and measure latency.
        plan: the requests to offer; recorded from the app's own client without it.
        empty_body: also run the clone without its compute bodies.
        requests_per_asked: requests the client makes for each one it is asked for, where that is known; found from
            the server's receives without it.
        tiers: what is compared beyond the entry of an app of several services.
        app_name: name to write instead of the app's own.
        seed: of the resampling.
    """

    rounds: int = 5
    seconds: float = 3.0
    count: bool = True
    instructions: bool = True
    latency: bool = True
    plan: Path | None = None
    empty_body: bool = True
    requests_per_asked: float | None = None
    tiers: Tiers | None = None
    app_name: str | None = None
    seed: int = 1


def validate(
    spec: AppSpec, clone_dir: Path, options: ValidateOptions | None = None, progress: Progress | None = None
) -> Fidelity:
    """Compare the app with the clone built in ``clone_dir`` (``clone_dir/build/clone``).

    Raises:
        BadInputError: there is no built clone, or an option is out of range.
        AppError: the app, the clone or the client failed.
        RecordingError: the collector failed.
    """
    options = options or ValidateOptions()
    progress = progress or SilentProgress()
    if options.rounds < 1 or options.seconds <= 0:
        raise BadInputError("validate: at least one round and a time above 0 are needed", "use --rounds 5 --seconds 3")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    sides = sides_of(spec, clone_dir, options.empty_body)
    pattern = spec.load.count
    progress.stage("validate")
    length = calibrate(sides, options.seconds, progress)
    known = _known_passes(options)
    counting = Counting(passes=known or Passes())
    if options.count:
        counting = count_sides(sides, _fewer(length), known, pattern, progress)
    with _levels(sides, options, progress) as (levels, no_levels):
        runs = Rounds(sides, length, counting.passes, pattern, levels).measure(options.rounds, progress)
    if options.tiers is None:
        two = sides.two_clients
        figures = timed_figures(runs, options.seed, two_clients=two) + latency_figures(runs, options.seed)
    else:
        figures = timed_figures(runs, options.seed, THROUGHPUT) + latency_figures(runs, options.seed, PERCENTILES)
        figures += tier_figures(runs, options.tiers, options.seed) + edge_figures(options.tiers, options.seed)
    hardware, no_counters = hardware_figures(runs, options.seed)
    figures += hardware + counted_figures(counting, options.seed)
    instructions = compare_instructions(sides, options.instructions, counting.passes, pattern, options.seed, progress)
    figures += instructions.figures
    return Fidelity(
        app=options.app_name or spec.name,
        when=when,
        machine=read_facts(),
        conditions=_conditions(sides, options, runs, length),
        records=list(figures.records),
        curves=list(instructions.curves),
        mix=list(instructions.mix),
        histograms=list(instructions.histograms),
        timeline=counting.timeline(),
        syscall_table=counting.table(),
        roles=counting.role_counts(),
        latency=latency_points(runs),
        dropped=[*counting.dropped(), *instructions.dropped, *latency_dropped(runs)],
        unavailable=[
            *_uncounted(clone_dir),
            *counting.unavailable,
            *instructions.unavailable,
            *no_levels,
            *no_counters,
        ],
        raw=dict(figures.raw),
    )


def _uncounted(clone_dir: Path) -> list[Unavailable]:
    """What a clone's body is made from, where the original's instructions were not counted."""
    path = clone_dir / "profile.json"
    body = load_profile(path).services[0].body if path.is_file() else "counted"
    if body == "counted":
        return []
    why = {
        "sampled": "modelled: from samples of the CPU clock, the code there, and distances of accesses that are usual; "
        "as many instructions as take the original's time",
        "empty": "no instruction run, and no samples of the CPU clock",
    }[body]
    remedy = "give lens_command in app.toml, the same program as valgrind needs it started"
    return [Unavailable(what="the original's instructions, for the clone's body", why=why, remedy=remedy)]


@contextmanager
def _levels(
    sides: Sides, options: ValidateOptions, progress: Progress
) -> Iterator[tuple[Levels | None, tuple[Unavailable, ...]]]:
    """The load levels to offer, as long as their requests are kept; or why there are none."""
    what = "latency at load levels"
    if not options.latency:
        yield None, (Unavailable(what=what, why="not asked for"),)
        return
    with ExitStack() as kept:
        try:
            plan = kept.enter_context(plan_file(sides.spec, options.plan, None, progress))
            progress.update("finding the saturation")
            with sides.run_of("original") as run:
                run.prepare()
                levels = find_levels(run, plan, SHARES if options.tiers is None else TIER_SHARES)
        except (AppError, MissingCapabilityError) as error:
            yield None, (Unavailable(what=what, why=error.message, remedy=error.remedy),)
            return
        yield levels, ()


def _known_passes(options: ValidateOptions) -> Passes | None:
    if options.requests_per_asked is None:
        return None
    return Passes(options.requests_per_asked, "the number the client was asked for, in the requests of its protocol")


def _fewer(length: Length) -> Length:
    """Of a counting run: a third of a timed one's requests are enough to count by, or most of its seconds."""
    if length.asked is not None:
        return Length(max(100, length.asked // 3))
    whole = length.whole_seconds
    return Length() if whole is None else Length(None, 1, max(1, round(2 * whole / 3)))


def _conditions(sides: Sides, options: ValidateOptions, runs: list[TimedRun], length: Length) -> Conditions:
    first = runs[0]
    return Conditions(
        connections=sides.spec.load.connections,
        rounds=options.rounds,
        seconds=options.seconds,
        requests=int(first.requests) if length.asked is not None else 0,
        load=without_paths(sides.spec.load.command),
        counted=first.counted,
        order=" ".join(LETTERS[run.side] for run in runs),
        parts=length.parts,
        together=sides.stand_together,
    )
