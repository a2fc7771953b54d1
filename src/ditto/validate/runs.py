"""The timed runs: original, clone and empty-body clone in turn, each started anew, under the app's own client."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ditto.artifacts.app import AppSpec, Which
from ditto.errors import AppError, BadInputError
from ditto.host.app import AppRun, Wrap
from ditto.host.clones import application_spec, built_clone, clone_command
from ditto.host.counters import events_of
from ditto.host.machine import read_vendor
from ditto.host.progress import Progress
from ditto.host.requests import Passes, count_requests
from ditto.host.usage import Meter, ServiceUse, Usage, thread_count, use_by_service
from ditto.validate.levels import LevelRun, Levels, run_levels

Side = Literal["original", "clone", "empty_body"]
LETTERS: dict[Side, str] = {"original": "A", "clone": "B", "empty_body": "C"}

EMPTY_BODY_ROUNDS = 2
"""Rounds with an empty-body run: it only shows what the body is worth, so fewer will do."""
_MIN_REQUESTS, _MAX_REQUESTS = 100, 50_000_000


@dataclass(frozen=True)
class TimedRun:
    """One timed run of one side.

    Attributes:
        seconds: wall time of the client, from its start to its end.
        requests: that it made; see `ditto.host.requests`.
        counted: how that number is known.
        usage: of the server's processes during the client's run.
        resident_bytes: of the server's processes when the client had ended; pages counted once a process.
        processes, threads: of the server then.
        levels: what came under the load levels, after the client's run.
        tiers: of an app of several services, what each used during the client's run, and its memory at the end.
    """

    side: Side
    seconds: float
    requests: float
    counted: str
    usage: Usage
    resident_bytes: int
    processes: int
    threads: int
    levels: tuple[LevelRun, ...] = ()
    tiers: Mapping[str, ServiceUse] = field(default_factory=dict)


@dataclass(frozen=True)
class Sides:
    """What is compared: the app and the commands of its clone (with ``{port}``).

    ``application`` is that of several services with the clones of all tiers in their place.
    """

    spec: AppSpec
    clone: tuple[str, ...]
    empty_body: tuple[str, ...] | None
    application: AppSpec | None = None

    @property
    def two_clients(self) -> bool:
        """Whether the clone is driven by another program than the original."""
        other = self.spec.load.clone_command
        return other is not None and other[0] != self.spec.load.command[0]

    def run_of(self, side: Side, which: Which = "native", wrap: Wrap | None = None) -> AppRun:
        """A run of one side, not started.

        Raises:
            BadInputError: there is no empty-body command.
        """
        if side == "original":
            return AppRun(self.spec, which=which, wrap=wrap)
        if self.application is not None and side == "clone":
            return AppRun.for_application(self.application, wrap, which)
        command = self.clone if side == "clone" else self.empty_body
        if command is None:
            raise BadInputError("the clone cannot be run with an empty body", "build it again")
        return AppRun.for_clone(self.spec, command, which=which, wrap=wrap)


def sides_of(spec: AppSpec, clone_dir: Path, empty_body: bool) -> Sides:
    """The sides of a comparison with the clone built in ``clone_dir``.

    Raises:
        BadInputError: there is no built clone.
    """
    if spec.several:
        return Sides(spec, (), None, application_spec(spec, clone_dir))
    command = tuple(clone_command(built_clone(clone_dir)))
    return Sides(spec, command, (*command, "--skeleton") if empty_body else None)


def calibrate(sides: Sides, seconds: float, progress: Progress) -> int | None:
    """How many requests to ask for so that one run of the original takes about ``seconds``; None: time-bound."""
    if not sides.spec.load.counts_requests:
        return None
    progress.update("how many requests fit in a run")
    asked = max(_MIN_REQUESTS, min(sides.spec.load.requests.native, 5_000))
    with sides.run_of("original") as run:
        run.prepare()
        while True:
            took = run.load(asked).seconds
            # A client's own start takes milliseconds: only a longer run tells the rate.
            if took >= seconds / 4 or asked >= _MAX_REQUESTS:
                break
            asked = min(_MAX_REQUESTS, int(asked * min(16.0, seconds / 3 / max(took, 0.01))) + 1)
        # Whatever else ran meanwhile can only have slowed it down: the faster of two runs counts.
        took = min(took, run.load(asked).seconds)
    chosen = max(_MIN_REQUESTS, min(_MAX_REQUESTS, asked * seconds / took))
    step = int(10 ** max(0, len(str(int(chosen))) - 2))
    return max(_MIN_REQUESTS, round(chosen / step) * step)


def timed_run(
    sides: Sides, side: Side, asked: int | None, passes: Passes, pattern: str | None, levels: Levels | None = None
) -> TimedRun:
    """Start one side, fill it, warm it up, and measure one run of the client, then the load levels if there are any.

    Raises:
        AppError: the side or the client failed, or nothing tells the number of requests.
    """
    with sides.run_of(side) as run:
        run.prepare()
        if asked is not None:
            run.load(max(_MIN_REQUESTS, asked // 20))
        before = use_by_service(run) if sides.application is not None else {}
        with Meter(run, events_of(read_vendor())) as meter:
            result = run.load(asked)
        usage = meter.usage
        after = use_by_service(run) if before else {}
        tiers = {name: replace(use, run_s=use.run_s - before[name].run_s) for name, use in after.items()}
        memory = run.memory()
        processes, threads = thread_count(run)
        count = count_requests(result, asked, pattern, passes)
        seen = run_levels(run, levels) if levels is not None else ()
    if count.requests <= 0:
        raise AppError(f"the load of the {side} made no request", "run the load by hand against the server")
    return TimedRun(
        side, result.seconds, count.requests, count.how, usage, memory.rss_bytes, processes, threads, seen, tiers
    )


def timed_rounds(
    sides: Sides,
    rounds: int,
    asked: int | None,
    passes: Passes,
    pattern: str | None,
    progress: Progress,
    levels: Levels | None = None,
) -> list[TimedRun]:
    """``rounds`` times each side, in turn (A B C A B C ...); the empty body in the first rounds only, and
    without the load levels.

    Raises:
        AppError: see `timed_run`.
    """
    plan = [
        (number, side)
        for number in range(rounds)
        for side in order_of(sides)
        if side != "empty_body" or number < EMPTY_BODY_ROUNDS
    ]
    runs: list[TimedRun] = []
    began = time.monotonic()
    for number, side in plan:
        progress.update(f"round {number + 1} of {rounds}: {side.replace('_', ' ')}", len(runs) / len(plan))
        offered = None if side == "empty_body" else levels
        runs.append(timed_run(sides, side, asked, passes, pattern, offered))
    progress.note(f"{len(runs)} timed runs in {time.monotonic() - began:.0f} s")
    return runs


def order_of(sides: Sides) -> Sequence[Side]:
    """The sides in the order they are run."""
    return ("original", "clone", "empty_body") if sides.empty_body else ("original", "clone")
