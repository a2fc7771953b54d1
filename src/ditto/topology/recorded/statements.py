"""Requests and replies of a connection in the MySQL protocol.

The server speaks first, and every request and every reply begins a new count of packets, from 0 and from 1, so that
what belongs to neither (greeting, login) is told from them.

A statement counts each time it is carried out, under its verb.  What prepares one is a call of its own, since its reply
is awaited; what has no reply (the end of a statement, of a session) asks for nothing.
"""

from __future__ import annotations

from ditto.streams import mysql
from ditto.topology.recorded.framing import Head

UNKNOWN, PREPARED = "request", "PREPARE"
_HEADER = 4
# From a packet's first byte: as far as what tells a statement's number reaches.
_KEPT = 9
_FIRST_OF_REPLY = 1
# What asks for encryption is a login without a name.
_SECURE_BYTES = 32


class Greeted:
    """What a server says before its client says anything: a greeting may be received in two pieces."""

    def __init__(self) -> None:
        self._said = b""

    def take(self, piece: bytes) -> None:
        """The server's next bytes."""
        if len(self._said) < _KEPT:
            self._said += piece[: _KEPT - len(self._said)]

    def speaks_mysql(self, first: bytes) -> bool:
        """Whether it was the protocol's greeting, and what the client answers asks for no encryption."""
        if not mysql.greets(self._said) or len(first) < _HEADER or first[3] != 1:
            return False
        return int.from_bytes(first[:3], "little") > _SECURE_BYTES


class Statements:
    """What both sides of a connection say; packets are followed by their lengths through pieces of any size."""

    def __init__(self) -> None:
        self._session = mysql.Session()
        self._head = b""
        self._left = 0
        self._reply = b""

    def requests(self, piece: bytes, count: int) -> list[Head]:
        """The requests that begin in a piece of the client's."""
        heads: list[Head] = []
        at = 0
        while at < count:
            if self._left:
                step = min(self._left, count - at)
                self._left -= step
            elif at >= len(piece):
                self._head = b""
                break  # was not recorded: the next piece is taken to begin with a packet
            else:
                step = self._begin(piece, at, heads)
            at += step
        return heads

    def _begin(self, piece: bytes, at: int, heads: list[Head]) -> int:
        """A packet begins, or goes on with, at a place; a header that came by itself is kept until its content does."""
        packet = self._head + piece[at:]
        if len(packet) <= _HEADER:
            self._head = packet
            return len(piece) - at
        self._left = int.from_bytes(packet[:3], "little") + _HEADER - len(self._head)
        self._head = b""
        step = min(self._left, len(piece) - at)
        self._left -= step
        name = self._name(packet)
        if name:
            heads.append(Head(at, name))
        return max(1, step)

    def _name(self, packet: bytes) -> str:
        """What a packet asks for; nothing where it has no reply or is no command."""
        if not mysql.looks_like_request(packet) or packet[3] or packet[4] in mysql.NO_REPLY:
            return ""
        size = _HEADER + int.from_bytes(packet[:3], "little")
        key = self._session.key(packet[:size])
        if key.startswith(b"Parse_"):
            return PREPARED
        return key.split(b" ", 1)[0].removeprefix(b"Bind_").decode("utf-8", "replace") or UNKNOWN

    def replies(self, piece: bytes, most: int) -> int:
        """How many replies begin in a piece of the server's, while so many are awaited."""
        found = at = 0
        while most and at + _HEADER <= len(piece) and found < most:
            found += piece[at + 3] == _FIRST_OF_REPLY
            at += _HEADER + int.from_bytes(piece[at : at + 3], "little")
        if found:
            self._reply = b""
        if len(self._reply) < _KEPT:
            self._reply += piece[: _KEPT - len(self._reply)]
            if len(self._reply) == _KEPT:
                self._session.answered(self._reply)
        return found
