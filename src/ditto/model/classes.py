"""Request classes of the profile: how a request is recognised, what it is answered, what is done for it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from select import POLLOUT
from typing import Any

from ditto.artifacts.observation import ResultSeen
from ditto.artifacts.prints import WORD_KEY, path_print
from ditto.artifacts.profile import MAX_LINKS, ClassMatch, Dist, Op, OpKind, ReplyShape, RequestClass
from ditto.model.access import Place, fit_access
from ditto.model.by_reply import REPLY_DRAW, Sort, drawn_with
from ditto.model.distributions import constant, dist
from ditto.model.framing import framed
from ditto.model.results import sql_replies
from ditto.model.settled_calls import settled_calls
from ditto.model.together import SURE, draws_of
from ditto.model.verbs import MEMCACHED_VERBS, RESP_VERBS, SQL_VERBS
from ditto.model.waits import watched_last
from ditto.streams import h2
from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDFILES, SENDS, Event
from ditto.streams.evidence import gap_names
from ditto.streams.programs import FILE_READS, RECEIVE, RESUME, ClassWork, OpName, OpWork
from ditto.streams.protocol import RECORDED, ReplySeen, reply_shape, stream_reply, value_size_from_total
from ditto.streams.silent import SILENT

RARE_OP = 0.002
"""An operation made for fewer requests of a class than this is left out of its program."""
SEVERAL_KEYS = 1.05
"""Keys a request from which on hits are counted by keys."""
VALUE_FRAME = len(b"VALUE    \r\n\r\n")
"""Bytes around a value beside its key, flags, size and data."""
MOST_HEAD = 1024
"""Bytes of a reply's head, where it is taken to be what a file leaves."""
HEAD_END = b"\r\n\r\n"
MAX_REPLIES = 16
MAX_OPS = 512
HELPERS = -1
"""Argument of a wake-up of helping threads until their role is known."""

BlockFor = Callable[[OpName | None, float], list[int]]
"""Gives the blocks for the work after an operation (None: on receiving) that amounts to so many instructions."""


@dataclass(frozen=True)
class Placement:
    """Where a program's files are: group and slot by the operation's own slot name."""

    group_of: Callable[[OpName, OpWork], int]
    slot_of: Callable[[tuple[str, object] | None], int]
    call_of: Callable[[OpWork], tuple[int, Dist] | None] = lambda op: None
    """Which service a call goes to, and its classes there."""
    size_of: Callable[[tuple[str, object] | None], int] = lambda slot: 0
    """Bytes of the file that a slot stands for, 0 where that is not known."""


def fit_class(
    codec: str,
    print_key: int,
    work: ClassWork,
    share: float,
    amounts: dict[OpName, float],
    block_for: BlockFor,
    placement: Placement,
    deferred: bool,
    framing: str = "",
    results: Sequence[ResultSeen] = (),
) -> RequestClass:
    """The profile's request class for the cycles of one class.

    ``framing`` is what ends HTTP replies, if known; ``results`` what a database was seen to answer.
    """
    closes = _closes(work, codec)
    sizes = Counter(cycle.received_bytes for cycle in work.cycles)
    shapes = [] if codec in ("pgsql", "mysql") else reply_shapes(codec, work.cycles)
    drawn: dict[OpName, dict[str, object]] = {}
    if codec == "http1":
        sorts = reply_sorts(codec, work.cycles)
        shapes, drawn = drawn_with([_sort(codec, cycle) for cycle in work.coursed()], work, sorts) or (shapes, drawn)
    return RequestClass(
        probability=share,
        match=match_of(codec, print_key, work.key, sizes),
        request_bytes=dist(sizes) or constant(1),
        replies=(
            sql_replies(work.key, work.cycles, results, codec)
            if codec in ("pgsql", "mysql")
            else [framed(shape, framing, closes) for shape in shapes]
        ),
        program=fit_program(work, amounts, block_for, placement, deferred, drawn=drawn),
        closes=closes,
        reply_draw=REPLY_DRAW if drawn else 0,
    )


