"""The timed rounds: original, clone and empty-body clone in turn under the app's own client.

In a round all sides stand at once where the app permits it, each started anew, and a run of each consists of parts that
take turns: A B C C B A A B C ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add

from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.counters import events_of
from ditto.host.in_turn import LEAST_REQUESTS, Length, in_turn
from ditto.host.machine import read_vendor
from ditto.host.progress import Progress
from ditto.host.requests import Passes, count_requests
from ditto.host.usage import Meter, ServiceUse, Usage, thread_count, use_by_service
from ditto.validate.levels import LevelRun, Levels, run_level
from ditto.validate.runs import Side, Sides, TimedRun

EMPTY_BODY_ROUNDS = 2
"""Rounds with an empty-body run: it only shows what the body is worth, so fewer will do."""


@dataclass(frozen=True)
class Rounds:
    """What all timed rounds have in common.

    Attributes:
        sides: what is compared.
        length: of a run.
        passes, pattern: how requests are counted; see `ditto.host.requests`.
        levels: load levels to offer after the client's runs, not to the empty body.
    """

    sides: Sides
    length: Length
    passes: Passes
    pattern: str | None
    levels: Levels | None = None

    def measure(self, rounds: int, progress: Progress) -> list[TimedRun]:
        """Run that many rounds.

        Returns:
            The runs, the rounds one after the other, each in the order of the sides.

        Raises:
            AppError: a side or the client failed, or nothing tells the number of requests.
        """
        plan = [(number, batch) for number in range(rounds) for batch in self._batches(number)]
        runs: list[TimedRun] = []
        began = time.monotonic()
        for done, (number, batch) in enumerate(plan):
            named = ", ".join(side.replace("_", " ") for side in batch)
            progress.update(f"round {number + 1} of {rounds}: {named}", done / len(plan))
            runs += self._run(batch)
        progress.note(f"{len(runs)} timed runs in {time.monotonic() - began:.0f} s")
        return runs

    def _batches(self, number: int) -> Iterator[tuple[Side, ...]]:
        """The sides of a round that stand at once, in the order in which they do."""
        sides = tuple(side for side in self.sides.order if side != "empty_body" or number < EMPTY_BODY_ROUNDS)
        if self.sides.stand_together:
            yield sides
        else:
            yield from ((side,) for side in sides)

    def _run(self, batch: Sequence[Side]) -> list[TimedRun]:
        """One run of each of these sides: started, filled and warmed up, then its parts and the load levels in turn."""
        with ExitStack() as stack:
            running = [_Running(side, stack.enter_context(self.sides.run_of(side))) for side in batch]
            for each in running:
                each.run.prepare()
                if self.length.asked is not None:
                    each.run.load(max(LEAST_REQUESTS, self.length.asked // 20))
            for each in in_turn(running, self.length.parts):
                self._part(each)
            ended = [each.ended() for each in running]
            if self.levels is not None:
                for share in self.levels.all_shares:
                    for each in running:
                        if each.side != "empty_body":
                            each.levels.append(run_level(each.run, self.levels, share))
            return [replace(run, levels=tuple(each.levels)) for run, each in zip(ended, running, strict=True)]

    def _part(self, each: _Running) -> None:
        before = use_by_service(each.run) if self.sides.application is not None else {}
        with Meter(each.run, events_of(read_vendor())) as meter:
            result = self.length.load(each.run)
        after = use_by_service(each.run) if before else {}
        count = count_requests(result, self.length.asked_a_part, self.pattern, self.passes)
        if count.requests <= 0:
            raise AppError(f"the load of the {each.side} made no request", "run the load by hand against the server")
        each.seconds += result.seconds
        each.requests += count.requests
        each.counted = count.how
        each.usage.append(meter.usage)
        each.tiers.append({name: replace(use, run_s=use.run_s - before[name].run_s) for name, use in after.items()})


@dataclass
class _Running:
    """One side while it stands, and what its parts have told so far."""

    side: Side
    run: AppRun
    seconds: float = 0.0
    requests: float = 0.0
    counted: str = ""
    usage: list[Usage] = field(default_factory=list)
    tiers: list[dict[str, ServiceUse]] = field(default_factory=list)
    levels: list[LevelRun] = field(default_factory=list)

    def ended(self) -> TimedRun:
        """The run of the client, now that its parts are over."""
        processes, threads = thread_count(self.run)
        run_s = {name: sum(part[name].run_s for part in self.tiers) for name in self.tiers[-1]}
        return TimedRun(
            self.side,
            self.seconds,
            self.requests,
            self.counted,
            reduce(add, self.usage),
            self.run.memory().rss_bytes,
            processes,
            threads,
            tiers={name: replace(use, run_s=run_s[name]) for name, use in self.tiers[-1].items()},
        )
