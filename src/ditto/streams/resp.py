"""Replies of RESP, of both its versions: where they end, and the shape of those with several elements.

Version 3 is what a client gets that begins with ``HELLO 3``: it has marks of its own for nothing, for numbers with a
point, for maps, for sets and for what the server says unasked.
"""

from __future__ import annotations

import re

MARKS = b"+-:$*_,#(=!%~>"
"""What a reply may begin with."""
BULKS = b"$=!"
MOST = 1 << 20
AGGREGATES = b"*%~>"
"""Arrays, maps (of pairs), sets and pushes; by their places here they are in a shape's ``status``, in tens."""
QUEUED = b"+QUEUED\r\n"
"""The reply to whatever comes within a transaction."""

_ELEMENTS = (
    (re.compile(rb"[$=!]"), 5, 1),
    (re.compile(rb"[:#(]"), 3, 0),
    (re.compile(rb"\+"), 3, 0),
    (re.compile(rb","), 3, 0),
    (re.compile(rb"_|\$-1|\*-1"), 3, 0),
    (re.compile(rb"\*2\r\n\$\d+\r\n[^\r]*\r\n[,:]"), 4 + 5 + 3, 1),
    (re.compile(rb"\*2\r\n\$\d+\r\n[^\r]*\r\n\*"), 4 + 4 + 15, 3),
    (re.compile(rb"\*2\r\n\$"), 4 + 10, 2),
)
"""Elements by how they begin, ordered as ``enum resp_element`` (native/runtime/resp.h): bytes of the frame of each,
and the lengths that are written in digits.  A nested one is a member and its score, an entry of a stream, or a pair."""
_TOLD = (4, 6, 5, 7, 1, 2, 3, 0)
"""The order in which they are tried: those that say more first."""


def reply_end(piece: bytes, at: int) -> int | None:
    """Where the reply that begins at a place ends; None where that was not recorded."""
    line_end = piece.find(b"\r\n", at)
    if line_end < 0:
        return None
    mark, number = piece[at : at + 1], piece[at + 1 : line_end]
    after = line_end + 2
    if not mark or not number.lstrip(b"-").isdigit():
        return after
    if mark in BULKS:
        return after + int(number) + 2 if int(number) >= 0 else after
    if mark in AGGREGATES:
        end: int | None = after
        for _ in range(min(max(0, int(number)), MOST) * (2 if mark == b"%" else 1)):
            if end is None or end >= len(piece):
                return None
            end = reply_end(piece, end)
        return end
    return after


def aggregate(mark: bytes, number: int, body: bytes, size: int) -> tuple[int, int]:
    """What the elements of an aggregate are, as a shape's ``status`` has it, and the bytes of each without its frame.

    ``body`` is what was recorded behind the line that tells their ``number``, ``size`` the bytes that are there.
    """
    kind = next((n for n in _TOLD if _ELEMENTS[n][0].match(body)), 0)
    _, frame, lengths = _ELEMENTS[kind]
    each = size / (number * (2 if mark == b"%" else 1))
    return 10 * AGGREGATES.index(mark) + kind, _unframed(each - frame, lengths)


_SCANNED = re.compile(rb"\$\d+\r\n(\d+)\r\n\*(\d+)\r\n")
_STREAMED = {b"*": re.compile(rb"\*2\r\n\$\d+\r\n[^\r]*\r\n\*(\d+)\r\n\*2\r\n"),
             b"%": re.compile(rb"\$\d+\r\n[^\r]*\r\n\*(\d+)\r\n\*2\r\n")}  # fmt: skip
GOES_ON, ENDED, STREAMED = 40, 41, 42
"""Statuses of arrays whose elements lie in one within: a scan that goes on or has ended, the entries of one stream."""


def within(mark: bytes, number: int, body: bytes, size: int) -> tuple[int, int, int] | None:
    """Status, count and bytes of the elements of such a reply, by what `aggregate` gets; None for others."""
    if mark == b"*" and number == 2 and (scanned := _SCANNED.match(body)):
        count = int(scanned[2])
        each = _unframed((size - scanned.end()) / count - 5, 1) if count else 0
        return (GOES_ON if int(scanned[1]) else ENDED), count, each
    streamed = _STREAMED[mark].match(body) if number == 1 and mark in _STREAMED else None
    if streamed and (count := int(streamed[1])):
        entries = size - streamed.end() + len(b"*2\r\n")
        return STREAMED, count, _unframed(entries / count - _ELEMENTS[6][1], _ELEMENTS[6][2])
    return None


def _unframed(each: float, lengths: int) -> int:
    """The bytes that ``lengths`` equal strings have together which take as much with the digits of their lengths."""
    if not lengths:
        return max(0, round(each))
    for digits in range(1, 11):
        size = each - lengths * digits
        if size >= 0 and len(str(round(size / lengths))) <= digits:
            return round(size)
    return 0
