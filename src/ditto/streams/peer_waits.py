"""Polls that are a part of a call to another service, and not a thread's wait for whatever comes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import NUMBERS, numbers

if TYPE_CHECKING:
    from ditto.streams.events import Event, Obj

POLLS = numbers("poll", "ppoll")
_ACCEPTS = numbers("accept", "accept4")
_CLOSE = NUMBERS["close"]


def of_a_call(event: Event) -> bool:
    """Whether a call is about a connection to another service."""
    return event.obj is not None and event.obj.kind == "downstream"


def most_polled(peers: int) -> int:
    """Descriptors that a thread polls at most which serves one client and has so many connections of its own.

    Each may be named twice, for reading and for writing.
    """
    return 2 * (1 + peers)


def relays(events: list[Event]) -> bool:
    """Whether a thread carries one client's bytes over connections that it made for it, and polls those together.

    It accepts nothing, and has one client at a time.
    """
    client: Obj | None = None
    peers = {event.obj for event in events if event.obj is not None and of_a_call(event)}
    together = 0
    for event in events:
        obj = event.obj
        if event.nr in _ACCEPTS:
            return False
        if event.nr in POLLS and event.args[1] > 1:
            if event.args[1] > most_polled(len(peers)):
                return False
            together += 1
        elif obj is not None and obj.kind == "connection":
            if client not in (None, obj):
                return False
            client = None if event.nr == _CLOSE else obj
    return bool(peers) and together > 0


def find_waits_of_calls(threads: dict[int, list[Event]]) -> None:
    """Polls after which a thread turns to a connection to another service wait for that.

    They are of one descriptor, or of several where the thread relays.
    """
    for events in threads.values():
        several = relays(events)
        for event, following in pairwise(events):
            alone = event.nr in POLLS and (event.args[1] == 1 or several)
            if alone and event.obj is None and of_a_call(following):
                event.obj = following.obj