def _closes(work: ClassWork, codec: str) -> float:
    """Share of requests after which the server closed the connection first.

    Of a known protocol they have a reply: which have none, and end a connection, the codec knows.
    """
    ended = [cycle for cycle in work.cycles if cycle.complete]
    closed = [cycle for cycle in ended if cycle.closed and (cycle.sent or codec == "opaque")]
    share = len(closed) / len(ended) if ended else 0.0
    return 1.0 if share > 0.98 else share


def match_of(codec: str, print_key: int, key: bytes, sizes: Counter[int]) -> ClassMatch:
    """How the clone recognises a request of this class, without any string of the app's own."""
    if codec == "resp2":
        verb = key.decode("ascii", "replace")
        return ClassMatch(verb=verb if verb in RESP_VERBS else "")
    if codec == "memcached":
        verb = key.decode("ascii", "replace")
        return ClassMatch(verb=verb if verb in MEMCACHED_VERBS else "")
    if codec in ("pgsql", "mysql"):
        word, _, text = key.partition(b" ")
        verb = word.decode("ascii", "replace")
        verb = verb if verb in SQL_VERBS else ""
        return ClassMatch(verb=verb, path_print=path_print(print_key, text) if text else -1)
    if codec in ("fastcgi", "h2"):
        method, _, path = key.partition(b" ")
        verb = method.decode("ascii", "replace")
        known = bool(re.fullmatch(r"[A-Z]{1,24}", verb))
        return ClassMatch(verb=verb if known else "GET", path_print=path_print(print_key, path) if path else -1)
    if codec == "http1":
        method, _, path = key.partition(b" ")
        verb = method.decode("ascii", "replace")
        return ClassMatch(verb=verb if verb.isalpha() else "GET", path_print=path_print(print_key, path))
    if codec == "dns":
        return ClassMatch()
    values, begun = sorted(sizes), key.removesuffix(SILENT).split(b" ", 2)[2:]
    mark = path_print(WORD_KEY, begun[0]) if begun else -1
    if key.endswith(SILENT):
        return ClassMatch(path_print=mark, min_bytes=values[0], max_bytes=values[-1])
    return ClassMatch(
        path_print=mark, min_bytes=1 << (values[0].bit_length() - 1), max_bytes=(1 << values[-1].bit_length()) - 1
    )


def reply_shapes(codec: str, cycles: list[Cycle]) -> list[ReplyShape]:
    """The kinds of reply a class gets, each with its sizes; of requests for several keys, those for each key."""
    answered = [cycle for cycle in cycles if cycle.sent]
    replies = [_reply(codec, cycle) for cycle in answered]
    shapes = shapes_of(codec, replies)
    return _by_keys(shapes, answered, replies) if codec == "memcached" else shapes


def _sort(codec: str, cycle: Cycle) -> Sort:
    """What tells a reply of HTTP from others of the class: its kind and status, and whether a file is sent as it is."""
    reply = _reply(codec, cycle)
    return reply.kind, reply.status, any(event.nr in SENDFILES for event in cycle.events)


def reply_sorts(codec: str, cycles: list[Cycle]) -> dict[Sort, ReplyShape]:
    """The sorts of reply that a class of HTTP gets, the most frequent first."""
    sorts: dict[Sort, list[ReplySeen]] = defaultdict(list)
    for cycle in cycles:
        if cycle.sent:
            sorts[_sort(codec, cycle)].append(_reply(codec, cycle))
    ranked = sorted(sorts.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_REPLIES]
    total = sum(len(seen) for _, seen in ranked)
    return {
        sort: shapes_of(codec, seen)[0].model_copy(update={"probability": len(seen) / total}) for sort, seen in ranked
    }


