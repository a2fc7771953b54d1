"""Requests of HTTP/2 that are under way together on one connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ditto.streams.events import SENDS, Event
from ditto.streams.h2 import data_stream

if TYPE_CHECKING:
    from ditto.streams.cycles import ConnectionLife, Cycle

_FAR_BEHIND = 64
"""Streams later than one of which an answer was seen: that of the one before was sent together with another's."""


def settle_streams(life: ConnectionLife, ended: bool = False) -> None:
    """Requests that were answered, or must have been, are over; with the connection's end all are."""
    last = max((stream for stream, cycle in life.streams.items() if cycle.sent), default=0)
    for stream, cycle in list(life.streams.items()):
        if cycle.sent or stream + 2 * _FAR_BEHIND < last or (ended and stream < last):
            cycle.complete = True
            life.late[stream] = life.streams.pop(stream)
    while len(life.late) > _FAR_BEHIND:
        del life.late[next(iter(life.late))]
    if ended:
        life.streams.clear()


def goes_on(life: ConnectionLife, event: Event) -> Cycle | None:
    """The request whose reply a send without a head goes on with, where its first frame tells."""
    stream = data_stream(event.payload)
    return life.streams.get(stream) or life.late.get(stream)


def mostly_multiplexed(cycles: Sequence[Cycle]) -> bool:
    """Whether most requests came on streams of HTTP/2."""
    return 2 * sum(cycle.receive.said is not None for cycle in cycles) > len(cycles)


def leave_together(cycles: Sequence[Cycle]) -> bool:
    """Whether replies to requests of HTTP/2 that came in one receive mostly leave in one send."""
    sends: dict[int, list[int]] = defaultdict(list)
    for cycle in cycles:
        first = next((e for e in cycle.events if e.nr in SENDS and e.obj is cycle.connection), None)
        if first is not None and cycle.receive.said is not None:
            sends[cycle.receive.index].append(first.index)
    several = [found for found in sends.values() if len(found) > 1]
    return 2 * sum(len(set(found)) == 1 for found in several) > len(several)
