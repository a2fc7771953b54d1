"""Pass: drop blocks that would be empty, and renumber the rest."""

from __future__ import annotations

from ditto.artifacts.profile import Block, Knobs, Op, OpKind, Profile, Role, ServiceProfile
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
                "on_accept": program(old.on_accept),
                "on_adopt": program(old.on_adopt),
                "on_close": program(old.on_close),
                "timers": [t.model_copy(update={"program": program(t.program)}) for t in old.timers],
            }
        )

    settled = service.model_copy(
        update={
            "classes": [c.model_copy(update={"program": program(c.program)}) for c in service.classes],
            "roles": [role(r) for r in service.roles],
            "send": service.send.model_copy(update={"between_block": block_of(service.send.between_block)}),
            "blocks": [service.blocks[i] for i in kept],
        }
    )
    return CloneIR(settled, tuple(settled.blocks), seed, profile.knobs)


def _left(block: Block, knobs: Knobs) -> float:
    return block.instructions * knobs.instructions - block.skeleton_instructions
