"""The services that this one calls: how many, how they are spoken to, how connections to them are made and kept."""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from ditto.artifacts.prints import folded
from ditto.artifacts.profile import (
    CallClass,
    CallCodec,
    CallPart,
    ClassMatch,
    Dist,
    Downstream,
    Op,
    OpKind,
    Receive,
    ReplyShape,
)
from ditto.artifacts.program import MAX_DOWNSTREAMS
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.blocks import BlockBook
from ditto.model.classes import Placement, fit_program, match_of, reply_seen, shapes_of
from ditto.model.delays import fit_delays
from ditto.model.distributions import constant, dist
from ditto.model.results import sql_reply_of_size
from ditto.streams import h2, mysql, pgsql, programs, protocol
from ditto.streams.arguments import signed
from ditto.streams.calls import Call, PeerLife
from ditto.streams.cycles import Cycle, Wake, Work
from ditto.streams.events import CLOSE, CONNECT, EINPROGRESS, EPOLL_CTL, SOCKET, Event, Obj
from ditto.streams.evidence import Evidence
from ditto.streams.lives import connect_work
from ditto.streams.pipelined import Part, reply_parts, request_parts
from ditto.streams.programs import ClassWork, OpWork

MAX_CLASSES = 32
POLLIN = 1
FEW_LONG = 0.01
"""Share of calls with so long a reply below which it is not looked at how they receive the rest of it."""
MAX_RECEIVES = 16
KEPT = 1.5
"""Calls a connection from which on it is kept for more than one request."""
SHARED = 0.05
"""Sends before an earlier one was answered, by call, from which on connections are shared by requests."""
FEW_ALONE = 20
SETUP_NS = 20_000_000
"""What is done to a connection within this time of its making belongs to that, where its first request was not seen."""


@dataclass
class _Group:
    """All connections to one address."""

    address: bytes
    lives: list[PeerLife] = field(default_factory=list)

    @property
    def calls(self) -> list[Call]:
        return [call for life in self.lives for call in life.calls if call.answers]


@dataclass
class CallBook:
    """Numbers the services called and the classes of requests to them.

    ``addresses`` is where each was, as ``HOST:PORT`` (empty where that is not known): private, for whoever wires clones
    of several services together.
    """

    downstreams: list[Downstream] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    numbers: dict[Obj, int] = field(default_factory=dict)
    classes: list[dict[bytes, int]] = field(default_factory=list)
    folds: list[bool] = field(default_factory=list)

    def call_of(self, op: OpWork) -> tuple[int, Dist] | None:
        """The service that most of an operation's calls go to, and their classes there."""
        known = Counter(self.numbers[call.peer] for call in op.calls if call.peer in self.numbers)
        if not known:
            return None
        number = known.most_common(1)[0][0]
        codec, classes, folds = self.downstreams[number].codec, self.classes[number], self.folds[number]
        seen: Counter[int] = Counter()
        for call in op.calls:
            if self.numbers.get(call.peer) == number:
                seen[classes.get(_key(codec, call, folds), 0)] += 1
        return number, dist(seen) or constant(0)


def fit_downstreams(evidence: Evidence, print_key: int, book: BlockBook, placement: Placement) -> CallBook:
    """Fit every service that was called from within a request."""
    made = CallBook()
    groups: dict[bytes, _Group] = {}
    for life in evidence.work.peers.values():
        if any(call.answers for call in life.calls):
            groups.setdefault(life.peer.path, _Group(life.peer.path)).lives.append(life)
    ranked = sorted(groups.values(), key=lambda group: (-len(group.calls), group.address))[:MAX_DOWNSTREAMS]
    total = max(1, evidence.requests.total)
    for group in ranked:
        calls = _plain(group, evidence)
        for life in group.lives:
            made.numbers[life.peer] = len(made.downstreams)
        codec = _codec(calls)
        if codec in ("pgsql", "mysql"):
            _tell_statements([*group.calls, *_alone(group, evidence)], codec)
        folds = protocol.folds(codec, {_key(codec, call) for call in calls})
        classes, numbers = _classes(codec, print_key, calls, folds)
        waits = sum(call.waited for call in calls)
        connects = sum(life.created for life in group.lives)
        made.downstreams.append(
            Downstream(
                codec=codec,
                print_key=print_key,
                pool=_pool(group),
                blocking=waits < len(calls) / 2,
                receive=_receive([call.answers[0] for call in calls]),
                further=_further(calls),
                connect=_connect(evidence, group, book, placement, min(1.0, max(0.001, connects / total))),
                classes=classes,
            )
        )
        made.classes.append(numbers)
        made.folds.append(folds)
        made.addresses.append(_readable(group.address))
    if evidence.alone is not None:
        number_of = {group.address: number for number, group in enumerate(ranked)}
        for call in (call for found in evidence.alone.classes.values() for cycle in found for call in cycle.calls):
            if call.peer.path in number_of:
                made.numbers[call.peer] = number_of[call.peer.path]
    return made


