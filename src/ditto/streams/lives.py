"""What happens to connections outside of requests, each kind as a class of its own: set-up, closing, making."""

from __future__ import annotations

from collections.abc import Iterable

from ditto.streams import programs
from ditto.streams.calls import PeerLife
from ditto.streams.cycles import Cycle, Wake, Work
from ditto.streams.events import CLOSE
from ditto.streams.programs import ClassWork
from ditto.streams.serial import cycles_before_accepts

_NO_WAKE = Wake(0, None, 0)


def setup_work(work: Work, by_acceptor: bool) -> ClassWork:
    """The set-up of connections as a class: the accepting thread's part, or the serving thread's.

    Those of a request at most (a probe's) do not count where others were set up by later ones.
    """
    cycles = []
    late = any(life.set_up_late for life in work.lives.values())
    for life in work.lives.values():
        if life.accept is None or (late and life.requests < 2):
            continue
        events = [e for e in life.setup if (e.tid == life.acceptor) == by_acceptor]
        if events:
            cycle = Cycle(life.connection, events[0].tid, _NO_WAKE, events[0], events=events)
            cycle.wake_of = [_NO_WAKE] * len(events)
            cycles.append(cycle)
    return programs.build(b"accept" if by_acceptor else b"adopt", cycles)


def closing_work(work: Work) -> ClassWork:
    """The closing of connections as a class."""
    cycles = []
    for life in work.lives.values():
        if life.closing and any(e.nr == CLOSE for e in life.closing):
            cycle = Cycle(life.connection, life.closing[0].tid, _NO_WAKE, life.closing[0], events=life.closing)
            cycle.wake_of = [_NO_WAKE] * len(life.closing)
            cycles.append(cycle)
    return programs.build(b"close", cycles)


def work_before_accepts(work: Work) -> ClassWork:
    """What threads that serve one connection at a time do for none of them before each accept, as a class."""
    return programs.build(b"before", cycles_before_accepts(work))


def connect_work(lives: Iterable[PeerLife]) -> ClassWork:
    """The making of connections to other services as a class; those made before anything was recorded are left out."""
    cycles = []
    for life in lives:
        if life.created and life.calls:
            cycle = Cycle(life.peer, life.setup[0].tid, _NO_WAKE, life.setup[0], events=life.setup)
            cycle.wake_of = [_NO_WAKE] * len(life.setup)
            cycles.append(cycle)
    return programs.build(b"connect", cycles)
