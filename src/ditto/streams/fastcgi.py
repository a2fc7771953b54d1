"""FastCGI by its first records: what is a request, of which class, and what shape a reply has."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

HEADER = 8
BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7
WINDOW = 232
"""Bytes of parameters that tell classes apart: what a recording with further bytes surely has of them; as in
native/runtime/codec_fastcgi.c and native/lens/fastcgi.c."""
MOST_METHOD, MOST_PATH = 12, 60
"""Bytes of the names that a class goes by; likewise."""
LONGEST_HEAD = 2 * HEADER + HEADER + WINDOW
"""Bytes of a request that are looked at: its beginning, and what is seen of its parameters."""
FULL_RECORD = 65528
"""The longest record that needs no padding: what the runtime writes where a class does not tell."""
_END_BYTES = 16
_PATHS = (b"SCRIPT_NAME", b"REQUEST_URI")
_STATUS = re.compile(rb"(?:^|\n)Status: (\d{3})")


def looks_like_request(payload: bytes) -> bool:
    """Whether a web server's request may begin so: the beginning of a responder's, an authorizer's or a filter's."""
    return (
        len(payload) >= 2 * HEADER
        and payload[:2] == bytes((1, BEGIN))
        and payload[4:6] == b"\0\x08"
        and payload[8] == 0
        and 1 <= payload[9] <= 3
    )


def looks_like_reply(payload: bytes) -> bool:
    """Whether an application's answer may begin so."""
    return len(payload) >= HEADER and payload[0] == 1 and payload[1] in (END, STDOUT, STDERR)


def request_key(payload: bytes) -> bytes | None:
    """``METHOD path`` of a request that begins so, as far as that is seen; None for what begins none.

    The path is the one that was asked for, or that of the script where that is not seen.
    """
    if payload[:2] != bytes((1, BEGIN)):
        return None
    method, path = b"", b""
    for name, value in _params(payload):
        if name == b"REQUEST_METHOD":
            method = value
        elif name == b"REQUEST_URI" or (name == b"SCRIPT_NAME" and not path):
            path = value
    if not 0 < len(method) <= MOST_METHOD:
        return None
    return method + b" " + path.split(b"?", 1)[0][:MOST_PATH]


def _params(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The parameters of the first record of them that lie within the window."""
    at = 0
    while at + HEADER <= len(payload):
        kind, length = payload[at + 1], int.from_bytes(payload[at + 4 : at + 6], "big")
        if kind == PARAMS:
            part = payload[at + HEADER : at + HEADER + min(length, WINDOW)]
            break
        at += HEADER + length + payload[at + 6]
    else:
        return
    at = 0
    while at < len(part):
        sizes = []
        for _ in range(2):
            wide = part[at : at + 1] >= b"\x80"
            if at + (4 if wide else 1) > len(part):
                return
            sizes.append(int.from_bytes(part[at : at + 4], "big") & 0x7FFFFFFF if wide else part[at])
            at += 4 if wide else 1
        end = at + sum(sizes)
        if end > len(part):
            return
        yield part[at : at + sizes[0]], part[at + sizes[0] : end]
        at = end


def param(name: bytes, value: bytes, wide: bool = False) -> bytes:
    """A parameter as it is sent; ``wide``: the length of the value in four bytes whatever it is."""
    sizes = [_size(len(name), False), _size(len(value), wide)]
    return b"".join(sizes) + name + value


def _size(length: int, wide: bool) -> bytes:
    return struct.pack(">I", length | 1 << 31) if wide or length > 127 else bytes((length,))


def record(kind: int, content: bytes, number: int = 1) -> bytes:
    """A record without padding."""
    return struct.pack(">BBHHBB", 1, kind, number, len(content), 0, 0) + content


def request(params: bytes, kept: bool) -> bytes:
    """A request without a body; ``kept``: the connection is to be kept."""
    begin = record(BEGIN, struct.pack(">HB5x", 1, kept))
    return begin + record(PARAMS, params) + record(PARAMS, b"") + record(STDIN, b"")


def request_end(data: bytes, at: int) -> int | None:
    """Where the request at ``at`` ends: after its last record of input; None where it is not all there."""
    while at + HEADER <= len(data):
        kind, length = data[at + 1], int.from_bytes(data[at + 4 : at + 6], "big")
        at += HEADER + length + data[at + 6]
        if kind == STDIN and not length:
            return at if at <= len(data) else None
    return None


def reply_shape(payload: bytes, total: int) -> tuple[int, int, int, int]:
    """Status, bytes of the head, bytes of the body, and bytes of output in a record, of a reply of ``total`` bytes.

    Where the head was not seen to its end it is taken to be what was seen, or 160 bytes where that is less.
    """
    if len(payload) < HEADER or payload[1] != STDOUT:
        return 200, 0, max(0, total - _END_BYTES), 0
    length = int.from_bytes(payload[4:6], "big")
    record = HEADER + length + payload[6]
    output = payload[HEADER:]
    if record + _END_BYTES >= total or not length:
        size, limit = min(length, max(0, total - HEADER - _END_BYTES)), 0
    else:
        records = -(-(total - _END_BYTES) // record)
        limit = length
        size = max(length, total - _END_BYTES - HEADER * records - payload[6] * (records - 1))
    end = output.find(b"\r\n\r\n")
    head = end + 4 if end >= 0 else min(size, max(160, len(output)))
    status = _STATUS.search(output[:head])
    return int(status[1]) if status else 200, head, size - head, limit
