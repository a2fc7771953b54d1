"""The PostgreSQL wire protocol, version 3: what one receive asks for, and what came back for it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ditto.streams.results import Column, Result
from ditto.streams.sql import statement_key

_CANCEL, _SECURE, _SECURE_GSS, _VERSION = 80877102, 80877103, 80877104, 3
_WORDS = {
    b"S": b"Sync", b"H": b"Flush", b"E": b"Execute", b"D": b"Describe", b"C": b"Close", b"X": b"Terminate",
    b"p": b"Password", b"d": b"Copy", b"c": b"Copy", b"f": b"Copy", b"F": b"Function", b"B": b"Bind", b"P": b"Parse",
    b"Q": b"Query",
}  # fmt: skip
_REPLIES = frozenset(b"RSKZTDCE12n3tsIGHWNAv")
_LONGEST = 1 << 30


def looks_like_request(payload: bytes) -> bool:
    """Whether a client's message may begin so."""
    if _untyped(payload):
        return True
    return payload[:1] in _WORDS and _plausible(payload)


def looks_like_reply(payload: bytes) -> bool:
    """Whether a server's answer may begin so."""
    return payload in (b"N", b"S") or (payload[:1] != b"" and payload[0] in _REPLIES and _plausible(payload))


def begins_session(payload: bytes) -> bool:
    """Whether a client's message is one of those that a session begins with."""
    return _untyped(payload) in (b"Secure", b"Startup")


def _plausible(payload: bytes) -> bool:
    return len(payload) >= 5 and 4 <= struct.unpack_from(">I", payload, 1)[0] < _LONGEST


def _untyped(payload: bytes) -> bytes:
    """The word for a message of a connection that has not begun; empty for any other."""
    if len(payload) < 8 or payload[0]:
        return b""
    code = int(struct.unpack_from(">I", payload, 4)[0])
    if code in (_SECURE, _SECURE_GSS):
        return b"Secure"
    if code == _CANCEL:
        return b"Cancel"
    return b"Startup" if code >> 16 == _VERSION else b""


@dataclass
class Session:
    """One connection: remembers what its prepared statements are."""

    statements: dict[bytes, bytes] = field(default_factory=dict)

    def key(self, payload: bytes) -> bytes:
        """The class of a request that begins so: a word of the protocol or a statement's verb, and its text."""
        word = _untyped(payload)
        if word:
            return word
        body = payload[5:]
        if payload[:1] == b"Q":
            return statement_key(body)
        if payload[:1] == b"P":
            name, _, rest = body.partition(b"\0")
            key = statement_key(rest)
            self.statements[name] = key
            return b"Parse_" + key
        if payload[:1] == b"B":
            known = self.statements.get(body.partition(b"\0")[2].split(b"\0", 1)[0])
            return b"Bind_" + known if known is not None else b"Bind"
        return _WORDS.get(payload[:1], b"?")

    def answered(self, payload: bytes) -> None:
        """Take note of how the reply to the last request begins: nothing is learned from it."""


def results_of(said: bytes, answered: bytes) -> Iterator[tuple[bytes, Result]]:
    """The results of one connection, by the class of the request that asked for them.

    Args:
        said: everything the client sent.
        answered: what the server sent, from the beginning; it may be cut off.
    """
    session = Session()
    asked = _asked(session, said)
    replies = _replies(answered)
    described: dict[bytes, list[Column]] = {}
    for key in asked:
        if key == b"Secure":
            next(replies, None)
            continue
        if key in (b"Terminate", b"Cancel"):
            return
        result = Result()
        text = key.removeprefix(b"Parse_").removeprefix(b"Bind_")
        if key.startswith(b"Bind_") and text in described:  # told when it was prepared, and not again
            result.kind, result.columns = "rows", [replace(column, sizes=[]) for column in described[text]]
        whole = False
        for kind, body in replies:
            if kind == b"Z":
                whole = True
                break
            _take(result, kind, body)
        if not whole:
            return
        if result.columns:
            described[text] = result.columns
        yield key, result


def _asked(session: Session, said: bytes) -> Iterator[bytes]:
    """The classes of what ends with a reply: each by the first message of its batch."""
    at = 0
    key = b""
    while at + 8 <= len(said) or (at + 5 <= len(said) and said[at : at + 1] in _WORDS):
        word = _untyped(said[at : at + 8])
        if word:
            at += int(struct.unpack_from(">I", said, at)[0])
            yield word
            continue
        kind = said[at : at + 1]
        size = int(struct.unpack_from(">I", said, at + 1)[0])
        one = session.key(said[at : at + 1 + min(size, 4096)])
        key = key or (b"" if kind in (b"d", b"c", b"f") else one)  # lines of a copy have no reply of their own
        at += 1 + max(4, size)
        if kind in (b"Q", b"S", b"X", b"F"):
            yield key
            key = b""


def _replies(answered: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Whole messages as (type, body); a byte that refuses encryption stands alone before all others."""
    at = 0
    while answered[at : at + 1] in (b"N", b"S") and answered[at + 1 : at + 2] not in (b"", b"\0"):
        yield answered[at : at + 1], b""
        at += 1
    if answered[at:] == b"N":
        yield b"N", b""
        return
    while at + 5 <= len(answered):
        size = int(struct.unpack_from(">I", answered, at + 1)[0])
        if size < 4 or at + 1 + size > len(answered):
            return
        yield answered[at : at + 1], answered[at + 5 : at + 1 + size]
        at += 1 + size


_TEXT = 25


def _take(result: Result, kind: bytes, body: bytes) -> None:
    try:
        if kind == b"T":
            result.kind, result.columns = "rows", list(_columns(body))
        elif kind == b"D":
            result.rows += 1
            for column, size in zip(result.columns, _sizes(body), strict=False):
                column.sizes.append(size)
        elif kind == b"H":
            result.kind, result.columns = "rows", [Column(1, _TEXT, -1, False)]  # lines, as if of one column
        elif kind == b"d":
            result.rows += 1
            result.columns[0].sizes.append(len(body))
        elif kind == b"C" and result.kind == "done":
            words = body.rstrip(b"\0").split()
            result.rows = int(words[-1]) if len(words) > 1 and words[-1].isdigit() else 0
        elif kind == b"E":
            result.kind = "failed"
    except (struct.error, ValueError, IndexError):
        return


def _columns(body: bytes) -> Iterator[Column]:
    (count,) = struct.unpack_from(">H", body)
    at = 2
    for _ in range(count):
        end = body.index(b"\0", at)
        _, _, type_id, type_bytes, _, form = struct.unpack_from(">IHIhih", body, end + 1)
        yield Column(end - at, type_id, type_bytes, bool(form))
        at = end + 19


def _sizes(body: bytes) -> Iterator[int]:
    (count,) = struct.unpack_from(">H", body)
    at = 2
    for _ in range(count):
        (size,) = struct.unpack_from(">i", body, at)
        yield size
        at += 4 + max(0, size)
