"""What is compared, how long its runs are, and what a timed run tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ditto.artifacts.app import AppSpec, Which
from ditto.errors import BadInputError
from ditto.host.app import AppRun, Wrap
from ditto.host.clones import application_spec, built_clone, clone_command
from ditto.host.in_turn import LEAST_REQUESTS, Length, asked_in, parts_of, timed_length
from ditto.host.progress import Progress
from ditto.host.usage import ServiceUse, Usage
from ditto.validate.levels import LevelRun

Side = Literal["original", "clone", "empty_body"]
LETTERS: dict[Side, str] = {"original": "A", "clone": "B", "empty_body": "C"}

_LEAST_PART = 4.0
"""How long a part is at least, in runs of the client for a few requests: what it takes to start is no load."""


@dataclass(frozen=True)
class TimedRun:
    """One timed run of one side, which may be several runs of the client.

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
    def order(self) -> tuple[Side, ...]:
        """The sides in the order they are run."""
        return ("original", "clone", "empty_body") if self.empty_body else ("original", "clone")

    @property
    def stand_together(self) -> bool:
        """Whether all sides may run at once."""
        return self.application is None and self.spec.may_stand_twice

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


def calibrate(sides: Sides, seconds: float, progress: Progress) -> Length:
    """How long the runs are that take the original about ``seconds``.

    Raises:
        AppError: the original or the client failed.
    """
    if not sides.spec.load.counts_requests:
        return timed_length(sides.spec.load, seconds)
    progress.update("how many requests fit in a run")
    with sides.run_of("original") as run:
        run.prepare()
        start = min(run.load(LEAST_REQUESTS).seconds for _ in range(2))
        asked = asked_in(run, seconds)
    return Length(asked, parts_of(seconds, _LEAST_PART * start) if sides.stand_together else 1)