def _by_keys(shapes: list[ReplyShape], cycles: Sequence[Cycle], replies: Sequence[ReplySeen]) -> list[ReplyShape]:
    """Values and misses as often as keys have them: how many values a reply has follows from its first and its size."""
    found = [(cycle, reply) for cycle, reply in zip(cycles, replies, strict=True) if reply.kind in ("value", "miss")]
    asked = sum(keys_asked(cycle.receive.payload, cycle.received_bytes) for cycle, _ in found)
    valued = [(cycle.sent - len(b"END\r\n"), reply) for cycle, reply in found if reply.kind == "value"]
    if asked < SEVERAL_KEYS * max(1, len(found)) or not valued:
        return shapes
    key_bytes = sum(cycle.received_bytes for cycle, _ in found) / asked - 1
    first = sum(reply.size + len(str(reply.size)) + reply.second + key_bytes + VALUE_FRAME for _, reply in valued)
    hits = min(1.0, sum(size for size, _ in valued) / (first / len(valued)) / asked)
    share = {"value": hits, "miss": 1.0 - hits}
    kept = [shape.model_copy(update={"probability": share[shape.kind]}) for shape in shapes if shape.kind in share]
    if not any(shape.kind == "miss" for shape in kept) and hits < 1.0:
        kept.append(ReplyShape(probability=1.0 - hits, kind="miss", size=constant(5)))
    return kept


def keys_asked(request: bytes, length: int) -> float:
    """Keys in a memcached request of ``length`` bytes that begins so."""
    line, end, _ = request.partition(b"\r\n")
    verb, *keys = line.split(b" ")
    if verb not in (b"get", b"gets", b"gat", b"gats"):
        return 1.0
    if verb.startswith(b"gat"):
        keys = keys[1:]  # the first is a time
    if end or len(keys) < 2:
        return float(len(keys))
    whole = keys[:-1]  # the last was cut off
    return (length - len(verb) - 2) / (sum(map(len, whole)) / len(whole) + 1)


def shapes_of(codec: str, replies: Iterable[ReplySeen]) -> list[ReplyShape]:
    """Replies by kind, each kind with its share and its sizes."""
    groups: dict[tuple[str, int, int, int], list[ReplySeen]] = defaultdict(list)
    for one in replies:
        # What an answer of DNS holds and its size belong together.
        records = (one.count, one.second) if one.kind == "dns" else (0, 0)
        groups[(one.kind, one.status, *records)].append(one)
    if codec == "resp2" and len(groups) > 1:
        groups.pop(("simple", 1, 0, 0), None)  # what is queued in a transaction is told so by the clone itself
    if not groups:
        return [ReplyShape(probability=1.0, kind=_default_kind(codec), size=constant(2), status=200)]
    ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_REPLIES]
    total = sum(len(seen) for _, seen in ranked)
    shapes = []
    for (kind, status, _, _), seen in ranked:
        heads = Counter(r.head_bytes for r in seen)
        shapes.append(
            ReplyShape(
                probability=len(seen) / total,
                kind=kind,
                status=status,
                head_bytes=heads.most_common(1)[0][0],
                count=dist(Counter(r.count for r in seen)) if kind in ("array", "dns", "fastcgi") else None,
                size=dist(Counter(r.size for r in seen)),
                second=dist(Counter(r.second for r in seen)) if kind in ("value", "dns", "grpc") else None,
            )
        )
    return shapes


def _default_kind(codec: str) -> str:
    own = {"resp2": "simple", "memcached": "ok", "http1": "http", "fastcgi": "fastcgi", "dns": "dns", "h2": "h2"}
    return own.get(codec, "opaque")


def _reply(codec: str, cycle: Cycle) -> ReplySeen:
    sends = [e for e in cycle.events if (e.nr in SENDS and e.obj is cycle.connection) or e.nr in SENDFILES]
    first = next((e for e in sends if e.nr in SENDS), None)
    payload = first.payload if first is not None else b""
    vector = first.iov[0] if first is not None and first.iovcnt > 1 else 0
    if codec == "http1" and not vector:
        # A head that is sent with a file's content is what that leaves of the reply.
        read = {e.ret for e in cycle.events if e.nr in FILE_READS and e.obj is not cycle.connection}
        vector = next((head for size in read if RECORDED < (head := cycle.sent - size) <= MOST_HEAD), 0)
    whole = first.ret if first is not None else cycle.sent
    if codec == "http1":
        payload = _joined(payload, sends)
    if codec == "h2":
        return stream_reply([e for e in sends if e.nr in SENDS], cycle.sent, h2.begun(cycle.receive).grpc)
    return reply_seen(codec, payload, cycle.sent, whole, vector, cycle.receive.payload, cycle.received_bytes)


