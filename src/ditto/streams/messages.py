"""Messages between the threads of a process: requests that are passed to others for a part of their work and come back.

Whoever waits for events goes on to other requests meanwhile.  It tells the others by writing to a pipe, a socket pair
or an eventfd, or by waking them (futex), and they tell it by such a descriptor once they are done.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from ditto.artifacts.syscalls import NUMBERS
from ditto.streams.cycles import FUTEX, Cycle, ThreadWork, Wake, Work
from ditto.streams.events import EAGAIN, EPOLL_CTL, RECEIVES, SENDS, Event, Obj, is_wait, wait_timeout
from ditto.streams.helpers import OFTEN, find_helpers
from ditto.streams.programs import AWAIT, MESSAGE, YIELD
from ditto.streams.sharing import SOME, is_parked

BETWEEN = ("pipe", "pair", "eventfd", "socket")
"""Kinds of descriptors that messages between threads pass over."""
MOSTLY = 0.95
PASSED, FURTHER, RETURNED, ANSWERED = ("m", 0), ("m", 1), ("m", 2), ("m", 3)
"""What a message is: one that a request passes with, another for the same, one that tells of its coming back; or that
is a worker's reply to the client."""
_KINDS = {"eventfd": NUMBERS["eventfd2"], "pipe": NUMBERS["pipe2"]}
_NOBODY = Obj("none", 0)
_NOWHERE = Wake(0, None, 0)


@dataclass(eq=False)
class Reading:
    """How threads of one kind read their messages.

    Attributes:
        made: calls that made what they read from.
        calls: calls that read.
        asked: bytes asked for.
        vain: reads that found nothing, of ``found`` others.
        places: by thread, what it read from.
    """

    made: Counter[int] = field(default_factory=Counter)
    calls: Counter[int] = field(default_factory=Counter)
    asked: Counter[int] = field(default_factory=Counter)
    vain: int = 0
    found: int = 0
    places: dict[int, set[Obj]] = field(default_factory=lambda: defaultdict(set))

    def add(self, event: Event, obj: Obj) -> None:
        if event.ret <= 0:
            self.vain += event.ret == EAGAIN
            return
        self.found += 1
        self.made[_KINDS.get(obj.kind, NUMBERS["socketpair"])] += 1
        self.calls[event.nr] += 1
        self.asked[event.args[2]] += 1
        self.places[event.tid].add(obj)


@dataclass(eq=False)
class Messages:
    """The threads of a service that pass each other its requests.

    Attributes:
        workers: threads that do a part of the work for others.
        woken: whether these are woken (futex), and read nothing.
        returned: messages of theirs, and ``passed`` those to them.
        jobs: how often a request passed to them, seen or not.
        by_workers, by_servers: how they read theirs, and how those read that serve the connections.
        sizes: bytes of a message to workers, where they read.
        seldom: whether they are woken only where none works.
        answered: how often a worker sent the reply itself.
    """

    workers: set[int]
    woken: bool
    passed: int = 0
    returned: int = 0
    jobs: int = 0
    by_workers: Reading = field(default_factory=Reading)
    by_servers: Reading = field(default_factory=Reading)
    sizes: Counter[int] = field(default_factory=Counter)
    seldom: bool = False
    answered: int = 0

    @property
    def once(self) -> bool:
        """Whether one who is told already is not told again until it has read that."""
        return self.returned < MOSTLY * self.jobs


def join_messages(work: Work) -> None:
    """Find out whether requests are passed between threads; mark the messages, give requests what passed for them."""
    found = _find(work)
    if found is None:
        work.told = _told(work)
        return
    work.messages = found
    for thread in work.threads.values():
        if thread.cycles:
            _follow(thread, found)
    if found.answered:
        _leave_to_workers(work, found)


def _between(event: Event) -> Obj | None:
    return event.obj if event.obj is not None and event.obj.kind in BETWEEN else None


