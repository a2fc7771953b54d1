"""Polls that are a part of a call to another service, or of a send, and not a thread's wait for whatever comes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import NUMBERS, numbers

if TYPE_CHECKING:
    from ditto.streams.events import Event, Obj

POLLS = numbers("poll", "ppoll")
_PLAIN_SENDS = numbers("write", "sendto")
_SENDS = _PLAIN_SENDS | numbers("writev", "sendmsg")
_ACCEPTS = numbers("accept", "accept4")
_CLOSE = NUMBERS["close"]


def of_a_call(event: Event) -> bool:
    """Whether a call is about a connection to another service."""
    return event.obj is not None and event.obj.kind == "downstream"


def of_a_send(event: Event) -> bool:
    """Whether a poll asks if the connection that is served takes what is sent next."""
    return event.nr in POLLS and event.obj is not None and event.obj.kind == "connection"


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
        _find_polls_of_sends(events)


def _find_polls_of_sends(events: list[Event]) -> None:
    """Polls of one descriptor right before a send on a connection are a part of that (sockets with a time-out).

    Not where the send before had no room: then the thread does wait.
    """
    for before, event, following in zip(events, events[1:], events[2:], strict=False):
        if event.nr not in POLLS or event.args[1] != 1 or event.ret != 1 or event.obj is not None:
            continue
        to = following.obj if following.nr in _SENDS else None
        if to is not None and to.kind == "connection" and not (before.obj is to and _had_no_room(before)):
            event.obj = to


def _had_no_room(event: Event) -> bool:
    plain = event.nr in _PLAIN_SENDS
    return event.nr in _SENDS and (event.ret < 0 or (plain and event.ret < event.args[2]) or not plain)
