"""Requests of HTTP/2 that any connection can send: scripts whose opening enters their fields into the table.

Recorded requests refer to what was sent before them on their own connection.  Here every kind of head is sent once in
the opening, and its fields are named by their places in the table from then on, as the client's own encoder did.
Streams are numbered by whoever sends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

from ditto.artifacts.plan import Script, Step
from ditto.streams.h2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    unpadded,
)

Field = tuple[bytes, bytes]
STREAM = 1
"""Every stream's number before it is sent."""
MOST_KINDS = 16
"""Heads that are sent in an opening."""
_FRAME_MAX = 16384
_TABLE_BYTES = 4096
_LARGEST_FIELD = 512
_ACK = 1
_WINDOW = (1 << 30) - 1
_STATIC = {field: number for number, field in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}


@dataclass(frozen=True)
class Asked:
    """A request: its head's fields in order, and its data."""

    fields: tuple[Field, ...]
    data: bytes


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """A frame."""
    return len(content).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + content


def asked_of(said: bytes) -> list[Asked]:
    """The requests in everything that a client said on a connection, in the order of their beginnings.

    What cannot be read ends it; a request that is not complete is left out.
    """
    decoder = Decoder()
    open_requests: dict[int, tuple[tuple[Field, ...], bytearray]] = {}
    ended: set[int] = set()
    block = b""
    at = len(PREFACE) if said.startswith(PREFACE) else 0
    while at + FRAME <= len(said):
        size, kind, flags = int.from_bytes(said[at : at + 3], "big"), said[at + 3], said[at + 4]
        stream = int.from_bytes(said[at + 5 : at + FRAME], "big")
        content = said[at + FRAME : at + FRAME + size]
        at += FRAME + size
        if at > len(said):
            break
        if kind == HEADERS:
            block = b""
        if kind in (HEADERS, CONTINUATION):
            block += unpadded(content, flags) if kind == HEADERS else content
            ended |= {stream} if kind == HEADERS and flags & END_STREAM else set()
            if flags & END_HEADERS:
                try:
                    fields = tuple((bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True))
                except HPACKError:
                    break
                open_requests.setdefault(stream, (fields, bytearray()))
        elif kind == DATA and stream in open_requests:
            open_requests[stream][1].extend(unpadded(content, flags & ~32))
            ended |= {stream} if flags & END_STREAM else set()
    return [Asked(fields, bytes(data)) for stream, (fields, data) in sorted(open_requests.items()) if stream in ended]


class _Encoder:
    """Heads whose fields are entered into the table while there is room, so that nothing ever leaves it."""

    def __init__(self) -> None:
        self.entries: list[Field] = []
        self.bytes = 0

    def block(self, fields: Sequence[Field], enters: bool) -> bytes:
        made = bytearray()
        for name, value in fields:
            number = _STATIC.get((name, value))
            if number is None and (name, value) in self.entries:
                number = len(HeaderTable.STATIC_TABLE) + len(self.entries) - self.entries.index((name, value))
            if number is not None:
                made += _number(number, 7, 0x80)
                continue
            size = len(name) + len(value) + 32
            enter = enters and size <= _LARGEST_FIELD and self.bytes + size <= _TABLE_BYTES
            made += bytes((0x40 if enter else 0,))
            made += _number(len(name), 7, 0) + name + _number(len(value), 7, 0) + value
            if enter:
                self.entries.append((name, value))
                self.bytes += size
        return bytes(made)


def _number(value: int, bits: int, first: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    made, value = bytearray((first | most,)), value - most
    while value >= 128:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes((*made, value))


def _frames(block: bytes, data: bytes) -> bytes:
    parts = [block[i : i + _FRAME_MAX] for i in range(0, len(block), _FRAME_MAX)] or [b""]
    made = b""
    for number, part in enumerate(parts):
        flags = END_HEADERS if number + 1 == len(parts) else 0
        flags |= END_STREAM if not number and not data else 0
        made += frame(CONTINUATION if number else HEADERS, flags, STREAM, part)
    pieces = [data[i : i + _FRAME_MAX] for i in range(0, len(data), _FRAME_MAX)]
    for number, piece in enumerate(pieces):
        made += frame(DATA, END_STREAM if number + 1 == len(pieces) else 0, STREAM, piece)
    return made


def begin() -> bytes:
    """What a client says first: room for whatever the server sends."""
    window = frame(WINDOW_UPDATE, 0, 0, (_WINDOW - 65535).to_bytes(4, "big"))
    return PREFACE + frame(SETTINGS, 0, 0, b"\0\2\0\0\0\0" + b"\0\4" + _WINDOW.to_bytes(4, "big")) + window


def acknowledge() -> bytes:
    """That the server's settings have come."""
    return frame(SETTINGS, _ACK, 0, b"")


def script_of(asked: Sequence[Asked]) -> Script:
    """A script that sends these requests; its opening sends one of each kind, and the first once more."""
    encoder = _Encoder()
    kinds: dict[tuple[Field, ...], Asked] = {}
    for one in asked:
        if len(kinds) < MOST_KINDS:
            kinds.setdefault(one.fields, one)
    firsts = list(kinds.values())
    texts = [_frames(encoder.block(one.fields, True), one.data) for one in firsts]
    texts.append(acknowledge() + _frames(encoder.block(firsts[0].fields, False), firsts[0].data))
    opening = [begin() + texts[0], *texts[1:]]
    steps = [_frames(encoder.block(one.fields, False), one.data) for one in asked]
    return Script(tuple(Step(text) for text in [*opening, *steps]), len(opening))


def whole_request(asked: Asked) -> bytes:
    """A request that needs no table."""
    return _frames(_Encoder().block(asked.fields, False), asked.data)


def filler_request(verb: str, path: bytes, grpc: bool, size: int) -> Asked:
    """A request of a class with filler for its data, of about ``size`` bytes once its fields are in the table."""
    fields: list[Field] = [(b":method", verb.encode()), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    fields += [(b"te", b"trailers"), (b"content-type", b"application/grpc")] if grpc else []
    room = max(0, size - 2 * FRAME - len(fields))
    if not grpc:
        return Asked(tuple(fields), b"x" * room if verb in ("POST", "PUT", "PATCH") else b"")
    room = max(0, room - 5)
    return Asked(tuple(fields), b"\0" + _message(room))


def _message(size: int) -> bytes:
    """A message's length and one field of it that nobody knows."""
    if size < 4:
        return bytes(4)
    length, count = size - 3, 1
    while length >= 1 << 7 * count:
        length, count = length - 1, count + 1
    told = bytes((length >> 7 * at & 127) | (128 if at + 1 < count else 0) for at in range(count))
    return size.to_bytes(4, "big") + b"\xfa\x7f" + told + b"x" * length
