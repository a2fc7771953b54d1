"""Requests of HTTP/2 that are under way together on one connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

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
            del life.streams[stream]
    if ended:
        life.streams.clear()


def mostly_multiplexed(cycles: Sequence[Cycle]) -> bool:
    """Whether most requests came on streams of HTTP/2."""
    return 2 * sum(cycle.receive.said is not None for cycle in cycles) > len(cycles)
