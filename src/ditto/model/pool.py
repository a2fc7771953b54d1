"""Roles of threads that share their connections, and of those that wait for the events of such connections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ditto.artifacts.profile import Op, OpKind, RequestClass, Role
from ditto.model.blocks import BlockBook
from ditto.model.classes import HELPERS, Placement
from ditto.model.network import listener_events
from ditto.model.roles import RoleSeen, RolesSeen
from ditto.model.waits import longest_timeout, most_events
from ditto.model.wakes import each_dispatch
from ditto.streams.evidence import Evidence
from ditto.streams.lives import setup_work
from ditto.streams.programs import ClassWork, OpName
from ditto.streams.sharing import PARKED, Sharing

FIRST = 0.3
"""Share of waits that ask without blocking from which on every wait begins so."""
UNWATCHED = 0.1
"""Connections taken out of the wait set, or muted, by a dispatcher, by request, from which on it does so with each."""
MOST_WAKES = 16.0
STRAY = 0.04
"""Threads may take over each other's requests between two calls: so many of a request's are found with another's."""
NO_CLASS = b"none"


@dataclass(frozen=True)
class PoolParts:
    """What such roles are made of.

    Attributes:
        book: gives the blocks.
        program: the operations of a counted class, with the amounts of work after them.
        wakes: wake-ups by request.
        closing: what is done at the end of a connection.
        placement: where files are.
    """

    book: BlockBook
    program: Callable[[ClassWork, dict[OpName, float]], list[Op]]
    wakes: float
    closing: list[Op]
    placement: Placement


def pool_role(evidence: Evidence, roles: RolesSeen, role: RoleSeen, count: int, parts: PoolParts) -> Role:
    """The role of a pool's serving threads, or of its dispatcher."""
    found = [pool for tid in role.threads if (pool := evidence.sharing.pool_of(tid)) is not None]
    gaps = evidence.gaps
    waits = [w.wait for t in role.work for w in t.wakes if w.wait is not None]
    amounts = gaps.accept if gaps else {}
    accept = parts.program(setup_work(evidence.work, by_acceptor=True), amounts)
    adopt = parts.program(setup_work(evidence.work, by_acceptor=False), amounts)
    unwatched = sum(pool.unwatched for pool in found) / max(1, len(found)) > UNWATCHED
    muted = sum(pool.muted for pool in found) / max(1, len(found)) > UNWATCHED
    port = evidence.observation.native.port
    crowd = any(pool.crowd for pool in found)
    role_here = Role(
        kind="dispatch" if role.kind == "dispatch" else "shared",
        count=count,
        wait=role.wait_name if role.wait_nr != PARKED else "epoll",
        wait_nr=role.wait_nr,
        max_events=most_events(waits),
        timeout_ms=longest_timeout(waits),
        listens=role.accepts,
        listen_events=listener_events(evidence.stream, port) if role.accepts else 1,
        on_accept=accept if role.accepts else [],
        on_close=parts.closing,
        crowd=crowd,
    )
    if role.kind == "dispatch" and crowd:
        return role_here.model_copy(
            update={
                "hand_to": _servers_of(roles, role),
                "listen_wait": role.wait_name,
                "accept_first": False,
                "on_wake_block": parts.book.after(role.wait_nr) if waits else None,
            }
        )
    if role.kind == "dispatch":
        return role_here.model_copy(
            update={
                "hand_to": _servers_of(roles, role),
                "unwatches": unwatched,
                "mutes": muted and not unwatched,
                # One is the wake-up of the server, which the runtime makes by itself.
                "wakes": min(MOST_WAKES, max(0.0, max((pool.dispatcher_wakes for pool in found), default=0.0) - 1.0)),
                "on_wake_block": parts.book.after(role.wait_nr),
                "each_wait": each_dispatch(role, parts.placement),
            }
        )
    polls = not any(pool.dispatchers for pool in found)
    unparked = gaps.on_unpark if gaps else 0.0
    update: dict[str, object] = {
        "polls": polls,
        "polls_first": polls and max((pool.polls_first for pool in found), default=0.0) > FIRST,
        "running": max((pool.running for pool in found), default=0) if polls else 0,
        "on_adopt": adopt,
        "asks_nr": max((pool.asks for pool in found), default=0),
        "lingers": max((pool.lingers for pool in found), default=0.0),
        "wakes": min(MOST_WAKES, max((pool.server_wakes for pool in found), default=0.0)),
        "on_unpark_block": parts.book.add(NO_CLASS, PARKED, unparked, parts.wakes),
    }
    if polls and gaps:
        update["on_wake_block"] = parts.book.add(NO_CLASS, role.wait_nr, gaps.on_wake, parts.wakes)
        update["before_wait_block"] = parts.book.add(NO_CLASS, None, gaps.before_wait, parts.wakes)
    return role_here.model_copy(update=update)


def _servers_of(roles: RolesSeen, dispatcher: RoleSeen) -> int:
    """The role of the serving threads in a dispatcher's process; -1 for none, which no profile may hold."""
    for index in roles.processes[dispatcher.process].roles:
        if roles.roles[index].kind == "shared":
            return index
    return -1


def without_own_calls(cls: RequestClass, sharing: Sharing) -> RequestClass:
    """A class without the calls that the runtime of a pool makes by itself: waking others, and leaving the wait set.

    Calls that strayed to another request are put right: what hardly any request makes is left out, and what hardly any
    lacks is made by all.
    """
    if not sharing.shared:
        return cls
    own = set() if all(pool.crowd for pool in sharing.pools.values()) else {OpKind.FUTEX_WAKE}
    if any(pool.dispatchers for pool in sharing.pools.values()):
        own |= {OpKind.EPOLL_ADD, OpKind.EPOLL_DEL}
    program = []
    for op in cls.program:
        if op.kind in own or op.probability < STRAY:
            continue
        program.append(op.model_copy(update={"probability": 1.0}) if op.probability > 1.0 - STRAY else op)
    return cls.model_copy(update={"program": program})


def with_helpers(classes: list[RequestClass], roles: list[Role]) -> list[RequestClass]:
    """Classes whose wake-ups of helping threads name these threads' role; of nobody, where there is none."""
    role = next((index + 1 for index, role in enumerate(roles) if role.kind == "helper"), 0)
    return [
        cls.model_copy(
            update={"program": [op.model_copy(update={"a": role}) if _wakes_helpers(op) else op for op in cls.program]}
        )
        for cls in classes
    ]


def _wakes_helpers(op: Op) -> bool:
    return op.kind is OpKind.FUTEX_WAKE and op.a == HELPERS