def _joined(payload: bytes, sends: list[Event]) -> bytes:
    """What a reply begins with, where its head leaves by several sends that were recorded as wholes."""
    for sent, following in pairwise(sends):
        whole = sent.nr in SENDS and sent.iovcnt <= 1 and sent.ret == len(sent.payload)
        if not whole or following.nr not in SENDS or HEAD_END in payload or len(payload) > MOST_HEAD:
            break
        payload += following.payload
    return payload


def reply_seen(
    codec: str, payload: bytes, total: int, first: int, vector: int, request: bytes, request_bytes: int
) -> ReplySeen:
    """A reply's shape; a value whose size its beginning does not tell has what the whole leaves for it.

    Args:
        codec: the protocol.
        payload: first bytes of the reply.
        total: its bytes.
        first: bytes that its first call moved.
        vector: of these, those of the first of several vectors.
        request: first bytes of the request.
        request_bytes: all of them.
    """
    shape = reply_shape(codec, payload, total, first, vector)
    if codec == "memcached" and shape.kind == "value" and shape.size < 0:
        key_bytes = max(1, request_bytes - len(request.split(b" ", 1)[0]) - 3)
        return ReplySeen("value", size=value_size_from_total(total, key_bytes, 1), second=1)
    return shape


def fit_program(
    work: ClassWork,
    amounts: dict[OpName, float],
    block_for: BlockFor,
    placement: Placement,
    deferred: bool,
    minimum: float = RARE_OP,
    drawn: Mapping[OpName, Mapping[str, object]] | None = None,
) -> list[Op]:
    """The operations of a class in order, each followed by the compute that followed it.

    Work after operations that not every request makes is added to the compute before, weighted by how often it is made.
    """
    total = max(1, len(work.cycles))
    ordered = [(name, op) for name, op in work.ordered() if op.count >= minimum * total]
    names = gap_names(work)
    steps: list[tuple[OpName | None, OpWork | None, float]] = [(None, None, 0.0)]
    for name, op in ordered:
        amount = amounts.get(names[name], 0.0)
        probability = min(1.0, op.count / total)
        if name.kind == RECEIVE:
            if name.occurrence == 0:
                steps[0] = (name, None, steps[0][2] + amount)
            else:
                steps[0] = (steps[0][0], None, steps[0][2] + amount * probability)
        elif probability < 0.9:
            steps.append((name, op, 0.0))
            steps[-2] = (*steps[-2][:2], steps[-2][2] + amount * probability)
        else:
            steps.append((name, op, amount))
    program: list[Op] = []
    late = False
    small = 0.0
    draws = {**(drawn or {}), **draws_of(work, ordered, drawn or ())}
    for step_name, step_op, amount in steps:
        if step_name is not None and step_op is not None:
            late = late or (deferred and step_name.kind in ("reply", "reply_head", RESUME))
            op_model = fit_op(step_name, step_op, total, placement, late, work.tails)
            if op_model is not None:
                program.append(op_model.model_copy(update=draws.get(step_name, {})))
        # Work too small for a block of its own is not lost: it joins what comes next.
        small += amount
        blocks = block_for(step_name, small)
        if blocks:
            program += [Op(kind=OpKind.COMPUTE, block=block, deferred=late) for block in blocks]
            small = 0.0
    return watched_last(exclusive_replies(settled_calls(program)))[:MAX_OPS]


def exclusive_replies(program: list[Op]) -> list[Op]:
    """The program with one of several ways of replying, each by its own call, taken for as many requests as it was."""
    ways = [op for op in program if op.kind is OpKind.REPLY and op.a == 0]
    if len(ways) < 2 or any(op.draw for op in ways) or sum(op.probability for op in ways) > 1.01:
        return program
    left, made = 1.0, []
    for op in program:
        if op.kind is OpKind.REPLY and op.a == 0:
            share = op.probability / left if left > op.probability else 1.0
            left -= op.probability
            op = op.model_copy(update={"probability": 1.0 if share > 0.995 else share, "b": 1})
        made.append(op)
    return made


