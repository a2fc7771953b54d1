"""The MySQL client protocol: what one receive asks for, and what came back for it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ditto.streams.results import Column, Result
from ditto.streams.sql import statement_key

QUERY, PREPARE, EXECUTE, LONG_DATA, CLOSE, QUIT = 0x03, 0x16, 0x17, 0x18, 0x19, 0x01
_WORDS = {
    QUIT: b"Terminate", 0x02: b"Use", 0x04: b"Fields", 0x09: b"Statistics", 0x0E: b"Ping", 0x11: b"User",
    LONG_DATA: b"Data", CLOSE: b"Close", 0x1A: b"Reset", 0x1B: b"Option", 0x1C: b"Fetch", 0x1F: b"Renew",
}  # fmt: skip
_LAST_COMMAND = 0x1F
NO_REPLY = frozenset((QUIT, LONG_DATA, CLOSE))
_DEPRECATE_EOF = 1 << 24
_CLIENT_MYSQL = 1
_CACHE_METADATA = 1 << 4
_RECORDED = 64
"""First bytes of a message that are recorded in any case."""
_GREETING = b"\0\x0a"
"""Number 0 of the packets, and the protocol's version."""
LAST = 0xFFFFFFFF
"""Stands for the statement prepared last."""
FIXED_BYTES = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 8: 8, 9: 4, 13: 2}
"""Bytes of a binary value by its column's type, where all have the same."""


def looks_like_request(payload: bytes) -> bool:
    """Whether a client's packet may begin so: a command, or the answer to a greeting."""
    if len(payload) < 5:
        return False
    size = int.from_bytes(payload[:3], "little")
    if len(payload) < min(_RECORDED, 4 + size):
        return False  # it is shorter than it says: another protocol's
    if payload[3] == 0:
        return 1 <= size <= 1 << 24 and 0 < payload[4] <= _LAST_COMMAND
    return payload[3] in (1, 3) and 32 <= size < 1 << 16


def looks_like_reply(payload: bytes) -> bool:
    """Whether a server's answer, or its greeting, may begin so."""
    if len(payload) < 5 or not int.from_bytes(payload[:3], "little"):
        return False
    return 0 < payload[3] < 8 or payload[3:5] == _GREETING


def greets(payload: bytes) -> bool:
    """Whether what a connection begins with is a server's greeting."""
    return payload[3:5] == _GREETING and len(payload) > 5


def begins_session(payload: bytes, size: int) -> bool:
    """Whether a client's message of so many bytes is its answer to a greeting, or a further part of a login."""
    return len(payload) > 3 and payload[3] % 2 == 1 and int.from_bytes(payload[:3], "little") + 4 == size


def without_ends(login: bytes) -> bool:
    """Whether a client's login asks for column definitions without an end behind them."""
    return bool(struct.unpack_from("<I", login)[0] & _DEPRECATE_EOF)


@dataclass
class Session:
    """One connection: remembers what its prepared statements are, by the numbers that the server gave them."""

    statements: dict[int, bytes] = field(default_factory=dict)
    prepared: bytes = b""

    def key(self, payload: bytes) -> bytes:
        """The class of a request that begins so: a word of the protocol or a statement's verb, and its text."""
        if len(payload) < 5:
            return b"?"
        if payload[3]:
            return b"Startup"
        command, body = payload[4], payload[5:]
        if command == QUERY:
            return statement_key(body)
        if command == PREPARE:
            self.prepared = statement_key(body)
            return b"Parse_" + self.prepared
        if command == EXECUTE and len(body) >= 4:
            known = self.statements.get(int.from_bytes(body[:4], "little"))
            return b"Bind_" + known if known is not None else b"Bind"
        return _WORDS.get(command, b"?")

    def answered(self, payload: bytes) -> None:
        """Take note of how the reply to the last request begins: it tells the number of a statement."""
        if self.prepared and len(payload) >= 9 and payload[4] == 0:
            self.statements[int.from_bytes(payload[5:9], "little")] = self.prepared
            self.statements[LAST] = self.prepared
        self.prepared = b""


