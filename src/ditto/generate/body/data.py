"""Which line each access touches: drawn from a simulated LRU stack, so that distances come out as wanted.

One pass walks a request of every kind, block by block.  Each static access draws a bucket from
what its block still lacks and takes the line at that depth; later executions of the same access (in a loop) are
accounted as they fall.  Passes repeat from the stack the last one left; accesses that fall where they are wanted stay,
the others are drawn again.  The best pass, judged on a full request from its own steady state, is kept.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

from ditto.artifacts.work import DISTANCE_BUCKETS
from ditto.generate.body.accesses import SHARED, Loop, Plan, Request, Simulated, Site, loop_lines
from ditto.generate.body.fill import Filled
from ditto.generate.body.forest import Node, sequence
from ditto.generate.body.lru import CAP, Stack, bucket_of
from ditto.generate.body.pools import Cursor
from ditto.generate.body.steps import NEXT_LINE, SAME_LINE

CURSOR_TOUCH = -(1 << 20)
ROUNDS = 6
LOOKED_AT = 32
"""Lines that wait to be touched again of which one is looked for that suits an access."""
MOST_DRAWN = 1_200_000
"""Accesses drawn for in all rounds together: large blocks have fewer rounds."""
MOST_SWEPT = 1.2
"""Lines of sweeps, by what is wanted of lines that come back with the next request."""
PAIRED = 64
"""Depth from which it does not matter where the second line of a crossing lies."""
MAX_EVENTS = 60_000
"""Accesses of a simulated request beyond which a block runs only once in it."""


def _sweeps(site: Site, weights: list[float], strided: list[float]) -> bool:
    """Whether an access may go through lines in a row, which come back no sooner than after each other."""
    fits = site.height == 1 and 4 <= site.trips <= 4096 and strided[0] >= 0.5 * site.trips and strided[1] >= site.trips
    return fits and sum(weights[site.trips.bit_length() :]) >= 0.5 * site.times


class Walker:
    """The data accesses of all blocks and the choice of their lines."""

    def __init__(
        self, blocks: list[Filled], roots: list[Node], streams: list[Cursor], plans: list[Plan], rng: Random
    ) -> None:
        self._rng = rng
        self._plans = plans
        self._once: list[list[int]] = [[] for _ in range(len(plans) + 1)]
        self._streams = streams
        self._blocks = blocks
        self.sites: list[Site] = []
        self._orders = [sequence(root) for root in roots]
        self._events: list[list[list[tuple[int, list[int]]]]] = []
        self._fresh = 1 << 40
        self.fixed = 4
        """Fixed lines given out, and one for what crosses from the last of them; the first four are reached with
        one-byte displacements."""
        for filled in blocks:
            first = len(self.sites)
            self._events.append([self._slot_events(filled, number) for number in range(len(filled.slots))])
            mates = Counter(site.loop for site in self.sites[first:])
            for site in self.sites[first:]:
                site.mates = mates[site.loop]
        self.written: list[bool] = []
        """Of each line given out of the memory that all threads of a process work on, whether it is written."""
        self._codes = [self._stream(at) for at in range(len(blocks))]
        self.schedule = self._schedule()
        self.stack = Stack()

    def _slot_events(self, filled: Filled, number: int) -> list[tuple[int, list[int]]]:
        """Accesses in order, as (period, codes): in every visit (1), the first of n (n) or the last of n (-n).

        A code is 4 * id + 2 * repeated + store; the ids of fixed places are negative.
        """
        slot = filled.slots[number]
        segments: list[tuple[int, list[int]]] = []
        body = False
        for step in filled.steps[number]:
            body = body or step.weight == 1.0
            if step.weight == 0.0 or not step.lines:
                continue
            period = max(1, round(1 / step.weight))
            if period > 1 and body:
                period = -period
            if not segments or segments[-1][0] != period:
                segments.append((period, []))
            codes = segments[-1][1]
            for position, (store, line) in enumerate(step.lines):
                if line is None and position == 0:
                    step.site = len(self.sites)
                    both = len(step.lines) > 1 and step.lines[1][1] is None
                    crosses = step.lines[-1][1] == NEXT_LINE
                    self.sites.append(Site(store, slot.times, slot.trips, slot.height, both, crosses, slot.loop))
                    codes.append(step.site * 4 + store)
                elif line is None:
                    codes.append(step.site * 4 + 2 + store)
                else:
                    codes.append((line - 1) * 4 + store)
        return segments

    def _schedule(self) -> list[tuple[int, tuple[int, ...], bool]]:
        """(plan, blocks, counts): every kind of request twice, the second from the state that the first left."""
        schedule: list[tuple[int, tuple[int, ...], bool]] = []
        events = 0
        done: set[int] = set()
        for number, plan in enumerate(self._plans):
            length = sum(len(self._codes[at]) for at in plan.blocks)
            if len(self._plans) > 1 and events + 2 * length <= MAX_EVENTS:
                schedule.append((number, plan.blocks, False))
                events += length
            schedule.append((number, plan.blocks, True))
            events += length
            done.update(plan.blocks)
        left = tuple(at for at in range(len(self._blocks)) if at not in done)
        return [*schedule, (len(self._plans), left, True)]

    def _stream(self, at: int) -> list[int]:
        """The codes of one pass of a block, in order."""
        events = self._events[at]
        visits = [0] * len(events)
        out: list[int] = []
        for number in self._orders[at]:
            visit = visits[number] = visits[number] + 1
            for period, codes in events[number]:
                if period == 1 or (visit % period == 1 if period > 1 else visit % -period == 0):
                    out += codes
        return out

    def choose(self) -> list[Simulated]:
        """Draw all lines; returns the steady-state counts of one pass of each block."""
        best: tuple[float, list[int], list[bool], list[Simulated]] | None = None
        rare = self._pass(draw=True, keep=False, rare=True)
        events = max(1, sum(len(codes) for codes in self._codes))
        for round_number in range(max(1, min(ROUNDS, MOST_DRAWN // events))):
            self._pass(draw=True, keep=round_number > 0)
            self._pass(draw=False, keep=True)
            counted = self._pass(draw=False, keep=True)
            result = [often or seldom or self._nothing() for often, seldom in zip(counted, rare, strict=True)]
            error = self._error(result)
            if best is None or error < best[0]:
                best = (error, [s.line for s in self.sites], [s.strided for s in self.sites], result)
        assert best is not None
        self.fixed += 1
        for site, line, strided in zip(self.sites, best[1], best[2], strict=True):
            site.line, site.strided = line, strided
        return best[3]

    def _nothing(self) -> Simulated:
        return Simulated([0.0] * DISTANCE_BUCKETS, [0.0] * DISTANCE_BUCKETS, 0)

    def _error(self, results: list[Simulated]) -> float:
        total = 0.0
        for filled, result in zip(self._blocks, results, strict=True):
            target = filled.target
            for have, want in ((result.load, target.load_distance), (result.store, target.store_distance)):
                scale = sum(have) / max(sum(want), 1e-9)
                running = 0.0
                for a, b in zip(have, want, strict=True):
                    running += a - b * scale
                    total += abs(running) * target.runs
        return total

    def _pass(self, draw: bool, keep: bool, rare: bool = False) -> list[Simulated | None]:
        """Simulate the requests that are rare, or those that are not; None for blocks in none of them."""
        count = len(self._blocks)
        sums = [self._nothing() for _ in range(count)]
        runs = [0] * count
        drawn: set[int] = set()
        for number, blocks, counts in self.schedule:
            if rare != (number >= len(self._plans) or self._plans[number].rare):
                continue
            runtime = self._plans[number].runtime_lines if number < len(self._plans) and not rare else 0
            request = Request(number, runtime)
            for at in blocks:
                drawing = draw and at not in drawn and (counts or not keep)
                if drawing:
                    drawn.add(at)
                runs[at] += counts
                self._run(at, sums[at] if counts else None, request, drawing, keep)
        for result, times in zip(sums, runs, strict=True):
            result.load = [v / max(1, times) for v in result.load]
            result.store = [v / max(1, times) for v in result.store]
        return [result if times else None for result, times in zip(sums, runs, strict=True)]

    def _run(self, at: int, counted: Simulated | None, request: Request, draw: bool, keep: bool) -> None:
        result = counted or self._nothing()
        target = self._blocks[at].target
        needs = (list(target.load_distance), list(target.store_distance))
        hists = (result.load, result.store)
        stack, sites, streams = self.stack, self.sites, self._streams
        edge = target.data_edge
        request.shared = target.shared_within(edge + 1)
        request.once = -1 if target.data_capped else edge  # the bucket of lines that come back with the next request
        codes = self._codes[at]
        for store in (0, 1):
            actual = sum(c & 1 == store for c in codes) if draw else 0
            wanted = sum(needs[store])
            scale = actual / wanted if wanted > 1e-6 else 1.0
            needs[store][:] = [v * scale for v in needs[store]]
        done: dict[int, int] = {}
        loops: dict[int, Loop] = {}
        # Accesses, and lines, that there may be of sweeps; these come back with the next request.
        late = sum(sum(need[edge:]) for need in needs)
        strided = [target.stride_share * len(codes), min(float(1 << edge), MOST_SWEPT * late)]
        touched: set[int] = set()
        touch, of_request, runtime = stack.touch, request.touched, request.runtime_lines
        line, top = 0, CURSOR_TOUCH
        for code in codes:
            store = code & 1
            if code < 0:
                if (code >> 2) + 1 == SAME_LINE:
                    hists[store][0] += 1
                    needs[store][0] -= 1
                    continue
                line = line + 1 if (code >> 2) + 1 == NEXT_LINE else (code >> 2) + 1
                if line <= CURSOR_TOUCH:
                    stream = CURSOR_TOUCH - line
                    self._fresh += 1
                    request.fresh += 1
                    top = self._fresh
                    touch(top)
                    hists[store][streams[stream].bucket] += 1
                    needs[store][streams[stream].bucket] -= 1
                    continue
            elif code & 2:
                hists[store][0] += 1
                needs[store][0] -= 1
                continue
            else:
                index = code >> 2
                site = sites[index]
                execution = done.get(index, 0)
                done[index] = execution + 1
                if draw and not execution:
                    self._draw(site, needs, keep, edge, request, loops, strided)
                line = site.line
                if site.strided:
                    line += execution % site.trips
            if line == top:
                bucket = 0
            else:
                top = line
                touched.add(line)
                depth = touch(line)
                bucket = edge
                if depth >= 0:
                    bucket = bucket_of(depth + runtime if depth >= len(of_request) + request.fresh else depth)
                of_request.add(line)
            hists[store][bucket] += 1
            needs[store][bucket] -= 1
        result.lines = len(touched)

    def _draw(
        self,
        site: Site,
        needs: tuple[list[float], list[float]],
        keep: bool,
        edge: int,
        request: Request,
        loops: dict[int, Loop],
        strided: list[float],
    ) -> None:
        loop = loops.get(site.loop)
        if site.trips > 1 and loop is None:
            loop = loops[site.loop] = Loop(loop_lines(needs, edge, site.mates))
        self._choose_line(site, needs[site.store], keep, edge, request, loop, strided)
        if loop is not None and not site.strided and site.line not in loop.lines:
            loop.lines.append(site.line)

    def _choose_line(
        self, site: Site, need: list[float], keep: bool, edge: int, request: Request, loop: Loop | None,
        strided: list[float],
    ) -> None:  # fmt: skip
        lines, rng = self.stack.lines, self._rng
        if keep and site.line >= 0 and not site.strided:
            try:
                depth = lines.index(site.line)
                if need[bucket_of(request.distance(depth))] >= 0.5:
                    return
            except ValueError:
                pass
        elif keep and site.strided and strided[0] >= 0.5 * site.trips:
            strided[0] -= site.times
            strided[1] -= site.trips
            return
        weights = [max(0.0, v) for v in need[: edge + 1]]
        total = sum(weights)
        bucket = rng.choices(range(edge + 1), weights)[0] if total > 1e-9 else 0
        site.strided = False
        if loop is not None and len(loop.lines) >= loop.most:
            site.line = self._in_loop(site, loop, weights)
            return
        if bucket >= 4 and _sweeps(site, weights, strided):
            strided[0] -= site.times
            strided[1] -= site.trips
            if site.line < 0 or not keep:
                site.line = self._more(site.trips)
            site.strided = True
            return
        if bucket == request.once:
            site.line = self._once_line(site, request)
            return
        low, high = request.depths(*((0, 0) if bucket == 0 else (2 ** (bucket - 1), 2**bucket - 1)))
        known = len(lines)
        if low >= known:
            site.line = self._once_line(site, request)
            return
        high = min(high, known - 1)
        for _ in range(12 if low <= high else 0):
            depth = rng.randint(low, high)
            if 0 <= lines[depth] < 1 << 40 and self._suits(site, lines[depth], high):
                site.line = lines[depth]
                return
        # Only places that cannot be chosen there: the nearest fixed line below.
        near = (lines[depth] for depth in range(low, min(known, low + 200)) if 0 <= lines[depth] < 1 << 40)
        found = next((line for line in near if self._may_write(site, line)), None)
        site.line = self._once_line(site, request) if found is None else found

    def _in_loop(self, site: Site, loop: Loop, weights: list[float]) -> int:
        """One of the loop's lines, from a depth that is wanted on: it comes back there in every trip."""
        rng, known = self._rng, self.stack.lines
        reach = min(len(weights), len(loop.lines).bit_length() + 1)
        if sum(weights[:reach]) > 1e-9:
            bucket = rng.choices(range(reach), weights[:reach])[0]
            depth = rng.randint(2**bucket // 2, 2**bucket - 1)
            for line in islice(known, depth, depth + 2 * len(loop.lines)):
                if line in loop.lines and self._suits(site, line, depth):
                    return line
        return rng.choice([line for line in loop.lines if self._may_write(site, line)] or loop.lines)

    def _suits(self, site: Site, line: int, depth: int) -> bool:
        """Whether what crosses from ``line`` finds the next one about as near."""
        if not self._may_write(site, line):
            return False
        return not site.crossing or depth > PAIRED or line + 1 in islice(self.stack.lines, 2 * depth + 4)

    def _once_line(self, site: Site, request: Request) -> int:
        """A line that this request has not touched yet: one of an earlier draw, or a new one."""
        own = self._once[request.plan]
        while request.next_once < len(own) and own[request.next_once] in request.touched:
            request.next_once += 1
        for line in islice(own, request.next_once, request.next_once + LOOKED_AT):
            if line not in request.touched and self._may_write(site, line):
                return line
        if self.fixed + len(self.written) >= CAP:
            return 0
        writes = site.store or site.both
        share = request.shared[writes]
        if share and self._rng.random() < share:
            own.append(SHARED + len(self.written))
            self.written.append(writes)
        else:
            own.append(self._more(1))
        return own[-1]

    def _may_write(self, site: Site, line: int) -> bool:
        """Whether an access may be of a line: only some of those that threads share are written by any."""
        return line < SHARED or not (site.store or site.both) or self.written[line - SHARED]

    def _more(self, count: int) -> int:
        first = self.fixed
        self.fixed += count
        return first
