"""Connections between processes: the two ends of one joined by their addresses, and the requests that they carry.

What one end sends the other receives, byte for byte, so a request is found at the receiver by how many bytes came
before it, however sends were cut or joined on the way.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from ditto.streams.events import Event, Obj
from ditto.topology.recorded import framing
from ditto.topology.recorded.interleaved import Interleaved
from ditto.topology.recorded.statements import Greeted, Statements

Ends = tuple[int, int, int, int]
"""Address and port of the client, of the server."""


@dataclass(eq=False)
class Exchange:
    """A request and its reply; times in nanoseconds, 0 where an end was not seen.

    Attributes:
        caller: pid of the process that sent it; 0 for a client that is not recorded.
        server: pid of the process that got it; 0 for a server that is not recorded.
        parent: the request that it was sent for.
        called, returned: when the caller sent the first and received the last byte.
        arrived, answered: when the server received the first and sent the last byte.
        guessed: requests of other kinds were under way that it could have been sent for.
        counted: its reply has been told to the request that it was made for.
        alone: no other request was under way in the server's process.
        calls: the calls that it has made so far; ``made`` their kinds.
        under_way: how many of them are not answered.
        moved: when it could last go on: when it arrived, or one of its calls was answered.
        course: the places it has been at, and what it called from there (see `courses`).
    """

    connection: Connection
    name: str
    silent: bool
    caller: int = 0
    server: int = 0
    parent: Exchange | None = None
    called: int = 0
    returned: int = 0
    arrived: int = 0
    answered: int = 0
    asked_bytes: int = 0
    reply_bytes: int = 0
    failed: bool = False
    guessed: bool = False
    counted: bool = False
    alone: bool = True
    calls: list[Exchange] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    under_way: int = 0
    moved: int = 0
    course: list[tuple[tuple[str, tuple[str, ...], int], str]] = field(default_factory=list)

    @property
    def replied(self) -> bool:
        """Whether a reply has begun."""
        return bool(self.answered or self.returned)


@dataclass
class _Flow:
    """One direction: bytes sent and received, and what begins where in it, in order, and has not arrived.

    Nothing (None) begins with what belongs to the connection itself.
    """

    sent: int = 0
    received: int = 0
    starts: deque[tuple[int, Exchange | None]] = field(default_factory=deque)

    def arrive(self, count: int) -> list[Exchange | None]:
        self.received += count
        found: list[Exchange | None] = []
        while self.starts and self.starts[0][0] < self.received:
            found.append(self.starts.popleft()[1])
        return found


@dataclass(eq=False)
class Connection:
    """A connection of which at least one end is recorded.

    Attributes:
        client, server: the pids that hold its ends; 0 where not recorded.
        ends: None for one that is not TCP.
        place: where the server listens: its port, or the path of its socket.
        bound: the requests for one of which it was connected, until it carries one.
        waiting: requests without a reply, first in, first out.
        streams: of HTTP/2, where replies come as they like.
        statements: of MySQL, where the server speaks first.
    """

    ends: Ends | None
    place: str = ""
    client: int = 0
    server: int = 0
    bound: list[Exchange] = field(default_factory=list)
    protocol: str = ""
    requests: _Flow = field(default_factory=_Flow)
    replies: _Flow = field(default_factory=_Flow)
    waiting: deque[Exchange] = field(default_factory=deque)
    last: Exchange | None = None
    replying: Exchange | None = None
    receiving: Exchange | None = None
    streams: Interleaved | None = None
    greeted: Greeted = field(default_factory=Greeted)
    statements: Statements | None = None

    def request_sent(self, at: int, piece: bytes, count: int) -> list[Exchange]:
        """The client sent bytes (or, for a client that is not recorded, the server received them): new requests."""
        if not self.protocol:
            self._begin(piece)
        flow = self.requests
        heads = self._new_requests(piece, count)
        made = []
        for head in heads:
            exchange = Exchange(self, head.name, head.silent, caller=self.client, server=self.server)
            exchange.called = at if self.client else 0
            flow.starts.append((flow.sent + head.at, exchange))
            if head.silent:
                exchange.returned = exchange.called
            else:
                self.waiting.append(exchange)
            made.append(exchange)
        for exchange in made or ([self.last] if self.last is not None else []):
            exchange.asked_bytes += count // max(1, len(made))
        flow.sent += count
        if self.streams is not None:
            self.streams.began(made)
        if made:
            self.last = made[-1]
        return made

    def _begin(self, piece: bytes) -> None:
        """The client's first bytes tell the protocol, or the server's did before."""
        mysql = self.greeted.speaks_mysql(piece)
        self.protocol = framing.MYSQL if mysql else framing.protocol_of(piece)
        self.streams = Interleaved(piece) if self.protocol == framing.FRAMES else None
        self.statements = Statements() if mysql else None

    def _new_requests(self, piece: bytes, count: int) -> list[framing.Head]:
        if self.streams is not None:
            return self.streams.requests(piece, count)
        if self.statements is not None:
            return self.statements.requests(piece, count)
        heads = framing.request_heads(self.protocol, piece, count)
        going_on = self.last is not None and not self.last.replied
        if going_on and (not heads or self.protocol in (framing.OPAQUE, framing.PGSQL)):
            return []
        if not heads and self.protocol not in (framing.HTTP, framing.PGSQL):
            return [framing.Head(0, "request")]
        return heads

    def request_received(self, at: int, count: int) -> list[Exchange]:
        """The server received bytes: the requests that begin in them."""
        found = [exchange for exchange in self.requests.arrive(count) if exchange is not None]
        for exchange in found:
            exchange.arrived = at
            exchange.server = self.server
            if exchange.silent:
                exchange.answered = at
        return found

    def reply_sent(self, at: int, piece: bytes, count: int) -> list[Exchange]:
        """The server sent bytes (or the client received them, from one that is not recorded): whose reply it is."""
        if not self.protocol:
            self.greeted.take(piece)
        new = self._new_replies(piece, count)
        begins = self.replies.sent
        self.replies.sent += count
        if not new:
            if self.streams is not None and not self.streams.is_reply(piece):
                self.replying = None
                self.replies.starts.append((begins, None))
            if self.replying is not None:
                self._reply(self.replying, at, count)
                return [self.replying]
            return []
        for number, exchange in enumerate(new):
            self._reply(exchange, at, count // len(new))
            exchange.failed |= framing.failed(self.protocol, piece)
            self.replies.starts.append((begins + number, exchange))
        self.replying = new[-1]
        return new

    def _new_replies(self, piece: bytes, count: int) -> list[Exchange]:
        if self.streams is not None:
            new = [exchange for exchange in self.streams.replies(piece, count) if exchange in self.waiting]
            for exchange in new:
                self.waiting.remove(exchange)
            return new
        if self.statements is not None:
            number = self.statements.replies(piece, len(self.waiting))
        elif not self.waiting or framing.interim(self.protocol, piece):
            return []
        else:
            number = framing.reply_heads(self.protocol, piece, count, len(self.waiting))
        if self.replying is None:
            number = max(1, number)
        return [self.waiting.popleft() for _ in range(min(number, len(self.waiting)))]

    def _reply(self, exchange: Exchange, at: int, count: int) -> None:
        if self.server:
            exchange.answered = at
        else:
            exchange.returned = at
        exchange.reply_bytes += count

    def reply_received(self, at: int, count: int) -> list[Exchange]:
        """The client received bytes: whose reply they belong to."""
        begun = self.replies.arrive(count) or [self.receiving]
        self.receiving = begun[-1]
        found = [exchange for exchange in begun if exchange is not None]
        for exchange in found:
            exchange.returned = at
        return found

    @property
    def torn(self) -> bool:
        """Whether both ends were recorded and did not see the same bytes: something between them was lost."""
        both = bool(self.client and self.server)
        return both and (self.requests.received > self.requests.sent or self.replies.received > self.replies.sent)


def _path_of(address: bytes) -> str:
    """The path of a local socket's address (@ for the abstract ones' first byte); empty for any other."""
    if len(address) < 3 or address[:2] != b"\1\0":
        return ""
    if address[2] == 0:
        return "@" + address[3:].split(b"\0", 1)[0].decode("utf-8", "replace")
    return address[2:].split(b"\0", 1)[0].decode("utf-8", "replace")


def ends_of(event: Event) -> tuple[int, int, int, int] | None:
    """Own address and port, the other's address and port, of a connect or accept; None if it is no TCP."""
    ports, addresses = event.args[4], event.args[5]
    if not ports >> 32 & 1:
        return None
    return addresses & 0xFFFFFFFF, ports & 0xFFFF, addresses >> 32, ports >> 16 & 0xFFFF