def _plain(group: _Group, evidence: Evidence) -> list[Call]:
    """The calls to a service; of requests that came one at a time where others share their connections.

    What several requests send over one connection before it is answered looks like one call.
    """
    calls = group.calls
    shared = sum(life.overlapping for life in group.lives)
    if evidence.alone is None or shared <= SHARED * len(calls):
        return calls
    alone = _alone(group, evidence)
    return alone if len(alone) >= FEW_ALONE else calls


def _alone(group: _Group, evidence: Evidence) -> list[Call]:
    """The calls to a service of requests that came one at a time."""
    if evidence.alone is None:
        return []
    cycles = [cycle for found in evidence.alone.classes.values() for cycle in found]
    return [call for cycle in cycles for call in cycle.calls if call.peer.path == group.address and call.answers]


def _tell_statements(calls: list[Call], codec: str = "mysql") -> None:
    """Note what calls ask for: an execution names a statement that its connection prepared before."""
    sessions: dict[Obj, protocol.Session] = {}
    for call in sorted(calls, key=lambda call: call.sends[0].index):
        session = sessions.setdefault(call.peer, mysql.Session() if codec == "mysql" else pgsql.Session())
        call.statement = session.key(call.sends[0].payload)
        session.answered(call.answers[0].payload)


def calls_itself(evidence: Evidence) -> int:
    """Calls to the port that the service itself listens on, on this machine."""
    if not evidence.work.peers:
        return 0
    port = evidence.observation.native.port
    own = {f"127.0.0.1:{port}", f"[::1]:{port}"}
    return sum(len(life.calls) for life in evidence.work.peers.values() if _readable(life.peer.path) in own)


def _readable(address: bytes) -> str:
    """A socket address as text."""
    family = int.from_bytes(address[:2], "little")
    port = int.from_bytes(address[2:4], "big")
    if family == socket.AF_INET and len(address) >= 8:
        return f"{socket.inet_ntop(socket.AF_INET, address[4:8])}:{port}"
    if family == socket.AF_INET6 and len(address) >= 24:
        return f"[{socket.inet_ntop(socket.AF_INET6, address[8:24])}]:{port}"
    return ""


def _codec(calls: list[Call]) -> CallCodec:
    """The protocol; one that clones do not call in is as good as unknown."""
    found = protocol.recognise([call.sends[0].payload for call in calls], [call.answers[0].payload for call in calls])
    if 2 * sum(call.stream > 0 for call in calls) > len(calls):
        found = "h2"
    known: tuple[CallCodec, ...] = get_args(CallCodec)
    return next((codec for codec in known if codec == found), "opaque")


def _key(codec: str, call: Call, folds: bool = False) -> bytes:
    """What tells the classes of calls apart: of requests that were sent at once, all of them."""
    if codec == "resp2":
        return b" ".join(_key_of(codec, call, part) for part in _requests(codec, call))
    if session := protocol.session_of(codec):
        return call.statement or session.key(call.sends[0].payload)
    if codec == "h2":
        key = h2.begun(call.sends[0]).key or protocol.STRANGE
    else:
        key = protocol.request_key(codec, call.sends[0].payload, call.sent_bytes)
    return folded(key) if folds else key


def _key_of(codec: str, call: Call, part: Part) -> bytes:
    return protocol.request_key(codec, call.sends[0].recorded[part[0] :][:64], part[1])


def _requests(codec: str, call: Call) -> list[Part]:
    """The requests that a call sent at once."""
    whole = [(0, call.sent_bytes)]
    return request_parts(call.sends[0].recorded, call.sent_bytes) if codec == "resp2" else whole


