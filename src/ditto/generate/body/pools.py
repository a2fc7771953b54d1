"""Data beyond what one request touches: lists of lines, followed a few lines a request.

With F fixed lines a request and lists of L_j lines followed at r_j lines a request, a line of list i comes back after
t = L_i / r_i requests, when F + sum_j min(L_j, r_j t) other lines have been touched.  From near to far, the list of
bucket b, whose lines shall come back at distance D_b, therefore gets r_b t_b lines with
t_b = (D_b - F - sum of the nearer lists) / (sum of the rates of the rest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from ditto.generate.body.facts import Pool
from ditto.generate.body.reach import FAR, Order
from ditto.generate.body.target import Target

MAX_ARENA_BYTES = 256 << 20
MAX_CURSORS = 448


@dataclass(frozen=True)
class Cursor:
    """A pool stream: the block it belongs to, its bucket, how often a run follows it, and a request."""

    block: int
    bucket: int
    per_run: int
    rate: float


@dataclass(frozen=True)
class Reach:
    """How data is split between fixed lines and lists: the last bucket that fixed lines serve, and their number."""

    bucket: int
    lines: int


def reach(targets: list[Target], orders: Sequence[Order]) -> Reach:
    """The largest footprint of fixed lines that the histograms of one kind of request can fill."""
    by_index = {t.index: t for t in targets}
    found = [_reach([by_index[i] for i in order.blocks if i in by_index]) for order in orders]
    return max(found, key=lambda r: r.lines)


def _reach(targets: list[Target]) -> Reach:
    total = [0.0] * (FAR + 1)
    for target in targets:
        for bucket in range(FAR):
            total[bucket] += (target.load_distance[bucket] + target.store_distance[bucket]) * target.repeat
    best, lines = 1, 4.0
    for bucket in range(1, 15):
        deeper = sum(total[bucket:])
        if deeper >= 2 ** (bucket - 1):
            best, lines = bucket, min(deeper, 1.5 * 2 ** (bucket - 1))
    return Reach(best, int(max(4, lines)))


def cursors(targets: list[Target], split: Reach) -> list[Cursor]:
    """The streams of every block, fractions carried on so that the sum over blocks and buckets comes out."""
    out: list[Cursor] = []
    carry = 0.0
    for target in targets:
        most = 0.12 * target.instructions
        for bucket in range(split.bucket + 1, FAR):
            wanted = target.load_distance[bucket] + target.store_distance[bucket] + carry
            count = int(min(wanted + 0.5, most))
            carry = min(wanted - count, 2.0)
            most -= count
            # Several streams of one bucket do not wait for each other; a chain does.
            streams = 1 if target.chase_share > 0.5 else max(1, min(4, count))
            for part in range(streams):
                share = count * (part + 1) // streams - count * part // streams
                if share and len(out) < MAX_CURSORS:
                    out.append(Cursor(target.index, bucket, share, share * target.repeat * min(target.runs, 1e6)))
    return out


def sizes(streams: list[Cursor], split: Reach) -> list[int]:
    """Lines of each stream's list."""
    if not streams:
        return []
    lines = [2] * len(streams)
    nearer = 0.0
    before = 0.0
    for bucket in sorted({s.bucket for s in streams}):
        rates = sum(max(s.rate, 1e-6) for s in streams if s.bucket >= bucket)
        wait = max(before, (1.4 * 2 ** (bucket - 1) - split.lines - nearer) / rates)
        before = wait
        for index, stream in enumerate(streams):
            if stream.bucket == bucket:
                lines[index] = max(2, int(max(stream.rate, 1e-6) * wait + 0.5))
                nearer += lines[index]
    most = MAX_ARENA_BYTES // 64
    total = sum(lines)
    if total > most:
        lines = [max(2, n * most // total) for n in lines]
    return lines


def layout(
    streams: list[Cursor], targets: list[Target], fixed_lines: int, split: Reach, rng: Random
) -> tuple[Pool, ...]:
    """Pool 0 is the fixed lines; then one pool a stream."""
    stride = {t.index: t.stride_share / max(t.irregular, 0.1) for t in targets}
    pools = [Pool(0, max(4, fixed_lines), 1, False)]
    offset = pools[0].lines * 64
    for stream, lines in zip(streams, sizes(streams, split), strict=True):
        pools.append(Pool(offset, lines, 1, rng.random() >= stride[stream.block]))
        offset += lines * 64
    return tuple(pools)