class Connections:
    """All connections, found by the object that a descriptor stands for."""

    def __init__(self) -> None:
        self.all: list[Connection] = []
        self._client: dict[Obj, Connection] = {}
        self._server: dict[Obj, Connection] = {}
        self._calling: dict[Ends, Connection] = {}
        self._paths: dict[Obj, str] = {}
        self._local: dict[str, deque[Connection]] = defaultdict(deque)

    def bind(self, event: Event) -> None:
        """A process names its socket: local ones are found by their path."""
        path = _path_of(event.payload)
        if path and event.obj is not None and event.ret == 0:
            self._paths[event.obj] = path

    def connect(self, event: Event) -> Connection | None:
        """A process connects; None if that failed, or is neither TCP nor local."""
        ends, path = ends_of(event), _path_of(event.payload)
        if event.obj is None or not (ends or path) or (event.ret < 0 and event.ret != -115):
            return None
        known = self._client.get(event.obj)
        if known is not None and known.ends == ends and ends is not None:
            return known  # asked again whether it is connected by now
        connection = Connection(ends, str(ends[3]) if ends else path, client=event.pid)
        self.all.append(connection)
        self._client[event.obj] = connection
        if ends is not None:
            self._calling[ends] = connection
        else:
            self._local[path].append(connection)
        return connection

    def accept(self, event: Event) -> Connection | None:
        """A process accepts; the connection of the recorded process that made it, or that of a stranger."""
        connection = None if event.made is None else self._accepted(event)
        if connection is None or event.made is None:
            return None
        connection.server = event.pid
        self._server[event.made] = connection
        for exchange in connection.waiting:
            exchange.server = event.pid
        return connection

    def _accepted(self, event: Event) -> Connection | None:
        ends = ends_of(event)
        if ends is not None:
            # An address may be used again for a later connection: the latest before the accept is meant.
            connection = self._calling.pop((*ends[2:], *ends[:2]), None)
        else:
            # Local clients have no address: they are accepted in the order in which they connected.
            path = self._paths.get(event.obj, "") if event.obj is not None else ""
            if not path:
                return None
            connection = self._local[path].popleft() if self._local[path] else None
        if connection is None:
            seen = None if ends is None else (*ends[2:], *ends[:2])
            connection = Connection(seen, str(seen[3]) if seen else path)
            self.all.append(connection)
        return connection

    def close(self, obj: Obj, pid: int) -> list[Exchange]:
        """A process closes its end as a server: the requests that get no reply any more."""
        connection = self._server.get(obj)
        if connection is None or connection.server != pid:
            return []
        left = [exchange for exchange in connection.waiting if exchange.arrived]
        # A process that only accepts closes its copy before the one that serves has received anything.
        if left:
            connection.waiting.clear()
        return left

    def as_client(self, obj: Obj) -> Connection | None:
        return self._client.get(obj)

    def as_server(self, obj: Obj) -> Connection | None:
        return self._server.get(obj)
