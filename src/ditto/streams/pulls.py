"""Services that receive no requests but fetch their jobs from a store, with a command that waits for one.

Each job, from the request for it to the next, becomes a request of a connection that there is not, so that everything
which follows requests stays as it is.
"""

from __future__ import annotations

import re

from ditto.artifacts.syscalls import NUMBERS
from ditto.streams.cycles import Cycle
from ditto.streams.events import RECEIVES, SENDS, Event, Obj

PULLED = b"pulled"
"""In place of what a request of such a connection begins with, and of where it comes from."""
_FETCH = re.compile(rb"\*\d+\r\n\$\d+\r\n(BLPOP|BRPOP|BLMOVE|BRPOPLPUSH)\r\n", re.IGNORECASE)


def is_pulled(connection: Obj) -> bool:
    """Whether requests of a connection are jobs that were fetched."""
    return connection.path == PULLED


def pulls(cycles: list[Cycle]) -> bool:
    """Whether requests are jobs that were fetched."""
    return bool(cycles) and all(is_pulled(cycle.connection) for cycle in cycles)


def with_pulls(threads: dict[int, list[Event]]) -> dict[int, list[Event]]:
    """The events of all threads, with a receive before each fetch and a reply after the job, if nothing else asks."""
    if any(e.nr in RECEIVES and e.obj is not None and e.obj.kind == "connection" for t in threads.values() for e in t):
        return threads
    return {tid: _with_jobs(events, -1 - number) for number, (tid, events) in enumerate(threads.items())}


def _with_jobs(events: list[Event], serial: int) -> list[Event]:
    connection = Obj("connection", serial, PULLED)
    made: list[Event] = []
    begun = False
    for event in events:
        if event.nr in SENDS and event.ret > 0 and _FETCH.match(event.payload):
            if begun:
                made.append(_instead(event, connection, NUMBERS["sendto"]))
            made.append(_instead(event, connection, NUMBERS["recvfrom"]))
            begun = True
        made.append(event)
    return made


def _instead(event: Event, connection: Obj, nr: int) -> Event:
    """A call right before another one that takes no time."""
    made = Event(event.pid, event.tid, nr, len(PULLED), (0, 0, len(PULLED), 0, 0, 0), event.t_in, event.t_in)
    made.index, made.obj, made.payload, made.gap = event.index, connection, PULLED, -1.0
    return made
