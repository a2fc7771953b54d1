"""Blocks of the profile: the work between operations, by amount and by what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ditto.artifacts.work import Block
from ditto.model.classes import BlockFor
from ditto.streams.evidence import Evidence, Gaps
from ditto.streams.programs import OpName
from ditto.streams.segments import Segment, SegmentKey, scaled
from ditto.streams.unseen import unseen_note

MAX_BLOCKS = 200
SMALLEST = 30.0
"""Work of fewer instructions is joined to what comes before it."""
RARE = 0.01
"""Classes of a smaller share have one block that is run over and over: what is done once a connection (a session of a
database that begins: millions of instructions between hundreds of calls) would take all blocks there are."""
PIECES = 40
LARGEST_PIECE = 50_000.0


@dataclass
class BlockBook:
    """Numbers the blocks of a service and fills them from the instruction run."""

    gaps: Gaps | None
    segments: Mapping[SegmentKey, Segment]
    requests: int
    blocks: list[Block] = field(default_factory=list)
    estimated: Mapping[bytes, dict[OpName, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, evidence: Evidence) -> BlockBook:
        book = cls(evidence.gaps, evidence.segments, evidence.gaps.requests if evidence.gaps else 0)
        book.estimated = evidence.estimated
        if note := unseen_note(evidence.unseen, evidence.requests.total, bool(evidence.estimated)):
            book.notes.append(note)
        if evidence.gaps is None:
            book.notes.append("no instruction run: the clone's body is empty")
        elif evidence.samples:
            book.notes.append(
                f"no instruction run: the clone's body is modelled, from {evidence.samples} samples of the CPU clock, "
                "the code there, and distances of memory accesses that are usual"
            )
        return book

    def amounts(self, key: bytes) -> dict[OpName, float]:
        """Instructions after each operation of a class; by its time, or the nearest's, where it was not in the run."""
        if self.gaps is None:
            return {}
        if found := self.gaps.inside.get(key) or self.estimated.get(key):
            return found
        word = key.split(b" ", 1)[0]
        for other, amounts in self.gaps.inside.items():
            if other.split(b" ", 1)[0] == word:
                return amounts
        return next(iter(self.gaps.inside.values()), {})

    def rare_amounts(self) -> dict[OpName, float]:
        """Instructions after operations wherever they were made: for what belongs to no class, such as a timer."""
        found: dict[OpName, list[float]] = {}
        for amounts in self.gaps.inside.values() if self.gaps else ():
            for name, amount in amounts.items():
                found.setdefault(name, []).append(amount)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def namer(self, key: bytes, share: float, request_class: int = -1) -> BlockFor:
        """A function that makes blocks for a class that makes up ``share`` of the requests."""
        if request_class >= 0 and share < RARE:
            return self._repeater(key, share, request_class)

        def block_for(name: OpName | None, amount: float) -> list[int]:
            block = self.add(key, name.nr if name is not None else None, amount, share, request_class)
            return [] if block is None else [block]

        return block_for

    def _repeater(self, key: bytes, share: float, request_class: int) -> BlockFor:
        """One block for all work of a class, as often as it takes."""
        total = sum(self.amounts(key).values())
        piece = min(LARGEST_PIECE, max(SMALLEST, total / PIECES))
        made: list[int] = []

        def block_for(_: OpName | None, amount: float) -> list[int]:
            times = round(amount / piece)
            if times and not made and (block := self.add(key, None, piece, share, request_class)) is not None:
                made.append(block)
            return made * times

        return block_for

    def add(self, key: bytes, nr: int | None, amount: float, runs: float, request_class: int = -1) -> int | None:
        """A block of ``amount`` instructions made like the segments after call ``nr`` in class ``key``.

        Returns:
            Its number, or None if it is too small to be one.
        """
        if amount < SMALLEST or len(self.blocks) >= MAX_BLOCKS:
            return None
        segment = self._nearest(key, nr)
        if segment is None:
            return None
        self.blocks.append(
            Block(
                **scaled(segment.work, amount).model_dump(),
                runs_per_request=runs,
                request_class=request_class,
                after=-1 if nr is None else nr,
            )
        )
        return len(self.blocks) - 1

    def after(self, nr: int) -> int | None:
        """A block for what threads without a request do after a call; None where that is little or unknown."""
        segment = self.segments.get((b"none", nr))
        return self.add(b"none", nr, segment.work.instructions, 0.0) if segment is not None else None

    def _nearest(self, key: bytes, nr: int | None) -> Segment | None:
        """The segments that fit best: same class and call, same call, same class, the heaviest of all."""
        candidates = [
            [s for (c, n), s in self.segments.items() if c == key and n == nr],
            [s for (_, n), s in self.segments.items() if n == nr],
            [s for (c, _), s in self.segments.items() if c == key],
            list(self.segments.values()),
        ]
        for found in candidates:
            if found:
                return max(found, key=lambda s: s.instructions)
        return None
