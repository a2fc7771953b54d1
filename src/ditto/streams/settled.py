"""What is known of cycles only once all events were followed: late set-up, answers that come a round later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.events import EPOLL_CTL, MISC, OPENS, RECEIVES, SENDFILES, SENDS, is_wait, wait_timeout

if TYPE_CHECKING:
    from ditto.streams.cycles import Cycle, ThreadWork, Wake, Work
    from ditto.streams.events import Event, Obj

SETSOCKOPT = NUMBERS["setsockopt"]
STATS = numbers("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink")
LATE_SHARE = 0.5
MOST_ROUNDS = 8
"""Rounds of a loop of tasks after which a request may be answered: one for each task, and for what it waits for."""


def settle(work: Work) -> None:
    """Give late set-up to its connections, and the work before late answers to their requests."""
    _set_up_once(work)
    _files_of_answers(work)
    late = resumes_late(work)
    for thread in work.threads.values():
        if late:
            _ahead_of_answers(thread)
        for cycle in thread.cycles:
            if not late:
                cycle.resumed_after = None
            elif cycle.resumed_after is not None and cycle.resumed_after.gap >= 0:
                # What precedes a late answer is work on its request, not on that of the call before, or of the wait.
                cycle.resumed_gap, cycle.resumed_after.gap = cycle.resumed_after.gap, 0.0


def _ahead_of_answers(thread: ThreadWork) -> None:
    """Give a call without a descriptor that comes right before a late answer to the request that is answered.

    It had been taken for the end of the request answered before, or for what the wake-up begins with.
    """
    place = {id(event): at for at, event in enumerate(thread.events)}
    last = {id(cycle.events[-1]): cycle for cycle in thread.cycles if cycle.events}
    for cycle in thread.cycles:
        call = cycle.resumed_after
        if call is None or call.nr not in MISC or not place.get(id(call)):
            continue
        at = next(at for at, event in enumerate(cycle.events) if event.nr in SENDS or event.nr in SENDFILES)
        wake, before = cycle.wake_of[at], last.get(id(call))
        if before is not None and before is not cycle and len(before.events) > 1:
            before.events.pop()
            before.wake_of.pop()
        elif any(event is call for event in wake.loose):
            wake.loose = [event for event in wake.loose if event is not call]
        else:
            continue
        cycle.events.insert(at, call)
        cycle.wake_of.insert(at, wake)
        cycle.resumed_after = thread.events[place[id(call)] - 1]


def _files_of_answers(work: Work) -> None:
    """Give what a thread does with files right before it answers to the request that is answered.

    It received that one before its last wait, or another thread did (tasks that pass from thread to thread).
    """
    sent = {
        id(event): cycle
        for thread in work.threads.values()
        for cycle in thread.cycles
        for event in cycle.events
        if event.nr in SENDS or event.nr in SENDFILES
    }
    for thread in work.threads.values():
        where = {id(event): wake for wake in thread.wakes for event in wake.loose if _of_file(event)}
        burst: list[Event] = []
        given: set[int] = set()
        for event in thread.events if where else ():
            if id(event) in where:
                burst.append(event)
            elif is_wait(event) or (event.nr in RECEIVES and event.obj is not None and event.obj.kind == "connection"):
                burst = []
            elif burst and (cycle := sent.get(id(event))) is not None:
                at = next(at for at, own in enumerate(cycle.events) if own is event)
                cycle.events[at:at] = burst
                cycle.wake_of[at:at] = [where[id(one)] for one in burst]
                given.update(map(id, burst))
                burst = []
        for wake in {id(where[key]): where[key] for key in given}.values():
            wake.loose = [event for event in wake.loose if id(event) not in given]


def _of_file(event: Event) -> bool:
    about = event.target if event.nr == EPOLL_CTL else event.obj
    return event.nr in STATS or event.nr in OPENS or (about is not None and about.kind == "file")


def _set_up_once(work: Work) -> None:
    """Options that a connection gets once, during one of its several requests, belong to its set-up.

    Among all requests they are rare, so that no program has them, and yet each later reply depends on them: without
    TCP_NODELAY, which nginx sets when it keeps a connection for the first time, a reply in two sends waits for the
    client's delayed acknowledgement.
    """
    made: dict[Obj, list[tuple[Cycle, Event]]] = {}
    for thread in work.threads.values():
        for cycle in thread.cycles:
            life = work.lives[cycle.connection]
            if life.accept is not None and life.requests > 1:
                own = [(cycle, e) for e in cycle.events if e.nr == SETSOCKOPT and e.obj is cycle.connection]
                made.setdefault(cycle.connection, []).extend(own)
    for connection, options in made.items():
        life = work.lives[connection]
        times = Counter(tuple(event.args[1:3]) for _, event in options)
        for cycle, event in options:
            if times[tuple(event.args[1:3])] == 1:
                at = cycle.events.index(event)
                del cycle.events[at], cycle.wake_of[at]
                life.setup.append(event)
                life.set_up_late = True


def rounds_until(cycle: Cycle, thread: ThreadWork, wake: Wake) -> int:
    """The waits of a thread since it received a request, now that it answers it in its last wake-up.

    0 if one of them may have blocked, if more than watching its connection was done for it meanwhile, or something in
    this wake-up already.
    """
    rounds = wake.index - cycle.wake.index
    waits = [wake.wait for wake in thread.wakes[-rounds:]] if 1 <= rounds <= MOST_ROUNDS else []
    asked = all(wait is not None and wait_timeout(wait) == 0 for wait in waits)
    later = [event.nr for event, of in zip(cycle.events, cycle.wake_of, strict=True) if of is not cycle.wake]
    own = any(nr != EPOLL_CTL and nr not in MISC for nr in later) or cycle.wake_of[-1] is wake
    return rounds if waits and asked and not own else 0


def usual_rounds(cycles: Sequence[Cycle]) -> int:
    """Rounds after which such requests are answered, as most of them are; at least 1."""
    seen = sorted(cycle.rounds for cycle in cycles if cycle.rounds)
    return seen[len(seen) // 2] if seen else 1


def resumes_late(work: Work) -> bool:
    """Whether requests are answered in the round after the one that received them, as tasks of an event loop are."""
    answered = [cycle for thread in work.threads.values() for cycle in thread.cycles if cycle.sent]
    late = sum(cycle.resumed_after is not None for cycle in answered)
    return late > LATE_SHARE * len(answered)
