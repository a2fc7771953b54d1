"""How the service listens, receives and sends."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from itertools import pairwise

from ditto.artifacts.profile import Listener, Op, OpKind, Receive, Send
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.roles import RoleSeen
from ditto.model.rounds import ONE_BY_ONE, Rounds
from ditto.streams.arguments import forbids_blocking, signed
from ditto.streams.calls import peer_of
from ditto.streams.cycles import Cycle, Work
from ditto.streams.datagrams import KIND as DATAGRAM
from ditto.streams.datagrams import is_datagram
from ditto.streams.events import ACCEPTS, EAGAIN, EPOLL_CTL, MSG_ZEROCOPY, RECEIVES, SENDS, Event, Obj, Stream, is_wait
from ditto.streams.programs import ends_head

REST = 16384
"""Bytes asked for behind a head: the original asks for what the head says."""
MOST_HEAD = 64
FEW_RELISTENS = 3
LEAST_TURN = 4096
"""Bytes of a reply that are sent before others have their turn; what follows less of it later was not there before."""
FEW_RESTS = 0.05
"""Further receives by request, from which on their size matters."""
_PLAIN_RECEIVES = (NUMBERS["read"], NUMBERS["recvfrom"])
_BATCH, _MOST_TOGETHER = NUMBERS["recvmmsg"], 1024
_NONBLOCK = 0o4000
_SO_REUSEPORT = (1, 15)
_SAFE_LEVELS = (1, 6, 0, 41)


def fit_receive(cycles: list[Cycle], rounds: Rounds = ONE_BY_ONE, records: bool = False) -> Receive:
    """The usual receive call, its buffer size and flags.

    ``rounds`` are those for datagrams.  Requests that are ``records`` are received one after the other by their heads,
    so that what comes second is no part of another size.
    """
    head, second = _head(cycles)
    second = 0 if records else second
    seen: Counter[tuple[int, int, int]] = Counter()
    batches: Counter[int] = Counter()
    for cycle in cycles:
        for event in cycle.events if head else (cycle.receive,):
            if event.nr in RECEIVES and event.obj is cycle.connection:
                flags = signed(event.args[3]) if event.nr in (NUMBERS["recvfrom"], _BATCH) else 0
                batches[event.args[2]] += event.nr == _BATCH
                seen[(event.nr, _asked(event), flags)] += 1
    if not seen:
        return Receive(nr=NUMBERS["read"], bytes=16384)
    if head:
        seen = Counter({call: count for call, count in seen.items() if call[1] not in (head, second)}) or seen
    (nr, size, flags), _ = seen.most_common(1)[0]
    batch = max(1, min(batches.most_common(1)[0][0], _MOST_TOGETHER)) if nr == _BATCH else 0
    rest = 0 if head or batch else _rest(cycles, size)
    size = max(size, REST) if head else size
    return Receive(
        nr=nr,
        bytes=size,
        flags=flags,
        lines=_by_lines(cycles),
        until_again=rounds.until_empty,
        head=head,
        second=second,
        rest=rest,
        batch=batch,
        enough=rounds.enough,
    )


def _by_lines(cycles: list[Cycle]) -> bool:
    """Whether what was looked at first (MSG_PEEK) is taken in pieces, as lines are."""
    peeked = in_pieces = 0
    for cycle in cycles:
        own = [event for event in cycle.events if event.nr in RECEIVES and event.obj is cycle.connection]
        for event, following in pairwise(own):
            if _peeks(event) and not _peeks(following):
                peeked += 1
                in_pieces += following.ret < event.ret
    return 0 < peeked <= 2 * in_pieces  # the last of two lines is taken as a whole


def _peeks(event: Event) -> bool:
    return event.nr == NUMBERS["recvfrom"] and bool(event.args[3] & socket.MSG_PEEK)


def _asked(event: Event) -> int:
    """Bytes that a receive asks for."""
    many = event.nr in (NUMBERS["readv"], NUMBERS["recvmsg"], _BATCH)
    size = sum(event.iov) or 16384 if many else int(event.args[2])
    return max(1, min(size, 1 << 26))


def _rest(cycles: list[Cycle], size: int) -> int:
    """The most that is asked for behind the first part of a request, where that is more than for the first; else 0.

    Of a body whose length is known servers ask for as much as there is room for.
    """
    asked = []
    for cycle in cycles:
        came = False
        for event in cycle.events:
            if event.nr in SENDS:
                break
            if event.nr in RECEIVES and event.obj is cycle.connection and event.ret > 0:
                if came:
                    asked.append(_asked(event))
                came = True
    most = max(asked, default=0)
    return most if most > size and len(asked) > FEW_RESTS * len(cycles) else 0


def _head(cycles: list[Cycle]) -> tuple[int, int]:
    """Bytes asked for first, and next, where requests are received as parts of those sizes and a rest; else 0."""
    heads: Counter[int] = Counter()
    seconds: Counter[int] = Counter()
    longer = 0
    for cycle in cycles:
        receives = [e for e in cycle.events if e.nr in RECEIVES and e.obj is cycle.connection and e.ret > 0]
        first = cycle.receive
        if len(receives) > 1 and first.nr in _PLAIN_RECEIVES and first.ret == int(first.args[2]) <= MOST_HEAD:
            heads[first.ret] += 1
            longer += len(receives) > 2
            if receives[1].ret == int(receives[1].args[2]) <= MOST_HEAD:
                seconds[receives[1].ret] += 1
    size, count = heads.most_common(1)[0] if heads else (0, 0)
    second, also = seconds.most_common(1)[0] if seconds else (0, 0)
    head = size if count > 0.8 * len(cycles) else 0
    return head, second if head and min(also, 2 * longer) > 0.8 * len(cycles) else 0


def fit_send(cycles: list[Cycle], deferred: bool, between_block: int | None, heads: bool = False) -> Send:
    """The usual send call, and how a reply is spread over calls, vectors and wake-ups.

    ``heads`` tells that a first send which ends with a head is an operation of its own: its size limits no call.
    """
    calls: Counter[tuple[int, int]] = Counter()
    vectors: Counter[int] = Counter()
    parts: list[int] = []
    spread: list[tuple[int, ...]] = []
    whole: list[int] = []
    per_wake: Counter[int] = Counter()
    vector_bytes: list[int] = []
    turns: list[int] = []
    armed = blocked = relayed = 0
    for cycle in cycles:
        sends = [(e, w) for e, w in zip(cycle.events, cycle.wake_of, strict=True)
                 if e.nr in SENDS and e.obj is cycle.connection]  # fmt: skip
        if not sends:
            continue
        first = sends[0][0]
        calls[(first.nr, _flags(first))] += 1
        if first.iovcnt:
            vectors[first.iovcnt] += 1
            if first.iovcnt > 2:
                vector_bytes += list(first.iov[1 : min(4, first.iovcnt) - 1])
        alone = heads and len(sends) > 1 and ends_head(first)
        if len(sends) == 1 + alone:
            whole.append(sends[-1][0].ret)
        if len(sends) > 1 and sends[0][0].ret >= 0 and not is_datagram(cycle.connection):
            first_turn = sum(e.ret for e, w in sends if w is sends[0][1] and e.ret > 0)
            apart = sends[0][1] is not sends[-1][1] and first_turn < LEAST_TURN
            parts += [e.ret for e, _ in sends[alone:-1] if e.ret > 0 and not apart]
            spread.append(tuple(e.ret for e, _ in sends[alone:]))
            blocked += any(e.ret == EAGAIN for e, _ in sends)
            if sends[0][1] is not sends[-1][1]:
                wakes = Counter(id(w) for e, w in sends if e.ret > 0)
                per_wake[wakes[id(sends[0][1])]] += 1
                turns.append(first_turn)
                relayed += _relays(cycle, first)
                armed += any(e.nr == EPOLL_CTL and e.target is cycle.connection for e in cycle.events)
    if not calls:
        return Send(nr=NUMBERS["write"], per_read=deferred)
    (nr, flags), _ = calls.most_common(1)[0]
    several = sum(per_wake.values()) if turns and sorted(turns)[len(turns) // 2] >= LEAST_TURN else 0
    pieces = _pieces(spread, len(cycles))
    if pieces:
        parts, vector_bytes = [], []
    call_bytes = _call_bytes(sorted(parts), spread) if len(parts) > 0.05 * len(cycles) else 0
    if sum(size > call_bytes for size in whole) > sum(len(sizes) > 1 for sizes in spread):
        # More replies left whole that are larger: what was cut was cut for reasons of its own (parts of a file).
        call_bytes, vector_bytes = 0, []
    return Send(
        nr=nr,
        flags=flags,
        call_bytes=call_bytes,
        iovs=vectors.most_common(1)[0][0] if vectors else 1,
        iov_bytes=sorted(vector_bytes)[len(vector_bytes) // 2]
        if vector_bytes and len(parts) > 0.05 * len(cycles)
        else 0,
        calls_per_wake=per_wake.most_common(1)[0][0]
        if several > 0.05 * len(cycles) and blocked + relayed < several / 2
        else 0,
        per_read=deferred,
        arm=not several or armed > several / 2,
        between_block=between_block,
        parts=pieces,
    )


def _relays(cycle: Cycle, first: Event) -> bool:
    """Whether a reply went on to be sent, after its first send, as more of it came from another service.

    It came in several wake-ups then, and did not stop to give others their turn.
    """
    at = next(i for i, event in enumerate(cycle.events) if event is first)
    return any(e.nr in RECEIVES and e.ret > 0 and peer_of(e) is not None for e in cycle.events[at + 1 :])


MOST_PIECES = 16
USUAL_PIECES = 0.8


def _pieces(spread: list[tuple[int, ...]], replies: int) -> list[int]:
    """Bytes of each send of a reply but the last, where a server writes a reply piece by piece: nearly all in as many
    sends, of which an earlier one is smaller than another, so that no limit of a call cut them."""
    count, times = Counter(map(len, spread)).most_common(1)[0] if spread else (0, 0)
    if not 2 <= count <= MOST_PIECES + 1 or times < USUAL_PIECES * replies:
        return []
    usual = [sizes for sizes in spread if len(sizes) == count and min(sizes) > 0]
    if sum(min(sizes[:-1]) < max(sizes) for sizes in usual) < USUAL_PIECES * times:
        return []
    return [sorted(sizes[at] for sizes in usual)[len(usual) // 2] for at in range(count - 1)]


_TRIED = 16
"""Limits of calls that are compared."""


def _call_bytes(parts: list[int], spread: list[tuple[int, ...]]) -> int:
    """The most bytes that one call sends of a reply which takes several.

    Args:
        parts: sizes of all but the last call of each, sorted.
        spread: results of all calls of each.

    Last calls that are larger than those before show that no limit divides the replies (a small head goes ahead, as
    with TCP_CORK): then it is what makes the usual number of calls.
    """
    usual = parts[len(parts) // 2]
    replies = [sizes for sends in spread if len(sizes := [size for size in sends if size > 0]) > 1]
    if 2 * sum(sizes[-1] > usual for sizes in replies) <= len(replies):
        return usual
    shares = sorted(-(-sum(sizes) // len(sizes)) for sizes in replies)
    tried = dict.fromkeys(shares[:: max(1, len(shares) // _TRIED)])
    return min(tried, key=lambda size: sum(abs(-(-sum(sizes) // size) - len(sizes)) for sizes in replies))


def _flags(event: Event) -> int:
    if event.nr in (NUMBERS["sendto"], NUMBERS["sendmmsg"]):
        return signed(event.args[3]) & ~MSG_ZEROCOPY
    return signed(event.args[2]) & ~MSG_ZEROCOPY if event.nr == NUMBERS["sendmsg"] else 0


def fit_listener(
    stream: Stream, work: Work, port: int, shared: bool, datagrams: bool, rounds: Rounds = ONE_BY_ONE
) -> Listener:
    """The listening socket as it was set up, and how connections are accepted from it.

    Where threads share connections (``shared``), they accept from one socket; ``datagrams`` need no connection, and
    come in ``rounds``.
    """
    kind = DATAGRAM if datagrams else "listener"
    listeners = [obj for obj in stream.descriptors.objects if obj.kind == kind]
    own = [obj for obj in listeners if obj.port == port] or listeners
    events = [e for e in stream.outside if e.obj in own] + [
        e for thread in work.threads.values() for e in thread.events if e.obj in own
    ]
    accepts = [e for e in events if e.nr in ACCEPTS]
    calls = Counter((e.nr, signed(e.args[3]) if e.nr == NUMBERS["accept4"] else 0) for e in accepts)
    (nr, flags), _ = calls.most_common(1)[0] if calls else ((NUMBERS["accept4"], _NONBLOCK), 0)
    made = sum(e.ret >= 0 for e in accepts)
    options: list[tuple[int, int, int]] = []
    for obj in own[:1]:
        for option in obj.sockopts:
            if option not in options and option[0] in _SAFE_LEVELS and option[:2] != _SO_REUSEPORT:
                options.append(option)
    return Listener(
        backlog=min(own[0].backlog, 1 << 20) if own and own[0].backlog else 511,
        nonblocking=_nonblocking(own, events),
        datagrams=datagrams,
        answers_last=rounds.answers_last,
        rewatches=rounds.rewatches,
        reuseport=not shared
        and len(own) > 1
        and any(option[:2] == _SO_REUSEPORT for obj in own for option in obj.sockopts),
        accept_nr=nr,
        accept_flags=flags & (_NONBLOCK | 0o2000000),
        accept_until_again=bool(made) and _until_again(own, work, accepts),
        sockopts=[
            Op(kind=OpKind.SETSOCKOPT, nr=NUMBERS["setsockopt"], a=level, b=option, c=value)
            for level, option, value in options[:16]
        ],
    )


def _until_again(own: list[Obj], work: Work, accepts: list[Event]) -> bool:
    """Whether a wake-up accepts until no connection is left; told by all ``accepts`` if none is in the window."""
    rounds = again = 0
    for thread in work.threads.values():
        waited = True
        for event in thread.events:
            if is_wait(event):
                waited = True
            elif event.nr in ACCEPTS and event.obj in own:
                rounds += waited
                again += event.ret == EAGAIN
                waited = False
    if not rounds:
        rounds, again = _close_accepts(accepts), sum(event.ret == EAGAIN for event in accepts)
    return again >= 0.3 * rounds


def _close_accepts(accepts: list[Event]) -> int:
    """Runs of accepts close to each other, one a wake-up: of those of which no waits were recorded."""
    rounds, last = 0, -(1 << 62)
    for event in sorted(accepts, key=lambda e: e.t_in):
        rounds += event.t_in - last > 1_000_000
        last = event.t_out
    return max(1, rounds)


def _nonblocking(own: list[Obj], events: list[Event]) -> bool:
    if any(obj.flags & _NONBLOCK for obj in own):
        return True
    for event in events:
        if event.nr == NUMBERS["fcntl"] and event.args[1] == 4 and event.args[2] & _NONBLOCK:
            return True
        if event.nr == NUMBERS["ioctl"] and forbids_blocking(event):
            return True
    return any(event.ret == EAGAIN for event in events if event.nr in ACCEPTS)


def listener_events(stream: Stream, port: int) -> int:
    """The epoll events with which the listener was added (EPOLLIN where that was not seen)."""
    for event in stream.outside:
        target = event.target
        if event.nr != EPOLL_CTL or event.args[1] != 1 or target is None or target.kind != "listener":
            continue
        if target.port in (0, port) and len(event.payload) >= 4:
            return int(struct.unpack_from("<I", event.payload)[0])
    return 1


def relisten(role: RoleSeen) -> int:
    """With every how many accepts an event loop takes the listener out of its wait set and adds it again; 0 for never.

    Of several that wait for one listener, the kernel wakes the one that was added last.
    """
    accepts = sum(event.made is not None for thread in role.work for event in thread.accepts)
    added = sum(
        event.nr == EPOLL_CTL and event.args[1] == 1 and event.target is not None and event.target.kind == "listener"
        for thread in role.work
        for event in thread.events
    )
    return min(65535, round(accepts / added)) if added >= FEW_RELISTENS and accepts >= 2 * added else 0