def _more(print_key: int, key: bytes, calls: list[Call]) -> list[CallPart]:
    """Those after the first, of a class of calls that all sent as many."""
    found = []
    for number, verb in enumerate(key.split(b" ")[1:], 1):
        sizes = Counter(_requests("resp2", call)[number][1] for call in calls)
        found.append(
            CallPart(
                match=match_of("resp2", print_key, verb, sizes),
                request_bytes=dist(sizes) or constant(1),
                replies=shapes_of("resp2", [_reply("resp2", call, number) for call in calls]),
            )
        )
    return found


def _match(codec: str, print_key: int, key: bytes, sizes: Counter[int]) -> ClassMatch:
    """How the called service recognises the class; it may go by paths without digits though few were called here."""
    match = match_of(codec, print_key, key, sizes)
    if codec not in ("http1", "h2") or folded(key) == key:
        return match
    return match.model_copy(update={"fold_print": match_of(codec, print_key, folded(key), sizes).path_print})


def _classes(codec: str, print_key: int, calls: list[Call], folds: bool) -> tuple[list[CallClass], dict[bytes, int]]:
    by_key: dict[bytes, list[Call]] = defaultdict(list)
    for call in calls:
        by_key[_key(codec, call, folds)].append(call)
    ranked = sorted(by_key.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_CLASSES]
    total = sum(len(found) for _, found in ranked)
    classes = []
    for key, found in ranked:
        parts = len(_requests(codec, found[0]))
        sizes = Counter(_requests(codec, call)[0][1] for call in found)
        ended = sum(call.ended for call in found) / len(found)
        classes.append(
            CallClass(
                probability=len(found) / total,
                match=_match(codec, print_key, key.split(b" ")[0] if parts > 1 else key, sizes),
                request_bytes=dist(sizes) or constant(1),
                replies=_replies(codec, found),
                delay_us=fit_delays(found),
                closes=1.0 if ended > 0.98 else ended if ended > 0.02 else 0.0,
                more=_more(print_key, key, found) if parts > 1 else [],
            )
        )
    return classes, {key: number for number, (key, _) in enumerate(ranked)}


def _replies(codec: str, calls: list[Call]) -> list[ReplyShape]:
    """What a class of calls is answered; of a database as many bytes, in one value."""
    if codec in ("pgsql", "mysql"):
        sizes = Counter(call.answer_bytes for call in calls)
        return sql_reply_of_size(codec, sizes, calls[0].answers[0].payload)
    return shapes_of(codec, [_reply(codec, call) for call in calls])


def _reply(codec: str, call: Call, number: int = 0) -> protocol.ReplySeen:
    """The reply to one of the requests that were sent at once; the first may be that to all, cut off in recording."""
    first = call.answers[0]
    if codec == "h2":
        return protocol.stream_reply(call.answers, call.answer_bytes, h2.begun(call.sends[0]).grpc)
    vector = first.iov[0] if first.iovcnt > 1 else 0
    request = call.sends[0].payload
    asked = len(_requests(codec, call))
    if asked > 1:
        parts = reply_parts(first.recorded, call.answer_bytes, asked)
        at, size = parts[number] if number < len(parts) else (0, 0)
        return reply_seen(codec, first.recorded[at : at + size], size, size, 0, request, call.sent_bytes)
    return reply_seen(codec, first.payload, call.answer_bytes, first.ret, vector, request, call.sent_bytes)


def _pool(group: _Group) -> Literal["request", "connection", "thread"]:
    """Who keeps the connections: nobody, the client's connection, or the thread."""
    made = [life for life in group.lives if life.created and life.calls]
    ended = [life for life in made if life.closed]
    if len(ended) > len(made) / 2 and sum(len(life.calls) for life in ended) < KEPT * len(ended):
        return "request"
    same = other = 0
    clients = set()
    for life in group.lives:
        for before, after in zip(life.calls, life.calls[1:], strict=False):
            same += before.cycle.connection is after.cycle.connection
            other += before.cycle.connection is not after.cycle.connection
        clients |= {call.cycle.connection.serial for call in life.calls}
    return "connection" if len(clients) > 1 and other <= 0.02 * (same + other) else "thread"


