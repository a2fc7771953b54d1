"""Datagrams as requests: each that a bound socket receives is one, on a connection of its own."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ditto.streams.events import BATCHES, RECEIVES, SENDS, Event, Obj

if TYPE_CHECKING:
    from ditto.streams.cycles import Work

KIND = "datagram"
"""Kind of a bound socket that takes datagrams; what is made of it for each is a ``connection`` owned by it."""
LATE = 0.1
"""Share of receives of several datagrams that follow another without an answer, from which on answers are late."""
MOST_WAITING = 1000
"""Datagrams whose answer is waited for: those before them had none."""

_Place = tuple[int, Obj]
"""A thread and the socket that it receives from."""


def apart(events: Iterable[Event]) -> list[Event]:
    """The events of a thread, with calls that move several datagrams as one for each.

    All are taken to be like the first, which is the one that is recorded; what was executed after the call is divided.
    """
    made = []
    for event in events:
        if event.nr not in BATCHES or event.ret <= 0 or event.obj is None or event.obj.kind != KIND:
            made.append(event)
            continue
        size = event.args[5] or _told(event)
        for number in range(event.ret):
            one = copy.copy(event)
            one.ret = size
            one.gap = event.gap / event.ret if event.gap > 0 else event.gap
            one.cpu_ns = 0 if number else event.cpu_ns
            made.append(one)
    return made


def _told(event: Event) -> int:
    """The size of a datagram as an instruction run's class tells it; 1 where it tells none."""
    kind, _, rest = (event.cls or b"").partition(b" ")
    word = rest.partition(b" ")[0]
    return int(word) if kind == b"size" and word.isdigit() else 1


def as_connections(events: Sequence[Event]) -> None:
    """Give each datagram, and what is sent by its thread until the next, a connection of its own.

    Those that came together are answered in their order.  Receives that found nothing stay with the socket: they end a
    round and belong to no request.
    """
    late, in_rounds = _answered_late(events), _answered_in_rounds(events)
    answering: set[_Place] = set()
    last: dict[_Place, Obj] = {}
    waiting: dict[_Place, deque[Obj]] = {}
    came: dict[_Place, int] = {}
    serial = -1
    for event in events:
        obj = event.obj
        if obj is None or obj.kind != KIND:
            continue
        key = (event.tid, obj)
        if event.nr in RECEIVES and event.ret > 0:
            event.obj = Obj("connection", serial, creator_nr=obj.creator_nr, owner=obj)
            serial -= 1
            goes_on = key in late or (key in in_rounds and key not in answering)
            if event.t_out != came.get(key) and not goes_on:
                waiting.pop(key, None)
            answering.discard(key)
            came[key] = event.t_out
            waiting.setdefault(key, deque(maxlen=MOST_WAITING)).append(event.obj)
            last.setdefault(key, event.obj)
        elif event.nr in SENDS and key in last:
            answering.add(key)
            if waiting[key]:
                last[key] = waiting[key].popleft()
            event.obj = last[key]


def _answered_late(events: Iterable[Event]) -> set[_Place]:
    """Where datagrams are answered only after further receives."""
    receives, unanswered = Counter[_Place](), Counter[_Place]()
    came: dict[_Place, int] = {}
    for event in events:
        if event.obj is None or event.obj.kind != KIND or event.ret <= 0:
            continue
        key = (event.tid, event.obj)
        if event.nr in SENDS:
            came.pop(key, None)
        elif event.nr in BATCHES and came.get(key) != event.t_out:
            receives[key] += 1
            unanswered[key] += key in came
            came[key] = event.t_out
    return {key for key, count in unanswered.items() if count > LATE * receives[key]}


def _answered_in_rounds(events: Iterable[Event]) -> set[_Place]:
    """Where datagrams are received one by one, several before any of them is answered."""
    rounds: dict[_Place, list[list[int]]] = {}
    for event in events:
        if event.obj is None or event.obj.kind != KIND or event.ret <= 0 or event.nr in BATCHES:
            continue
        own = rounds.setdefault((event.tid, event.obj), [])
        if event.nr in SENDS:
            if own:
                own[-1][1] += 1
        elif event.nr in RECEIVES:
            if not own or own[-1][1]:
                own.append([0, 0])
            own[-1][0] += 1
    found = set()
    for key, own in rounds.items():
        several = [(received, sent) for received, sent in own if received > 1]
        came = sum(received for received, _ in several)
        answered = sum(min(received, sent) for received, sent in several if sent > 1)
        if came > LATE * sum(received for received, _ in own) and 2 * answered > came:
            found.add(key)
    return found


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