def _find(work: Work) -> Messages | None:
    """Who works for whom; the messages get a ``target`` of the kind ``message``."""
    requests = sum(len(thread.cycles) for thread in work.threads.values())
    helpers = find_helpers(work)
    readers: dict[Obj, set[int]] = defaultdict(set)
    writers: dict[Obj, set[int]] = defaultdict(set)
    read: Counter[int] = Counter()
    written: Counter[int] = Counter()
    told: list[Event] = []
    for thread in work.threads.values():
        for event in thread.events:
            obj = _between(event)
            if obj is None or event.nr not in RECEIVES | SENDS:
                continue
            told.append(event)
            if event.ret > 0:
                (readers if event.nr in RECEIVES else writers)[obj].add(event.tid)
                (read if event.nr in RECEIVES else written)[event.tid] += 1
    if not requests or not told:
        return None
    often = max(2.0, OFTEN * requests)
    idle = {tid for tid, thread in work.threads.items() if not thread.cycles and not thread.accepts}
    reading = {tid for tid in idle if read[tid] >= often and not _watches(work.threads[tid])}
    workers = reading or {tid for tid in helpers if written[tid] >= often}
    pids = {thread.pid for thread in work.threads.values() if thread.cycles}
    if not workers or not {work.threads[tid].pid for tid in workers} <= pids:
        return None
    found = Messages(workers, not reading)
    own = {obj for obj, tids in readers.items() if len(tids) == 1 and tids == writers[obj]}
    for event in (e for tid in workers for e in work.threads[tid].events):
        if event.nr in SENDS and event.ret > 0 and event.obj is not None and event.obj.kind == "connection":
            event.target = Obj(MESSAGE, ANSWERED[1])
            found.answered += 1
    for event in told:
        assert event.obj is not None
        serves = event.tid not in idle
        if event.obj in own or not (serves or event.tid in workers):
            continue
        receives = event.nr in RECEIVES
        event.target = Obj(MESSAGE, FURTHER[1] if serves else RETURNED[1])
        if receives:
            (found.by_servers if serves else found.by_workers).add(event, event.obj)
        elif event.ret > 0 and serves:
            found.passed += 1
            found.sizes[event.ret] += 1
        else:
            found.returned += event.ret > 0
    if found.woken:
        found.passed = sum(_wakes(event) for t in work.threads.values() if t.cycles for event in t.events)
        found.seldom = found.passed < MOSTLY * found.returned
    return found if found.passed > SOME * requests else None


def _watches(thread: ThreadWork) -> bool:
    """Whether a thread says for which events of connections it waits, to serve them or to have them served."""
    return any(e.nr == EPOLL_CTL and e.target is not None and e.target.kind == "connection" for e in thread.events)


def _told(work: Work) -> Reading | None:
    """How threads that wait for the events of connections which others serve read what these tell them; None: nothing.

    It only ends their wait (the set that they wait for has changed, say); it gets a ``target`` of the kind ``message``.
    """
    requests = sum(len(thread.cycles) for thread in work.threads.values())
    moved: dict[Obj, list[Event]] = defaultdict(list)
    for event in (event for thread in work.threads.values() for event in thread.events):
        if event.nr in RECEIVES | SENDS and (obj := _between(event)) is not None:
            moved[obj].append(event)
    told = Reading()
    for obj, events in moved.items():
        readers = {event.tid for event in events if event.nr in RECEIVES}
        wait = all(any(w.wait is not None for w in work.threads[tid].wakes) for tid in readers)
        if not wait or any(work.threads[tid].cycles for tid in readers):
            continue
        sent = [e for e in events if e.nr in SENDS and e.ret > 0 and work.threads[e.tid].cycles]
        if len(sent) <= SOME * requests:
            continue
        for event in sent:
            event.target = Obj(MESSAGE, FURTHER[1])
        for event in events:
            if event.nr in RECEIVES:
                told.add(event, obj)
    return told if told.found else None


def _wakes(event: Event) -> bool:
    return event.target is not None and event.target.kind == "helper"


@dataclass(eq=False)
class _Request:
    """A request under way: where it began and was passed on last, and the wake-up in which it went on last."""

    cycle: Cycle
    began: int
    last: int
    passed: int = -1
    passes: int = 0


def _follow(thread: ThreadWork, found: Messages) -> None:
    """Find the messages that each request passed with, and where it went on.

    Who passes on what it received in an earlier round is not seen to work for any request: requests are taken in their
    order then.  Nobody is woken where all work already: such a request is known by its late reply.
    """
    place = {id(event): at for at, event in enumerate(thread.events)}
    owner = {id(event): cycle for cycle in thread.cycles for event in cycle.events}
    under_way: dict[int, _Request] = {}
    loose = {id(event): wake for wake in thread.wakes for event in wake.loose}
    returned, back, now = -1, 0, 0
    for at, event in enumerate(thread.events):
        if is_wait(event):
            now += 1
            continue
        told = event.target is not None and event.target.kind == MESSAGE
        if told and event.nr in RECEIVES:
            returned, back = (at, now) if event.ret > 0 else (returned, back)
            continue
        passes = (told and event.nr in SENDS and event.ret > 0) or (found.woken and _wakes(event))
        cycle = owner.get(id(event))
        request = under_way.get(id(cycle)) if cycle is not None else None
        if passes and cycle is None and id(event) in loose:
            request = _next(under_way, returned, now)
            if request is not None:
                cycle = request.cycle
                after = sum(place.get(id(other), -1) < at for other in cycle.events)
                begins = at  # what its thread did for nobody right before was for it
                while id(thread.events[begins - 1]) in loose and thread.events[begins - 1].target is None:
                    begins -= 1
                cycle.events[after:after] = thread.events[begins : at + 1]
                cycle.wake_of[after:after] = [thread.wakes[now]] * (at + 1 - begins)
                for one in thread.events[begins : at + 1]:
                    loose.pop(id(one)).loose.remove(one)
        if cycle is None:
            continue
        if request is None:
            if event is not cycle.receive:
                continue
            for other in [k for k, r in under_way.items() if r.cycle.connection is cycle.connection]:
                del under_way[other]  # a worker has answered it
            request = under_way[id(cycle)] = _Request(cycle, at, now)
        polled = now > request.last and wait_timeout(thread.wakes[now].wait) == 0  # type: ignore[arg-type]
        replies = event.nr in SENDS and event.obj is cycle.connection
        unseen = found.woken and replies and not request.passes and request.began < returned
        if 0 <= request.passed < returned or unseen:
            found.jobs += unseen
            _pause(cycle, event, thread, at, [AWAIT, YIELD] if polled and back < now else [AWAIT], now)
            request.passed = -1
        elif request.passed < 0 and polled and cycle.resumed_after is None:
            _pause(cycle, event, thread, at, [YIELD], now)
        request.last = now
        if passes:
            first = request.passed < 0
            if first or told:
                event.target = Obj(MESSAGE, (PASSED if first else FURTHER)[1])
            request.passed = at if first else request.passed
            found.jobs += first
            request.passes += 1
        elif replies:
            del under_way[id(cycle)]