_PLAIN = {
    "recv_again", "drain", "setsockopt", "getsockopt", "getpeername", "getsockname", "fcntl", "ioctl", "epoll_add",
    "epoll_mod", "epoll_del", "writable", "shutdown", "close", "misc", "futex_wake", "socket", "connect", "poll",
    "await", "yield",
}  # fmt: skip


def fit_op(name: OpName, op: OpWork, total: int, placement: Placement, deferred: bool, tails: int = 0) -> Op | None:
    """One operation of the profile, or None for what the runtime does on its own (notifying a queue).

    ``tails`` is the number of requests after which receiving again found the next.
    """
    a, b, c = op.args.most_common(1)[0][0]
    probability = min(1.0, op.count / total)
    if name.kind == "recv_again" and name.occurrence == 0:
        # Receiving again sometimes finds the next request: that is where the other receives went.
        probability = min(1.0, (op.count + tails) / total)
    if probability > SURE:
        probability = 1.0
    common: dict[str, Any] = {"nr": name.nr, "probability": probability, "deferred": deferred}
    kind = name.kind
    if name.slot is not None and name.slot[0] == "d":
        common["link"] = int(str(name.slot[1]))
        if common["link"] >= MAX_LINKS:
            return None
        if kind in ("call", "call_more", "answer"):
            return _fit_call(kind, op, common, placement)
    if kind == "reply":
        return Op(kind=OpKind.REPLY, **common)
    if kind == "reply_head":
        return Op(kind=OpKind.REPLY, a=1, **common)
    if kind == "notify":
        return Op(kind=OpKind.NOTIFY, a=int(str(name.slot[1])), b=b, c=c, **common) if name.slot else None
    if kind == "poll" and "link" not in common:
        return Op(kind=OpKind.POLL, a=POLLOUT, **common)
    if kind in _PLAIN:
        return Op(kind=OpKind(kind), a=a, b=b, c=c, **common)
    if kind == "fork":
        return Op(kind=OpKind.FORK, **common)
    if kind == "helper_wake":
        return Op(kind=OpKind.FUTEX_WAKE, a=HELPERS, **common)
    size: Dist | None = dist(op.sizes)
    if kind == "sendfile":
        return Op(kind=OpKind.SENDFILE, a=placement.slot_of(name.slot), **common)
    if kind == "file_open":
        return Op(kind=OpKind.FILE_OPEN, a=placement.group_of(name, op), b=placement.slot_of(name.slot), c=c, **common)
    if kind == "file_stat":
        return Op(kind=OpKind.FILE_STAT, a=placement.group_of(name, op), **common)
    if kind.startswith("file_"):
        at = {}
        if access := fit_access([Place(*place) for place in op.places], placement.size_of(name.slot)):
            at = {"a": access.unit, "c": access.onward, "where": access.where}
        return Op(kind=OpKind(kind), b=placement.slot_of(name.slot), size=size, **at, **common)
    if kind == "mmap" and name.slot is not None:
        return Op(kind=OpKind.MMAP, a=1, b=placement.slot_of(name.slot), size=size, **common)
    if kind in ("mmap", "munmap", "madvise", "sleep"):
        return Op(kind=OpKind(kind), a=a if kind == "mmap" else 0, size=size, **common)
    return None


def _fit_call(kind: str, op: OpWork, common: dict[str, Any], placement: Placement) -> Op | None:
    """A request to another service, or one of its parts, or its reply."""
    (_, flags, first), _ = op.args.most_common(1)[0]
    if kind == "answer":
        return Op(kind=OpKind.ANSWER, **common)
    if kind == "call_more":
        return Op(kind=OpKind.CALL_MORE, b=flags, c=first, **common)
    found = placement.call_of(op)
    if found is None:
        return None
    parted = sum(len(call.sends) > 1 for call in op.calls) > len(op.calls) / 2
    return Op(kind=OpKind.CALL, a=found[0], b=flags, c=first if parted else 0, size=found[1], **common)
