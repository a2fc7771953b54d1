"""Runs of the client that consist of parts, so that what stands at once can be loaded in turn.

What else a shared machine does changes within seconds: sides that take turns within one have the same share of it,
and runs of three seconds one after the other have not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ditto.artifacts.app import Load
from ditto.host.app import AppRun
from ditto.host.load import LoadResult

T = TypeVar("T")

MOST_PARTS = 5
LEAST_REQUESTS, _MOST_REQUESTS = 100, 50_000_000


@dataclass(frozen=True)
class Length:
    """How long a run of the client is.

    Attributes:
        asked: requests to ask for in the whole of it; None where the client is bound by time.
        parts: runs of the client that it consists of.
        seconds: to ask for in each part; None where the client takes its own time.
    """

    asked: int | None = None
    parts: int = 1
    seconds: int | None = None

    @property
    def asked_a_part(self) -> int | None:
        """Requests to ask for in each part."""
        return None if self.asked is None else max(LEAST_REQUESTS, self.asked // self.parts)

    @property
    def whole_seconds(self) -> int | None:
        """To ask for where all parts are one run."""
        return None if self.seconds is None else self.seconds * self.parts

    def shorter(self, share: float) -> Length:
        """A share of it, as far as it can be less."""
        if self.asked is not None:
            return replace(self, asked=max(LEAST_REQUESTS, int(share * self.asked)))
        return replace(self, parts=max(1, round(share * self.parts)))

    def load(self, run: AppRun) -> LoadResult:
        """Run the client for one part.

        Raises:
            AppError: it failed, or the service ended.
        """
        return run.load(self.asked_a_part, seconds=self.seconds)


def parts_of(seconds: float, each: float) -> int:
    """How many parts of ``each`` seconds a run of ``seconds`` has."""
    return max(1, min(MOST_PARTS, round(seconds / max(each, 1e-3))))


def timed_length(load: Load, seconds: float) -> Length:
    """The length of a run of about ``seconds`` under a client that is bound by time: its own, or what is asked for."""
    return Length(None, math.ceil(seconds), 1) if load.takes_seconds else Length()


def asked_in(run: AppRun, seconds: float) -> int:
    """How many requests the client of a running original, which is filled, makes in about so long.

    Raises:
        AppError: it failed, or the service ended.
    """
    asked = max(LEAST_REQUESTS, min(run.spec.load.requests.native, 5_000))
    while True:
        took = run.load(asked).seconds
        # A client's own start takes milliseconds, or a good part of a second: only a longer run tells the rate.
        if took >= seconds / 4 or asked >= _MOST_REQUESTS:
            break
        asked = min(_MOST_REQUESTS, int(asked * min(16.0, seconds / 3 / max(took, 0.01))) + 1)
    # Whatever else ran meanwhile can only have slowed it down: the faster of two runs counts.
    took = min(took, run.load(asked).seconds)
    chosen = max(LEAST_REQUESTS, min(_MOST_REQUESTS, asked * seconds / took))
    step = int(10 ** max(0, len(str(int(chosen))) - 2))
    return max(LEAST_REQUESTS, round(chosen / step) * step)


def in_turn(items: Sequence[T], times: int) -> Iterator[T]:
    """Each item as often as that: A B C C B A A B C ...

    Every other time backwards, so that what changes steadily meanwhile is the same for all over two times.
    """
    for number in range(times):
        yield from items if number % 2 == 0 else reversed(items)
