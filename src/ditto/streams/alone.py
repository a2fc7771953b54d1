"""Requests that came one at a time: the calls that are made while one is under way are its own, whoever makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

from ditto.streams.cycles import Cycle, ThreadWork, Wake, Work
from ditto.streams.events import MISC, RECEIVES, SENDFILES, SENDS, is_wait, wait_timeout
from ditto.streams.programs import YIELD
from ditto.streams.settled import MOST_ROUNDS


def by_themselves(classes: Mapping[bytes, list[Cycle]]) -> dict[bytes, list[Cycle]]:
    """Those requests, by class, that ended before the next one came.

    Where the load is let through one request at a time, several come at once as that ends; their calls may be given to
    each other.
    """
    cycles = sorted((cycle for found in classes.values() for cycle in found), key=lambda cycle: cycle.receive.t_out)
    met = {id(cycle) for cycle in cycles if cycle.outstanding}
    latest: Cycle | None = None
    for before, cycle in pairwise(cycles):
        latest = before if latest is None or _end(before) > _end(latest) else latest
        if cycle.receive.t_out < _end(latest):
            met |= {id(latest), id(cycle)}
    return {key: kept for key, found in classes.items() if (kept := [c for c in found if id(c) not in met])}


def _end(cycle: Cycle) -> int:
    """When its reply had left, or the last call for it where it has none; ns."""
    sent = [e.t_out for e in cycle.events if e.obj is cycle.connection and (e.nr in SENDS or e.nr in SENDFILES)]
    return max(sent or (e.t_out for e in cycle.events), default=cycle.receive.t_out)


def given_rounds(work: Work, cycles: Iterable[Cycle]) -> None:
    """Give each request the calls made for nobody while it was under way, and tell the rounds in which it went on.

    A loop of tasks looks for events, without blocking, before it runs what the last ones made ready.  What a task calls
    then, before it sends anything, is not seen to be for a request where several are under way.
    """
    if work.messages is not None:
        return  # told by what passes between threads
    by_thread: dict[int, list[Cycle]] = {}
    for cycle in cycles:
        if cycle.resumed_after is None and not cycle.pauses and all(e.tid == cycle.tid for e in cycle.events):
            by_thread.setdefault(cycle.tid, []).append(cycle)
    for tid, found in by_thread.items():
        thread = work.threads[tid]
        place = {id(event): at for at, event in enumerate(thread.events)}
        wakes = _wakes(thread)
        for cycle in found:
            if all(id(event) in place for event in cycle.events):
                _give(cycle, thread, place, wakes)


def _wakes(thread: ThreadWork) -> list[Wake]:
    """The wake-up of each call of a thread."""
    now = iter(thread.wakes)
    wake = next(now)
    found = []
    for event in thread.events:
        wake = next(now) if is_wait(event) else wake
        found.append(wake)
    return found


def _give(cycle: Cycle, thread: ThreadWork, place: Mapping[int, int], wakes: list[Wake]) -> None:
    own = {id(event) for event in cycle.events}
    places = [place[id(event)] for event in cycle.events]
    rounds, events = 0, []
    for at in range(min(places), max(places) + 1):
        event = thread.events[at]
        if is_wait(event):
            rounds = rounds + 1 if wait_timeout(event) == 0 else 0
            continue
        loose = event.nr in MISC and id(event) not in own and any(event is other for other in wakes[at].loose)
        if not loose and id(event) not in own:
            continue
        events.append(at)
        if event.nr not in RECEIVES and rounds:
            cycle.pauses[id(event)] = [(YIELD, -1.0)] * min(rounds, MOST_ROUNDS)
        rounds = 0
        if loose:
            wakes[at].loose = [other for other in wakes[at].loose if other is not event]
    cycle.events = [thread.events[at] for at in events]
    cycle.wake_of = [wakes[at] for at in events]
