"""Threads that serve one connection at a time, from its accept to its close."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from ditto.artifacts.syscalls import numbers
from ditto.streams.cycles import Cycle, ThreadWork, Wake, Work
from ditto.streams.events import ACCEPTS, CLOSE, EAGAIN, EPOLL_CTL, RECEIVES, SENDS, Event, Obj, is_wait
from ditto.streams.passing import PASSAGE
from ditto.streams.peer_waits import POLLS, relays

_SELECTS = numbers("select", "pselect6")
_ADD, _DELETE = 1, 2
STRAY_WAITS = 0.05
"""Waits for each receive, up to which they are no way of waiting for requests, where no receive found nothing."""


@dataclass
class SerialWaits:
    """How such threads wait.

    Attributes:
        on_connection: calls by number that wait for the connection in service.
        on_listener: calls by number that wait for the next connection.
        refused_receives: receives that found nothing; where each wait follows one, the thread receives first.
        refused_accepts: accepts that found nothing.
        rests: receives of a further part of a request; waited_rests: those that a wait came before.
    """

    on_connection: Counter[int] = field(default_factory=Counter)
    on_listener: Counter[int] = field(default_factory=Counter)
    refused_receives: int = 0
    refused_accepts: int = 0
    rests: int = 0
    waited_rests: int = 0


def serial_waits(thread: ThreadWork) -> SerialWaits | None:
    """How a thread waits that serves one connection at a time; None for any other.

    While a connection is open, it may wait for that one alone (a poll of one descriptor, or of several where the others
    are its own to other services, or an event queue of its own that has no other connection); no other may be accepted
    or received from.  An event loop that happens to have one connection waits for its listener too.
    """
    waits = SerialWaits()
    sets = _OwnSets()
    number, relaying = -1, relays(thread.events)
    for event in thread.earlier:
        sets.follow(event)
    current: Obj | None = None
    received = 0
    begun = waited_since = False
    for event in thread.events:
        obj = event.obj
        sets.follow(event)
        if is_wait(event):
            waited_since = True
            waited = sets.connections(event)
            if waited is not None:
                if len(waited) > 1 or not waited <= {current or next(iter(waited), None)}:
                    return None
                current = next(iter(waited), current)
                waits.on_connection[event.nr] += len(waited)  # a set without one is waited for for other reasons
            elif current is None:
                waits.on_listener[event.nr] += 1
            elif event.nr in POLLS and (event.args[1] == 1 or relaying):
                waits.on_connection[event.nr] += 1
            elif event.nr in _SELECTS and thread.siblings and (event.args[0] == number + 1 or _forked(thread)):
                # Which descriptors a select is for was not recorded beyond the highest, and a loop with one connection
                # looks like this too: one of several threads that never has two is taken to serve one at a time.
                waits.on_connection[event.nr] += event.args[0] > number
            else:
                return None
        elif event.nr in ACCEPTS:
            waits.refused_accepts += event.ret == EAGAIN
            if event.made is not None:
                if current is not None:
                    return None
                current, number, begun = event.made, event.ret, False
        elif obj is not None and obj.kind == "connection":
            if event.nr == CLOSE:
                current = None if obj is current else current
            elif event.nr in RECEIVES:
                if current is not None and obj is not current:
                    return None
                current, number = obj, event.args[0]
                received += event.ret > 0
                waits.refused_receives += event.ret == EAGAIN
                if event.ret > 0:
                    waits.rests += begun
                    waits.waited_rests += begun and waited_since
                    begun, waited_since = True, False
            elif event.nr in SENDS:
                begun = False
    if waits.on_connection.total() <= STRAY_WAITS * received and not waits.refused_receives:
        waits.on_connection.clear()  # of something else, such as a connection of its own that was being made
    return waits if received else None


def _forked(thread: ThreadWork) -> bool:
    """Whether a thread is a process that accepts no connection: what it waits for beside its own is what it relays to,
    such as a program that it started."""
    return thread.tid == thread.pid and not thread.accepts


class _OwnSets:
    """The event queues that a thread has made itself, and what it waits for with each."""

    def __init__(self) -> None:
        self._members: dict[Obj, set[Obj]] = {}

    def follow(self, event: Event) -> None:
        if event.made is not None and event.made.kind == "epoll":
            self._members[event.made] = set()
        elif event.nr == EPOLL_CTL and event.obj in self._members and event.target is not None and event.ret >= 0:
            members = self._members[event.obj]
            if event.args[1] == _ADD:
                members.add(event.target)
            elif event.args[1] == _DELETE:
                members.discard(event.target)

    def connections(self, event: Event) -> set[Obj] | None:
        """The connections that a wait is for; None where its queue is another thread's, or more come by it."""
        members = self._members.get(event.obj) if event.obj is not None else None
        if members is None or any(member.kind in ("listener", PASSAGE) for member in members):
            return None
        return {member for member in members if member.kind == "connection"}


def bursts_before_accepts(thread: ThreadWork, told: Container[int] = ()) -> Iterator[list[Event]]:
    """What a thread does for no connection before each of its accepts.

    Args:
        thread: serves one at a time.
        told: calls that are known to be made with each wait for a request.
    """
    loose = {id(event) for wake in thread.wakes for event in wake.loose}
    busy = {id(wake.wait) for wake in thread.wakes if wake.received or wake.answers}
    burst: list[Event] = []
    begins = False
    for event in thread.events:
        if event.nr in ACCEPTS:
            yield burst
            burst = []
        elif id(event) in loose and not (begins and event.nr in told):
            burst.append(event)
        begins = id(event) in busy if is_wait(event) else begins and id(event) in loose


def cycles_before_accepts(work: Work, told: Container[int] = ()) -> list[Cycle]:
    """The same for all such threads, as cycles to be counted like those of a request class."""
    nowhere, nobody = Wake(0, None, 0), Obj("none", 0)
    cycles = []
    for thread in work.threads.values():
        if not thread.accepts or serial_waits(thread) is None:
            continue
        for burst in bursts_before_accepts(thread, told):
            cycle = Cycle(nobody, thread.tid, nowhere, thread.accepts[0], events=burst)
            cycle.wake_of = [nowhere] * len(burst)
            cycles.append(cycle)
    return cycles
