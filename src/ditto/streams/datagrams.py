"""Datagrams as requests: each that a bound socket receives is one, on a connection of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ditto.streams.events import RECEIVES, SENDS, Event, Obj

if TYPE_CHECKING:
    from ditto.streams.cycles import Work

KIND = "datagram"
"""Kind of a bound socket that takes datagrams; what is made of it for each is a ``connection`` owned by it."""


def as_connections(events: Iterable[Event]) -> None:
    """Give each datagram, and what is sent by its thread until the next, a connection of its own.

    Receives that found nothing stay with the socket: they end a round and belong to no request.
    """
    current: dict[tuple[int, Obj], Obj] = {}
    serial = -1
    for event in events:
        obj = event.obj
        if obj is None or obj.kind != KIND:
            continue
        key = (event.tid, obj)
        if event.nr in RECEIVES and event.ret > 0:
            current[key] = event.obj = Obj("connection", serial, creator_nr=obj.creator_nr, owner=obj)
            serial -= 1
        elif event.nr in SENDS and key in current:
            event.obj = current[key]


def mostly(connections: Iterable[Obj]) -> bool:
    """Whether most of the connections of requests stand for datagrams."""
    kinds = [is_datagram(connection) for connection in connections]
    return sum(kinds) * 2 > len(kinds)


def answered_apart(work: Work) -> int:
    """Datagrams sent by threads that had received none there."""
    return sum(
        event.nr in SENDS and event.obj is not None and event.obj.kind == KIND
        for thread in work.threads.values()
        for event in thread.events
    )


def is_datagram(connection: Obj) -> bool:
    """Whether a connection stands for one datagram."""
    return connection.owner is not None and connection.owner.kind == KIND
