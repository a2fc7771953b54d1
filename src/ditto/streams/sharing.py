"""Threads that share their connections: whichever is free serves the next request, whoever received the one before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from ditto.artifacts.syscalls import NUMBERS
from ditto.streams.arguments import arguments
from ditto.streams.cycles import FUTEX, Cycle, ThreadWork, Work
from ditto.streams.events import EPOLL_CTL, PARKS, RECEIVES, SENDS, Event, Obj, is_sleep, is_wait, wait_timeout
from ditto.streams.peer_waits import POLLS

SOME = 0.05
"""Share of connections from which on passing them about belongs to the shape of a server."""
_EPOLL_ADD, _EPOLL_DEL, _EPOLL_MOD = 1, 2, 3
_TOLD_ONCE = 1 << 31 | 1 << 30
"""EPOLLET and EPOLLONESHOT."""
_WAKES = (1, 5, 10)
_CROWDED = 0.95


@dataclass
class Pool:
    """The threads of one process that share connections.

    Attributes:
        servers: threads that receive and answer.
        dispatchers: threads that wait for events and serve nothing; empty where servers wait themselves.
        crowd: servers all wait for events of the same set at once.
        acceptors: threads that only accept, for a crowd.
        polls_first: share of the servers' waits that only ask for what there is.
        unwatched: connections taken out of the wait set by a dispatcher, by request.
        muted: connections left in it for no events by a dispatcher, by request.
        server_wakes: futex wake-ups by a server for each time it was woken, where dispatchers wait.
        asks: the call by number that servers ask with, before most receives, whether there is something; 0 for none.
        lingers: share of requests after which a server asks for the next one of the same connection, before it lets go.
        dispatcher_wakes: likewise by a dispatcher, for each connection it took out of the wait set or muted.
        running: how many servers ran at a time, but for a twentieth of the time.
    """

    servers: set[int] = field(default_factory=set)
    dispatchers: set[int] = field(default_factory=set)
    crowd: bool = False
    acceptors: set[int] = field(default_factory=set)
    polls_first: float = 0.0
    unwatched: float = 0.0
    muted: float = 0.0
    running: int = 0
    server_wakes: float = 0.0
    dispatcher_wakes: float = 0.0
    asks: int = 0
    lingers: float = 0.0


@dataclass
class Sharing:
    """All pools by process, and how many connections passed from thread to thread.

    Attributes:
        passed: connections that did, of ``connections``.
        strays: whether some passed from process to process.
    """

    pools: dict[int, Pool]
    passed: int
    connections: int
    strays: bool

    @property
    def shared(self) -> bool:
        return self.passed > SOME * self.connections

    @property
    def complete(self) -> bool:
        """Whether it is known who waits for the connections' events, in every process."""
        return not self.strays and all(
            len(pool.servers) > 1 and (pool.crowd or pool.dispatchers or pool.polls_first >= 0)
            for pool in self.pools.values()
        )

    def pool_of(self, tid: int) -> Pool | None:
        """The pool in which a thread serves, dispatches or accepts."""
        return next(
            (pool for pool in self.pools.values() if tid in pool.servers | pool.dispatchers | pool.acceptors), None
        )


def find_sharing(work: Work, cycles: Iterable[Cycle]) -> Sharing:
    """Who serves connections in common, and who waits for their events.

    A connection of which one thread serves nearly all requests is that thread's: it was given away once.
    """
    servers: dict[int, Counter[int]] = defaultdict(Counter)
    for cycle in cycles:
        servers[cycle.connection.serial][cycle.tid] += 1
    passed = [tids for tids in servers.values() if max(tids.values()) < (1 - SOME) * tids.total()]
    pools: dict[int, Pool] = {}
    strays = False
    for tids in passed:
        pids = {work.threads[tid].pid for tid in tids}
        strays = strays or len(pids) > 1
        for tid in tids:
            pools.setdefault(work.threads[tid].pid, Pool()).servers.add(tid)
    sharing = Sharing(pools, len(passed), len(servers), strays)
    if sharing.shared:
        # Who served one connection alone, beside threads that share theirs, is one of them.
        for tids in servers.values():
            for tid in tids:
                if work.threads[tid].pid in pools:
                    pools[work.threads[tid].pid].servers.add(tid)
        for pid, pool in pools.items():
            _describe(pool, [thread for thread in work.threads.values() if thread.pid == pid])
    return sharing


