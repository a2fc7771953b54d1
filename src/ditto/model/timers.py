"""Background activity of event loops: what a thread does now and then, by the clock and not by request."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, pstdev

from ditto.artifacts.syscalls import numbers
from ditto.streams.children import starts
from ditto.streams.cycles import Cycle, ThreadWork
from ditto.streams.events import ACCEPTS, EPOLL_CTL, PARKS, RECEIVES, SENDFILES, Event

BURST_GAP_NS = 2_000_000
MIN_BURSTS = 4
SPREAD = 0.4
"""Share of the window from the first burst to the last, from which on they are a timer's."""
MEMORY = numbers("mmap", "munmap", "mremap", "mprotect", "brk", "madvise")
ALLOCATES = 0.9
"""Share of its calls from which on an activity is one that asks for memory: a stray call beside is none of its own."""
_EVENTFUL = ("eventfd", "pipe", "pair", "connection", "downstream", "listener", "datagram")
RARE = 0.05
"""A call made for fewer requests than this may belong to a timer."""


@dataclass
class TimerSeen:
    """A periodic activity: ``events`` of all its bursts, ``bursts`` lists of them, over ``threads`` threads."""

    period_ns: float
    bursts: list[list[Event]] = field(default_factory=list)

    @property
    def descriptor(self) -> bool:
        """Whether a timerfd tells of it."""
        return 2 * sum(any(ticks(event) for event in burst) for burst in self.bursts) > len(self.bursts)

    @property
    def allocates(self) -> bool:
        """Whether what it does is to ask for memory or give it back: that follows the load, not the clock."""
        asks = [event.nr in MEMORY for burst in self.bursts for event in burst]
        return sum(asks) >= ALLOCATES * len(asks)


def ticks(event: Event) -> bool:
    """Whether the call reads a timerfd whose time has come."""
    return event.nr in RECEIVES and event.ret > 0 and event.obj is not None and event.obj.kind == "timerfd"


def find_timer(threads: list[ThreadWork], classes: dict[bytes, list[Cycle]], window_ns: int) -> TimerSeen | None:
    """The periodic activity of a role's threads, if they have one.

    Rare calls without a connection of their own are gathered into bursts; they are a timer's if the bursts come
    regularly (coefficient of variation of the intervals below 0.6) and over most of the window: a client that connects
    several times in a row is no clock.  Where a timerfd ticks, each tick begins one.
    """
    rare = _rare_kinds(classes)
    bursts: list[list[Event]] = []
    spans: list[float] = []
    for thread in threads:
        own: list[list[Event]] = []
        found = sorted(_candidates(thread, rare), key=lambda e: e.t_out)
        told = sum(map(ticks, found)) >= MIN_BURSTS
        for event in found[next((at for at, event in enumerate(found) if ticks(event)), 0) if told else 0 :]:
            if own and (not ticks(event) if told else event.t_in - own[-1][-1].t_out < BURST_GAP_NS):
                own[-1].append(event)
            else:
                own.append([event])
        if len(own) >= MIN_BURSTS:
            starts = [burst[0].t_in for burst in own]
            intervals = [b - a for a, b in pairwise(starts)]
            lasts = starts[-1] - starts[0] >= SPREAD * window_ns
            if lasts and mean(intervals) > 0 and pstdev(intervals) < 0.6 * mean(intervals):
                bursts += own
                spans.append(mean(intervals))
    if not spans:
        return None
    return TimerSeen(mean(spans), bursts)


def _rare_kinds(classes: dict[bytes, list[Cycle]]) -> set[int]:
    """Calls without a connection that are made in a small share of all requests."""
    calls: Counter[int] = Counter()
    total = 0
    for cycles in classes.values():
        total += len(cycles)
        for cycle in cycles:
            for event in cycle.events:
                if not _has_connection(event, cycle):
                    calls[event.nr] += 1
    return {nr for nr, count in calls.items() if count < RARE * total}


def _has_connection(event: Event, cycle: Cycle) -> bool:
    return event.obj is cycle.connection or event.target is cycle.connection


def _of_each_wake(thread: ThreadWork) -> set[int]:
    """Calls without a connection that most wake-ups with something to do make: they tell no time."""
    busy = [wake for wake in thread.wakes if wake.received or wake.answers]
    made = Counter(nr for wake in busy for nr in {event.nr for event in wake.loose})
    return {nr for nr, count in made.items() if count > len(busy) / 2}


def _candidates(thread: ThreadWork, rare: set[int]) -> list[Event]:
    usual = _of_each_wake(thread)
    found = [event for wake in thread.wakes for event in wake.loose if _may_tick(event) and event.nr not in usual]
    for cycle in thread.cycles:
        for event in cycle.events:
            if event.nr in rare and not _has_connection(event, cycle) and event.nr not in PARKS and not starts(event):
                found.append(event)
    return found


def _may_tick(event: Event) -> bool:
    """Accepting, and reading the descriptor that woke the thread, are answers to events and no timers."""
    if event.nr in ACCEPTS or event.nr == EPOLL_CTL or event.nr in PARKS:
        return False
    kind = event.obj.kind if event.obj is not None else ""
    return kind not in _EVENTFUL or event.nr in SENDFILES
