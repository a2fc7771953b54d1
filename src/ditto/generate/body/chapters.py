"""Decision: how a long block is divided into chapters of code of their own, and in which order a run goes through them.

One pass over a program, made again and again, has no distance between that of a pass and that of a request.  A run of
millions of instructions over thousands of lines comes back to hundreds of them for a while and then to others: chapters
are as many lines, and they are nested in loops as lines are within a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from ditto.artifacts.work import DISTANCE_BUCKETS
from ditto.generate.body.forest import nested, sequence
from ditto.generate.body.reach import ROOM, edge_of
from ditto.generate.body.target import Target, scaled

MOST_INSTRUCTIONS = 400_000
"""Of all chapters together, each run once: what is simulated to choose lines of data."""
MOST_CHAPTERS = 64
MOST_PASSES = 1 << 14
SMALLEST, FULL = 6, 0.75
"""Lines of a chapter: so much of the largest distance of a bucket, at least of this one."""


@dataclass(frozen=True)
class Chapters:
    """A block in parts.

    Attributes:
        parts: one pass of each; their `repeat` is how often a run makes it.
        order: of the passes of a run, by numbers of parts.
    """

    parts: tuple[Target, ...]
    order: tuple[int, ...]


def divide(target: Target, blocks: int, rng: Random) -> Chapters | None:
    """A block in chapters; None for one that is short, or whose code has no far distances within a run.

    Args:
        target: of the whole block.
        blocks: how many blocks there are: part p of block i has the index ``i + p * blocks``.
        rng: decides the order.
    """
    whole = [v * target.repeat for v in target.code_distance]
    lines, instructions = target.code_lines * target.repeat, target.instructions * target.repeat
    if target.repeat < 2:
        return None
    for bucket in range(int(lines).bit_length(), SMALLEST - 1, -1):
        beyond = sum(whole[bucket:])
        count = round(lines / (FULL * 2**bucket))
        if 2 <= count <= MOST_CHAPTERS and beyond > 0 and lines * instructions / beyond <= MOST_INSTRUCTIONS:
            break
    else:
        return None
    each = lines / count
    if beyond / each > MOST_PASSES:
        return None
    order = tuple(sequence(nested([v / each for v in whole[bucket:]], count, rng)))
    near = [v / len(order) for v in whole[:bucket]]
    part = scaled(target, target.repeat / len(order))
    data = [a + b for a, b in zip(part.load_distance, part.store_distance, strict=True)]
    reach, edge = edge_of([v * len(order) for v in data]), min(target.data_edge, edge_of(data))
    part = replace(
        part,
        code_distance=(*near, each, *(0.0 for _ in range(DISTANCE_BUCKETS - bucket - 1))),
        code_lines=each,
        data_edge=edge,
        data_capped=True,
        pass_lines=max(data[edge], ROOM * 2 ** (edge - 1)),
        run_edge=reach,
    )
    parts = (replace(part, index=target.index + n * blocks, repeat=order.count(n)) for n in range(count))
    return Chapters(tuple(parts), order)


def driver(symbol: str, label: str, before: str, entries: list[str], order: tuple[int, ...]) -> str:
    """The function that runs the parts in order; ``before`` are lines to begin with."""
    return (
        f"{symbol}:\n{before}\tpush $0\n{label}_pass:\n\tmov (%rsp), %rax\n\tlea {label}_order(%rip), %rcx\n"
        f"\tmovzbl (%rcx,%rax), %eax\n\tlea {label}_parts(%rip), %rcx\n\tcall *(%rcx,%rax,8)\n\tincl (%rsp)\n"
        f"\tcmpl ${len(order)}, (%rsp)\n\tjne {label}_pass\n\tpop %rcx\n\tret\n\t.p2align 6, 0xcc\n"
        f'\t.section .data.rel.ro,"aw",@progbits\n\t.p2align 6\n{label}_parts:\n\t.quad {", ".join(entries)}\n'
        f"{label}_order:\n\t.byte {', '.join(map(str, order))}\n\t.text\n"
    )


PASS_COST = {"mov_l": 1, "movx_l": 1, "lea_r": 2, "icall": 1, "arith_m": 1, "cmp_l": 1, "jcc": 1}
"""Instructions that the driver executes for each pass, by class."""