def _leave_to_workers(work: Work, found: Messages) -> None:
    """What workers do that answer the client themselves is their own, but for what they do to its connection."""
    for cycle in (cycle for thread in work.threads.values() for cycle in thread.cycles):
        kept = [
            (event, wake)
            for event, wake in zip(cycle.events, cycle.wake_of, strict=True)
            if event.tid not in found.workers or cycle.connection in (event.obj, event.target)
        ]
        cycle.events, cycle.wake_of = [event for event, _ in kept], [wake for _, wake in kept]


def _next(under_way: dict[int, _Request], returned: int, now: int) -> _Request | None:
    """The oldest request of this round or the one before that was passed to nobody yet, or one that has come back."""
    fresh = (r for r in under_way.values() if not r.passes and r.last >= now - 1)
    return next(fresh, next((r for r in under_way.values() if 0 <= r.passed < returned), None))


def _pause(cycle: Cycle, event: Event, thread: ThreadWork, at: int, kinds: list[str], now: int) -> None:
    """A request goes on with ``event``: what was executed right before that is work on it."""
    before = thread.events[at - 1]
    cycle.pauses[id(event)] = [(kind, before.gap if kind == kinds[-1] else -1.0) for kind in kinds]
    before.gap = 0.0 if before.gap >= 0 else before.gap
    if AWAIT in kinds:
        thread.wakes[now].answers += 1


def worker_cycles(work: Work) -> list[Cycle]:
    """What workers do for each message, as cycles to be counted like those of a request class."""
    found = work.messages
    if found is None:
        return []
    ends = (RETURNED[1],) if 2 * found.returned > found.jobs else (RETURNED[1], ANSWERED[1])
    bursts = [burst for tid in sorted(found.workers) for burst in _bursts(work.threads[tid], found.woken, ends)]
    if found.once:  # who answers once for several is seen to do the work of all of them at once
        apart = [part for burst in bursts for part in _apart(burst)]
        bursts = apart if len(apart) <= found.jobs else bursts
    cycles = [Cycle(_NOBODY, burst[0].tid, _NOWHERE, burst[0], burst, [_NOWHERE] * len(burst)) for burst in bursts]
    missing = max(0, found.jobs - len(cycles)) if cycles else 0
    return cycles + [Cycle(_NOBODY, cycles[0].tid, _NOWHERE, cycles[0].receive) for _ in range(missing)]


def _apart(burst: list[Event]) -> Iterator[list[Event]]:
    """A worker's calls cut where it makes one that it has made already."""
    part: list[Event] = []
    for event in burst:
        if event.nr != FUTEX and any(event.nr == other.nr for other in part):
            yield part
            part = []
        part.append(event)
    yield part


def _bursts(thread: ThreadWork, woken: bool, ends: tuple[int, ...]) -> Iterator[list[Event]]:
    """A worker's calls from one message to the next; of one that is woken, from one of its answers to the next.

    Who sends replies and also tells that it is done has done so by telling: ``ends`` are the messages that end a job.
    """
    burst: list[Event] = []
    for event in thread.events:
        message = event.target is not None and event.target.kind == MESSAGE
        if message and event.nr in RECEIVES:
            if burst:
                yield burst
            burst = [event] if event.ret > 0 else []
        elif not is_wait(event) and not is_parked(event) and (woken or burst):
            burst.append(event)
            if woken and message and event.target.serial in ends:  # type: ignore[union-attr]
                yield burst
                burst = []
