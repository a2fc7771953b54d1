"""How servers of datagrams receive and answer in each wake-up."""

from __future__ import annotations

from dataclasses import dataclass

from ditto.streams.cycles import Wake, Work
from ditto.streams.datagrams import KIND as DATAGRAM
from ditto.streams.events import EAGAIN, EPOLL_CTL, RECEIVES, SENDS, Event

EMPTY_SHARE = 0.3
FULL_SHARE = 0.05
USUAL = 0.5
MOST_RECEIVED = 65535
_EPOLL_MOD = 3


@dataclass(frozen=True)
class Rounds:
    """How threads receive datagrams in a wake-up.

    ``until_empty``: they go on until there is none, or until they have ``enough`` (0: however many there are).
    ``answers_last``: they answer after the last receive.  ``rewatches``: the wait set is told anew each time that they
    wait for datagrams.
    """

    until_empty: bool = False
    enough: int = 0
    answers_last: bool = False
    rewatches: bool = False


ONE_BY_ONE = Rounds()
"""Of connections, and where nothing is known."""


def datagram_rounds(work: Work) -> Rounds:
    """How wake-ups with datagrams went."""
    rounds = [wake for thread in work.threads.values() for wake in thread.wakes if wake.wait and wake.received]
    several = [wake for wake in rounds if len({cycle.receive.t_out for cycle in wake.received}) > 1]
    ended = [wake for wake in rounds if any(_found_none(event) for event in wake.loose)]
    ended_ids = {id(wake) for wake in ended}
    full = [wake for wake in several if id(wake) not in ended_ids]
    until_empty = len(ended) + len(full) > EMPTY_SHARE * len(rounds)
    bounded = until_empty and len(full) > FULL_SHARE * len(rounds)
    watches = sum(
        event.nr == EPOLL_CTL
        and event.args[1] == _EPOLL_MOD
        and event.target is not None
        and event.target.kind == DATAGRAM
        for thread in work.threads.values()
        for event in thread.events
    )
    return Rounds(
        until_empty,
        min(MOST_RECEIVED, *(len(wake.received) for wake in full)) if bounded else 0,
        sum(map(_answers_last, several)) > USUAL * len(several),
        watches > USUAL * len(rounds),
    )


def _answers_last(wake: Wake) -> bool:
    """Whether all that was answered in a wake-up was so after its last receive."""
    sends = [
        event.t_out
        for cycle in wake.received
        for event, where in zip(cycle.events, cycle.wake_of, strict=True)
        if where is wake and event.nr in SENDS
    ]
    return bool(sends) and min(sends) > wake.received[-1].receive.t_out


def _found_none(event: Event) -> bool:
    return event.nr in RECEIVES and event.ret == EAGAIN and event.obj is not None and event.obj.kind == DATAGRAM
