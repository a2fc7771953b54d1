"""Load levels: the same side under an open loop at shares of the original's saturation, and under a closed loop.

Requests are those of the app's own client, recorded once and sent by the load generator; latency counts from the time
a request was meant to be sent, so that a stalled server cannot hide its queue (Tene's coordinated omission).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.plan import Arrivals
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.drive import clone_plan
from ditto.host.loadgen import LoadMeasured, Offered, drive
from ditto.host.usage import Usage, read_usage

SHARES = (0.25, 0.5, 0.75)
"""Of the original's saturation; tuning is done at saturation alone, so all three are kept out of it."""
SATURATION = 1.0
"""The level whose loop is closed: as many requests as connections, each sent when the last one is answered."""
_WARM_S = 0.15
_SECONDS = (0.8, 4.0)
_REQUESTS = 2000
"""Requests wanted at a level, for its p99; bounded by `_SECONDS`."""
_CONNECTIONS = 20
_BROKEN = 0.01
"""Share of requests whose connection may end before the reply, for a server that ends some at times."""


@dataclass(frozen=True)
class Levels:
    """What to offer.

    Attributes:
        plan, clone_plan: the requests to the original and to the clone, files of `ditto.artifacts.plan`.
        connections: of the generator.
        saturation: requests a second of the original in a closed loop.
        shares: of it, at which latency is compared.
    """

    plan: Path
    clone_plan: Path
    connections: int
    saturation: float
    shares: tuple[float, ...] = SHARES

    @property
    def all_shares(self) -> tuple[float, ...]:
        """In the order in which they are offered, the closed loop last."""
        return (*self.shares, SATURATION)

    def offered(self, share: float) -> Offered:
        """The load at a share of the saturation."""
        rate = share * self.saturation
        seconds = max(_SECONDS[0], min(_SECONDS[1], _REQUESTS / max(rate, 1e-9)))
        if share == SATURATION:
            return Offered(connections=self.connections, seconds=seconds, warmup=_WARM_S)
        return Offered(Arrivals.POISSON, rate, self.connections, seconds=seconds, warmup=_WARM_S)


@dataclass(frozen=True)
class LevelRun:
    """One level of one run.

    Attributes:
        share: of the original's saturation.
        rate: offered, requests a second; None in the closed loop.
        usage: of the server over the level, its warm-up included.
        requests: in that time.
    """

    share: float
    rate: float | None
    measured: LoadMeasured
    usage: Usage
    requests: float


def find_levels(run: AppRun, plan: Path, shares: tuple[float, ...] = SHARES) -> Levels:
    """The levels of an app, from closed loops against the running original; the slowest tells what it can hold.

    Raises:
        AppError: it does not answer, or not as it did when the requests were recorded.
    """
    connections = run.spec.load.connections or _CONNECTIONS
    offered = Offered(connections=connections, seconds=0.7, warmup=_WARM_S)
    loops = [drive(plan, run.port, offered, run.host) for _ in range(3)]
    if any(loop.unanswered or loop.broken > _BROKEN * loop.sent for loop in loops):
        raise AppError(
            f"{run.spec.name} does not answer its client's recorded requests as it did: they cannot be sent again",
            "the protocol has no codec, and its replies differ from one connection to the next",
        )
    return Levels(plan, clone_plan(plan), connections, min(loop.rate for loop in loops), shares)


def run_level(run: AppRun, levels: Levels, share: float) -> LevelRun:
    """One level against a running side.

    Raises:
        AppError: it ended or does not answer.
    """
    plan = levels.clone_plan if run.is_clone else levels.plan
    offered = levels.offered(share)
    before = read_usage(run)
    measured = drive(plan, run.port, offered, run.host)
    usage = read_usage(run) - before
    run.check_alive()
    # The generator tells the requests of the measured time; those of the warm-up came at the same rate.
    requests = measured.received * (1.0 + offered.warmup / measured.seconds) if measured.seconds > 0 else 0.0
    return LevelRun(share, offered.rate, measured, usage, requests)
