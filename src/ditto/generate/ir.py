"""The clone IR: a service of the profile with every decision of generation taken, printable as text.

Passes (one module each) turn a :class:`~ditto.artifacts.profile.ServiceProfile` into this; the emitters only write it
down.  The text form is stable, so that tests and people can compare two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ditto.artifacts.profile import Dist, Knobs, Op, ServiceProfile
from ditto.artifacts.work import Block
from ditto.generate.body.reach import Order
from ditto.generate.calls import describe


@dataclass(frozen=True)
class CloneIR:
    """What the emitters need.

    Attributes:
        service: the service; its programs name blocks that are not empty.
        blocks: the blocks to emit, numbered as the programs name them.
        orders: in which orders requests run them.
        seed: decides every random choice of the clone.
        knobs: what tuning turned.
    """

    service: ServiceProfile
    blocks: tuple[Block, ...]
    orders: tuple[Order, ...]
    seed: int
    knobs: Knobs

    def text(self) -> str:
        """The IR as text, one line a thing."""
        return "\n".join(_lines(self)) + "\n"


def _lines(ir: CloneIR) -> Iterator[str]:
    service = ir.service
    yield f"service {service.name} codec {service.codec} seed {ir.seed}"
    knobs = " ".join(f"{name}={value:g}" for name, value in ir.knobs.model_dump().items())
    yield f"knobs {knobs}"
    receive, send, listener = service.receive, service.send, service.listener
    head = f" head={receive.head}" if receive.head else ""
    head += f" second={receive.second}" if receive.second else ""
    head += f" rest={receive.rest}" if receive.rest else ""
    yield f"receive nr={receive.nr} bytes={receive.bytes} flags={receive.flags}{head}"
    yield (
        f"send nr={send.nr} flags={send.flags} call_bytes={send.call_bytes} iovs={send.iovs} "
        f"calls_per_wake={send.calls_per_wake} per_read={int(send.per_read)} arm={int(send.arm)}"
    )
    accept = f"accept={listener.accept_nr} until_again={int(listener.accept_until_again)}"
    yield f"listener backlog={listener.backlog} {accept}"
    for number, group in enumerate(service.files):
        yield f"files {number} {group.kind} count={group.count} depth={group.depth} size={_dist(group.size)}"
    for number, process in enumerate(service.processes):
        yield f"process {number} parent={process.parent} count={process.count} roles={process.roles}"
    for number, role in enumerate(service.roles):
        yield (
            f"role {number} {role.kind} count={role.count} wait={role.wait}/{role.wait_nr} timeout={role.timeout_ms} "
            f"listens={int(role.listens)} handover={role.handover}->{role.hand_to}"
        )
        titled = (("accept", role.on_accept), ("adopt", role.on_adopt), ("close", role.on_close))
        each = (("each wake", role.each_wake), ("each wait", role.each_wait), ("batch", role.each_batch))
        for title, program in (*each, *titled):
            yield from _program(title, program)
        for timer in role.timers:
            often = f"every {timer.requests} requests" if timer.requests else f"every {timer.period_ms:g} ms"
            yield from _program(often, timer.program)
    for number, cls in enumerate(service.classes):
        match = cls.match
        awaits = f" awaits_sync={cls.awaits_sync:.4f}" if cls.awaits_sync else ""
        yield f"class {number} p={cls.probability:.4f} verb={match.verb or '-'} print={match.path_print}{awaits}"
        for reply in cls.replies:
            yield f"  reply {reply.kind} p={reply.probability:.4f} status={reply.status} size={_dist(reply.size)}"
        yield from _program("program", cls.program)
    yield from describe(service.downstreams)
    for downstream in service.downstreams:
        yield from _program("connect", downstream.connect)
    for number, block in enumerate(ir.blocks):
        yield f"block {number} instructions={block.instructions:.1f} wanted={block.wanted.instructions:.1f}"
    for order in ir.orders:
        yield f"order p={order.share:.4f} {' '.join(str(number) for number in order.blocks)}"


def _program(title: str, program: list[Op]) -> Iterator[str]:
    if program:
        yield f"  {title}:"
    for op in program:
        words = [f"    {op.kind.value}"]
        if op.probability < 1:
            words.append(f"p={op.probability:.4f}")
        if op.draw:
            words.append(f"draw={op.draw}@{op.start or 0:.4f}{' even' if op.even else ''}")
        if op.block is not None:
            words.append(f"block={op.block}")
        if op.nr:
            words.append(f"nr={op.nr}")
        words += [f"{name}={value}" for name, value in (("a", op.a), ("b", op.b), ("c", op.c)) if value]
        if op.size is not None:
            words.append(f"size={_dist(op.size)}")
        if op.link is not None:
            words.append(f"link={op.link}")
        if op.deferred:
            words.append("deferred")
        yield " ".join(words)


def _dist(dist: Dist | None) -> str:
    if dist is None:
        return "-"
    return f"{dist.values[0]}" if len(dist.values) == 1 else f"~{dist.mean:.1f}/{len(dist.values)}"