def _describe(pool: Pool, threads: list[ThreadWork]) -> None:
    """Fill in how the pool waits; ``polls_first`` stays below 0 where that is not known, or not by one at a time."""
    own = [thread for thread in threads if thread.tid in pool.servers]
    served = sum(len(thread.cycles) for thread in own)
    waits = [wake.wait for thread in own for wake in thread.wakes if wake.wait is not None]
    parks = sum(event.nr == FUTEX and is_parked(event) for thread in own for event in thread.events)
    sets = {wait.obj for wait in waits if wait.obj is not None and wait.obj.kind == "epoll"}
    if len(sets) == 1 and len(waits) > SOME * served and parks < SOME * len(waits):
        pool.crowd = True
        pool.acceptors = {thread.tid for thread in threads if thread.accepts and thread.tid not in pool.servers}
        return
    for thread in threads:
        if thread.tid in pool.servers or thread.sleeps:
            continue
        watched = [event for event in thread.events if event.nr == EPOLL_CTL and _on_connection(event)]
        if any(wake.wait is not None for wake in thread.wakes) and (watched or thread.accepts):
            pool.dispatchers.add(thread.tid)
            removed = sum(event.args[1] == _EPOLL_DEL for event in watched)
            muted = sum(event.args[1] == _EPOLL_MOD and not arguments(event, "epoll_mod")[0] for event in watched)
            pool.unwatched += removed / max(1, served)
            pool.muted += muted / max(1, served)
            pool.dispatcher_wakes = sum(map(_is_wake, thread.events)) / max(1, removed + muted)
    if pool.dispatchers and not pool.unwatched + pool.muted and _is_told_again(threads):
        # Somebody takes them out while they are served (a loop that reads ahead for the servers, and serves too): left
        # in the set they would be reported until then, over and over.
        pool.unwatched, pool.dispatcher_wakes = 1.0, 1.0
    if pool.dispatchers:
        _ask(pool, own)
        pool.server_wakes = sum(_is_wake(event) for thread in own for event in thread.events) / max(1, parks)
    if not pool.dispatchers:
        pool.running = _usual_most(own)
        pool.polls_first = -1.0
        if waits and parks >= SOME * len(waits):  # else all of them wait, each for events of its own
            pool.polls_first = sum(wait_timeout(wait) == 0 for wait in waits) / len(waits)


def _ask(pool: Pool, threads: list[ThreadWork]) -> None:
    """Fill in how servers poll the one connection that they have."""
    asked = Counter[int]()
    lingered = 0
    for thread in threads:
        served: Obj | None = None
        for event, following in pairwise(event for event in thread.events if event.nr != FUTEX):
            if event.nr in SENDS and event.obj is not None and event.obj.kind == "connection":
                served = event.obj
            elif event.nr == EPOLL_CTL and event.target is served:
                served = None
            elif event.nr in POLLS and event.args[1] == 1 and is_wait(event):
                into = following.obj if following.nr in RECEIVES else None
                asked[event.nr] += into is not None and into.kind == "connection"
                lingered += served is not None and (into is served or event.ret == 0)
                served = None
    requests = max(1, sum(len(thread.cycles) for thread in threads))
    if asked and 2 * asked.total() > requests:
        pool.asks = asked.most_common(1)[0][0]
        pool.lingers = min(1.0, lingered / requests) if lingered > SOME * requests else 0.0


def _on_connection(event: Event) -> bool:
    return event.target is not None and event.target.kind == "connection"


def _is_told_again(threads: list[ThreadWork]) -> bool:
    """Whether connections are mostly watched for as long as there is something to do on them."""
    added = [
        event
        for thread in threads
        for event in (*thread.earlier, *thread.events)
        if event.nr == EPOLL_CTL and event.args[1] == _EPOLL_ADD and _on_connection(event)
    ]
    return 2 * sum(not arguments(event, "epoll_add")[0] & _TOLD_ONCE for event in added) > len(added)


def _is_wake(event: Event) -> bool:
    return event.nr == FUTEX and not is_parked(event)


def is_parked(event: Event) -> bool:
    """Whether the call waits for another thread or for time."""
    if event.nr == FUTEX:
        return event.args[1] & 127 not in _WAKES
    return event.nr in PARKS or is_sleep(event)


def _usual_most(threads: list[ThreadWork]) -> int:
    """The most threads that ran at a time, but for a twentieth of the time; 0 where that is all of them."""
    steps: list[tuple[int, int]] = []
    for thread in threads:
        for begin, end in _stretches(thread.events):
            steps += [(begin, 1), (end, -1)]
    steps.sort()
    running, last, spent = 0, 0, Counter[int]()
    for at, change in steps:
        if running:
            spent[running] += at - last
        running, last = running + change, at
    seen = 0
    for level in sorted(spent):
        seen += spent[level]
        if seen >= _CROWDED * spent.total():
            return 0 if level >= len(threads) else level
    return 0


def _stretches(events: list[Event]) -> Iterator[tuple[int, int]]:
    """When a thread neither waited nor was parked, between its first call and its last."""
    begin: int | None = None
    for event in events:
        if is_parked(event) or is_wait(event):
            if begin is not None:
                yield begin, event.t_in
            begin = event.t_out
        elif begin is None:
            begin = event.t_in
    if begin is not None and events[-1].t_out > begin:
        yield begin, events[-1].t_out


def mean_after_parking(threads: Iterable[ThreadWork]) -> float:
    """Mean work between the return of a wait for another thread and the next call; 0 where that is unknown."""
    gaps = [event.gap for thread in threads for event in thread.events if event.nr == FUTEX and is_parked(event)]
    known = [gap for gap in gaps if gap >= 0]
    return sum(known) / len(known) if known else 0.0


PARKED = NUMBERS["futex"]
