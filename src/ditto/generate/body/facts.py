"""What the body generator gives back: the assembly, the data it works on, and what one run of each block does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Pool:
    """Linked lines in the arena; see ``struct ditto_body_pool`` in native/runtime/body.h.  Offset in bytes."""

    offset: int
    lines: int
    step: int
    permuted: bool
    shared: bool = False


@dataclass(frozen=True)
class Layout:
    """Values for ``struct ditto_body_layout``: arena size in bytes, the pools, the pool each cursor starts in, and the
    bytes that all threads of a process share."""

    arena_bytes: int
    pools: tuple[Pool, ...]
    cursors: tuple[int, ...]
    shared_bytes: int = 0


@dataclass(frozen=True)
class BlockFacts:
    """What one run of a block executes, counted by walking the program that was emitted.

    Attributes:
        symbol: the function's name.
        target: the instruction count asked for.
        empty: the block was so small that it is a bare ``ret``.
        instructions: expected instructions of one run, the ``ret`` included.
        loads, stores: data accesses, implicit stack accesses included.
        load_distance, store_distance, code_distance: counts in the buckets of ``profile.DISTANCE_BUCKETS``, simulated
            over several requests in the steady state.
        branches, taken, random: conditional branches, how many are taken, how many have a random outcome.
        mix: share of each iform class.
        raw: register read-after-write distances, shares in the buckets of ``Block.raw``.
        chase_share: share of loads whose address was loaded.
        code_lines, data_lines: distinct lines of one run.
        code_bytes: bytes of the block's text, gaps included.
    """

    symbol: str
    target: float
    empty: bool
    instructions: float
    loads: float = 0.0
    stores: float = 0.0
    load_distance: tuple[float, ...] = ()
    store_distance: tuple[float, ...] = ()
    code_distance: tuple[float, ...] = ()
    code_touches: float = 0.0
    branches: float = 0.0
    taken: float = 0.0
    random: float = 0.0
    indirect: float = 0.0
    calls: float = 0.0
    mix: dict[str, float] = field(default_factory=dict)
    raw: tuple[float, ...] = ()
    chase_share: float = 0.0
    stride_share: float = 0.0
    code_lines: int = 0
    data_lines: int = 0
    code_bytes: int = 0


_SUMS = (
    "instructions", "loads", "stores", "code_touches", "branches", "taken", "random", "indirect", "calls", "code_lines",
    "data_lines", "code_bytes",
)  # fmt: skip
_HISTOGRAMS = ("load_distance", "store_distance", "code_distance")


def joined(parts: Sequence[BlockFacts]) -> BlockFacts:
    """The facts of a block made of parts, each with its own passes of a run."""
    if len(parts) == 1:
        return parts[0]
    sums: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in _SUMS}
    whole = max(1.0, sum(part.instructions for part in parts))
    for name in _HISTOGRAMS:
        sums[name] = tuple(map(sum, zip(*(getattr(part, name) for part in parts), strict=True)))
    names = sorted({name for part in parts for name in part.mix})

    def mean(of: Callable[[BlockFacts], float]) -> float:
        return sum(of(part) * part.instructions for part in parts) / whole

    def share(name: str) -> float:
        return mean(lambda part: part.mix.get(name, 0.0))

    return replace(
        parts[0],
        **sums,
        mix={name: share(name) for name in names},
        raw=tuple(sum(values) / len(parts) for values in zip(*(part.raw for part in parts), strict=True)),
        chase_share=mean(lambda part: part.chase_share),
    )


@dataclass(frozen=True)
class BodyCode:
    """The generated body: GNU assembler text (AT&T), the arena it needs, and the facts of each block."""

    assembly: str
    layout: Layout
    blocks: tuple[BlockFacts, ...]
