"""From events to requests: which calls serve which request, and what the thread does besides.

A cycle is what happens on one connection from the first receive of a request to the last call made for it.  A thread
works for the connection it last received from, so calls without a connection of their own (opening a file, taking the
time) belong to that connection's cycle; files belong to the cycle that opened them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import NUMBERS
from ditto.streams import h2
from ditto.streams.born import adopt_births
from ditto.streams.calls import Callers, peer_of
from ditto.streams.children import find_children
from ditto.streams.datagrams import KIND as DATAGRAM
from ditto.streams.datagrams import apart, as_connections, is_datagram
from ditto.streams.events import (
    ACCEPTS,
    CLOSE,
    EAGAIN,
    EPOLL_CTL,
    OPENS,
    PARKS,
    RECEIVES,
    SENDFILES,
    SENDS,
    Event,
    Obj,
    is_sleep,
    is_wait,
    tells_of_sends,
)
from ditto.streams.multiplexed import goes_on, settle_streams
from ditto.streams.passing import passes
from ditto.streams.settled import rounds_until, settle

if TYPE_CHECKING:
    from ditto.streams.calls import Call, PeerLife
    from ditto.streams.messages import Messages, Reading

FUTEX = NUMBERS["futex"]
SHUTDOWN = NUMBERS["shutdown"]


@dataclass(eq=False)
class Wake:
    """One return of a thread's wait and what it did until the next.

    ``wait`` is None for what a thread does before its first wait in the window.
    """

    tid: int
    wait: Event | None
    index: int
    received: list[Cycle] = field(default_factory=list)
    loose: list[Event] = field(default_factory=list)
    accepted: list[Obj] = field(default_factory=list)
    events: int = 0
    answers: int = 0
    """Receives that brought a reply of another service."""


@dataclass(eq=False)
class Cycle:
    """One request (or several pipelined in one receive) on one connection."""

    connection: Obj
    tid: int
    wake: Wake
    receive: Event
    events: list[Event] = field(default_factory=list)
    wake_of: list[Wake] = field(default_factory=list)
    sent: int = 0
    received_bytes: int = 0
    deferred: bool = False
    rounds: int = 0
    """Waits that did not block between its receive and its answer, where it is answered in a later round."""
    resumed_after: Event | None = None
    """Where the first call for the request came only after a wait that did not block: its thread's call before."""
    resumed_gap: float = -1.0
    """What the thread executed between the two, where that is not counted to the call before."""
    complete: bool = False
    closed: bool = False
    """The server closed the connection after the reply, or without one, before the client did."""
    tail_receive: bool = False
    """Its thread received again on the connection before it waited for anything, and found the next request."""
    calls: list[Call] = field(default_factory=list)
    links: list[Obj] = field(default_factory=list)
    """Connections to other services, in the order in which it first called on them."""
    outstanding: int = 0
    """Calls that are begun and not answered."""
    together: int = 1
    """Requests that came in its receive; 0 where it came with an earlier one."""
    pauses: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    """By ``id`` of a call: what the request waited for before it (`ditto.streams.messages`), and the work after it."""

    def add(self, event: Event, wake: Wake) -> None:
        self.events.append(event)
        self.wake_of.append(wake)


@dataclass(eq=False)
class ConnectionLife:
    """What happened on one connection outside its cycles."""

    connection: Obj
    accept: Event | None = None
    acceptor: int = 0
    server: int = 0
    server_pid: int = 0
    setup: list[Event] = field(default_factory=list)
    closing: list[Event] = field(default_factory=list)
    cycle: Cycle | None = None
    requests: int = 0
    set_up_late: bool = False
    """Some of its set-up came with a request."""
    streams: dict[int, Cycle] = field(default_factory=dict)
    """HTTP/2: requests under way by their stream."""
    late: dict[int, Cycle] = field(default_factory=dict)
    """HTTP/2: requests of which a reply has begun, the newest last."""


