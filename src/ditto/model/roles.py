"""Thread roles and process roles: who waits, who accepts, who serves, who only ticks or idles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from ditto.artifacts.observation import ProcessSeen, ThreadSeen
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.timers import ticks
from ditto.streams.cycles import ThreadWork, Work
from ditto.streams.datagrams import is_datagram
from ditto.streams.events import ACCEPTS, RECEIVES, WAITS, Event, Stream
from ditto.streams.messages import Messages
from ditto.streams.passing import passes
from ditto.streams.pulls import pulls
from ditto.streams.serial import serial_waits
from ditto.streams.sharing import PARKED, Sharing

Kind = Literal["loop", "periodic", "idle", "serve", "accept_serve", "shared", "dispatch", "helper", "pull", "worker"]

MOSTLY = 10
"""A thread that sleeps so many times as often as it looks for events only ticks."""

Trait = tuple[Kind, int, bool, bool]
"""Kind, the call waited with, whether it accepts, whether it serves."""

WAIT_NAMES: dict[int, Literal["epoll", "epoll_pwait", "poll", "select", "blocking"]] = {
    NUMBERS["epoll_wait"]: "epoll",
    NUMBERS["epoll_pwait"]: "epoll_pwait",
    NUMBERS["epoll_pwait2"]: "epoll_pwait",
    NUMBERS["poll"]: "poll",
    NUMBERS["ppoll"]: "poll",
    NUMBERS["select"]: "select",
    NUMBERS["pselect6"]: "select",
}

_IDLE_CALLS = frozenset(NUMBERS[n] for n in ("futex", "rt_sigsuspend", "wait4", "waitid", "pause", "rt_sigtimedwait"))


_RECVMSG = NUMBERS["recvmsg"]
_PARKED_TRAITS: tuple[tuple[Kind, int], ...] = (("idle", PARKED), ("helper", PARKED))


@dataclass
class RoleSeen:
    """A thread role while it is being fitted.

    Attributes:
        threads: members' tids.
        process: index of the process role.
        wait_nr: the call the role waits with.
    """

    kind: Kind
    process: int
    wait_nr: int
    accepts: bool
    serves: bool
    threads: list[int] = field(default_factory=list)
    work: list[ThreadWork] = field(default_factory=list)
    main: bool = False

    @property
    def wait_name(self) -> Literal["epoll", "epoll_pwait", "poll", "select", "blocking"]:
        return WAIT_NAMES.get(self.wait_nr, "blocking")


@dataclass
class ProcessRole:
    """A process role: the processes that have the same threads and the same parent role."""

    parent: int
    pids: list[int]
    roles: list[int] = field(default_factory=list)


@dataclass
class RolesSeen:
    processes: list[ProcessRole]
    roles: list[RoleSeen]

    def role_of(self, tid: int) -> int:
        """Index of the role a thread has; -1 for one that is gone."""
        for index, role in enumerate(self.roles):
            if tid in role.threads:
                return index
        return -1


def find_roles(
    stream: Stream,
    work: Work,
    processes: list[ProcessSeen],
    sharing: Sharing | None = None,
    helpers: Collection[int] = (),
) -> RolesSeen:
    """Group the threads that were alive under load by what they did.

    Threads that never returned from a call in the window are judged by the call they were in.
    """
    traits: dict[int, Trait] = {}
    processes = _with_one_of_those_gone(stream, work, processes)
    for process in processes:
        for thread in process.threads:
            main = thread.tid == process.pid
            traits[thread.tid] = _trait(work.threads.get(thread.tid), thread.syscall, main, _past(stream, thread.tid))
    for tid in helpers:
        if traits.get(tid, (None,))[0] == "idle":
            traits[tid] = ("helper", PARKED, False, False)
    if work.messages is not None:
        _working(work, work.messages, processes, traits)
    if sharing is not None and sharing.shared:
        _share(work, processes, traits, sharing)
    _as_their_siblings(processes, traits)
    _waiting_to_be_given(stream, processes, traits)
    _waiting_for_datagrams(processes, traits)
    process_roles = _process_roles(processes, traits, work)
    seen = RolesSeen(process_roles, [])
    for index, process_role in enumerate(process_roles):
        grouped: dict[tuple[object, ...], RoleSeen] = {}
        first = next(p for p in processes if p.pid == process_role.pids[0])
        for pid in process_role.pids:
            process = next(p for p in processes if p.pid == pid)
            for thread in process.threads:
                kind, wait_nr, accepts, serves = traits[thread.tid]
                is_main = thread.tid == process.pid
                key: tuple[object, ...] = (kind, wait_nr, accepts, serves or kind == "loop", kind == "idle" and is_main)
                if kind == "accept_serve":
                    key = (kind, wait_nr)
                if kind == "periodic":
                    key = (*key, _period_bin(work.threads.get(thread.tid)))
                role = grouped.setdefault(key, RoleSeen(kind, index, wait_nr, accepts, serves))
                role.threads.append(thread.tid)
                role.serves |= serves
                role.main |= is_main
                if thread.tid in work.threads:
                    role.work.append(work.threads[thread.tid])
        del first
        # The main thread's role first: it runs on the process's main thread.
        for role in sorted(grouped.values(), key=lambda r: (not r.main, min(r.threads))):
            process_role.roles.append(len(seen.roles))
            seen.roles.append(role)
    return seen


def _with_one_of_those_gone(stream: Stream, work: Work, processes: list[ProcessSeen]) -> list[ProcessSeen]:
    """The processes, with one that served where all that did were born for a connection and gone when they were listed.

    Args:
        processes: as they were seen at one moment, at which there may have been no connection.
    """
    serving = {thread.tid for thread in work.threads.values() if thread.cycles}
    here = {thread.tid for process in processes for thread in process.threads}
    born = sorted(tid for tid in serving & set(stream.births) if stream.births[tid][1] in here)
    if serving & here or not born:
        return processes
    tid = born[-1]
    pid, parent = stream.births[tid]
    gone = ThreadSeen(tid=tid, name="", syscall=-1)
    if any(process.pid == pid for process in processes):
        return [
            process.model_copy(update={"threads": [*process.threads, gone]}) if process.pid == pid else process
            for process in processes
        ]
    of_parent = next(process for process in processes if any(thread.tid == parent for thread in process.threads))
    return [*processes, ProcessSeen(pid=pid, ppid=of_parent.pid, name="", threads=[gone], rss_bytes=0)]


def leads_session(role: RoleSeen, processes: Iterable[ProcessSeen]) -> bool:
    """Whether the processes that begin with this role are mostly in sessions of their own, as some daemons' are."""
    led = [process.session == process.pid for process in processes if process.pid in role.threads]
    return 2 * sum(led) > len(led)


