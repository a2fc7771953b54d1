"""Which registers an instruction reads and writes, so that read-after-write distances come out as wanted.

A draw names a bucket of distances; the register whose last write lies nearest to it is read.  Destinations rotate, the
register not written for longest mostly first, so that every distance up to the number of registers is on offer.
"""

from __future__ import annotations

from random import Random

from ditto.generate.body.isa import NAMES64, RAX, RCX, VALUES

BUCKETS = 8


def raw_bucket(distance: int) -> int:
    """The bucket of ``Block.raw`` (1, 2, 3-4, 5-8, ..., 33-64, more)."""
    return min(BUCKETS - 1, (distance - 1).bit_length())


class Registers:
    """Tracks writes in program order; loops are seen once."""

    def __init__(self, raw: tuple[float, ...], rng: Random, spare: tuple[int, ...]) -> None:
        self._rng = rng
        self._raw = list(raw)
        self._have = [0.0] * BUCKETS
        self._written = [0] * 16
        self.now = 1
        self.values = VALUES + spare
        self.pointers: set[int] = set()
        """Registers that hold the arena's base, loaded from the arena."""

    def source(self) -> int:
        """A value register at a distance that is still wanted."""
        reads = sum(self._have) + 1
        lack = [max(0.0, want * reads - have) + 0.01 for want, have in zip(self._raw, self._have, strict=True)]
        bucket = self._rng.choices(range(BUCKETS), lack)[0]
        return min(
            self.values, key=lambda r: (abs(raw_bucket(max(1, self.now - self._written[r])) - bucket), r ^ self.now & 7)
        )

    def destination(self) -> int:
        """Where to write: mostly the register not written for longest; short chains reuse a recent one."""
        order = sorted(self.values, key=lambda r: (r in self.pointers, self._written[r]))
        far = self._raw[5] + self._raw[6] + self._raw[7]
        keep = 2 if far > 0.2 else 0
        pick = min(int(self._rng.expovariate(1.2)), len(order) - 1 - keep)
        return order[keep + pick] if self._rng.random() < 0.85 else order[-1 - pick]

    def worn(self, reg: int) -> bool:
        """Whether a read of ``reg`` would be at a distance of which there are enough."""
        age = self.now - self._written[reg]
        bucket = raw_bucket(max(1, age))
        return age > 2 and self._have[bucket] > self._raw[bucket] * sum(self._have)

    def step(self, reads: int, writes: int) -> None:
        """One instruction was emitted with these register sets."""
        for reg in range(16):
            bit = 1 << reg
            if reads & bit:
                self._have[raw_bucket(max(1, self.now - self._written[reg]))] += 1
        for reg in range(16):
            if writes & 1 << reg:
                self._written[reg] = self.now
                self.pointers.discard(reg)
        self.now += 1

    def age(self, reg: int) -> int:
        """When a register was written last; the smaller the longer ago."""
        return self._written[reg]

    def shares(self) -> tuple[float, ...]:
        total = sum(self._have) or 1.0
        return tuple(v / total for v in self._have)

    def scratch(self) -> int:
        """A value register for a short sequence of the generator's own."""
        return min(self.values, key=lambda r: (r in (RAX, RCX), self._written[r], NAMES64[r]))
