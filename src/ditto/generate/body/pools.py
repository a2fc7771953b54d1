"""Data beyond what one request touches: lists of lines, followed a few lines a request.

With F fixed lines a request and lists of L_j lines followed at r_j lines a request, a line of list i comes back after
t = L_i / r_i requests, when F + sum_j min(L_j, r_j t) other lines have been touched.  From near to far, the list of
bucket b, whose lines shall come back at distance D_b, therefore gets r_b t_b lines with
t_b = (D_b - F - sum of the nearer lists) / (sum of the rates of the rest).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """

    block: int
    bucket: int
    per_run: int
    rate: float
    store: bool = False
    sweep: bool = False
    at_once: int = 1
    pass_lines: float = 0.0


def cursors(targets: list[Target]) -> list[Cursor]:
    """The streams of every block, fractions carried on so that the sum over blocks and buckets comes out."""
    out: list[Cursor] = []
    carry = {False: 0.0, True: 0.0}
    for target in targets:
        most = 0.12 * target.instructions
        for bucket in range(target.data_edge + 1, FAR):
            for store, histogram in ((False, target.load_distance), (True, target.store_distance)):
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
                        out.append(Cursor(target.index, bucket, share, rate, store, False, at_once, beyond))
    return [cursor for target in targets for cursor in _swept([c for c in out if c.block == target.index], target)]


def _swept(streams: list[Cursor], target: Target) -> list[Cursor]:
    """The busiest streams made sweeps, until these touch as many lines as sweeps do in the original."""
    left = target.sequential / max(target.irregular, 0.1) * sum(s.per_run for s in streams)
    sweeps: set[int] = set()
    for number in sorted(range(len(streams)), key=lambda n: (-streams[n].per_run, n)):
        if left >= 0.5 * streams[number].per_run:
            sweeps.add(number)
            left -= streams[number].per_run
    return [replace(s, sweep=n in sweeps) for n, s in enumerate(streams)]


def sizes(streams: list[Cursor], request_lines: float, most: int) -> list[int]:
    """Lines of each stream's list; ``request_lines`` are those a request touches besides."""
    if not streams:
        return []
    lines = [2] * len(streams)
    by_requests = {n: max(s.rate, 1e-6) for n, s in enumerate(streams) if not s.pass_lines}
    _lengthen(lines, streams, by_requests, request_lines)
    for block, around in sorted({(s.block, s.pass_lines) for s in streams if s.pass_lines}):
        by_passes = {n: float(s.per_run) for n, s in enumerate(streams) if s.block == block and s.pass_lines}
        _lengthen(lines, streams, by_passes, around)
    total = sum(lines)
    if total > most:
        lines = _squeezed(lines, most)
    return lines


def _lengthen(lines: list[int], streams: list[Cursor], rates: dict[int, float], around: float) -> None:
    """Set the lines of those streams that have rates by a time, in which ``around`` lines are touched besides."""
    nearer = before = 0.0
    for bucket in sorted({streams[n].bucket for n in rates}):
        rate = sum(each for n, each in rates.items() if streams[n].bucket >= bucket)
        left = 1.4 * 2 ** (bucket - 1) - nearer
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


def layout(streams: list[Cursor], fixed_lines: int, request_lines: float, arena_bytes: int) -> tuple[Pool, ...]:
    """Pool 0 is the fixed lines; then one pool a stream."""
    pools = [Pool(0, max(4, fixed_lines), 1, False)]
    offset = pools[0].lines * 64
    for stream, lines in zip(streams, sizes(streams, request_lines, arena_bytes // 64 - fixed_lines), strict=True):
        lines += -lines % stream.at_once
        pools.append(Pool(offset, lines, 1, not stream.sweep))
        offset += lines * 64
    return tuple(pools)
