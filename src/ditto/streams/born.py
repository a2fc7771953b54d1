"""Threads that are born for one connection: what they do before its first call and after its last belongs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.events import EPOLL_CTL, PARKS, is_sleep, is_wait

if TYPE_CHECKING:
    from ditto.streams.cycles import ConnectionLife, ThreadWork, Work
    from ditto.streams.events import Event

_MASK = NUMBERS["rt_sigprocmask"]
_CREATES = numbers("clone", "clone3")
_BEGINS = numbers("rseq", "set_robust_list", "rt_sigprocmask")
_ENDS = numbers("rt_sigprocmask", "madvise", "exit", "futex")
_STARTED = numbers("rseq", "set_robust_list")


def adopt_births(work: Work) -> None:
    """Give connections what the threads that were born for them did for nobody.

    What the C library does to start and to end a thread is left out, for the clone's does the same.
    """
    served: dict[int, list[ConnectionLife]] = {}
    for life in work.lives.values():
        life.setup = _without_creation(life.setup)
        served.setdefault(life.server, []).append(life)
    for tid, lives in served.items():
        thread = work.threads.get(tid)
        if thread is None or len(lives) > 1 or not _born_for(thread, lives[0]):
            continue
        life = lives[0]
        loose = {id(event) for wake in thread.wakes for event in wake.loose}
        own = [at for at, event in enumerate(thread.events) if _is_of(event, life)]
        before = _between_the_library(thread.events[: own[0]])
        after = thread.events[own[-1] + 1 :]
        while after and after[-1].nr in _ENDS:
            after = after[:-1]
        taken = [event for event in before if id(event) in loose]
        life.setup += taken
        if life.closing:
            last = [event for event in after if id(event) in loose and not _passes_time(event)]
            life.closing += last
            taken += last
        _forget(thread, taken)


def _born_for(thread: ThreadWork, life: ConnectionLife) -> bool:
    """Whether a thread began after the accept of the one connection it serves, and as one of the same process."""
    accept = life.accept
    return (
        accept is not None
        and accept.tid != thread.tid
        and accept.pid == thread.pid
        and not thread.accepts
        and not thread.earlier
        and thread.events[0].nr in _STARTED
        and thread.events[0].t_out > accept.t_out
    )


def _is_of(event: Event, life: ConnectionLife) -> bool:
    return life.connection in (event.obj, event.target if event.nr == EPOLL_CTL else None)


def _passes_time(event: Event) -> bool:
    return is_wait(event) or is_sleep(event) or event.nr in PARKS


def _between_the_library(events: list[Event]) -> list[Event]:
    """A thread's first calls without those that start it, and without those that pass time."""
    at = 0
    while at < len(events) and events[at].nr in _BEGINS:
        at += 1
    return [event for event in events[at:] if not _passes_time(event)]


def _without_creation(setup: list[Event]) -> list[Event]:
    """Set-up without the making of a thread and the masks that are set right before and after it.

    The mapping of its stack stays: how often one is made depends on the sizes of stacks.
    """
    left_out: set[int] = set()
    for at, event in enumerate(setup):
        if event.nr in _CREATES:
            near = (near for near in (at - 1, at + 1) if 0 <= near < len(setup) and setup[near].nr == _MASK)
            left_out |= {at, *near}
    return [event for at, event in enumerate(setup) if at not in left_out]


def _forget(thread: ThreadWork, taken: list[Event]) -> None:
    ids = {id(event) for event in taken}
    for wake in thread.wakes:
        wake.loose = [event for event in wake.loose if id(event) not in ids]
