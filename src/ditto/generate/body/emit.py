"""From block statistics to assembly: the steps in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from ditto.artifacts.profile import Knobs
from ditto.artifacts.work import CACHE_SETS, Block
from ditto.generate.body import target as targets
from ditto.generate.body.accesses import Plan, Simulated
from ditto.generate.body.apart import all_apart
from ditto.generate.body.chapters import PASS_COST, divide, driver
from ditto.generate.body.count import Counts, code_distances, touches, walk
from ditto.generate.body.data import Walker
from ditto.generate.body.facts import BlockFacts, BodyCode, Layout, Pool, joined
from ditto.generate.body.fill import Filled, fill
from ditto.generate.body.forest import Grown, Node, grow, sequence
from ditto.generate.body.isa import SHARED_LINES
from ditto.generate.body.outcomes import foreseen
from ditto.generate.body.place import Gaps, Placed, place, spaced
from ditto.generate.body.plan import DENSE_BYTES, LINE_FILLED, Planner, spread_inline
from ditto.generate.body.pools import Cursor, cursors, layout
from ditto.generate.body.predict import misses
from ditto.generate.body.reach import Order, Reach, edges, reaches, touches_of_request
from ditto.generate.body.render import Rendered, Renderer
from ditto.generate.body.sets import Schedule, chosen, code_misses, pass_lines
from ditto.generate.body.string_fill import PREFIX_INSTRUCTIONS, StringFill, prefix, string_fill, without
from ditto.generate.body.target import Target, reach_out

REPEAT_COST = 3
"""Instructions a pass costs when it is repeated: call, count, branch."""


NEAR = 0.03
"""Relative error of a block's mispredictions at which they are right."""
FORESTS = 4
ARRANGED = 8
"""Ways of putting branches into slots that are tried where predictable ones alone are missed too often."""
LOOPS_MISS = 0.6
"""Share of a block's mispredictions that the ends of its loops may make up."""
SHARES = 3
"""Shares of unpredictable branches that are tried between two that are too small and too large."""
MOST_SHARE = 3.0
"""Of them, where few are missed: their rates are powers of two, and the same course soon comes again."""
LARGEST_DATA_EDGE, LONG_DATA_EDGE = 11, 6
"""Lines that come back later are followed along lists, for there are more of them than accesses in the code; in long
requests already those that come back within one."""


@dataclass
class _Block:
    target: Target
    root: Node
    filled: Filled
    near: tuple[float, ...]


