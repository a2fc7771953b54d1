"""Calls to other services: which request made which, and what became of it.

A connection that the service itself made belongs to the request that calls on it until that has its reply.  An event
loop may receive several requests before it makes the first call, so calls are given to requests in their order of
arrival.  Should a request be answered to its client before the call that it was given has its reply, that call was
another one's: the two are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ditto.streams import h2, mysql, pgsql
from ditto.streams.events import CLOSE, EPOLL_CTL, RECEIVES, SENDS, SOCKET, Event, Obj

if TYPE_CHECKING:
    from ditto.streams.cycles import Cycle, Wake


_UNDER_WAY = 256
"""Calls over one connection of HTTP/2 among which an answer's is looked for."""


@dataclass(eq=False)
class Call:
    """One request to another service and its reply.

    Attributes:
        link: which of the cycle's connections it went over.
        sends: the sends of the request.
        answers: receives that brought something of the reply.
        ended: the called service closed the connection after it.
        delay_ns: from the last send to when the reply could be received, where that was seen; else -1.
        delay_least_ns, delay_most_ns: what it was at least, and at most; 0 where that is not known.
        waited: the thread waited for events between request and reply.
        beside: other requests to the same address that had no reply yet when it was sent.
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
    delay_most_ns: int = 0
    waited: bool = False
    beside: int = 0
    stream: int = 0
    """HTTP/2: the one on which it was made."""
    statement: bytes = b""
    """Of a database, once told: what it asks for, also where it names what was prepared before."""

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
        created: its making was seen.
        closed: so was its end.
        loose: sends that belong to no request.
        overlapping: requests sent before the reply to an earlier one had come.
        ahead: what was done to it for the next request, with the wake-ups it belongs to.
    """

    peer: Obj
    setup: list[Event] = field(default_factory=list)
    setup_wakes: list[Wake] = field(default_factory=list)
    first_wake: Wake | None = None
    calls: list[Call] = field(default_factory=list)
    owner: Cycle | None = None
    created: bool = False
    closed: bool = False
    loose: int = 0
    overlapping: int = 0
    ahead: list[tuple[Event, Wake]] = field(default_factory=list)

    @property
    def call(self) -> Call | None:
        return self.calls[-1] if self.calls else None


def peer_of(event: Event) -> Obj | None:
    """The connection to another service that an event is about, if any."""
    obj = event.made if event.nr == SOCKET else event.target if event.nr == EPOLL_CTL else event.obj
    return obj if obj is not None and obj.kind == "downstream" else None


