"""How an accepting role hands its connections over, and which processes only live for one."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ditto.artifacts.profile import Op, OpKind, Process, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.roles import RoleSeen, RolesSeen
from ditto.streams.events import ACCEPTS
from ditto.streams.evidence import Evidence
from ditto.streams.passing import passes

_BY_ITSELF = {
    "spawn_process": OpKind.CLOSE, "pass": OpKind.CLOSE, "pool": OpKind.FUTEX_WAKE, "cached": OpKind.FUTEX_WAKE,
}  # fmt: skip
"""What the runtime does by itself as it hands a connection over."""
CONNECTIONS_KEPT = 3
"""Connections a thread from which on threads are kept for those to come, where they serve one at a time."""


@dataclass(frozen=True)
class Handover:
    """To which role connections go, how, and by which descriptor its threads are woken; ``to`` is -1 for no other."""

    to: int = -1
    how: Literal["keep", "queue", "spawn_thread", "spawn_process", "pass", "pool", "cached"] = "keep"
    notify_nr: int = 0


def find_handover(evidence: Evidence, roles: RolesSeen, role: RoleSeen) -> Handover:
    """What an accepting role does with its connections.

    They are for threads or processes of their own where those that serve were born by the thread that accepted; such
    threads may be kept when their connection ends, and serve another.
    """
    if not role.accepts:
        return Handover()
    own = set(role.threads)
    takers: Counter[int] = Counter()
    ways: Counter[Literal["queue", "spawn_thread", "spawn_process", "pass"]] = Counter()
    notify: Counter[int] = Counter()
    served: set[int] = set()
    for life in evidence.work.lives.values():
        if life.acceptor not in own or not life.server or life.server in own:
            continue
        takers[roles.role_of(life.server)] += 1
        served.add(life.server)
        born = evidence.stream.births.get(life.server)
        there = life.accept is not None and evidence.stream.born_ns.get(life.server, 1 << 63) < life.accept.t_in
        if any(passes(event) for event in life.setup if event.tid in own):
            ways["pass"] += 1
        elif born is None or born[1] != life.acceptor or there or not _alone(roles, life.server):
            ways["queue"] += 1
        else:
            ways["spawn_thread" if life.accept is not None and born[0] == life.accept.pid else "spawn_process"] += 1
        for event in life.setup:
            if event.tid in own and event.obj is not None and event.obj.kind in ("eventfd", "pipe", "pair"):
                notify[event.obj.creator_nr] += 1
    takers.pop(-1, None)
    if not takers:
        return Handover()
    to, how = takers.most_common(1)[0][0], ways.most_common(1)[0][0]
    kept = takers[to] >= CONNECTIONS_KEPT * len(served)
    if how != "queue":
        return Handover(to, "cached" if how == "spawn_thread" and kept else how)
    if not notify and (role.kind == "accept_serve" or roles.roles[to].kind == "serve"):
        # Threads that are woken without a descriptor: a pool, if they were there first, else more may be started.
        pool = roles.roles[to].kind == "serve" and _older(evidence, roles.roles[to].threads, own)
        return Handover(to, "pool" if pool else "cached" if kept else "spawn_thread")
    # An event loop that was woken otherwise is told by a descriptor all the same: nothing else ends its wait.
    nr = notify.most_common(1)[0][0] if notify else NUMBERS["eventfd2"] if roles.roles[to].kind == "loop" else 0
    return Handover(to, how, NUMBERS["pipe2"] if nr == NUMBERS["pipe"] else nr)


def _alone(roles: RolesSeen, tid: int) -> bool:
    """Whether a thread serves one connection at a time, as one that is born for it does; one that is gone did."""
    at = roles.role_of(tid)
    return at < 0 or roles.roles[at].kind == "serve"


def _older(evidence: Evidence, threads: Iterable[int], acceptors: set[int]) -> bool:
    """Whether all of the threads were born before the first accept."""
    stream = evidence.stream
    events = (*stream.outside, *(event for tid in acceptors for event in stream.threads.get(tid, ())))
    accepted = min((e.t_out for e in events if e.tid in acceptors and e.nr in ACCEPTS), default=0)
    return all(stream.born_ns.get(tid, accepted) < accepted for tid in threads)


def kept_open(program: list[Op], handover: Handover) -> list[Op]:
    """What is done after an accept, without what the runtime does itself.

    That is closing the copy left to another process, waking a thread of a pool, and mapping a new thread's stack, of
    which a page is protected.
    """
    if handover.how in ("spawn_thread", "cached"):
        guards = [op.probability for op in program if op.nr == NUMBERS["mprotect"]]
        stacks = [op for op in program if op.kind is OpKind.MMAP and op.probability in guards]
        program = [op for op in program if op not in stacks and not (stacks and op.nr == NUMBERS["mprotect"])]
    return [op for op in program if op.kind is not _BY_ITSELF.get(handover.how)]


def set_up_before(evidence: Evidence, role: Role) -> Role:
    """A role that accepts as it would, where all connections are older than the recording: what they were set to."""
    known = [d for d in evidence.observation.native.descriptors if d.kind == "connection"]
    accepted = any(life.accept is not None for life in evidence.work.lives.values())
    if not role.listens or accepted or 2 * sum(d.nodelay for d in known) <= len(known):
        return role
    nodelay = Op(kind=OpKind.SETSOCKOPT, nr=NUMBERS["setsockopt"], a=socket.IPPROTO_TCP, b=socket.TCP_NODELAY, c=1)
    return role.model_copy(update={"on_accept": [nodelay, *role.on_accept]})


def lasting(processes: Iterable[Process], roles: list[Role]) -> list[Process]:
    """The processes without those that are born for a connection and end with it, and without what these start."""
    born = {role.hand_to for role in roles if role.handover == "spawn_process"}
    kept: list[Process] = []
    number: dict[int, int] = {-1: -1}
    gone: set[int] = set()
    for old, process in enumerate(processes):
        if set(process.roles) & born or process.parent in gone:
            gone.add(old)
        else:
            number[old] = len(kept)
            kept.append(process.model_copy(update={"parent": number.get(process.parent, 0)}))
    return kept


_CLOSING = frozenset(
    {OpKind.EPOLL_DEL, OpKind.SHUTDOWN, OpKind.DRAIN, OpKind.SETSOCKOPT, OpKind.CLOSE, OpKind.MUNMAP, OpKind.MADVISE,
     OpKind.MISC}
)  # fmt: skip


def closing_ops(ops: Sequence[Op]) -> list[Op]:
    """What an event loop does when it closes a connection, of what was seen; it waits for nothing meanwhile.

    A read cannot be told not to wait, which would stop all other connections.
    """
    kept = [op for op in ops if op.kind in _CLOSING and (op.kind, op.nr) != (OpKind.DRAIN, NUMBERS["read"])]
    if not any(op.kind is OpKind.CLOSE for op in kept):
        kept.append(Op(kind=OpKind.CLOSE, nr=NUMBERS["close"]))
    return kept
