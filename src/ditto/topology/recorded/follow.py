"""Which request each call was made for.

A thread works for the request that it last received, or for the one whose call was just answered.  Work goes on in another
thread or process when one wakes it by a lock that only workers wait for, when it is born, or by a pipe.  A new connection
belongs to the request for which it was made.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ditto.artifacts.records import Recording
from ditto.streams.events import ACCEPTS, RECEIVES, SENDFILES, SENDS, WAITS, Event, Obj
from ditto.topology.recorded.connections import Connection, Connections, Exchange
from ditto.topology.recorded.feed import (
    BIRTH,
    CONNECT,
    FUTEX,
    FUTEX_OP_MASK,
    FUTEX_WAIT_OPS,
    WAKE_OPS,
    calls_in_order,
)

_CHANNELS = {"pipe", "pair", "eventfd"}


@dataclass
class Hints:
    """What a first look at a recording tells for the second.

    Attributes:
        serving: threads that receive requests.
        waiters: threads that waited at each address of each process for another thread.
    """

    serving: set[int] = field(default_factory=set)
    waiters: dict[tuple[int, int], set[int]] = field(default_factory=lambda: defaultdict(set))

    def hands_over(self, pid: int, address: int) -> bool:
        """Whether only threads that get their work from others wait there; locks that all use tell nothing."""
        found = self.waiters.get((pid, address))
        return bool(found) and not found & self.serving


@dataclass
class _Thread:
    current: Exchange | None = None
    ready: list[Exchange] = field(default_factory=list)


@dataclass
class Followed:
    """All exchanges of a recording, in the order in which they began, and the connections that carried them."""

    exchanges: list[Exchange] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)


class _Follower:
    def __init__(self, hints: Hints | None) -> None:
        self.hints = hints
        self.found = Hints()
        self.followed = Followed()
        self.connections = Connections()
        self.threads: dict[int, _Thread] = defaultdict(_Thread)
        self.open: dict[int, dict[Exchange, None]] = defaultdict(dict)
        self.woken: dict[tuple[int, int], Exchange | None] = {}
        self.channels: dict[Obj, Exchange | None] = {}

    def feed(self, at: int, event: Event) -> None:
        """Take the next call."""
        nr = event.nr
        if nr == BIRTH:
            parent = self.threads.get(int(event.args[0]))
            self.threads[event.tid] = _Thread(parent.current if parent is not None else None)
        elif nr == FUTEX:
            self._futex(event)
        elif nr in WAITS:
            thread = self.threads[event.tid]
            if event.ret > 0 and thread.current is not None and thread.current.answered:
                thread.current = None
        elif nr == CONNECT:
            connection = self.connections.connect(event)
            if connection is not None and connection.last is None:
                connection.bound = self._current(event.tid)
        elif nr in ACCEPTS:
            self.connections.accept(event)
        elif event.obj is not None and event.ret > 0:
            if nr in RECEIVES:
                self._receive(at, event, event.obj)
            elif nr in SENDS or nr in SENDFILES:
                self._send(at, event, event.obj)

    def _current(self, tid: int) -> Exchange | None:
        return self.threads[tid].current

    def _futex(self, event: Event) -> None:
        op, address = event.args[1] & FUTEX_OP_MASK, event.args[0]
        key = (event.pid, address)
        if op in FUTEX_WAIT_OPS:
            self.found.waiters[key].add(event.tid)
            if event.ret == 0 and self.hints is not None and self.hints.hands_over(*key) and key in self.woken:
                self.threads[event.tid].current = self.woken[key]
        elif op in WAKE_OPS and event.ret > 0:
            self.woken[key] = self._current(event.tid)

    def _receive(self, at: int, event: Event, obj: Obj) -> None:
        if obj.kind in _CHANNELS:
            self._from_channel(event, obj)
            return
        connection = self.connections.as_server(obj)
        if connection is not None:
            self._request_arrives(at, event, connection)
            return
        connection = self.connections.as_client(obj)
        if connection is None:
            return
        if connection.server:
            answered = connection.reply_received(at, event.ret)
        else:
            answered = connection.reply_sent(at, event.payload, event.ret)
        for exchange in answered:
            if exchange.parent is not None:
                self._work_on(event.tid, exchange.parent)

    def _work_on(self, tid: int, exchange: Exchange) -> None:
        thread = self.threads[tid]
        thread.current = exchange
        if exchange in thread.ready:
            thread.ready.remove(exchange)
        thread.ready.append(exchange)

    def _request_arrives(self, at: int, event: Event, connection: Connection) -> None:
        self.found.serving.add(event.tid)
        # A server may hand the connection to another process after the accept.
        connection.server = event.pid
        if not connection.client:
            self.followed.exchanges += connection.request_sent(at, event.payload, event.ret)
        arrived = connection.request_received(at, event.ret)
        for exchange in arrived:
            self.open[event.pid][exchange] = None
            self._work_on(event.tid, exchange)
        if arrived:
            self.threads[event.tid].current = arrived[0]
        elif connection.last is not None and not connection.last.answered:
            self.threads[event.tid].current = connection.last

    def _send(self, at: int, event: Event, obj: Obj) -> None:
        if obj.kind in _CHANNELS:
            self.channels[obj] = self._current(event.tid)
            return
        connection = self.connections.as_server(obj)
        if connection is not None:
            self._reply(at, event, connection)
            return
        connection = self.connections.as_client(obj)
        if connection is None:
            return
        made = connection.request_sent(at, event.payload, event.ret)
        if not made:
            return
        parent, guessed = self._parent(event, connection)
        connection.bound = None
        for exchange in made:
            exchange.parent, exchange.guessed = parent, guessed
            exchange.orphan = parent is None
            if parent is not None:
                parent.calls.append(exchange)
        self.followed.exchanges += made

    def _reply(self, at: int, event: Event, connection: Connection) -> None:
        answered = connection.reply_sent(at, event.payload, event.ret)
        thread = self.threads[event.tid]
        for exchange in answered:
            self.open[event.pid].pop(exchange, None)
            if exchange in thread.ready:
                thread.ready.remove(exchange)
            thread.current = exchange
        # Of requests that came together the next is worked on when one is answered.
        if connection.waiting and connection.waiting[0].arrived:
            thread.current = connection.waiting[0]

    def _from_channel(self, event: Event, obj: Obj) -> None:
        sender = self.channels.get(obj)
        if sender is not None:
            self.threads[event.tid].current = sender

    def _parent(self, event: Event, connection: Connection) -> tuple[Exchange | None, bool]:
        """The request that a call is made for, and whether that is a guess."""
        if connection.bound is not None:
            return connection.bound, False
        current = self._current(event.tid)
        open_ones = self.open[event.pid]
        if current is not None:
            guessed = current.answered != 0 or len(self.threads[event.tid].ready) > 1
            return current, guessed
        if len(open_ones) == 1:
            return next(iter(open_ones)), False
        if open_ones:
            return next(reversed(open_ones)), True
        return None, False


def follow(recording: Recording) -> Followed:
    """Find all requests between services, and what each was made for.

    The recording is gone through twice: which locks hand work over is known only after the first time.
    """
    first = _Follower(None)
    for at, event in calls_in_order(recording):
        first.feed(at, event)
    second = _Follower(first.found)
    for at, event in calls_in_order(recording):
        second.feed(at, event)
    second.followed.connections = second.connections.all
    return second.followed