def _receive(events: list[Event]) -> Receive:
    seen: Counter[tuple[int, int, int]] = Counter()
    for event in events:
        vectored = event.nr in (NUMBERS["readv"], NUMBERS["recvmsg"])
        # Of many vectors the first were recorded.
        size = (
            sum(event.iov) * max(event.iovcnt, 1) // max(1, len(event.iov)) or 16384 if vectored else int(event.args[2])
        )
        flags = signed(event.args[3]) if event.nr == NUMBERS["recvfrom"] else 0
        seen[(event.nr, max(1, min(size, 1 << 26)), flags)] += 1
    (nr, size, flags), _ = seen.most_common(1)[0]
    return Receive(nr=nr, bytes=size, flags=flags)


def _further(calls: list[Call]) -> list[Receive]:
    """How replies are received after their first receive, for as many as a noticeable share of the calls needs."""
    found: list[Receive] = []
    for at in range(1, MAX_RECEIVES + 1):
        events = [call.answers[at] for call in calls if len(call.answers) > at]
        if len(events) < FEW_LONG * len(calls):
            break
        found.append(_receive(events))
    while len(found) > 1 and found[-1] == found[-2]:
        found.pop()
    return [] if found == [_receive([call.answers[0] for call in calls])] else found


def _connect(evidence: Evidence, group: _Group, book: BlockBook, placement: Placement, runs: float) -> list[Op]:
    """The program that makes a connection."""
    seen = [life for life in group.lives if life.created and life.calls]
    work = connect_work(seen)
    gaps = evidence.gaps
    if not seen:
        work = _before(evidence.stream.outside, {life.peer for life in group.lives})
    ops = fit_program(
        work, gaps.connect if gaps else {}, book.namer(b"connect", runs), placement, deferred=False, minimum=0.3
    )
    # What a session begins with, and waits for, the runtime does by itself.
    ops = [op for op in ops if not (op.kind is OpKind.POLL and op.a & POLLIN)]
    kept = [op if op.kind is OpKind.COMPUTE else op.model_copy(update={"link": 0}) for op in ops]
    known = {op.kind for op in kept}
    if OpKind.SOCKET not in known or OpKind.CONNECT not in known:
        return [
            Op(kind=OpKind.SOCKET, nr=SOCKET, a=1, link=0),
            Op(kind=OpKind.CONNECT, nr=CONNECT, link=0),
        ]
    return _with_wait(kept, seen)


def _with_wait(ops: list[Op], lives: list[PeerLife]) -> list[Op]:
    """The wait for the connection put where it was seen: after so many of the operations."""
    places = Counter(at for life in lives if (at := _waited_at(life)) >= 0)
    if not lives or sum(places.values()) <= len(lives) / 2:
        return ops
    left = places.most_common(1)[0][0]
    for index, op in enumerate(ops):
        if left <= 0:
            return [*ops[:index], Op(kind=OpKind.CONNECTED, link=0), *ops[index:]]
        left -= op.kind is not OpKind.COMPUTE
    return [*ops, Op(kind=OpKind.CONNECTED, link=0)]


def _waited_at(life: PeerLife) -> int:
    """How many calls were made before the thread waited for the connection; -1 where it did not."""
    begun = False
    for at, (event, wake) in enumerate(zip(life.setup, life.setup_wakes, strict=True)):
        begun = begun or (event.nr == CONNECT and event.ret == EINPROGRESS)
        following = life.setup_wakes[at + 1] if at + 1 < len(life.setup) else life.first_wake
        if begun and following is not wake:
            return at + 1
    return -1


_NOWHERE = Wake(0, None, 0)


def _before(events: Iterable[Event], peers: set[Obj]) -> ClassWork:
    """How connections were made before the window, where only calls were recorded that move no data."""
    lives: dict[Obj, list[Event]] = defaultdict(list)
    for event in events:
        obj = event.made if event.nr == SOCKET else event.target if event.nr == EPOLL_CTL else event.obj
        if obj in peers and obj is not None and event.nr != CLOSE:
            found = lives[obj]
            if not found or event.t_in - found[0].t_in < SETUP_NS:
                found.append(event)
    cycles = []
    for obj, found in lives.items():
        cycle = Cycle(obj, found[0].tid, _NOWHERE, found[0], events=found)
        cycle.wake_of = [_NOWHERE] * len(found)
        cycles.append(cycle)
    return programs.build(b"connect", cycles)


def calls_outside(work: Work) -> int:
    """Sends to other services that belong to no request."""
    return sum(life.loose for life in work.peers.values())


def calls_overlapping(work: Work) -> int:
    """Requests sent on a connection on which another one's reply was still to come."""
    return sum(life.overlapping for life in work.peers.values())