def _share(work: Work, processes: list[ProcessSeen], traits: dict[int, Trait], sharing: Sharing) -> None:
    """The threads of a pool are of one kind, those among them that had nothing to do just then too."""
    for process in processes:
        pool = sharing.pools.get(process.pid)
        if pool is None:
            continue
        own = [work.threads[tid] for tid in pool.servers if tid in work.threads]
        waits = Counter(wake.wait.nr for thread in own for wake in thread.wakes if wake.wait is not None)
        accepts = any(thread.accepts for thread in own) or any(traits[tid][2] for tid in pool.servers if tid in traits)
        polls = not pool.dispatchers
        if pool.crowd:
            accepts = any(thread.accepts for thread in own)
        wait_nr = waits.most_common(1)[0][0] if waits and polls else PARKED
        for thread in process.threads:
            if thread.tid in pool.dispatchers | pool.acceptors:
                traits[thread.tid] = ("dispatch", traits[thread.tid][1], True, False)
            elif pool.crowd and thread.tid not in pool.servers:
                if traits[thread.tid] == ("loop", wait_nr, False, False):  # nothing came for it
                    traits[thread.tid] = ("shared", wait_nr, accepts, True)
            elif thread.tid in pool.servers or traits[thread.tid][:2] in _PARKED_TRAITS:
                traits[thread.tid] = ("shared", wait_nr, accepts and polls, True)