@dataclass(eq=False)
class ThreadWork:
    """What one thread did in the window; ``earlier`` is what it called before that moved no data."""

    tid: int
    pid: int
    wakes: list[Wake] = field(default_factory=list)
    cycles: list[Cycle] = field(default_factory=list)
    sleeps: list[Event] = field(default_factory=list)
    parks: list[Event] = field(default_factory=list)
    accepts: list[Event] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    earlier: list[Event] = field(default_factory=list)
    siblings: bool = False
    """Other threads serve as well."""


@dataclass
class Work:
    """All threads' work and all connections' lives."""

    threads: dict[int, ThreadWork]
    lives: dict[Obj, ConnectionLife]
    peers: dict[Obj, PeerLife] = field(default_factory=dict)
    messages: Messages | None = None
    """Who passes requests to whom, if threads do."""
    told: Reading | None = None
    """How those that only wait for events read what ends their wait, if anything is written to them."""
    children: dict[int, ThreadWork] = field(default_factory=dict)
    """Processes that requests start, by their number."""


class _Follower:
    """Assigns one thread's events to cycles, connection lives and wake-ups."""

    def __init__(
        self, work: ThreadWork, lives: dict[Obj, ConnectionLife], peers: dict[Obj, PeerLife], beside: list[Cycle]
    ) -> None:
        self.work = work
        self.lives = lives
        self.callers = Callers(peers, beside)
        self.wake = Wake(work.tid, None, 0)
        work.wakes.append(self.wake)
        self.current: Obj | None = None
        self.owner: dict[Obj, Cycle] = {}
        self.fresh: ConnectionLife | None = None
        self.last_added: Cycle | None = None
        self.paused = True

    def feed(self, event: Event) -> None:
        self._assign(event)
        cycle = self.lives[self.current].cycle if self.current is not None else None
        if is_wait(event) or event.nr in PARKS or is_sleep(event):
            self.paused = True
        elif cycle is not None and cycle.events[-1] is event:
            self.last_added, self.paused = cycle, False

    def _assign(self, event: Event) -> None:
        work = self.work
        if work.events:
            work.events[-1].before_wait = is_wait(event)
        work.events.append(event)
        if is_wait(event):
            self.wake = Wake(work.tid, event, len(work.wakes))
            work.wakes.append(self.wake)
            self.current = self.fresh = None
            return
        self.wake.events += 1
        if is_sleep(event):
            work.sleeps.append(event)
        elif event.nr in ACCEPTS:
            self._accept(event)
            return
        elif event.nr in PARKS and not (event.nr == FUTEX and (event.args[1] & 127) in (1, 10, 5)):
            work.parks.append(event)
        if event.target is not None and event.target.kind == "connection" and passes(event):
            self._pass(event, event.target)
            return
        if (peer := peer_of(event)) is not None:
            self._on_peer(event, peer)
            return
        connection = event.obj if event.obj is not None and event.obj.kind == "connection" else None
        if event.nr == EPOLL_CTL and event.target is not None and event.target.kind == "connection":
            connection = event.target
        if connection is None and event.nr in SENDFILES and event.obj is not None:
            connection = event.obj if event.obj.kind == "connection" else None
        if connection is not None:
            self._on_connection(event, connection)
        elif event.obj is not None and event.obj.kind == DATAGRAM:
            self.wake.loose.append(event)  # a receive that found nothing
            self.current = None
        else:
            self._elsewhere(event)

    def _accept(self, event: Event) -> None:
        self.work.accepts.append(event)
        if event.made is None:
            self.wake.loose.append(event)
            return
        life = self.lives.setdefault(event.made, ConnectionLife(event.made))
        life.accept, life.acceptor = event, event.tid
        self.wake.accepted.append(event.made)
        self.fresh = life
        self.current = None

    def _pass(self, event: Event, connection: Obj) -> None:
        """A connection is handed to another process, or taken over from one."""
        life = self._life(connection)
        if life.accept is None:
            life.accept = event
        self._handed(event, life)
        life.setup.append(event)
        self.fresh, self.current = life, None

    def _on_peer(self, event: Event, peer: Obj) -> None:
        current = self.lives[self.current].cycle if self.current is not None else None
        cycle = self.callers.feed(event, peer, self.wake, current)
        if cycle is not None:
            cycle.add(event, self.wake)
            self.current = cycle.connection

    def _life(self, connection: Obj) -> ConnectionLife:
        return self.lives.setdefault(connection, ConnectionLife(connection))

    def _on_connection(self, event: Event, connection: Obj) -> None:
        if tells_of_sends(event):
            self.wake.loose.append(event)
            return
        life = self._life(connection)
        if life.closing and life.closing[-1].pid != event.pid and all(e.nr == CLOSE for e in life.closing):
            life.setup += life.closing  # the copies of processes that served it and left it to this one
            life.closing.clear()
        cycle = life.cycle
        if event.nr in RECEIVES and any(e.nr == SHUTDOWN for e in life.closing):
            life.closing.append(event)  # what the client still says is read and dropped
            return
        if event.nr in RECEIVES:
            if event.ret > 0:
                self._handed(event, life)
                life.server, life.server_pid = event.tid, event.pid
                self.current = connection
                self._data(event, life)
                return
            if event.ret != EAGAIN:
                if cycle is not None:
                    cycle.complete = True
                    cycle.closed = not cycle.sent  # a goodbye: whoever was first, nothing comes after it
                    life.cycle = None
                settle_streams(life, ended=True)
                life.closing.append(event)
                self.current = None
                return
        if event.nr == CLOSE and life.server_pid not in (0, event.pid):
            life.setup.append(event)  # the copy of a process that left the connection to a child
            return
        if event.nr in (CLOSE, SHUTDOWN) or life.closing:
            if cycle is not None:
                cycle.complete = True
                cycle.closed = not life.closing
                life.cycle = None
            settle_streams(life, ended=True)
            life.closing.append(event)
            self.current = None
            if event.nr == CLOSE and self.fresh is life:
                self.fresh = None
            return
        if cycle is None:
            life.setup.append(event)
            if self.current is None and self.fresh is None:
                self.fresh = life
            return
        if event.said is not None and event.nr in SENDS and not self._on_streams(event, life):
            return
        cycle = life.cycle or cycle
        if event.nr in SENDS or event.nr in SENDFILES:
            if not cycle.sent and cycle.outstanding:
                self.callers.replied(cycle)
            cycle.sent += max(0, event.ret)
            self.current = connection
            if not any(e.nr in SENDS or e.nr in SENDFILES for e in cycle.events):
                later = self.wake.received
                cycle.deferred = self.wake is cycle.wake and bool(later) and later[-1] is not cycle
                if cycle.tid == event.tid and (rounds := rounds_until(cycle, self.work, self.wake)):
                    cycle.resumed_after, cycle.rounds = self.work.events[-2], rounds
        elif self.current is None:
            self.current = connection  # what comes next, before a receive, is for it too
        cycle.add(event, self.wake)

    def _on_streams(self, event: Event, life: ConnectionLife) -> bool:
        """A send of HTTP/2: to the requests whose replies begin in it; whether it is more than that."""
        if not event.said:
            life.cycle = goes_on(life, event) or life.cycle
            if life.cycle is None or not life.cycle.sent or h2.of_connection(event.payload):
                self.wake.loose.append(event)  # belongs to no request
                return False
            return True
        for part in h2.parts(event):
            cycle = life.streams.get(h2.begun(part).stream)
            if cycle is None:
                continue
            life.cycle = cycle
            self.current = life.connection
            cycle.sent += part.ret
            cycle.add(part, self.wake)
        return False

    def _handed(self, event: Event, life: ConnectionLife) -> None:
        """A process that accepts for its children may have closed its copy before the first receive."""
        if life.closing and not life.server and event.pid != life.closing[0].pid:
            life.setup += life.closing
            life.closing = []

    def _data(self, event: Event, life: ConnectionLife) -> None:
        cycle = life.cycle
        if event.said is not None:
            self._streams_begin(event, life)
            return
        if cycle is not None and not cycle.sent:
            cycle.received_bytes += event.ret
            cycle.add(event, self.wake)
            return
        if cycle is not None:
            cycle.complete = True
            cycle.tail_receive = self.last_added is cycle and not self.paused
        cycle = Cycle(life.connection, event.tid, self.wake, event)
        cycle.complete = is_datagram(life.connection)  # nothing follows on it
        cycle.received_bytes = event.ret
        cycle.add(event, self.wake)
        life.cycle = cycle
        life.requests += 1
        self.wake.received.append(cycle)
        self.work.cycles.append(cycle)
        self.callers.received(cycle)

    def _streams_begin(self, event: Event, life: ConnectionLife) -> None:
        """A receive of HTTP/2: requests on streams of their own, or what belongs to none."""
        if not event.said:
            if h2.says_goodbye(event.recorded) and all(cycle.sent for cycle in life.streams.values()):
                life.closing.append(event)  # the client ends it, whoever closes first
            elif life.cycle is None:
                life.setup.append(event)
            else:
                life.cycle.received_bytes += 0 if life.cycle.sent else event.ret
                life.cycle.add(event, self.wake)
            return
        if life.cycle is not None and life.cycle.sent:
            life.cycle.tail_receive = self.last_added is life.cycle and not self.paused
        settle_streams(life)
        came = h2.parts(event)
        life.requests += len(came)
        for number, part in enumerate(came):
            cycle = Cycle(life.connection, event.tid, self.wake, part)
            cycle.received_bytes = part.ret
            cycle.together = 0 if number else len(came)
            cycle.add(part, self.wake)
            life.streams[h2.begun(part).stream] = cycle
            self.work.cycles.append(cycle)
            if not number:
                life.cycle = cycle
                self.wake.received.append(cycle)
                self.callers.received(cycle)

    def _elsewhere(self, event: Event) -> None:
        obj = event.obj
        cycle = self.owner.get(obj) if obj is not None else None
        if cycle is not None and cycle.complete:
            # The request that opened it is over: the file is kept for later ones.
            del self.owner[obj]  # type: ignore[arg-type]
            cycle = None
        if cycle is None and self.current is not None:
            cycle = self.lives[self.current].cycle
        if cycle is not None:
            cycle.add(event, self.wake)
            if event.nr in OPENS and event.made is not None:
                self.owner[event.made] = cycle
            elif event.nr == CLOSE and obj is not None:
                self.owner.pop(obj, None)
            return
        (self.wake.loose if self.fresh is None else self.fresh.setup).append(event)


def follow(threads: dict[int, list[Event]], said: Iterable[Event] = ()) -> Work:
    """Assign every event of a window; ``said`` is what moved data before.

    Events are fed in the order in which the calls returned, over all threads, so that a connection handed from one
    thread to another is followed.
    """
    works: dict[int, ThreadWork] = {}
    lives: dict[Obj, ConnectionLife] = {}
    peers: dict[Obj, PeerLife] = {}
    followers: dict[int, _Follower] = {}
    beside: dict[int, list[Cycle]] = defaultdict(list)
    merged = sorted((event for events in threads.values() for event in apart(events)), key=lambda e: (e.t_out, e.index))
    as_connections(merged)
    h2.annotate(chain(said, merged))
    for event in merged:
        follower = followers.get(event.tid)
        if follower is None:
            works[event.tid] = ThreadWork(event.tid, event.pid)
            follower = followers[event.tid] = _Follower(works[event.tid], lives, peers, beside[event.pid])
        follower.feed(event)
    work = Work(works, lives, peers)
    serving = sum(bool(thread.cycles) for thread in works.values())
    for thread in works.values():
        thread.siblings = serving > bool(thread.cycles)
    adopt_births(work)
    settle(work)
    find_children(work)
    return work
