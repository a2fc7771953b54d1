"""What an event loop calls around each of its waits: right after one, before the first event, and right before."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from ditto.artifacts.profile import Op, OpKind
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.classes import Placement, fit_program
from ditto.model.roles import RoleSeen
from ditto.streams import programs
from ditto.streams.cycles import FUTEX, Cycle, ThreadWork, Wake
from ditto.streams.events import ACCEPTS, MISC, Event, Obj, is_wait

USUAL = 0.5
"""Share of the wake-ups from which on a call belongs to each."""
MOST = 20_000
_QUIET = MISC | {NUMBERS["fchmod"], NUMBERS["fstat"]}


def each_wake(role: RoleSeen, placement: Placement, timed: set[int], served_alone: bool = False) -> list[Op]:
    """The program of a role's wake-ups: calls without lasting effect that most of them begin with.

    Args:
        role: an event loop, or threads that serve one connection at a time.
        placement: where files are.
        timed: ``id`` of events that belong to a timer.
        served_alone: leave out what comes before accepts, which such threads have a program for.
    """
    cycles = [cycle for thread in role.work for cycle in _beginnings(thread, timed, served_alone)][:MOST]
    if not any(cycle.events for cycle in cycles):
        return []
    work = programs.build(b"wake", cycles)
    ops = fit_program(work, {}, lambda name, amount: [], placement, deferred=False, minimum=USUAL)
    return [op for op in ops if op.kind is OpKind.MISC]


def before_waits(thread: ThreadWork) -> list[Event]:
    """The last call before each wait, where most wake-ups end with the same one that has no lasting effect."""
    busy = {id(wake.wait) for wake in thread.wakes if wake.received or wake.answers}
    last = []
    wait: Event | None = None
    for event, following in pairwise(thread.events):
        if is_wait(event):
            wait = event
        if is_wait(following) and event is not wait and id(wait) in busy:
            last.append(event)
    kinds = Counter(event.nr for event in last if event.nr in MISC)
    if not kinds or kinds.most_common(1)[0][1] <= USUAL * len(busy):
        return []
    return [event for event in last if event.nr == kinds.most_common(1)[0][0]]


def each_wait(role: RoleSeen) -> list[Op]:
    """The program of what comes right before each wait."""
    found = [event for thread in role.work for event in before_waits(thread)]
    return [Op(kind=OpKind.MISC, nr=found[0].nr)] if found else []


def each_dispatch(role: RoleSeen, placement: Placement) -> list[Op]:
    """The program of what a thread that serves nothing itself calls right before each wait (a sign of life, say).

    One thread speaks for all: each may have a file of its own.
    """
    thread = max(role.work, key=lambda thread: len(thread.wakes), default=None)
    ends = _quiet_ends(thread) if thread is not None else []
    if not ends:
        return []
    nowhere = Wake(0, None, 0)
    cycles = [Cycle(Obj("none", 0), e[0].tid, nowhere, e[0], e, [nowhere] * len(e)) for e in ends][:MOST]
    work = programs.build(b"wait", cycles)
    ops = fit_program(work, {}, lambda name, amount: [], placement, deferred=False, minimum=USUAL)
    return [op for op in ops if op.kind in (OpKind.MISC, OpKind.FILE_FSTAT)]


def before_dispatch(thread: ThreadWork) -> list[Event]:
    """The calls of which `each_dispatch` makes a program: they are for the wait, and for no request before it."""
    ends = _quiet_ends(thread)
    made = Counter(nr for end in ends for nr in {event.nr for event in end})
    return [event for end in ends for event in end if made[event.nr] > USUAL * len(ends)]


def _quiet_ends(thread: ThreadWork) -> list[list[Event]]:
    """What a thread calls right before its waits, where most have something; of the others nothing.

    Those calls come after whatever else it did, so they are told by having no effect, and by coming before most waits.
    """
    ends: list[list[Event]] = []
    quiet: list[Event] = []
    for event in thread.events:
        if is_wait(event):
            ends.append(quiet)
            quiet = []
        elif event.nr in _QUIET:
            quiet.append(event)
        elif event.nr != FUTEX:  # a lock among threads may be anywhere
            quiet = []
    found = [end for end in ends[1:] if end]
    return found if len(found) > USUAL * (len(ends) - 1) else []


def _beginnings(thread: ThreadWork, timed: set[int], served_alone: bool) -> list[Cycle]:
    loose = {id(event) for wake in thread.wakes for event in wake.loose}
    busy = {id(wake.wait) for wake in thread.wakes if wake.received or wake.answers}
    nowhere, nobody = Wake(0, None, 0), Obj("none", 0)
    found: list[Cycle] = []
    burst: list[Event] | None = None
    for event in thread.events:
        if is_wait(event):
            burst = None
            if id(event) in busy:
                burst = []
                found.append(Cycle(nobody, thread.tid, nowhere, event, events=burst))
        elif burst is not None:
            if id(event) in loose and id(event) not in timed:
                burst.append(event)
            else:
                if served_alone and event.nr in ACCEPTS:
                    found.pop()
                burst = None
    for cycle in found:
        cycle.wake_of = [nowhere] * len(cycle.events)
    return found
