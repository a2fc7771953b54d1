"""Calls to other services: which request made which, and what became of it.

A connection that the service itself made belongs to the request that calls on it until that has its reply.  An event
loop may receive several requests before it makes the first call, so calls are given to requests in their order of
arrival, and a connection that was called on for a client before is taken to be that client's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ditto.streams.events import CLOSE, EPOLL_CTL, RECEIVES, SENDS, SOCKET, Event, Obj

if TYPE_CHECKING:
    from ditto.streams.cycles import Cycle, Wake


@dataclass(eq=False)
class Call:
    """One request to another service and its reply.

    Attributes:
        link: which of the cycle's connections it went over.
        sends: the sends of the request.
        answers: receives that brought something of the reply.
        ended: the called service closed the connection after it.
        delay_ns: from the last send to when the reply could be received, where that was seen; else -1.
        delay_least_ns: what it was at least.
        waited: the thread waited for events between request and reply.
    """

    peer: Obj
    cycle: Cycle
    link: int
    wake: Wake
    sends: list[Event] = field(default_factory=list)
    answers: list[Event] = field(default_factory=list)
    ended: bool = False
    delay_ns: int = -1
    delay_least_ns: int = 0
    waited: bool = False

    @property
    def sent_bytes(self) -> int:
        return sum(max(0, event.ret) for event in self.sends)

    @property
    def answer_bytes(self) -> int:
        return sum(event.ret for event in self.answers)


@dataclass(eq=False)
class PeerLife:
    """What happened on one connection to another service.

    Attributes:
        setup: the calls that made it, up to the first request, with the wake-ups they belong to.
        calls: the requests sent over it.
        owner: the request that it works for, or worked for last.
        home: the client's connection it was called on for when no other request could have been meant.
        created: its making was seen.
        closed: so was its end.
        loose: sends that belong to no request.
        overlapping: requests sent before the reply to an earlier one had come.
    """

    peer: Obj
    setup: list[Event] = field(default_factory=list)
    setup_wakes: list[Wake] = field(default_factory=list)
    first_wake: Wake | None = None
    calls: list[Call] = field(default_factory=list)
    owner: Cycle | None = None
    home: Obj | None = None
    created: bool = False
    closed: bool = False
    loose: int = 0
    overlapping: int = 0

    @property
    def call(self) -> Call | None:
        return self.calls[-1] if self.calls else None


def peer_of(event: Event) -> Obj | None:
    """The connection to another service that an event is about, if any."""
    obj = event.made if event.nr == SOCKET else event.target if event.nr == EPOLL_CTL else event.obj
    return obj if obj is not None and obj.kind == "downstream" else None


class Callers:
    """The requests of one thread that may call, and the connections of all threads that they may call on."""

    def __init__(self, peers: dict[Obj, PeerLife]) -> None:
        self._peers = peers
        self._open: list[Cycle] = []

    def received(self, cycle: Cycle) -> None:
        """A request has come."""
        self._open = [known for known in self._open if not known.complete and not known.sent]
        self._open.append(cycle)

    def feed(self, event: Event, peer: Obj, wake: Wake, current: Cycle | None) -> Cycle | None:
        """The request that an event on a connection to another service belongs to; None where it belongs to none."""
        life = self._peers.get(peer)
        if life is None:
            life = self._peers[peer] = PeerLife(peer)
        if event.nr in SENDS and event.ret >= 0:
            return self._send(event, life, wake, current)
        owner = life.owner if life.owner is not None and not life.owner.complete else None
        if not life.calls:
            self._set_up(event, life, wake, current)
            return None
        life.closed |= event.nr == CLOSE
        if event.nr in RECEIVES and owner is not None:
            _receive(event, life, wake)
        return owner

    def _set_up(self, event: Event, life: PeerLife, wake: Wake, current: Cycle | None) -> None:
        if event.nr == SOCKET:
            life.created = True
            life.owner = self._caller(life, current)
            if life.owner is not None:
                life.owner.outstanding += 1  # so that the next connection is for the next request
        life.setup.append(event)
        life.setup_wakes.append(wake)

    def _send(self, event: Event, life: PeerLife, wake: Wake, current: Cycle | None) -> Cycle | None:
        call = life.call
        if call is not None and not call.answers and not call.cycle.complete:
            if current is not None and current is not call.cycle and wake is not call.wake and not current.outstanding:
                life.overlapping += 1
            call.sends.append(event)
            return call.cycle
        cycle = self._caller(life, current)
        if cycle is None:
            life.loose += 1
            return None
        if life.calls or life.owner is not cycle:
            cycle.outstanding += 1
        if not life.calls:
            life.first_wake = wake
        if life.peer not in cycle.links:
            cycle.links.append(life.peer)
        made = Call(life.peer, cycle, cycle.links.index(life.peer), wake, [event])
        life.owner = cycle
        life.calls.append(made)
        cycle.calls.append(made)
        return cycle

    def _caller(self, life: PeerLife, current: Cycle | None) -> Cycle | None:
        """The request on whose behalf a connection is made or called on."""
        waiting = [cycle for cycle in self._open if not cycle.complete and not cycle.sent]
        if life.owner is not None and life.owner in waiting:
            return life.owner
        free = [cycle for cycle in waiting if not cycle.outstanding]
        if len(free) == 1:
            life.home = free[0].connection
            return free[0]
        home = life.home or (life.owner.connection if life.owner is not None else None)
        for cycle in free:
            if cycle.connection is home:
                return cycle
        fresh = [cycle for cycle in free if not cycle.calls]
        if fresh and (current is None or not current.calls or current in fresh):
            return fresh[0]
        if current is not None and current in waiting:
            return current
        return fresh[0] if fresh else None


def _receive(event: Event, life: PeerLife, wake: Wake) -> None:
    call = life.call
    if call is None:
        return
    if event.ret == 0:
        call.ended = True
    if event.ret <= 0:
        return
    if not call.answers:
        call.cycle.outstanding = max(0, call.cycle.outstanding - 1)
        call.waited = wake is not call.wake
        _time(call, event, wake)
    call.answers.append(event)
    wake.answers += 1


def _time(call: Call, event: Event, wake: Wake) -> None:
    """When the reply came: at the end of a wait that it ended, or while a receive waited for it."""
    sent = call.sends[-1].t_out
    if wake is call.wake or wake.wait is None:
        call.delay_ns = event.t_out - sent
        return
    call.delay_least_ns = max(0, wake.wait.t_in - sent)
    if wake.events <= 1 or not wake.answers:
        slept = wake.wait.t_out - wake.wait.t_in
        if slept > _SLEPT_NS and wake.wait.t_in >= sent:
            call.delay_ns = wake.wait.t_out - sent


_SLEPT_NS = 5_000
"""Waits that are shorter found something ready."""
