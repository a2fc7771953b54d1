"""Data beyond what one request touches: lists of lines, followed a few lines a request.

A line of a list of L lines, of which r are followed in a request, comes back after L / r requests.  How many other
lines are touched meanwhile is the footprint of the original in as many requests, and its growth is what the original
misses in a cache of that size: if m(x) touches of a request reach farther than x lines, x lines are touched within
t(x) = integral from 0 to x of dy / m(y) requests (the relation of footprint and miss ratio of Xiang et al., "HOTL: a
higher order theory of locality", ASPLOS 2013).  So a list whose lines shall come back at the distance x has r t(x)
lines.  Whatever else touches lines is in m, what the runtime does for the original as well.  A block that runs by
the clock (ten times a second, over large tables) has no rate, and comes back to its lines within the run:
its lists are sized as a chapter's are, without anything besides, and have no more lines than a run follows, for who
knows how many requests lie between two runs.

The passes of a chapter follow on each other within a request.  With F fixed lines a pass and lists of L_j lines
followed at r_j lines a pass, a line of list i comes back after t = L_i / r_i passes, when F + sum_j min(L_j, r_j t)
other lines have been touched.  From near to far, the list of bucket b, whose lines shall come back at distance D_b,
therefore gets r_b t_b lines with t_b = (D_b - F - sum of the nearer lists) / (sum of the rates of the rest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, log

from ditto.generate.body.facts import Pool
from ditto.generate.body.reach import FAR
from ditto.generate.body.target import Target

MAX_CURSORS = 448
LINES_AT_ONCE = 6
ONE_BY_ONE = 12
"""Lines that a run follows one by one; of many times that, as many are followed at once."""


@dataclass(frozen=True)
class Cursor:
    """A pool stream.

    Attributes:
        block, bucket: whose, and how far its lines are to be.
        per_run, rate: lines a run touches, and a request.
        store: whether by stores.
        sweep: its lines lie in order, not mixed.
        at_once: lines touched for each time the cursor is loaded and kept.
        pass_lines: of a chapter, whose passes follow on each other: its lines come back within a request.
        shared: all threads of a process work on them.
    """

    block: int
    bucket: int
    per_run: int
    rate: float
    store: bool = False
    sweep: bool = False
    at_once: int = 1
    pass_lines: float = 0.0
    shared: bool = False


def cursors(targets: list[Target]) -> list[Cursor]:
    """The streams of every block, fractions carried on so that the sum over blocks and buckets comes out."""
    out: list[Cursor] = []
    carry = {False: 0.0, True: 0.0}
    with_others = 0.0
    for target in targets:
        most = 0.12 * target.instructions
        for bucket in range(target.data_edge + 1, FAR):
            for store, histogram in ((False, target.load_distance), (True, target.store_distance)):
                shares = target.shared_stores if store else target.shared_loads
                wanted = histogram[bucket] + carry[store]
                count = int(min(wanted + 0.5, most))
                carry[store] = min(wanted - count, 2.0)
                most -= count
                # Several streams of one bucket do not wait for each other; a chain does.
                alone = target.chase_share > 0.5 or target.sequential > 0.5 or target.pass_lines > 0
                streams = 1 if alone else max(1, min(4, count))
                for part in range(streams):
                    share = count * (part + 1) // streams - count * part // streams
                    if share and len(out) < MAX_CURSORS:
                        rate = share * target.repeat * min(target.runs, 1e6)
                        at_once = max(1, min(LINES_AT_ONCE, share // ONE_BY_ONE))
                        beyond = target.pass_lines if bucket <= target.run_edge else 0.0
                        with_others += share * (shares[bucket] if shares else 0.0)
                        shared = with_others >= 0.5 * share
                        with_others -= share if shared else 0
                        out.append(Cursor(target.index, bucket, share, rate, store, False, at_once, beyond, shared))
    return [cursor for target in targets for cursor in _swept([c for c in out if c.block == target.index], target)]


def _swept(streams: list[Cursor], target: Target) -> list[Cursor]:
    """The busiest streams made sweeps, until these touch as many lines as sweeps do in the original."""
    left = target.sequential / max(target.irregular, 0.1) * sum(s.per_run for s in streams)
    sweeps: set[int] = set()
    for number in sorted(range(len(streams)), key=lambda n: (-streams[n].per_run, n)):
        if left >= 0.5 * streams[number].per_run and not streams[number].shared:
            sweeps.add(number)
            left -= streams[number].per_run
    return [replace(s, sweep=n in sweeps) for n, s in enumerate(streams)]


def sizes(streams: list[Cursor], touches: Sequence[float], most: int) -> list[int]:
    """Lines of each stream's list, ``most`` in all; ``touches`` are the original's a request, by distance."""
    if not streams:
        return []
    lines = [2] * len(streams)
    for block in sorted({s.block for s in streams if not s.pass_lines}):
        own = {n: float(s.per_run) for n, s in enumerate(streams) if s.block == block and not s.pass_lines}
        _lengthen(lines, streams, own, 0.0)
        for number in own:
            stream, distance = streams[number], _distance(streams[number].bucket)
            if stream.rate > 0:
                lines[number] = int(min(stream.rate * reuse_time(touches, distance), distance) + 0.5)
            else:
                lines[number] = min(lines[number], stream.per_run)
            lines[number] = max(2, lines[number])
    for block, around in sorted({(s.block, s.pass_lines) for s in streams if s.pass_lines}):
        by_passes = {n: float(s.per_run) for n, s in enumerate(streams) if s.block == block and s.pass_lines}
        _lengthen(lines, streams, by_passes, around)
    total = sum(lines)
    if total > most:
        lines = _squeezed(lines, most)
    return lines


def _distance(bucket: int) -> float:
    """The lines at which a bucket's touches come back, in the middle by the logarithm."""
    return 1.4 * 2.0 ** (bucket - 1)


