"""Threads that do a part of the work on requests for others, and what passes between them."""

from __future__ import annotations

from ditto.artifacts.profile import Inbox, Op, OpKind, RequestClass, Role, Timer
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.blocks import BlockBook
from ditto.model.classes import Placement, fit_program
from ditto.model.pool import STRAY
from ditto.model.roles import RoleSeen
from ditto.model.waits import longest_timeout, most_events
from ditto.streams import programs
from ditto.streams.evidence import Evidence
from ditto.streams.messages import ANSWERED, PASSED, RETURNED, Messages, Reading, worker_cycles

NO_CLASS = b"none"
BRINGS, ONCE, QUIET, ANSWERS = 1, 2, 4, 8
"""Flags of a message, as ``enum ditto_message_flags`` in native/runtime/program.h."""
AWAITED = 0.05
"""Share of the requests of a class that wait for others from which on those that pass do."""
USUAL = 0.02
"""Share of the messages from which on what a worker does belongs to its program."""
OFTEN = 0.3
"""Share of the messages from which on a worker's send is a part of each reply."""
_EVENTFD = NUMBERS["eventfd2"]
_MSG_NOSIGNAL = 0x4000
_MOST_BYTES = 1 << 16


def worker_role(evidence: Evidence, role: RoleSeen, count: int, book: BlockBook, placement: Placement) -> Role:
    """The role of threads that do a part of the work on requests for others."""
    found = evidence.work.messages
    assert found is not None
    cycles = worker_cycles(evidence.work)
    total = max(1, evidence.requests.total)
    waits = [w.wait for thread in role.work for w in thread.wakes if w.wait is not None]
    program: list[Op] = []
    if cycles:
        amounts = evidence.gaps.worker if evidence.gaps else {}
        block_for = book.namer(NO_CLASS, min(1.0, found.jobs / total))
        work = programs.build(b"worker", cycles)
        program = fit_program(work, amounts, block_for, placement, deferred=False, minimum=USUAL)
    if found.woken and (woken := book.after(role.wait_nr)) is not None:
        program = [Op(kind=OpKind.COMPUTE, block=woken), *program]
    return Role(
        kind="worker",
        count=count,
        wait=role.wait_name,
        wait_nr=role.wait_nr,
        max_events=most_events(waits),
        timeout_ms=longest_timeout(waits),
        inbox=None if found.woken else _inbox(found.by_workers, _bytes_of_each(found), set(role.threads)),
        timers=[Timer(period_ms=1.0, program=program)],
    )


def _inbox(reading: Reading, each: int, threads: set[int]) -> Inbox:
    own = [reading.places[tid] for tid in threads & set(reading.places)]
    return Inbox(
        nr=reading.made.most_common(1)[0][0],
        read_nr=reading.calls.most_common(1)[0][0],
        bytes=min(_MOST_BYTES, max(1, reading.asked.most_common(1)[0][0])),
        each=each,
        again=2 * reading.vain > reading.found,
        own=len(set().union(*own)) >= len(own) > 1 or len(threads) == 1,
    )


def _bytes_of_each(found: Messages) -> int:
    """Bytes of a message to a worker; 0 where one read of an eventfd stands for all that came."""
    reading = found.by_workers
    if reading.made.most_common(1)[0][0] == _EVENTFD:
        made = [obj for places in reading.places.values() for obj in places]
        semaphore = all(obj.flags & 1 for obj in made if obj.creator_nr)
        return 8 if semaphore and reading.found > 0.97 * found.passed else 0
    return min(_MOST_BYTES, found.sizes.most_common(1)[0][0])


def with_inboxes(evidence: Evidence, seen: list[RoleSeen], roles: list[Role]) -> list[Role]:
    """The roles, those that serve connections told by what they learn that requests have come back.

    Those that only wait for events are told by what those that serve end their wait.
    """
    found = evidence.work.messages
    if found is None:
        told = evidence.work.told
        return roles if told is None else [_told(told, *both) for both in zip(seen, roles, strict=True)]
    made = []
    for old, role in zip(seen, roles, strict=True):
        threads = set(old.threads) & set(found.by_servers.places)
        if threads and role.kind in ("loop", "serve", "accept_serve"):
            inbox = _inbox(found.by_servers, 0, threads).model_copy(update={"own": True})
            role = role.model_copy(update={"inbox": inbox})
        made.append(role)
    worker, server = _index(made, "worker"), next((i for i, r in enumerate(made) if r.inbox and r.kind != "worker"), -1)
    if worker < 0:
        return made
    timer = made[worker].timers[0]
    if answers(evidence):
        program = _answering(timer.program, server)
    else:
        done = [_returned(op, server, found) if op.kind is OpKind.NOTIFY else op for op in timer.program]
        program = [op for op in done if op is not None]
    timer = timer.model_copy(update={"program": program})
    made[worker] = made[worker].model_copy(update={"timers": [timer]})
    return made