def _working(work: Work, messages: Messages, processes: list[ProcessSeen], traits: dict[int, Trait]) -> None:
    """Threads that work for others, and those that sat in the same call as they do, though nothing came for them."""
    waits: Counter[int] = Counter()
    for tid in messages.workers & set(work.threads):
        before = Counter(wake.wait.nr for wake in work.threads[tid].wakes if wake.wait is not None)
        waits.update({PARKED: 1} if messages.woken else before or messages.by_workers.calls)
    wait_nr = waits.most_common(1)[0][0]
    for process in processes:
        has_some = any(thread.tid in messages.workers for thread in process.threads)
        for thread in process.threads:
            sits = not messages.woken and thread.syscall == wait_nr and traits[thread.tid][0] in ("serve", "idle")
            sits = sits and not traits[thread.tid][3]
            if thread.tid in messages.workers or (has_some and sits):
                traits[thread.tid] = ("worker", wait_nr, False, False)


def _as_their_siblings(processes: list[ProcessSeen], traits: dict[int, Trait]) -> None:
    """Workers that nothing was seen of are what their busy siblings are, and all of one kind wait alike.

    With connections that last, some of a server's equal processes have none, and sit in the accept (or the wait before
    it) all the time.
    """
    busy: dict[int, Trait] = {}
    for process in processes:
        trait = traits.get(process.pid)
        if trait is not None and trait[0] == "accept_serve" and trait[3]:
            best = busy.setdefault(process.ppid, trait)
            if best[1] == NUMBERS["read"]:
                busy[process.ppid] = trait
    for process in processes:
        trait, model = traits.get(process.pid), busy.get(process.ppid)
        if trait is None or model is None:
            continue
        if trait[0] == "accept_serve" or (trait[2] and not trait[3]):
            traits[process.pid] = model


def _waiting_for_datagrams(processes: list[ProcessSeen], traits: dict[int, Trait]) -> None:
    """A thread that sat in the receive that others block in is one of them, though nothing came for it."""
    blocking = {trait[1]: trait for trait in traits.values() if trait[0] == "loop" and trait[1] not in WAIT_NAMES}
    for process in processes:
        for thread in process.threads:
            if traits[thread.tid][0] == "idle" and thread.syscall in blocking:
                traits[thread.tid] = blocking[thread.syscall]


def _waiting_to_be_given(stream: Stream, processes: list[ProcessSeen], traits: dict[int, Trait]) -> None:
    """Threads that sat in the call in which others take connections from another process are as those."""
    events = (*stream.outside, *(event for found in stream.threads.values() for event in found))
    takers = {event.tid for event in events if event.nr in RECEIVES and passes(event)}
    models = [traits[tid] for tid in sorted(takers & set(traits)) if traits[tid][0] == "serve" and traits[tid][3]]
    for process in processes:
        for thread in process.threads:
            sat = thread.tid in takers or thread.syscall == _RECVMSG
            if models and sat and traits[thread.tid][0] in ("idle", "serve"):
                traits[thread.tid] = models[0]


def blocking_receives(work: ThreadWork) -> Counter[int]:
    """The calls by which a thread received datagrams without waiting for events before; empty where it mostly waits."""
    receives = [(c.receive.nr, c.wake.wait is None) for c in work.cycles if is_datagram(c.connection)]
    blocking = Counter(nr for nr, alone in receives if alone)
    return blocking if 2 * blocking.total() > len(receives) else Counter()


def _past(stream: Stream, tid: int) -> list[Event]:
    return [event for event in stream.outside if event.tid == tid]