def results_of(said: bytes, answered: bytes) -> Iterator[tuple[bytes, Result]]:
    """The results of one connection, by the class of the request that asked for them.

    Args:
        said: everything the client sent.
        answered: what the server sent, from the beginning; it may be cut off.
    """
    asked, replies = _packets(said), _packets(answered)
    session = Session()
    prepared: dict[int, list[Column]] = {}
    try:
        _, greeting = next(replies)
        _, login = next(asked)
        options = _Options.agreed(greeting, login)
        _, verdict = next(replies)
        while verdict[:1] not in (b"\0", b"\xff"):
            next(asked)
            _, verdict = next(replies)
        for number, packet in asked:
            if number or not packet:
                continue
            key = session.key(b"\0\0\0\0" + packet[:4096])
            if packet[0] in NO_REPLY:
                continue
            known = prepared.get(int.from_bytes(packet[1:5], "little"), []) if packet[0] == EXECUTE else []
            result = _READERS.get(packet[0], _one_packet)(replies, options, known)
            if packet[0] == PREPARE:
                session.answered(bytes(5) + result.statement.to_bytes(4, "little"))
                prepared[result.statement] = prepared[LAST] = result.columns
            yield key, result
    except (StopIteration, RuntimeError, IndexError, struct.error):
        return


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Whole packets as (sequence number, payload)."""
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 3], "little")
        if at + 4 + size > len(data):
            return
        yield data[at + 3], data[at + 4 : at + 4 + size]
        at += 4 + size


@dataclass(frozen=True)
class _Options:
    """What both sides agreed on: column definitions are not followed by an end, and may be left out."""

    no_ends: bool
    cached: bool

    @classmethod
    def agreed(cls, greeting: bytes, login: bytes) -> _Options:
        (client,) = struct.unpack_from("<I", login)
        at = greeting.index(b"\0", 1) + 1 + 4 + 8 + 1
        low, _, _, high = struct.unpack_from("<HBHH", greeting, at)
        server = low | high << 16
        extended = 0
        if not client & _CLIENT_MYSQL and not server & _CLIENT_MYSQL:
            (mine,), (theirs,) = struct.unpack_from("<I", login, 28), struct.unpack_from("<I", greeting, at + 14)
            extended = mine & theirs
        return cls(bool(client & server & _DEPRECATE_EOF), bool(extended & _CACHE_METADATA))


_Replies = Iterator[tuple[int, bytes]]


_Known = list[Column]
"""Columns that the client knows already, which a server may then leave out."""


def _one_packet(replies: _Replies, _options: _Options, _known: _Known) -> Result:
    _, packet = next(replies)
    return Result("failed" if packet[:1] == b"\xff" else "done")


def _text_result(replies: _Replies, options: _Options, known: _Known) -> Result:
    return _result(replies, options, known, _text_sizes)


def _binary_result(replies: _Replies, options: _Options, known: _Known) -> Result:
    return _result(replies, options, known, _binary_sizes)


def _result(
    replies: _Replies, options: _Options, known: _Known, sizes: Callable[[bytes, list[Column]], Iterator[int]]
) -> Result:
    _, packet = next(replies)
    if packet[0] in (0, 0xFF):
        return Result("failed") if packet[0] else Result(rows=_number(packet, 1)[0])
    count, at = _number(packet, 0)
    result = Result("rows")
    if not options.cached or packet[at : at + 1] == b"\1":
        result.columns = [_column(next(replies)[1]) for _ in range(count)]
    else:
        result.columns = [replace(column, sizes=[]) for column in known]
        result.known = True
    if not options.no_ends:
        next(replies)
    while True:
        _, packet = next(replies)
        if packet[0] == 0xFF or (packet[0] == 0xFE and len(packet) < (1 << 24) - 1 and _is_end(packet, options)):
            break
        result.rows += 1
        for column, size in zip(result.columns, sizes(packet, result.columns), strict=False):
            column.sizes.append(size)
    return result


def _is_end(packet: bytes, options: _Options) -> bool:
    return options.no_ends or len(packet) < 9


def _prepared(replies: _Replies, options: _Options, _known: _Known) -> Result:
    _, packet = next(replies)
    if packet[0]:
        return Result("failed")
    number, columns, parameters = struct.unpack_from("<IHH", packet, 1)
    result = Result("rows" if columns else "done", statement=number)
    for count, keep in ((parameters, False), (columns, True)):
        defined = [_column(next(replies)[1]) for _ in range(count)]
        if count and not options.no_ends:
            next(replies)
        result.columns = defined if keep else []
    return result


def _column(packet: bytes) -> Column:
    """A definition; the names of schema, tables and column count together."""
    _, at = _text(packet, 0)
    names = 0
    for _ in range(5):
        size, at = _text(packet, at)
        names += size
    while packet[at] != 0x0C:  # what servers add of their own
        _, at = _text(packet, at)
    _, length, type_id, flags, decimals = struct.unpack_from("<HIBHB", packet, at + 1)
    return Column(names, type_id, length, flags=flags | decimals << 16)


def _number(packet: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number and where it ends."""
    first = packet[at]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return (int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size) if size else (first, at + 1)


def _text(packet: bytes, at: int) -> tuple[int, int]:
    size, at = _number(packet, at)
    return size, at + size


def _text_sizes(packet: bytes, columns: list[Column]) -> Iterator[int]:
    at = 0
    for _ in columns:
        if packet[at] == 0xFB:
            yield -1
            at += 1
        else:
            size, at = _text(packet, at)
            yield size


def _binary_sizes(packet: bytes, columns: list[Column]) -> Iterator[int]:
    nulls = packet[1 : 1 + (len(columns) + 9) // 8]
    at = 1 + len(nulls)
    for number, column in enumerate(columns):
        if nulls[(number + 2) // 8] >> (number + 2) % 8 & 1:
            yield -1
        elif column.type_id in FIXED_BYTES:
            yield FIXED_BYTES[column.type_id]
            at += FIXED_BYTES[column.type_id]
        else:
            size, at = _text(packet, at)
            yield size


_READERS: dict[int, Callable[[_Replies, _Options, _Known], Result]] = {
    QUERY: _text_result,
    PREPARE: _prepared,
    EXECUTE: _binary_result,
}