def _told(told: Reading, seen: RoleSeen, role: Role) -> Role:
    threads = set(seen.threads) & set(told.places)
    if role.kind != "dispatch" or role.crowd or not threads:
        return role
    return role.model_copy(update={"inbox": _inbox(told, 0, threads)})


def answers(evidence: Evidence) -> bool:
    """Whether workers send the replies themselves."""
    found = evidence.work.messages
    return found is not None and 2 * found.answered > found.jobs


def _index(roles: list[Role], kind: str) -> int:
    return next((index for index, role in enumerate(roles) if role.kind == kind), -1)


def _answering(program: list[Op], server: int) -> list[Op]:
    """The program of a worker that sends replies: their head, where it sends more than once, then what is left.

    It may still end the wait of the thread that passed the request on, as often as it was seen to.
    """
    made: list[Op] = []
    left = sum(op.kind is OpKind.NOTIFY and op.a == ANSWERED[1] and op.probability >= OFTEN for op in program)
    for op in program:
        if op.kind is not OpKind.NOTIFY:
            made.append(op)
        elif op.a == ANSWERED[1] and left:
            left -= 1
            made.append(Op(kind=OpKind.REPLY, nr=op.nr, a=int(left > 0)))
        elif op.a == RETURNED[1] and server >= 0:
            made.append(op.model_copy(update={"a": server, "b": _quiet(op)}))
    return made


def _returned(op: Op, server: int, found: Messages) -> Op | None:
    """A worker's message that it is done; None where nobody waits for it."""
    if server < 0 or op.a != RETURNED[1]:
        return None
    flags = (ONCE if found.once else 0) | _quiet(op)
    return op.model_copy(update={"a": server, "b": flags, "probability": 1.0})


def _quiet(op: Op) -> int:
    return QUIET if op.b & _MSG_NOSIGNAL else 0


def with_messages(evidence: Evidence, classes: list[RequestClass], roles: list[Role]) -> list[RequestClass]:
    """Classes whose messages name the role of the threads they go to; without messages, where there is none."""
    told = (index for index, role in enumerate(roles) if role.kind == "dispatch" and role.inbox is not None)
    worker = next(told, _index(roles, "worker"))
    if answers(evidence):
        return [cls.model_copy(update={"program": _answered(cls.program, worker)}) for cls in classes]
    waits = any(role.inbox is not None for role in roles if role.kind != "worker")
    seldom = evidence.work.messages is not None and evidence.work.messages.seldom
    return [cls.model_copy(update={"program": _passing(cls.program, worker, waits, seldom)}) for cls in classes]


def _answered(program: list[Op], worker: int) -> list[Op]:
    """A program whose reply is sent by the worker that the request passes to."""
    made = []
    for op in program:
        if op.kind is OpKind.NOTIFY:
            if worker < 0 or op.probability < STRAY:
                continue
            passes = op.a == PASSED[1]
            op = op.model_copy(update={"a": worker, "b": (BRINGS | ANSWERS if passes else 0) | _quiet(op)})
        elif op.kind is OpKind.REPLY:
            made.append(Op(kind=OpKind.AWAIT))
        made.append(op)
    return made


def _passing(program: list[Op], worker: int, waits: bool, seldom: bool) -> list[Op]:
    awaited = waits and sum(op.probability for op in program if op.kind is OpKind.AWAIT) > AWAITED
    made: list[Op] = []
    share, passing = 0.0, False
    for op in reversed(program):
        if op.kind is OpKind.AWAIT:
            share, passing = max(share, op.probability), False
            if not awaited:
                continue
            op = op.model_copy(update={"probability": 1.0})  # where nothing was passed it does nothing
        elif op.kind is OpKind.NOTIFY:
            if worker < 0 or op.probability < STRAY:
                continue
            flags = _quiet(op)
            if op.a == PASSED[1]:
                flags |= (BRINGS if awaited else 0) | (ONCE if seldom else 0)
                # Those are seen to come back that nobody had to be woken for.
                op = op.model_copy(update={"probability": max(share, op.probability) if seldom else op.probability})
                share, passing = op.probability, True
            op = op.model_copy(update={"a": worker, "b": flags})
        elif op.kind is OpKind.YIELD and passing and seldom:
            op = op.model_copy(update={"probability": max(share, op.probability)})
        made.append(op)
    return made[::-1]