def _trait(work: ThreadWork | None, current: int, main: bool, past: list[Event]) -> Trait:
    accepts = any(event.nr in ACCEPTS for event in past)
    if work is None:
        if current in WAIT_NAMES:
            return ("loop", current, accepts, False)
        if current in ACCEPTS:
            return ("accept_serve", current, True, False)
        return ("idle", current if current in _IDLE_CALLS else NUMBERS["futex"], False, False)
    accepts = accepts or bool(work.accepts)
    serves = bool(work.cycles)
    if pulls(work.cycles):
        return ("pull", NUMBERS["read"], False, True)
    if serves and (receives := blocking_receives(work)):
        return ("loop", receives.most_common(1)[0][0], accepts, True)
    serial = serial_waits(work) if serves else None
    if serial is not None:
        waiting = serial.on_connection.most_common(1)
        return ("accept_serve" if accepts else "serve", waiting[0][0] if waiting else NUMBERS["read"], accepts, True)
    waits = Counter(wake.wait.nr for wake in work.wakes if wake.wait is not None)
    if len(work.sleeps) >= max(2, MOSTLY * sum(waits.values())) and not (serves or accepts):
        return ("periodic", Counter(e.nr for e in work.sleeps).most_common(1)[0][0], False, False)
    if not (serves or accepts) and len(timed := timed_out(work)) >= 2 and len(timed) > sum(waits.values()) / 2:
        return ("periodic", Counter(e.nr for e in timed).most_common(1)[0][0], False, False)
    if not (serves or accepts or waits) and sum(map(ticks, work.events)) >= 2:
        return ("periodic", NUMBERS["read"], False, False)
    if current in WAITS and not waits:
        waits[current] = 1
    if waits:
        return ("loop", waits.most_common(1)[0][0], accepts, serves)
    if serves or accepts or current in RECEIVES:
        return ("accept_serve" if accepts else "serve", NUMBERS["read"], accepts, serves)
    if len(work.parks) >= 2 and _is_timed(work.parks):
        return ("periodic", NUMBERS["futex"], False, False)
    return ("idle", current if current in _IDLE_CALLS else NUMBERS["futex"], False, False)


def timed_out(work: ThreadWork) -> list[Event]:
    """Waits for events that ended because their time was over."""
    return [wake.wait for wake in work.wakes if wake.wait is not None and wake.wait.ret == 0]


def pauses(work: ThreadWork) -> list[Event]:
    """What a periodic thread waits with until its time has come."""
    return work.sleeps or timed_out(work) or [e for e in work.events if ticks(e)] or work.parks


def _is_timed(parks: list[Event]) -> bool:
    """Whether most waits ended by their own time-out (-ETIMEDOUT)."""
    return sum(event.ret == -110 for event in parks) > len(parks) / 2


def _period_bin(work: ThreadWork | None) -> int:
    """Periods within a factor of about four are one role."""
    waits = pauses(work) if work is not None else []
    if len(waits) < 2:
        return 0
    return int((waits[-1].t_out - waits[0].t_out) / (len(waits) - 1)).bit_length() // 2


def _process_roles(processes: list[ProcessSeen], traits: dict[int, Trait], work: Work) -> list[ProcessRole]:
    """Processes with the same parent role and the same kinds of threads are one role."""

    def kind_of(tid: int) -> tuple[object, ...]:
        trait = traits[tid]
        return (*trait[:3], _period_bin(work.threads.get(tid)) if trait[0] == "periodic" else 0)

    known = {process.pid for process in processes}
    roles: list[ProcessRole] = []
    role_of: dict[int, int] = {}
    keys: dict[tuple[object, ...], int] = {}
    pending = sorted(processes, key=lambda p: p.pid)
    while pending:
        ready = [p for p in pending if p.ppid not in known or p.ppid in role_of]
        if not ready:
            ready = pending[:1]
        for process in ready:
            parent = role_of.get(process.ppid, -1)
            kinds = sorted({kind_of(thread.tid) for thread in process.threads}, key=str)
            key = (parent, tuple(kinds))
            if key not in keys:
                keys[key] = len(roles)
                roles.append(ProcessRole(parent, []))
            roles[keys[key]].pids.append(process.pid)
            role_of[process.pid] = keys[key]
            pending.remove(process)
    return roles
