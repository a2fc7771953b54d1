"""What one run of a block must do: the profile's numbers made safe, scaled by the knobs, and mutually consistent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ditto.artifacts.profile import Knobs
from ditto.artifacts.work import DEEP, DISTANCE_BUCKETS, Block, Work
from ditto.generate.body.mixes import CROSSING_CLASSES, LOADS, folded, made_by_mix
from ditto.generate.body.reach import Order, Reach

MIN_INSTRUCTIONS = 5.0
MAX_PASS = 250_000
"""Instructions of one pass over a block's program; a longer block repeats the pass."""


@dataclass(frozen=True)
class Target:
    """Counts of one pass; ``repeat`` passes make one run."""

    index: int
    instructions: float
    repeat: int
    runs: float
    mix: dict[str, float]
    loads: float
    stores: float
    load_distance: tuple[float, ...]
    store_distance: tuple[float, ...]
    code_distance: tuple[float, ...]
    code_lines: float
    data_edge: int
    data_capped: bool
    branches: float
    taken_share: float
    random_rates: tuple[tuple[float, float], ...]
    """(taken rate, executions) wanted of unpredictable branches."""
    period: int
    """Requests after which they take the same course again."""
    icalls: float
    ijumps: float
    targets: int
    wandering: float
    """Indirect jumps and calls that go elsewhere than the time before."""
    calls: float
    raw: tuple[float, ...]
    chase_share: float
    stride_share: float
    crossing: float
    """Vector loads that touch two lines: what makes more loads, by lines, than there are instructions that load."""
    irregular: float
    sequential: float
    """Share of the touches beyond a request's reach that go on in the page of the one before: a sweep, no lookup."""
    shared_loads: tuple[float, ...] = ()
    shared_stores: tuple[float, ...] = ()
    """Shares of the accesses at each distance that are of lines which other threads work on as well."""
    pass_lines: float = 0.0
    """Of a chapter: data lines of a pass, beyond which lists have to reach for distances up to ``run_edge``."""
    run_edge: int = 0

    def shared_within(self, high: int) -> tuple[float, float]:
        """These shares of all loads and of all stores in the buckets from `DEEP` to ``high``, which is left out."""
        return (
            _mean(self.load_distance[DEEP:high], self.shared_loads[DEEP:high]),
            _mean(self.store_distance[DEEP:high], self.shared_stores[DEEP:high]),
        )

    @property
    def unforeseen(self) -> float:
        """Misses wanted of the reference predictor."""
        return sum(min(rate, 1.0 - rate) * executions for rate, executions in self.random_rates)


def _histogram(values: Sequence[float], total: float, default: tuple[tuple[int, float], ...]) -> tuple[float, ...]:
    """``values`` padded to the known buckets and scaled to ``total``; ``default`` where they say nothing."""
    out = [max(0.0, v) for v in values[:DISTANCE_BUCKETS]] + [0.0] * (DISTANCE_BUCKETS - len(values[:DISTANCE_BUCKETS]))
    have = sum(out)
    if have <= 1e-9:
        for bucket, share in default:
            out[bucket] = share
        have = sum(out)
    return tuple(v * total / have for v in out)


_CODE_DEFAULT = ((0, 0.4), (1, 0.03), (2, 0.05), (3, 0.05), (4, 0.05), (5, 0.05), (9, 0.37))
_DATA_DEFAULT = ((0, 0.2), (1, 0.15), (2, 0.15), (3, 0.15), (4, 0.12), (5, 0.08), (6, 0.06), (8, 0.09))
_FAR = (21, 22, 23)


def _fold_far(values: tuple[float, ...]) -> tuple[float, ...]:
    """First touches and very far ones become reuses of the farthest size seen (at least 2 MiB)."""
    out = list(values)
    far = sum(out[b] for b in _FAR)
    for bucket in _FAR:
        out[bucket] = 0.0
    if far > 0:
        near = max((b for b in range(_FAR[0]) if out[b] > 0), default=0)
        out[max(near, 15)] += far
    return tuple(out)


