"""Which request each call was made for.

A thread works for the request that it last received, or for the one whose call was just answered.  Work goes on in
another thread or process when one wakes it by a lock that only workers wait for, when it is born, or by a pipe.  A new
connection belongs to the request for which it was made.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from ditto.artifacts.records import Recording
from ditto.streams.events import ACCEPTS, CLOSE, RECEIVES, SENDFILES, SENDS, WAITS, Event, Obj
from ditto.topology.names import endpoint_of
from ditto.topology.recorded.connections import Connection, Connections, Exchange
from ditto.topology.recorded.courses import Courses, arrived, called, kind_of, returned, swap
from ditto.topology.recorded.feed import (
    BIND,
    BIRTH,
    CONNECT,
    FUTEX,
    FUTEX_OP_MASK,
    FUTEX_WAIT_OPS,
    WAKE_OPS,
    calls_in_order,
)
from ditto.topology.recorded.paths import folded

_CHANNELS = {"pipe", "pair", "eventfd"}
# Of one lock; wakes whose waiters were not seen are forgotten.
_MOST_WOKEN = 64
# What a service still does (nanoseconds since it last went on) for a request whose client has gone.
_ABANDONED_NS = 1_000_000_000
# A request that is this much less likely than another to make a call has not made it.
_HARDLY = 0.1
# A wait of this long (nanoseconds) ends what a thread does after a reply; event loops look for more work in between.
_PAUSE_NS = 100_000


@dataclass
class Hints:
    """What a first look at a recording tells for the second.

    Attributes:
        serving: threads that receive requests.
        waiters: threads that waited at each address of each process for another thread.
        alone: requests that were the only ones under way in their process, each with whether a call of it was under way
            when its reply began.
        kinds: kinds of requests.
        courses: what requests call, from those that were alone.
        names: the endpoints of kinds whose paths name things.
    """

    serving: set[int] = field(default_factory=set)
    waiters: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    alone: list[tuple[Exchange, bool]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    courses: Courses = field(default_factory=Courses)
    names: dict[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """All was seen: draw the conclusions."""
        self.names = folded(self.kinds)
        for exchange, calling in self.alone:
            self.courses.learn(exchange, calling, self.names)
        self.alone.clear()

    def hands_over(self, pid: int, address: int) -> bool:
        """Whether only threads that get their work from others wait there; locks that all use tell nothing."""
        found = self.waiters.get((pid, address))
        return found is not None and not found & self.serving


@dataclass
class Followed:
    """All exchanges of a recording, in the order in which they began, and the connections that carried them."""

    exchanges: list[Exchange] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)


class _Follower:
    """Follows the calls of all processes.

    Attributes:
        current: what each thread works for.
        own: requests that a thread got and has not answered.
        open: the same of a process.
        woken: what the threads that woke others at an address worked for, until those go on, in order.
        channels: what the thread that last wrote to a pipe worked for.
    """

    def __init__(self, hints: Hints | None) -> None:
        self.hints = hints
        self.found = Hints()
        self.exchanges: list[Exchange] = []
        self.connections = Connections()
        self.current: dict[int, Exchange | None] = {}
        self.own: dict[int, dict[Exchange, None]] = defaultdict(dict)
        self.open: dict[int, dict[Exchange, int]] = defaultdict(dict)
        self.woken: dict[tuple[int, int], deque[Exchange | None]] = defaultdict(deque)
        self.channels: dict[Obj, Exchange | None] = {}

    def feed(self, at: int, event: Event) -> None:
        """Take the next call."""
        nr = event.nr
        if nr == BIRTH:
            self.current[event.tid] = self.current.get(int(event.args[0]))
        elif nr == FUTEX:
            self._futex(event)
        elif nr in WAITS:
            current = self.current.get(event.tid)
            paused = event.ret > 0 or event.t_out - event.t_in > _PAUSE_NS
            if paused and current is not None and current.answered:
                self.current[event.tid] = None
        elif nr == CONNECT:
            connection = self.connections.connect(event)
            if connection is not None and connection.last is None and not connection.bound:
                connection.bound = self._candidates(at, event)
        elif nr in ACCEPTS:
            self.connections.accept(event)
        elif nr == BIND:
            self.connections.bind(event)
        elif nr == CLOSE and event.obj is not None:
            for exchange in self.connections.close(event.obj, event.pid):
                exchange.abandoned = True
        elif event.obj is not None and event.ret > 0:
            if nr in RECEIVES:
                self._receive(at, event, event.obj)
            elif nr in SENDS or nr in SENDFILES:
                self._send(at, event, event.obj)

    def _futex(self, event: Event) -> None:
        op, key = event.args[1] & FUTEX_OP_MASK, (event.pid, event.args[0])
        if op in FUTEX_WAIT_OPS:
            self.found.waiters[key].add(event.tid)
            if event.ret == 0 and self.hints is not None and self.hints.hands_over(*key) and self.woken[key]:
                self.current[event.tid] = self.woken[key].popleft()
        elif op in WAKE_OPS and event.ret > 0:
            woken = self.woken[key]
            woken.extend([self.current.get(event.tid)] * min(event.ret, _MOST_WOKEN))
            while len(woken) > _MOST_WOKEN:
                woken.popleft()

    def _receive(self, at: int, event: Event, obj: Obj) -> None:
        if obj.kind in _CHANNELS:
            sender = self.channels.get(obj)
            if sender is not None:
                self.current[event.tid] = sender
        elif (connection := self.connections.as_server(obj)) is not None:
            self._request_arrives(at, event, connection)
        elif (connection := self.connections.as_client(obj)) is not None:
            self._reply_arrives(at, event, connection)

    def _request_arrives(self, at: int, event: Event, connection: Connection) -> None:
        self.found.serving.add(event.tid)
        # A server may hand the connection to another process after the accept.
        connection.server = event.pid
        if not connection.client:
            self.exchanges += self._named(connection.request_sent(at, event.payload, event.ret))
        found = connection.request_received(at, event.ret)
        beside = self._open(event.pid, at)
        for exchange in found:
            if beside:
                exchange.alone = False
                for other in beside:
                    other.alone = False
            if not exchange.silent:
                beside[exchange] = event.tid
                self.own[event.tid][exchange] = None
            arrived(exchange, at)
        if found:
            self.current[event.tid] = found[0]
        elif connection.last is not None and not connection.last.answered:
            self.current[event.tid] = connection.last

    def _reply_arrives(self, at: int, event: Event, connection: Connection) -> None:
        if connection.server:
            answered = connection.reply_received(at, event.ret)
        else:
            answered = connection.reply_sent(at, event.payload, event.ret)
        for exchange in answered:
            if exchange.parent is not None:
                self.current[event.tid] = exchange.parent
                returned(exchange, at)

    def _send(self, at: int, event: Event, obj: Obj) -> None:
        if obj.kind in _CHANNELS:
            self.channels[obj] = self.current.get(event.tid)
        elif (connection := self.connections.as_server(obj)) is not None:
            self._reply(at, event, connection)
        elif (connection := self.connections.as_client(obj)) is not None:
            made = self._named(connection.request_sent(at, event.payload, event.ret))
            if made:
                self._called(at, event, connection, made)
                self.exchanges += made

    def _called(self, at: int, event: Event, connection: Connection, made: list[Exchange]) -> None:
        """Find the request that new calls are made for."""
        candidates = [exchange for exchange in connection.bound if not exchange.answered] or connection.bound
        connection.bound = []
        candidates = candidates or self._candidates(at, event)
        if not candidates:
            return
        parent, guessed = self._chosen(at, event, candidates, kind_of(made[0]))
        for exchange in made:
            exchange.parent, exchange.guessed = parent, guessed
            called(parent, exchange)
        self.current[event.tid] = parent

    def _chosen(self, at: int, event: Event, candidates: list[Exchange], target: str) -> tuple[Exchange, bool]:
        """The request that makes a call, and whether that is a guess."""
        if self.hints is None:
            return candidates[0], False
        courses = self.hints.courses
        if len(candidates) > 1:
            return courses.choose(candidates, target)
        given = candidates[0]
        beside = self._open(event.pid, at)
        if given in self.own[event.tid] or len(beside) < 2:
            return given, False
        # A worker that finds more work when it is done with some takes it without a trace.
        best, _ = courses.choose(list(beside), target)
        if courses.chance(given, target) < _HARDLY * courses.chance(best, target):
            return best, True
        return given, False

    def _open(self, pid: int, at: int) -> dict[Exchange, int]:
        """The requests under way in a process, those abandoned long ago taken out."""
        found = self.open[pid]
        for exchange in [e for e in found if e.abandoned and at - e.moved > _ABANDONED_NS]:
            self._close(pid, exchange)
        return found

    def _candidates(self, at: int, event: Event) -> list[Exchange]:
        """The requests that a thread may be working for now; one alone is certain."""
        self._open(event.pid, at)
        own, current = self.own[event.tid], self.current.get(event.tid)
        if len(own) > 1:
            return list(own)
        if own and (current is None or current in own or current.answered):
            return list(own)
        if current is not None and (not current.answered or not own):
            return [current]
        return list(self.open[event.pid])

    def _reply(self, at: int, event: Event, connection: Connection) -> None:
        for exchange in connection.reply_sent(at, event.payload, event.ret):
            self.current[event.tid] = exchange
            if self._close(event.pid, exchange):
                self._finished(event.pid, exchange)
        # Of requests that came together the next is worked on when one is answered.
        if connection.waiting and connection.waiting[0].arrived:
            self.current[event.tid] = connection.waiting[0]

    def _finished(self, pid: int, exchange: Exchange) -> None:
        """The reply to a request has begun."""
        if self.hints is None:
            if exchange.alone:
                self.found.alone.append((exchange, exchange.under_way > 0))
            return
        exchange.course.clear()
        if exchange.under_way and not exchange.alone and self.hints.courses.waits(exchange):
            swap(exchange, list(self.open[pid]), self.hints.courses)

    def _named(self, made: list[Exchange]) -> list[Exchange]:
        """New requests, named by their endpoints."""
        for exchange in made:
            exchange.name = endpoint_of(exchange.name)
            if self.hints is None:
                self.found.kinds.add(kind_of(exchange))
            elif (name := self.hints.names.get(kind_of(exchange))) is not None:
                exchange.name = name.partition(" ")[2]
        return made

    def _close(self, pid: int, exchange: Exchange) -> bool:
        """A request is not under way any more; whether it was."""
        tid = self.open[pid].pop(exchange, None)
        if tid is not None:
            self.own[tid].pop(exchange, None)
        return tid is not None


def follow(recording: Recording) -> Followed:
    """Find all requests between services, and what each was made for.

    The recording is gone through twice: which locks hand work over, and what requests call, is known only then.
    """
    first = _Follower(None)
    for at, event in calls_in_order(recording):
        first.feed(at, event)
    first.found.close()
    second = _Follower(first.found)
    for at, event in calls_in_order(recording):
        second.feed(at, event)
    return Followed(second.exchanges, second.connections.all)
