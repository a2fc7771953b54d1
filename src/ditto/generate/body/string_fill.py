"""Decision: which blocks clear or set memory by a repeated string store, which is one instruction and many stores."""

from __future__ import annotations

from dataclasses import dataclass

from ditto.artifacts.work import DISTANCE_BUCKETS, Block, Work
from ditto.generate.body.mixes import STORES, made_by_mix

LEAST = 4096
"""Stores beyond what the other instructions can make from which there must be a repeated one."""
LEAST_SEEN = 24
"""The same where a repeated one was seen: a few stores more are lines that single ones cross."""
MOST_BYTES = 64 << 20
PREFIX_INSTRUCTIONS = 7
LINE = 64


@dataclass(frozen=True)
class StringFill:
    """A repeated string store at the start of a block.

    Attributes:
        count: stores.
        width: bytes of each.
    """

    count: int
    width: int

    @property
    def size(self) -> int:
        """Bytes it sets, in whole lines."""
        return -(-self.count * self.width // LINE) * LINE


def string_fill(work: Work) -> StringFill | None:
    """The repeated store of a block, if its stores cannot be explained otherwise."""
    if any(work.mix.get(name, 0.0) > 0 for name in ("string_s", "string_m")):
        others, least = made_by_mix(work.mix, STORES), LEAST_SEEN
    else:
        others, least = 1.0, LEAST
    count = int(min(MOST_BYTES, work.stores - others * work.instructions))
    if count < least:
        return None

    def unexplained(width: int) -> float:
        # Lines set in order come back no sooner than after each other.
        lines = count * width / LINE
        return abs(lines - sum(work.store_distance[int(lines / 2).bit_length() :]))

    width = min((1, 4, 8), key=unexplained)
    return StringFill(min(count, MOST_BYTES // width), width)


def without(block: Block, fill: StringFill) -> Block:
    """The block but for its repeated store."""
    work = block.wanted
    distances = list(work.store_distance) + [0.0] * (DISTANCE_BUCKETS - len(work.store_distance))
    lines = fill.size / LINE
    distances[0] -= fill.count - lines
    # Its lines are those of the farthest distance that so many have.
    first = next((b for b in range(DISTANCE_BUCKETS - 1, 0, -1) if distances[b] >= lines), DISTANCE_BUCKETS - 1)
    for bucket in range(first, 0, -1):
        taken = min(distances[bucket], lines)
        distances[bucket] -= taken
        lines -= taken
    rest = work.model_copy(
        update={
            "stores": max(0.0, work.stores - fill.count),
            "store_distance": [max(0.0, v) for v in distances],
            "instructions": max(0.0, work.instructions - PREFIX_INSTRUCTIONS),
        }
    )
    if block.aim is None and isinstance(rest, Block):
        return rest
    return block.model_copy(update={"aim": rest})


def prefix(fill: StringFill, offset: int) -> str:
    """Assembly that sets the memory at ``offset`` of the arena, before what the block does besides."""
    suffix = {1: "b", 4: "l", 8: "q"}[fill.width]
    return (
        f"\tpush %rdi\n\tmov (%rdi), %rdi\n\tadd ${offset}, %rdi\n\tmov ${fill.count}, %ecx\n\txor %eax, %eax\n"
        f"\trep stos{suffix}\n\tpop %rdi\n"
    )