def reuse_time(touches: Sequence[float], distance: float) -> float:
    """Requests in which as many lines are touched as ``distance`` says; infinite where it is never as many.

    Args:
        touches: of a request, by how far their line is, in buckets of powers of two lines.
        distance: in lines.
    """
    time, low, high = 0.0, 0.0, 1.0
    beyond = float(sum(touches))
    for here in touches:
        beyond = max(0.0, beyond - here)
        end = min(high, distance)
        # Misses fall in a straight line within a bucket.
        first, last = beyond + here, beyond + here * (high - end) / (high - low)
        if last <= 0.0:
            return inf
        time += (end - low) / first if last >= 0.999 * first else (high - low) / here * log(first / last)
        if end >= distance:
            return time
        low, high = high, 2 * high
    return time + (distance - low) / beyond if beyond > 0 else inf


def _lengthen(lines: list[int], streams: list[Cursor], rates: dict[int, float], around: float) -> None:
    """Set the lines of those streams that have rates by a pass, in which ``around`` lines are touched besides."""
    nearer = before = 0.0
    for bucket in sorted({streams[n].bucket for n in rates}):
        rate = sum(each for n, each in rates.items() if streams[n].bucket >= bucket)
        left = _distance(bucket) - nearer
        # Within that time, as many of the lines besides as time has passed.
        wait = left / (around + rate) if left < around + rate else (left - around) / rate
        before = wait = max(before, wait)
        for number, each in rates.items():
            if streams[number].bucket == bucket:
                lines[number] = max(2, int(each * wait + 0.5))
                nearer += lines[number]


def _squeezed(lines: list[int], most: int) -> list[int]:
    """The longest lists cut to one length so that all fit: the near ones keep their distances."""
    low, high = 2, max(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(n, middle) for n in lines) <= most:
            low = middle
        else:
            high = middle - 1
    return [min(n, low) for n in lines]


def layout(
    streams: list[Cursor], fixed_lines: int, shared_lines: int, touches: Sequence[float], arena_bytes: int
) -> tuple[Pool, ...]:
    """Pool 0 is the fixed lines of a thread; then one pool a stream; then the fixed lines of all threads, if any."""
    pools = [Pool(0, max(4, fixed_lines), 1, False)]
    ends = {False: pools[0].lines * 64, True: shared_lines * 64}
    for stream, lines in zip(streams, sizes(streams, touches, arena_bytes // 64 - fixed_lines), strict=True):
        lines += -lines % stream.at_once
        pools.append(Pool(ends[stream.shared], lines, 1, not stream.sweep, stream.shared))
        ends[stream.shared] += lines * 64
    return (*pools, Pool(0, shared_lines, 1, False, True)) if shared_lines else tuple(pools)
