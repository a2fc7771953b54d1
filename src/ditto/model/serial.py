"""Roles of threads that accept a connection, serve it to its end and accept again, such as pre-forked workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ditto.artifacts.profile import Op, OpKind, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.blocks import BlockBook
from ditto.model.classes import Placement, fit_program
from ditto.model.network import listener_events
from ditto.model.roles import WAIT_NAMES, RoleSeen
from ditto.streams.events import EAGAIN, RECEIVES
from ditto.streams.evidence import Evidence
from ditto.streams.lives import closing_work, setup_work, work_before_accepts
from ditto.streams.programs import ClassWork, OpName
from ditto.streams.serial import SerialWaits, serial_waits

MINIMUM = 0.2
"""What fewer connections (or accepts) need is left out."""
WAITED = 0.1
"""Share of the further parts of requests that a wait comes before, up to which none is meant for them."""


@dataclass(frozen=True)
class _Parts:
    book: BlockBook
    placement: Placement

    def program(self, work: ClassWork, amounts: Mapping[OpName, float], runs: float) -> list[Op]:
        """A class' operations with the work after each, which runs so many times a request."""
        block_for = self.book.namer(work.key, runs)
        ops = fit_program(work, dict(amounts), block_for, self.placement, deferred=False, minimum=MINIMUM)
        return [op for op in ops if op.kind is not OpKind.NOTIFY]


def refused_receives(evidence: Evidence) -> set[int]:
    """``id`` of the receives that found nothing in threads which then wait: the wait is theirs, no operation's."""
    return {
        id(event)
        for thread in evidence.work.threads.values()
        if serial_waits(thread) is not None
        for event in thread.events
        if event.nr in RECEIVES and event.ret == EAGAIN
    }


def serial_role(
    evidence: Evidence,
    role: RoleSeen,
    count: int,
    on_wake: int | None,
    each_wake: list[Op],
    book: BlockBook,
    placement: Placement,
) -> Role:
    """The role of such threads.

    Args:
        evidence: what was recorded.
        role: its members, of kind ``accept_serve``.
        count: threads of it in each process.
        on_wake: block for what is done after each wait.
        each_wake: calls made then.
        book: gives the blocks.
        placement: where files are.
    """
    gaps = evidence.gaps
    waits = _waits(role)
    accepts = sum(event.made is not None for thread in role.work for event in thread.accepts)
    runs = min(1.0, max(0.001, accepts / max(1, evidence.requests.total)))
    parts, told = _Parts(book, placement), {op.nr for op in each_wake}
    on_connection = waits.on_connection.most_common(1)
    on_listener = waits.on_listener.most_common(1)
    closing = parts.program(closing_work(evidence.work), gaps.closing if gaps else {}, runs)
    if not any(op.kind is OpKind.CLOSE for op in closing):
        closing.append(Op(kind=OpKind.CLOSE, nr=NUMBERS["close"]))
    return Role(
        kind="accept_serve",
        count=count,
        wait=WAIT_NAMES.get(on_connection[0][0], "blocking") if on_connection else "blocking",
        wait_nr=role.wait_nr,
        listens=True,
        listen_events=listener_events(evidence.stream, evidence.observation.native.port),
        listen_wait=WAIT_NAMES.get(on_listener[0][0], "blocking") if on_listener else "blocking",
        accept_first=waits.refused_accepts >= 0.5 * sum(waits.on_listener.values()),
        receive_first=receives_first(role),
        waits_once=waits_once(role),
        on_wake_block=on_wake,
        each_wake=each_wake,
        before_accept=parts.program(work_before_accepts(evidence.work, told), gaps.before_accept if gaps else {}, runs),
        on_accept=parts.program(setup_work(evidence.work, True), gaps.accept if gaps else {}, runs),
        on_close=closing,
    )


def receives_first(role: RoleSeen) -> bool:
    """Whether its threads wait for a request only after a receive that found none."""
    waits = _waits(role)
    return waits.refused_receives >= 0.5 * sum(waits.on_connection.values())


def waits_once(role: RoleSeen) -> bool:
    """Whether its threads wait before a request alone, and for the rest of one in the receive itself."""
    waits = _waits(role)
    return waits.rests > 0 and waits.waited_rests <= WAITED * waits.rests and not waits.refused_receives


def listener_waits(role: RoleSeen) -> Counter[int]:
    """The calls by number that its threads wait with for the next connection."""
    return _waits(role).on_listener


def _waits(role: RoleSeen) -> SerialWaits:
    found = [waits for thread in role.work if (waits := serial_waits(thread)) is not None]
    return SerialWaits(
        sum((waits.on_connection for waits in found), Counter()),
        sum((waits.on_listener for waits in found), Counter()),
        sum(waits.refused_receives for waits in found),
        sum(waits.refused_accepts for waits in found),
        sum(waits.rests for waits in found),
        sum(waits.waited_rests for waits in found),
    )