class Callers:
    """The requests of one thread that may call, and the connections of all threads that they may call on.

    ``beside`` are those of all threads of its process: a task that goes on in another thread than the one that received
    its request calls from there.
    """

    def __init__(self, peers: dict[Obj, PeerLife], beside: list[Cycle]) -> None:
        self._peers = peers
        self._open: list[Cycle] = []
        self._beside = beside
        self._serves = False

    def received(self, cycle: Cycle) -> None:
        """A request has come."""
        self._serves = True
        for known in (self._open, self._beside):
            known[:] = [*_waiting(known), cycle]

    def feed(self, event: Event, peer: Obj, wake: Wake, current: Cycle | None) -> Cycle | None:
        """The request that an event on a connection to another service belongs to; None where it belongs to none."""
        life = self._peers.get(peer)
        if life is None:
            life = self._peers[peer] = PeerLife(peer)
        if event.said is not None:
            return self._on_streams(event, life, wake, current)
        if event.nr in SENDS and event.ret >= 0:
            return self._send(event, life, wake, current)
        owner = life.owner if life.owner is not None and not life.owner.complete else None
        if not life.calls:
            self._set_up(event, life, wake, current)
            return None
        life.closed |= event.nr == CLOSE
        if self._ahead(event, life, current):
            life.ahead.append((event, wake))
            return None
        if event.nr in RECEIVES and owner is not None and life.call is not None:
            _receive(event, life.call, wake)
        return owner

    def _on_streams(self, event: Event, life: PeerLife, wake: Wake, current: Cycle | None) -> Cycle | None:
        """A send or a receive of HTTP/2, of as many requests or replies as begin in it."""
        found: Cycle | None = None
        if not event.said:
            call = life.call
            if event.nr in SENDS or h2.of_connection(event.payload) or call is None or not call.answers:
                return None  # is of no request
            _receive(event, call, wake)
            return call.cycle
        for part in h2.parts(event):
            stream = h2.begun(part).stream
            if event.nr in SENDS:
                cycle = self._begin(part, life, wake, current)
                if cycle is not None:
                    life.calls[-1].stream = stream
            else:
                call = next((known for known in life.calls[: -_UNDER_WAY - 1 : -1] if known.stream == stream), None)
                cycle = call.cycle if call is not None and not call.cycle.complete else None
                if call is not None and cycle is not None:
                    _receive(part, call, wake)
            if found is not None and cycle is not None:
                cycle.add(part, wake)
            found = found or cycle
        return found

    def _ahead(self, event: Event, life: PeerLife, current: Cycle | None) -> bool:
        """Whether something is done to a kept connection for a request that is about to call on it.

        It came after the last reply on that connection, and the thread is at a request that has not called yet.  Which
        request that is, the call tells.
        """
        call = life.call
        if event.nr in RECEIVES or event.nr == CLOSE or call is None or not call.answers or current is None:
            return False
        waits = not (current.complete or current.sent or current.calls or current.outstanding)
        return current is not life.owner and waits

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
        if call is None and _begins_session(event, life):
            self._set_up(event, life, wake, current)  # a database takes statements only then
            return None
        if call is not None and not call.answers and not call.cycle.complete:
            if current is not None and current is not call.cycle and wake is not call.wake and not current.outstanding:
                life.overlapping += 1
            call.sends.append(event)
            return call.cycle
        return self._begin(event, life, wake, current)

    def _begin(self, event: Event, life: PeerLife, wake: Wake, current: Cycle | None) -> Cycle | None:
        """A request to another service."""
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
        for before in life.ahead:
            cycle.add(*before)
        life.ahead.clear()
        made = Call(life.peer, cycle, cycle.links.index(life.peer), wake, [event])
        made.beside = sum(1 for known in self._open if known is not cycle and known.outstanding)
        life.owner = cycle
        life.calls.append(made)
        cycle.calls.append(made)
        return cycle

    def _caller(self, life: PeerLife, current: Cycle | None) -> Cycle | None:
        """The request on whose behalf a connection is made or called on."""
        waiting = _waiting(self._open)
        fresh = [cycle for cycle in waiting if not cycle.outstanding and not cycle.calls]
        if life.owner in waiting and (life.owner is current or not life.calls or not fresh):
            return life.owner
        if fresh and (current is None or not current.calls or current.outstanding):
            return fresh[0]
        if current is not None and current in waiting:
            return current
        if fresh:
            return fresh[0]
        # A task that goes on in the round after the one that brought its replies: first those that had them first.
        ready = [cycle for cycle in waiting if not cycle.outstanding and all(call.answers for call in cycle.calls)]
        first = min(ready, key=lambda cycle: max(call.answers[-1].index for call in cycle.calls), default=None)
        return first or self._elsewhere()

    def _elsewhere(self) -> Cycle | None:
        """The only request that waits in another thread, if there is one: a thread that serves others calls for it."""
        waiting = _waiting(self._beside) if self._serves else []
        return waiting[0] if len(waiting) == 1 else None

    def replied(self, cycle: Cycle) -> None:
        """The first send of a reply to a client."""
        if not cycle.outstanding:
            return
        answered = [
            other for other in self._open if other.calls and not (other.outstanding or other.sent or other.complete)
        ]
        if answered:
            self._exchange(cycle, min(answered, key=lambda other: other.calls[-1].answers[0].index))

    def _exchange(self, one: Cycle, other: Cycle) -> None:
        """Two requests get each other's calls, with all that was done on those connections."""
        taken = [_take(cycle) for cycle in (one, other)]
        one.calls, other.calls = other.calls, one.calls
        one.links, other.links = other.links, one.links
        one.outstanding, other.outstanding = other.outstanding, one.outstanding
        for cycle, found in ((one, taken[1]), (other, taken[0])):
            joined = sorted([*zip(cycle.events, cycle.wake_of, strict=True), *found], key=lambda pair: pair[0].index)
            cycle.events = [event for event, _ in joined]
            cycle.wake_of = [wake for _, wake in joined]
            for call in cycle.calls:
                call.cycle = cycle
                self._peers[call.peer].owner = cycle


def _begins_session(event: Event, life: PeerLife) -> bool:
    if pgsql.begins_session(event.payload):
        return True
    greeted = any(before.nr in RECEIVES and mysql.greets(before.payload) for before in life.setup)
    return greeted and mysql.begins_session(event.payload, event.ret)


def _waiting(cycles: list[Cycle]) -> list[Cycle]:
    return [cycle for cycle in cycles if not cycle.complete and not cycle.sent]


def _take(cycle: Cycle) -> list[tuple[Event, Wake]]:
    """What a request did on connections to other services, taken out of it."""
    pairs = list(zip(cycle.events, cycle.wake_of, strict=True))
    found = [pair for pair in pairs if peer_of(pair[0]) in cycle.links]
    kept = [pair for pair in pairs if peer_of(pair[0]) not in cycle.links]
    cycle.events = [event for event, _ in kept]
    cycle.wake_of = [wake for _, wake in kept]
    return found


def _receive(event: Event, call: Call, wake: Wake) -> None:
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
    call.delay_most_ns = max(0, wake.wait.t_out - sent)
    if wake.events <= 1 or not wake.answers:
        slept = wake.wait.t_out - wake.wait.t_in
        if slept > _SLEPT_NS and wake.wait.t_in >= sent:
            call.delay_ns = wake.wait.t_out - sent


_SLEPT_NS = 5_000
"""Waits that are shorter found something ready."""