def _branching(
    block: Work, knobs: Knobs, scale: float, branches: float
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Taken share, and the (rate, executions) to make unpredictable so that the misses come out right."""
    bins = list(block.branch_bins)
    total = sum(bins)
    if total <= 1e-9:
        return 0.5, ()
    rates = [0.0] * 10
    for index, count in enumerate(bins):
        rates[min(9, index // 10)] += count * branches / total
    centre = (0.01, *(0.1 * i + 0.05 for i in range(1, 9)), 0.99)
    taken = sum(c * r for c, r in zip(centre, rates, strict=True)) / branches if branches else 0.5
    wanted = block.predictor_misses * scale * knobs.entropy
    middle = [(centre[i], rates[i]) for i in range(1, 9) if rates[i] > 0]
    supply = sum(min(c, 1 - c) * r for c, r in middle)
    if wanted <= 0:
        return taken, ()
    if supply <= 1e-9:
        return taken, ((0.5, min(2 * wanted, 0.5 * branches)),)
    share = min(wanted / supply, 1.0)
    picked = [(c, r * share) for c, r in middle]
    short = wanted - supply
    if short > 0:
        picked.append((0.5, min(2 * short, 0.3 * branches)))
    return taken, tuple(picked)


def make(index: int, block: Block, knobs: Knobs, edge: int, data_edge: int, capped: bool = False) -> Target | None:
    """The target of one block, or None if it is too small to be anything but a return.

    Args:
        index: of the block.
        block: its aim is what to generate.
        knobs: scales.
        edge, data_edge: first buckets of code and data distances that reach back to the request before.
        capped: whether data distances of one request go beyond that.
    """
    work = block.wanted
    wanted = work.instructions * knobs.instructions
    if wanted < MIN_INSTRUCTIONS or work.instructions <= 0:
        return None
    wanted = min(wanted, 1e11)
    repeat = max(1, int(-(-wanted // MAX_PASS)))
    pass_instructions = wanted / repeat
    scale = pass_instructions / work.instructions
    mix = folded(dict(work.mix))
    branches = work.branches * scale if work.branches else mix.get("jcc", 0.0) * pass_instructions
    branches = min(branches, 0.4 * pass_instructions)
    loads = work.loads * scale
    stores = work.stores * scale
    if loads + stores <= 1e-9:
        loads = pass_instructions * sum(s for c, s in mix.items() if c.endswith(("_l", "_m")) or c in ("pop_r", "ret"))
        stores = pass_instructions * sum(
            s for c, s in mix.items() if c.endswith(("_s", "_m")) or c in ("push_r", "call")
        )
    if loads + stores > 1.1 * pass_instructions:
        shrink = 1.1 * pass_instructions / (loads + stores)
        loads, stores = loads * shrink, stores * shrink
    touches = work.code_touches * scale or sum(work.code_distance) * scale or 0.28 * pass_instructions
    touches = min(max(touches, pass_instructions / 14), 0.8 * pass_instructions)
    taken, random_rates = _branching(work, knobs, scale, branches)
    by_mix = (mix.get("call", 0.0) + mix.get("icall", 0.0)) * pass_instructions
    calls = min(work.calls * scale if work.calls else by_mix, 0.12 * pass_instructions)
    indirect = min(work.indirect * scale, 0.1 * pass_instructions)
    weight_call, weight_jump = mix.get("icall", 0.0), mix.get("ijmp", 0.0)
    call_part = weight_call / (weight_call + weight_jump) if weight_call + weight_jump > 1e-9 else 0.5
    icalls = min(indirect * call_part, calls)
    raw = [max(0.0, v) for v in work.raw[:8]] + [0.0] * (8 - len(work.raw[:8]))
    if sum(raw) <= 1e-9:
        raw = [0.22, 0.13, 0.14, 0.12, 0.1, 0.08, 0.06, 0.15]
    raw = [v / sum(raw) for v in raw]
    code = _fold_far(_histogram(work.code_distance, touches, _CODE_DEFAULT))
    shares = _is_shared(work)
    return Target(
        index=index,
        instructions=pass_instructions,
        repeat=repeat,
        runs=block.runs_per_request,
        mix=mix,
        loads=loads,
        stores=stores,
        load_distance=_fold_far(_histogram(work.load_distance, loads, _DATA_DEFAULT)),
        store_distance=_fold_far(_histogram(work.store_distance, stores, _DATA_DEFAULT)),
        code_distance=code,
        data_edge=data_edge,
        data_capped=capped,
        code_lines=sum(code[edge:]) if work.code_distance else 0.0,
        branches=branches,
        taken_share=taken,
        random_rates=random_rates,
        period=knobs.period,
        icalls=icalls,
        ijumps=indirect - icalls,
        targets=max(1, min(16, round(work.indirect_targets))),
        wandering=min(work.indirect_misses * scale, indirect),
        calls=max(0.0, calls - icalls),
        raw=_stretch(raw, knobs.dependence),
        chase_share=min(0.9, work.chase_share * knobs.irregular),
        stride_share=work.stride_share,
        crossing=_crossing(mix, loads, pass_instructions),
        irregular=knobs.irregular,
        sequential=_sequential(block, data_edge),
        shared_loads=_shares(work.shared_loads, work.load_distance) if shares else (),
        shared_stores=_shares(work.shared_stores, work.store_distance) if shares else (),
    )


def scaled(target: Target, factor: float) -> Target:
    """The target of a pass of another length, all counts in proportion."""
    return replace(
        target,
        instructions=target.instructions * factor,
        loads=target.loads * factor,
        stores=target.stores * factor,
        load_distance=tuple(v * factor for v in target.load_distance),
        store_distance=tuple(v * factor for v in target.store_distance),
        code_distance=tuple(v * factor for v in target.code_distance),
        code_lines=target.code_lines * factor,
        branches=target.branches * factor,
        random_rates=tuple((rate, executions * factor) for rate, executions in target.random_rates),
        icalls=target.icalls * factor,
        ijumps=target.ijumps * factor,
        wandering=target.wandering * factor,
        calls=target.calls * factor,
        crossing=target.crossing * factor,
    )


CROSSING_FROM = 0.02
"""Loads an instruction beyond those of the mix from which they are taken for crossings."""


def _crossing(mix: Mapping[str, float], loads: float, instructions: float) -> float:
    beyond = loads - made_by_mix(mix, LOADS) * instructions
    vectors = sum(mix.get(name, 0.0) for name in CROSSING_CLASSES) * instructions
    return min(beyond, vectors) if beyond > CROSSING_FROM * instructions else 0.0


LEAST_SHARED = 0.02
"""Share of the touches of lines that others work on below which a block has all lines for itself."""


def _is_shared(work: Work) -> bool:
    deep = sum(work.load_distance[DEEP:]) + sum(work.store_distance[DEEP:])
    return sum(work.shared_loads[DEEP:]) + sum(work.shared_stores[DEEP:]) > LEAST_SHARED * deep


def _shares(parts: Sequence[float], wholes: Sequence[float]) -> tuple[float, ...]:
    return tuple(min(1.0, part / whole) if whole > 0 else 0.0 for part, whole in zip(parts, wholes, strict=False))


def _mean(weights: Sequence[float], values: Sequence[float]) -> float:
    whole = sum(weights)
    return sum(w * v for w, v in zip(weights, values, strict=False)) / whole if whole > 0 else 0.0


PAGE_LINES_LOG2 = 6


def _sequential(block: Work, edge: int) -> float:
    """How many far line touches are near by page: as many as there are lines in a page, less one, in a sweep."""
    lines = sum(block.load_distance[edge + 1 :]) + sum(block.store_distance[edge + 1 :])
    pages = sum(block.page_distance[max(1, edge + 1 - PAGE_LINES_LOG2) :])
    return max(0.0, min(1.0, 1 - pages / lines)) if lines > 0 else 0.0


def reach_out(
    targets: Sequence[Target | None], orders: Sequence[Order], reaches: Sequence[Reach], runtime_lines: float
) -> list[Target | None]:
    """Targets that touch enough lines once a request for these to come back as late as in the original.

    What lacks is taken from the next nearer bucket of loads.
    """
    out = list(targets)
    done: set[int] = set()
    for order, reach in sorted(zip(orders, reaches, strict=True), key=lambda pair: -pair[0].share):
        own = [t for i in order.blocks if i not in done and (t := out[i]) is not None]
        done.update(order.blocks)
        once = sum(sum(t.load_distance[reach.edge :]) + sum(t.store_distance[reach.edge :]) for t in own)
        near = sum(t.load_distance[reach.edge - 1] for t in own)
        lack = min(reach.lines - runtime_lines - once, near) if order.share else 0.0
        if lack <= 0 or near <= 0:
            continue
        for target in own:
            loads = list(target.load_distance)
            moved = lack * loads[reach.edge - 1] / near
            loads[reach.edge - 1] -= moved
            loads[reach.edge] += moved
            out[target.index] = replace(target, load_distance=tuple(loads))
    return out


def _stretch(raw: list[float], factor: float) -> tuple[float, ...]:
    """Distances scaled by ``factor``: shares moved between the power-of-two buckets, fractions split between two."""
    if factor == 1.0:
        return tuple(raw)
    from math import log2

    shift = log2(factor)
    out = [0.0] * 8
    for bucket, share in enumerate(raw):
        place = min(7.0, max(0.0, bucket + shift))
        low = int(place)
        out[low] += share * (1 - (place - low))
        if low < 7:
            out[low + 1] += share * (place - low)
    return tuple(out)
