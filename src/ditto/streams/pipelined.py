"""Several requests that came in one receive, and their replies, told apart by the lengths that RESP writes before them.

Only where all of it was recorded: what is cut off could hold any number of them.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS, Event

_WORDS = re.compile(rb"\*(\d{1,6})\r\n")
_LENGTH = re.compile(rb"\$(-?\d{1,10})\r\n")
_MOST = 1 << 20

Part = tuple[int, int]
"""Where one begins, and its bytes."""


def request_end(piece: bytes, at: int) -> int | None:
    """Where the request that begins at a place ends; None where that was not recorded."""
    words = _WORDS.match(piece, at)
    if words is None:
        return None
    end = words.end()
    for _ in range(min(int(words[1]), _MOST)):
        size = _LENGTH.match(piece, end)
        if size is None:
            return None
        end = size.end() + max(0, int(size[1])) + 2
    return end


def reply_end(piece: bytes, at: int) -> int | None:
    """Where the reply that begins at a place ends; None where that was not recorded."""
    line_end = piece.find(b"\r\n", at)
    if line_end < 0:
        return None
    mark, number = piece[at : at + 1], piece[at + 1 : line_end]
    after = line_end + 2
    if mark == b"$" and number.lstrip(b"-").isdigit():
        return after + int(number) + 2 if int(number) >= 0 else after
    if mark == b"*" and number.lstrip(b"-").isdigit():
        end: int | None = after
        for _ in range(min(max(0, int(number)), _MOST)):
            if end is None or end >= len(piece):
                return None
            end = reply_end(piece, end)
        return end
    return after


def request_parts(piece: bytes, length: int) -> list[Part]:
    """The requests in ``length`` bytes that begin with ``piece``; one where they cannot be told apart."""
    return _parts(piece, length, request_end) or [(0, length)]


def reply_parts(piece: bytes, length: int, count: int) -> list[Part]:
    """``count`` replies in ``length`` bytes that begin with ``piece``; fewer where they cannot be told apart."""
    found = _parts(piece, length, reply_end)
    return found if len(found) == count else [(0, length)]


def _parts(piece: bytes, length: int, end_of: Callable[[bytes, int], int | None]) -> list[Part]:
    parts: list[Part] = []
    at = 0
    while at < length:
        end = end_of(piece, at)
        if end is None or end > length:
            return []
        parts.append((at, end - at))
        at = end
    return parts


def split(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Every request by itself.  The first of those that came together keeps the calls and the work of all."""
    found = []
    for cycle in cycles:
        parts = request_parts(cycle.receive.recorded, cycle.received_bytes)
        send = next((e for e in cycle.events if e.nr in SENDS and e.obj is cycle.connection), None)
        if len(parts) < 2 or send is None:
            found.append(cycle)
            continue
        replies = reply_parts(send.recorded, cycle.sent, len(parts))
        if len(replies) < len(parts):
            found.append(cycle)
            continue
        at_send, at_receive = cycle.events.index(send), cycle.events.index(cycle.receive)
        receives = [_cut(cycle.receive, part) for part in parts]
        sends = [_cut(send, part) for part in replies]
        for number in range(1, len(parts)):
            events = [_idle(receives[number]), _idle(sends[number])]
            wakes = [cycle.wake_of[at_receive], cycle.wake_of[at_send]]
            more = Cycle(cycle.connection, cycle.tid, cycle.wake, events[0], events, wakes)
            more.received_bytes, more.sent = parts[number][1], replies[number][1]
            more.complete, more.deferred = True, cycle.deferred
            found.append(more)
        cycle.receive = cycle.events[at_receive] = receives[0]
        cycle.events[at_send] = sends[0]
        cycle.received_bytes, cycle.sent = parts[0][1], replies[0][1]
        found.append(cycle)
    return found


def _cut(event: Event, part: Part) -> Event:
    """A call as if it had moved one part."""
    made = copy.copy(event)
    made.payload, made.more, made.ret = event.recorded[part[0] : part[0] + part[1]][:64], b"", part[1]
    return made


def _idle(event: Event) -> Event:
    """A call without the work around it."""
    event.gap, event.cpu_ns = -1.0, 0
    return event
