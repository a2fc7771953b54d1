"""Requests that came in one receive, and their replies, told apart by the lengths that RESP writes before them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence

from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS, Event
from ditto.streams.resp import MOST, reply_end

_WORDS = re.compile(rb"\*(\d{1,6})\r\n")
_LENGTH = re.compile(rb"\$(-?\d{1,10})\r\n")

Part = tuple[int, int]
"""Where one begins, and its bytes."""


def request_end(piece: bytes, at: int) -> int | None:
    """Where the request that begins at a place ends; None where that was not recorded."""
    words = _WORDS.match(piece, at)
    if words is None:
        return None
    end = words.end()
    for _ in range(min(int(words[1]), MOST)):
        size = _LENGTH.match(piece, end)
        if size is None:
            return None
        end = size.end() + max(0, int(size[1])) + 2
    return end


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


def repeated(piece: bytes, length: int) -> list[Part]:
    """The requests in ``length`` bytes that begin with ``piece``, those beyond it taken to go on as they began."""
    parts: list[Part] = []
    at = 0
    while at < length:
        end = request_end(piece, at) if at < len(piece) else None
        if end is None:
            break
        parts.append((at, min(end, length) - at))
        at += parts[-1][1]
    known = [size for _, size in parts]
    while known and at < length:
        size = known[len(parts) % len(known)]
        size = size if length - at - size > size // 2 else length - at
        parts.append((at, size))
        at += size
    return parts or [(0, length)]


def evenly(piece: bytes, length: int, count: int) -> list[Part]:
    """``count`` replies in ``length`` bytes that begin with ``piece``, those beyond it of the same size."""
    parts: list[Part] = []
    at = 0
    while at < min(length, len(piece)) and len(parts) < count - 1:
        end = reply_end(piece, at)
        if end is None or length - end < count - len(parts) - 1:
            break
        parts.append((at, end - at))
        at = end
    left = count - len(parts)
    return parts + [
        (at + (length - at) * i // left, (length - at) * (i + 1) // left - (length - at) * i // left)
        for i in range(left)
    ]


def split(cycles: Sequence[Cycle]) -> list[Cycle]:
    """Every request by itself.

    The first of those that came together keeps the calls; what was executed after receive and send is divided.  Of what
    was not recorded the count follows from the requests that were: they go on as they began.
    """
    found = []
    for cycle in cycles:
        found.append(cycle)
        send = next((e for e in cycle.events if e.nr in SENDS and e.obj is cycle.connection), None)
        if send is None:
            continue
        asked, answered = cycle.receive.recorded, send.recorded
        parts = request_parts(asked, cycle.received_bytes)
        if len(parts) < 2:
            parts = repeated(asked, cycle.received_bytes)
        count = len(parts)
        if count < 2 or cycle.sent < count:
            continue
        replies = reply_parts(answered, cycle.sent, count)
        if len(replies) < count:
            replies = evenly(answered, cycle.sent, count)
        at_send, at_receive = cycle.events.index(send), cycle.events.index(cycle.receive)
        receives, sends = _cut(cycle.receive, parts), _cut(send, replies)
        cycle.together = count
        for number in range(1, count):
            events = [_idle(receives[number]), _idle(sends[number])]
            wakes = [cycle.wake_of[at_receive], cycle.wake_of[at_send]]
            more = Cycle(cycle.connection, cycle.tid, cycle.wake, events[0], events, wakes)
            more.received_bytes, more.sent, more.together = parts[number][1], replies[number][1], 0
            more.complete, more.deferred = True, cycle.deferred
            found.append(more)
        cycle.receive = cycle.events[at_receive] = receives[0]
        cycle.events[at_send] = sends[0]
        cycle.received_bytes, cycle.sent = parts[0][1], replies[0][1]
    return found


def _cut(event: Event, parts: Sequence[Part]) -> list[Event]:
    """A call as calls that moved one part each; parts that were not recorded begin as those that were, in turn."""
    whole = event.recorded
    heads = [whole[at : at + size][:64] for at, size in parts if at + min(size, 64) <= len(whole)] or [whole[:64]]
    made = []
    for number, (_, size) in enumerate(parts):
        one = copy.copy(event)
        one.payload, one.more, one.ret = heads[number % len(heads)][:size], b"", size
        one.gap = event.gap / len(parts) if event.gap > 0 else event.gap
        made.append(one)
    return made


def _idle(event: Event) -> Event:
    """A call that is a part of another's: the kernel's time for it is the first part's."""
    event.cpu_ns = 0
    return event
