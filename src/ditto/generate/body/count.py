"""What the emitted program executes: instructions, classes, accesses, branches and code touches of one run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

from ditto.artifacts.work import DISTANCE_BUCKETS
from ditto.generate.body.fill import Filled
from ditto.generate.body.lru import Stack, bucket_of
from ditto.generate.body.place import Placed
from ditto.generate.body.plan import FALL
from ditto.generate.body.render import SlotCode


@dataclass
class Counts:
    """Sums over one pass."""

    instructions: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    taken: float = 0.0
    random: float = 0.0


def walk(filled: Filled) -> tuple[Counts, dict[str, float]]:
    """Executed instructions by class, by the times each slot runs and the share of them each step takes part in."""
    counts = Counts()
    classes: dict[str, float] = defaultdict(float)
    for slot, steps in zip(filled.slots, filled.steps, strict=True):
        for step in steps:
            if not step.cls:
                continue
            times = slot.times * step.weight
            counts.instructions += times
            classes[step.cls] += times
            for store, _ in step.lines:
                if store:
                    counts.stores += times
                else:
                    counts.loads += times
            if step.kind == "taken":
                counts.taken += times
            elif step.kind in ("random", "random_not"):
                counts.random += times
                counts.taken += times * step.b / 1e6
            elif step.kind == "loop_back":
                trips = step.b
                counts.taken += times * (trips - 1) / trips
            elif step.kind == "idle_back":
                counts.taken += times * (1 - 1 / max(1, step.a or 1))
    return counts, dict(sorted(classes.items()))


Touched = list[tuple[int, list[int]]]
"""Code lines of a slot in order, as (n, lines): touched in every n-th visit."""


def touches(filled: Filled, codes: list[SlotCode], placed: Placed) -> list[Touched]:
    """Code lines each slot touches, by lens' rule: the entry of a block, and every further line of it."""
    out: list[Touched] = []
    fell = {s.to for s in filled.slots if s.transfer == FALL}
    for slot, code in zip(filled.slots, codes, strict=True):
        begin = placed.start[slot.number]
        cuts = [0, *(b for b in code.breaks if 0 < b < code.size), code.size]
        exits = dict(code.exits)
        period = 1
        segments: Touched = [(1, [])]
        for a, b in pairwise(cuts):
            if a in exits:
                period *= exits[a]
                segments.append((period, []))
            if b > a:
                segments[-1][1].extend(range((begin + a) // 64, (begin + b - 1) // 64 + 1))
        if slot.number in fell and begin % 64 and segments[0][1]:
            del segments[0][1][0]
        out.append(segments)
    return out


def code_distances(
    orders: list[list[int]], lines: list[list[Touched]], schedule: list[tuple[int, tuple[int, ...], bool]]
) -> list[tuple[list[float], int]]:
    """Per block: the code distances of one pass in the steady state of the request, and its distinct lines."""
    touch = Stack().touch
    results = [([0.0] * DISTANCE_BUCKETS, 0) for _ in orders]
    runs = [0] * len(orders)
    for counting in (False, True):
        for at, counts in ((at, counts) for _, blocks, counts in schedule for at in blocks):
            hist, _ = results[at]
            base = at << 32
            seen: set[int] = set()
            visits = [0] * len(lines[at])
            counted = counting and counts
            for number in orders[at]:
                visits[number] += 1
                for period, touched in lines[at][number]:
                    if visits[number] % period:
                        break
                    seen.update(touched)
                    for line in touched:
                        depth = touch(base + line)
                        if counted:
                            hist[bucket_of(depth) if depth >= 0 else 15] += 1
            runs[at] += counting and counts
            results[at] = (hist, len(seen))
    return [([v / max(1, n) for v in hist], seen) for (hist, seen), n in zip(results, runs, strict=True)]
