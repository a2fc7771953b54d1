"""What happens to connections outside of requests, each kind as a class of its own: set-up, closing, making."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ditto.streams import programs
from ditto.streams.calls import PeerLife
from ditto.streams.cycles import Cycle, Wake, Work
from ditto.streams.events import CLOSE, Event, Obj
from ditto.streams.programs import ClassWork
from ditto.streams.serial import cycles_before_accepts

_NO_WAKE = Wake(0, None, 0)


def _of_none(connection: Obj, events: list[Event]) -> Cycle:
    """Calls of a connection that are of no request."""
    return Cycle(connection, events[0].tid, _NO_WAKE, events[0], events, [_NO_WAKE] * len(events))


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
            cycles.append(_of_none(life.connection, events))
    return programs.build(b"accept" if by_acceptor else b"adopt", cycles)


def closing_work(work: Work) -> ClassWork:
    """The closing of connections as a class."""
    cycles = []
    for life in work.lives.values():
        if life.closing and any(e.nr == CLOSE for e in life.closing):
            cycles.append(_of_none(life.connection, life.closing))
    return programs.build(b"close", cycles)


def work_before_accepts(work: Work, told: Container[int] = ()) -> ClassWork:
    """What threads that serve one connection at a time do for none of them before each accept, as a class.

    Calls of ``told`` are made with each wait for a request.
    """
    return programs.build(b"before", cycles_before_accepts(work, told))


def connect_work(lives: Iterable[PeerLife]) -> ClassWork:
    """The making of connections to other services as a class; those made before anything was recorded are left out."""
    cycles = []
    for life in lives:
        if life.created and life.calls:
            cycles.append(_of_none(life.peer, life.setup))
    return programs.build(b"connect", cycles)
