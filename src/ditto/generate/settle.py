"""Pass: drop blocks that would be empty, and renumber the rest."""

from __future__ import annotations

from ditto.artifacts.profile import Knobs, Op, OpKind, Profile, Role, Send, ServiceProfile
from ditto.artifacts.work import Block
from ditto.generate.body import Order
from ditto.generate.ir import CloneIR

SMALLEST = 8.0
"""A block with fewer instructions left than this is not worth a call."""


def settle(profile: Profile, service: ServiceProfile, seed: int) -> CloneIR:
    """The IR of a service: only blocks with work left in them, numbered in order."""
    kept = [i for i, block in enumerate(service.blocks) if _left(block, profile.knobs) >= SMALLEST]
    number = {old: new for new, old in enumerate(kept)}

    def block_of(old: int | None) -> int | None:
        return number.get(old) if old is not None else None

    def program(ops: list[Op]) -> list[Op]:
        out = []
        for op in ops:
            if op.kind is OpKind.COMPUTE:
                new = block_of(op.block)
                if new is not None:
                    out.append(op.model_copy(update={"block": new}))
            else:
                out.append(op)
        return out

    def role(old: Role) -> Role:
        return old.model_copy(
            update={
                "on_wake_block": block_of(old.on_wake_block),
                "before_wait_block": block_of(old.before_wait_block),
                "each_wake": program(old.each_wake),
                "each_wait": program(old.each_wait),
                "each_batch": program(old.each_batch),
                "on_unpark_block": block_of(old.on_unpark_block),
                "before_accept": program(old.before_accept),
                "on_accept": program(old.on_accept),
                "on_adopt": program(old.on_adopt),
                "on_close": program(old.on_close),
                "timers": [t.model_copy(update={"program": program(t.program)}) for t in old.timers],
            }
        )

    def send(old: Send | None) -> Send | None:
        return old and old.model_copy(update={"between_block": block_of(old.between_block)})

    settled = service.model_copy(
        update={
            "classes": [
                c.model_copy(update={"program": program(c.program), "send": send(c.send)}) for c in service.classes
            ],
            "roles": [role(r) for r in service.roles],
            "downstreams": [d.model_copy(update={"connect": program(d.connect)}) for d in service.downstreams],
            "send": send(service.send),
            "blocks": [service.blocks[i] for i in kept],
        }
    )
    return CloneIR(settled, tuple(settled.blocks), _orders(settled), seed, profile.knobs)


def _left(block: Block, knobs: Knobs) -> float:
    return block.wanted.instructions * knobs.instructions


MANY_WAKES = 0.3
"""Wake-ups per request from which on the work of a wake-up is taken to belong to every request."""


def _every_request(service: ServiceProfile, program: list[Op]) -> list[int]:
    """Blocks of a program that runs for a connection, where a connection is little more than a request."""
    blocks = [op.block for op in program if op.block is not None]
    return [number for number in blocks if service.blocks[number].runs_per_request >= MANY_WAKES]


def _orders(service: ServiceProfile) -> tuple[Order, ...]:
    """What each kind of request runs, one order a class; last, what belongs to none."""
    begin: list[int] = []
    end: list[int] = []
    for role in service.roles:
        for number, where in (
            (role.on_wake_block, begin),
            (role.on_unpark_block, begin),
            (role.before_wait_block, end),
        ):
            if number is not None and service.blocks[number].runs_per_request >= MANY_WAKES:
                where.append(number)
    orders = []
    for downstream in service.downstreams:
        begin += _every_request(service, downstream.connect)
    for role in service.roles:
        if role.kind == "accept_serve":
            begin += _every_request(service, [*role.before_accept, *role.on_accept])
            end += _every_request(service, role.on_close)
    for cls in service.classes:
        # one that runs over and over is emitted once, and by itself
        own = list(dict.fromkeys(op.block for op in cls.program if op.block is not None and op.probability >= 0.5))
        if own:
            orders.append(Order((*begin, *own, *end), cls.probability, cls.again))
    placed = {number for order in orders for number in order.blocks}
    orders += [Order((number,), 0.0) for number in range(len(service.blocks)) if number not in placed]
    return tuple(orders)