def emit(
    blocks: Sequence[Block],
    knobs: Knobs,
    seed: int,
    orders: Sequence[Order] = (),
    runtime_lines: float = 0.0,
    arena_bytes: int = 256 << 20,
    symbols: str = "ditto_block_",
    runtime_sets: Sequence[int] = (),
) -> BodyCode:
    """Generate the assembly of all blocks of a service.

    Args:
        blocks: statistics of one run each.
        knobs: scales of instructions, dependence, irregularity and entropy.
        seed: decides every choice; the same arguments give the same bytes.
        orders: in which orders requests run them; without one, each after the other.
        runtime_lines: data lines that the runtime itself touches in a request.
        arena_bytes: most memory that a thread's body may work on.
        symbols: that of block N is ``symbols + str(N)``.
        runtime_sets: lines of code that the runtime executes in a request, by the set of a cache; empty where unknown.
    """
    orders = orders or (Order(tuple(range(len(blocks)))),)
    goals = [block.wanted.instructions * knobs.instructions for block in blocks]
    data_touches = touches_of_request(blocks)
    fills = [string_fill(block.wanted) for block in blocks]
    blocks = [block if found is None else without(block, found) for block, found in zip(blocks, fills, strict=True)]
    code_reach = reaches(blocks, orders, ("code_distance",))
    data_reach = reaches(blocks, orders, ("load_distance", "store_distance"), LARGEST_DATA_EDGE, LONG_DATA_EDGE)
    code_edges, data_edges = edges(len(blocks), orders, code_reach), edges(len(blocks), orders, data_reach)
    wanted = [
        targets.make(i, block, knobs, code_edges[i].edge, data_edges[i].edge, data_edges[i].capped)
        for i, block in enumerate(blocks)
    ]
    wanted = reach_out(wanted, orders, data_reach, runtime_lines)
    divided = {
        t.index: chapters
        for t in wanted
        if t is not None and (chapters := divide(t, len(blocks), Random(f"{seed}/chapters/{t.index}"))) is not None
    }
    real = [part for t in wanted if t is not None for part in (divided[t.index].parts if t.index in divided else (t,))]
    pieces = {i: [part.index for part in divided[i].parts] if i in divided else [i] for i in range(len(blocks))}
    orders = [replace(order, blocks=tuple(n for i in order.blocks for n in pieces[i])) for order in orders]
    streams = cursors(real)
    beside = _beside(real, orders)
    built = [_build(t, streams, beside.get(t.index, 0.0), Random(f"{seed}/{t.index}")) for t in real]
    at = {b.target.index: n for n, b in enumerate(built)}
    for index in _following(built, orders):
        built[at[index]].filled.first = False
    plans = [
        Plan(tuple(at[i] for i in order.blocks if i in at), int(runtime_lines), order.share == 0) for order in orders
    ]
    walker = Walker([b.filled for b in built], [b.root for b in built], streams, plans, Random(f"{seed}/data"))
    simulated = walker.choose() if built else []
    rendered = [
        Renderer(b.filled, walker.sites, f"b{b.target.index}", Random(f"{seed}/r/{b.target.index}")).render()
        for b in built
    ]
    packed = [
        place(b.filled.slots, r.slots, b.near, Random(f"{seed}/p/{b.target.index}"))
        for b, r in zip(built, rendered, strict=True)
    ]
    sequences = [sequence(b.root) for b in built]
    beside_lines = _runtime_code(runtime_sets, real, orders, code_reach, Random(f"{seed}/runtime"))
    placed = _spread(blocks, built, rendered, packed, sequences, walker.schedule, beside_lines, Random(f"{seed}/sets"))
    bases = _bases(built, placed, fills)
    weights = [b.target.runs * b.target.repeat for b in built]
    shared = sum(block.wanted.indirect_shared * block.runs_per_request for block in blocks)
    placed, rendered = all_apart(placed, [b.filled.slots for b in built], rendered, bases, weights, shared)
    rendered = foreseen(
        [b.filled for b in built], rendered, placed, bases, sequences,
        [replace(order, blocks=tuple(at[i] for i in order.blocks if i in at)) for order in orders],
        [(own := blocks[b.target.index % len(blocks)]).branches - own.wanted.branches for b in built],
        Random(f"{seed}/outcomes"),
    )  # fmt: skip
    lines = [touches(b.filled, r.slots, p) for b, r, p in zip(built, rendered, placed, strict=True)]
    code = code_distances(sequences, lines, walker.schedule)

    shared_lines = len(walker.written) + bool(walker.written)  # one for what crosses from the last
    pools = layout(streams, walker.fixed, shared_lines, data_touches, arena_bytes) if real else (Pool(0, 4, 1, False),)
    end, shared = (max((p.offset + p.lines * 64 for p in pools if p.shared == of_all), default=0) for of_all in (0, 1))
    cleared = -(-(end + 64) // 4096) * 4096
    size = cleared + max((-(-found.size // 4096) * 4096 for found in fills if found is not None), default=0)
    arena = Layout(size, pools, tuple(range(1, len(streams) + 1)), -(-shared // 64) * 64)
    facts, text = [], [_HEADER]
    for index in range(len(blocks)):
        symbol, goal, found = f"{symbols}{index}", goals[index], fills[index]
        before = "" if found is None else prefix(found, cleared)
        if index not in at:
            facts.append(BlockFacts(symbol, goal, True, 1.0, loads=1.0, mix={"ret": 1.0}))
            text.append(_empty(symbol, before))
            continue
        made_of = [at[piece] for piece in pieces[index]]
        if index in divided:
            entries = [f".Lb{piece}_0" for piece in pieces[index]]
            head = f"\t.globl {symbol}\n\t.type {symbol}, @function\n\t.p2align 6\n"
            text.append(head + driver(symbol, f".Lb{index}", before, entries, divided[index].order))
            text += [_lines(built[n], rendered[n], placed[n]) for n in made_of]
            text.append(f"\t.size {symbol}, .-{symbol}\n")
        else:
            text.append(_function(symbol, built[made_of[0]], rendered[made_of[0]], placed[made_of[0]], before))
        each = [
            _facts(symbol, goal, built[n], rendered[n], placed[n], simulated[n], code[n], index in divided)
            for n in made_of
        ]
        made = joined(each)
        facts.append(made if found is None else _with_fill(made, found))
    if shared:
        text.append(f"\t.bss\n\t.globl {SHARED_LINES}\n\t.p2align 12\n{SHARED_LINES}:\n\t.zero {arena.shared_bytes}\n")
    text.append("\t.p2align 12, 0xcc\n")  # so that what the linker puts behind stays in its sets of a cache
    text.append('\t.section .note.GNU-stack,"",@progbits\n')
    return BodyCode("".join(text), arena, tuple(facts))


_HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Generated compute blocks: void ditto_block_N(struct ditto_body *), System V x86-64.
\t.text
\t.p2align 12
"""


def _branches(plan: Planner, target: Target, order: list[int], beside: float, rng: Random) -> None:
    """Put branches into the slots: as many unpredictable ones as the misses of the predictable ones leave."""
    per_slot = target.instructions / float(sum(s.times for s in plan.slots))
    seed = rng.random()
    wanted = target.unforeseen

    def tried(share: float, arranged: float | None = None) -> float:
        arranged = seed if arranged is None else arranged
        spread_inline(plan.slots, target, plan.loop_branches, per_slot, Random(arranged), share)
        return misses(order, plan.slots, beside, target.taken_share, Random(arranged), target.period)

    low, high, share = (0.0, 0.0), (1.0, tried(1.0)), 1.0
    if high[1] > wanted * (1.0 + NEAR):
        low = (0.0, tried(0.0))
    elif high[1] < wanted * (1.0 - NEAR):
        low, high, share = high, (MOST_SHARE, tried(MOST_SHARE)), MOST_SHARE
        if high[1] <= wanted:
            return
    else:
        return
    if low[1] > wanted:
        missed, seed = min((tried(0.0, other), other) for other in (seed, *(rng.random() for _ in range(ARRANGED))))
        low, high = (0.0, missed), (1.0, tried(1.0))
    for _ in range(SHARES):
        if low[1] >= wanted:
            share = 0.0
            break
        share = low[0] + (high[0] - low[0]) * (wanted - low[1]) / max(1e-9, high[1] - low[1])
        share = min(MOST_SHARE, share)
        found = tried(share)
        if abs(found - wanted) <= NEAR * wanted:
            return
        low, high = ((share, found), high) if found < wanted else (low, (share, found))
    tried(share)


def _following(built: Sequence[_Block], orders: Sequence[Order]) -> set[int]:
    """Blocks that need a random word in a request after one that went on to it, by the commonest requests."""
    need = {b.target.index for b in built if b.filled.context.word}
    first: set[int] = set()
    after: set[int] = set()
    for order in sorted(orders, key=lambda order: -order.share):
        found = [index for index in order.blocks if index in need]
        if found and found[0] not in after:
            first.add(found[0])
        after.update(index for index in found[1:] if index not in first)
    return after


def _beside(targets: Sequence[Target], orders: Sequence[Order]) -> dict[int, float]:
    """Branches that the other blocks of a request execute, by block: in the commonest request that has it."""
    of = {t.index: t.branches * t.repeat for t in targets}
    found: dict[int, float] = {}
    for order in sorted(orders, key=lambda order: -order.share):
        whole = sum(of.get(index, 0.0) for index in order.blocks)
        for index in order.blocks:
            found.setdefault(index, whole - of.get(index, 0.0))
    return found


def _runtime_code(
    sets: Sequence[int], targets: Sequence[Target], orders: Sequence[Order], found: Sequence[Reach], rng: Random
) -> list[int]:
    """Code lines of a request that are the runtime's, as numbers below 0: as many in each set as are known, or anywhere
    what the original has more than the blocks are to have."""
    if sets:
        return [number - CACHE_SETS * (1 + k) for number, count in enumerate(sets) for k in range(count)]
    own = {t.index: t.code_lines for t in targets}
    share = sum(o.share for o in orders) or 1.0
    lacks = (o.share * (r.lines - sum(own.get(i, 0.0) for i in o.blocks)) for o, r in zip(orders, found, strict=True))
    return [-1 - rng.randrange(1 << 20) for _ in range(max(0, int(sum(lacks) / share)))]


def _spread(
    blocks: Sequence[Block],
    built: Sequence[_Block],
    rendered: Sequence[Rendered],
    packed: Sequence[Placed],
    sequences: Sequence[list[int]],
    schedule: Schedule,
    others: Sequence[int],
    rng: Random,
) -> Sequence[Placed]:
    """The blocks' code with gaps, so that as many of its lines are missed as share a set with too many others."""
    weights = [b.target.runs * b.target.repeat for b in built]
    wanted = sum(block.wanted.code_set_misses * block.runs_per_request for block in blocks)

    def make(gaps: Gaps, rng: Random) -> tuple[Sequence[Placed], float]:
        used, bases, tried = [0] * CACHE_SETS, [0], []
        for code in packed:
            tried.append(spaced(code, gaps, bases[-1], used, rng))
            bases.append(bases[-1] + tried[-1].bytes // 64)
        passes = [
            list(pass_lines(order, touches(b.filled, r.slots, p)))
            for order, b, r, p in zip(sequences, built, rendered, tried, strict=True)
        ]
        found = code_misses(passes, bases, others, schedule)
        return tried, sum(w * m for w, m in zip(weights, found, strict=True))

    touched = 2 * sum(len(sequences[at]) for _, at_blocks, _ in schedule for at in at_blocks)
    return chosen(wanted, touched, make, rng)


def _bases(built: Sequence[_Block], placed: Sequence[Placed], fills: Sequence[StringFill | None]) -> list[int]:
    """Byte at which the code of each block begins."""
    bases, base = [], 0
    for b, p in zip(built, placed, strict=True):
        index = b.target.index
        if b.target.repeat > 1 or (index < len(fills) and fills[index] is not None):
            base += 64  # what comes before the code
        bases.append(base)
        base += -(-p.bytes // 64) * 64
    return bases


def _build(target: Target, streams: list[Cursor], beside: float, rng: Random) -> _Block:
    touched = sum(target.code_distance)
    visits = max(1.0, touched - target.code_distance[0])
    per_visit = target.instructions / visits
    inline = min(target.code_distance[0], max(0.0, target.branches * 0.8), visits * max(0.0, per_visit / 3.5))
    dense = per_visit * 4.3 > DENSE_BYTES
    grown, plan = _planned(target, inline, 1.0 if dense else LINE_FILLED / (per_visit * 4.3), dense, beside, rng)
    _branches(plan, target, sequence(grown.root), beside, rng)
    number = -1
    for number, stream in enumerate(streams):
        if stream.block != target.index:
            continue
        left = stream.per_run
        for slot in sorted(plan.slots, key=lambda s: (-s.times, rng.random())):
            if slot.times * stream.at_once <= left and len(slot.pools) < 3:
                slot.pools.append((number, stream.store, stream.at_once, stream.sweep))
                left -= slot.times * stream.at_once
            if left <= 0:
                break
    return _Block(target, grown.root, fill(plan.slots, target, rng), grown.near)


def _planned(
    target: Target, inline: float, room: float, dense: bool, beside: float, rng: Random
) -> tuple[Grown, Planner]:
    """A forest whose loops end foreseeably: of a few the first with no more misses than wanted, else the best."""
    wanted = target.unforeseen
    found: list[tuple[float, Grown, Planner]] = []
    for _ in range(FORESTS):
        grown = grow(target, inline, room, rng)
        plan = Planner(target, grown, rng, dense)
        missed = misses(sequence(grown.root), plan.slots, beside, target.taken_share, Random(0))
        found.append((missed, grown, plan))
        if missed <= LOOPS_MISS * wanted:
            break
    _, grown, plan = min(found, key=lambda one: one[0])
    return grown, plan


def _empty(symbol: str, before: str) -> str:
    head = f"\t.globl {symbol}\n\t.type {symbol}, @function\n\t.p2align 6\n"
    return f"{head}{symbol}:\n{before}\tret\n\t.size {symbol}, .-{symbol}\n"


def _function(symbol: str, block: _Block, rendered: Rendered, placed: Placed, before: str) -> str:
    label = f".Lb{block.target.index}"
    out = [f"\t.globl {symbol}\n\t.type {symbol}, @function\n\t.p2align 6\n"]
    if block.target.repeat > 1:
        out.append(
            f"{symbol}:\n{before}\tpush ${block.target.repeat}\n{label}_pass:\n\tcall {label}_0\n\tdecl (%rsp)\n"
            f"\tjne {label}_pass\n\tpop %rcx\n\tret\n\t.p2align 6, 0xcc\n"
        )
    elif before:
        out.append(f"{symbol}:\n{before}\tjmp {label}_0\n\t.p2align 6, 0xcc\n")
    entry = f"{symbol}:\n" if block.target.repeat == 1 and not before else ""
    out.append(_lines(block, rendered, placed, entry))
    out.append(f"\t.size {symbol}, .-{symbol}\n\t.p2align 6, 0xcc\n")
    return "".join(out)


def _lines(block: _Block, rendered: Rendered, placed: Placed, entry: str = "") -> str:
    """The code lines of one pass and its jump tables; ``entry`` is a further label of the first."""
    label = f".Lb{block.target.index}"
    out = ["\t.p2align 6, 0xcc\n"]
    offset = 0
    for number in placed.order:
        gap = placed.start[number] - offset
        if gap > 0:
            out.append(f"\t.skip {gap}, 0xcc\n")
        code = rendered.slots[number]
        if number == 0:
            out.append(entry)
        out.append(f"{label}_{number}:\n")
        out += [line + "\n" for line in code.text]
        offset = placed.start[number] + code.size
    out.append("\t.p2align 6, 0xcc\n")
    if rendered.tables:
        out.append('\t.section .data.rel.ro,"aw",@progbits\n\t.p2align 6\n')
        for name, entries in rendered.tables:
            out.append(f"{name}:\n\t.quad {', '.join(entries)}\n")
        out.append("\t.text\n")
    return "".join(out)


def _with_fill(facts: BlockFacts, fill: StringFill) -> BlockFacts:
    distances = list(facts.store_distance)
    lines = fill.size / 64
    distances[0] += fill.count - lines
    distances[int(lines).bit_length()] += lines
    return replace(
        facts,
        instructions=facts.instructions + PREFIX_INSTRUCTIONS,
        stores=facts.stores + fill.count,
        store_distance=tuple(distances),
    )


def _facts(
    symbol: str, goal: float, block: _Block, rendered: Rendered, placed: Placed, data: Simulated,
    code: tuple[list[float], int], chapter: bool = False,
) -> BlockFacts:  # fmt: skip
    counts, classes = walk(block.filled)
    repeat = block.target.repeat
    if chapter:
        counts = Counts(**{**vars(counts), "instructions": counts.instructions + sum(PASS_COST.values())})
        for name, times in PASS_COST.items():
            classes[name] = classes.get(name, 0.0) + times
    elif repeat > 1:
        counts = Counts(**{**vars(counts), "instructions": counts.instructions + REPEAT_COST})
        for name in ("call", "arith_m", "jcc"):
            classes[name] = classes.get(name, 0.0) + 1
    total = sum(classes.values())
    return BlockFacts(
        symbol=symbol,
        target=goal,
        empty=False,
        instructions=counts.instructions * repeat + (REPEAT_COST if repeat > 1 and not chapter else 0),
        loads=counts.loads * repeat,
        stores=counts.stores * repeat,
        load_distance=tuple(v * repeat for v in data.load),
        store_distance=tuple(v * repeat for v in data.store),
        code_distance=tuple(v * repeat for v in code[0]),
        code_touches=sum(code[0]) * repeat,
        branches=classes.get("jcc", 0.0) * repeat,
        taken=counts.taken * repeat,
        random=counts.random * repeat,
        indirect=(classes.get("icall", 0.0) + classes.get("ijmp", 0.0)) * repeat,
        calls=(classes.get("call", 0.0) + classes.get("icall", 0.0)) * repeat,
        mix={name: count / total for name, count in sorted(classes.items())},
        raw=rendered.raw,
        chase_share=rendered.chased / counts.loads if counts.loads else 0.0,
        code_lines=code[1],
        data_lines=data.lines,
        code_bytes=placed.bytes,
    )
