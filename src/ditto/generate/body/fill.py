"""Filling slots: the steps of every slot, so that the instruction count is exact and the mix is met.

What transfers, loops, branches and pools cost is counted first; fillers get what is left of each class.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random

from ditto.generate.body.mixes import CONTROL, CROSSING_CLASSES, LOAD_CLASSES, STORE_CLASSES, UPDATE_CLASSES
from ditto.generate.body.plan import ICALL, IJUMP, Slot
from ditto.generate.body.steps import (
    NEXT_LINE,
    Context,
    Step,
    enter,
    fixed_branch,
    leave,
    next_word,
    pool_unit,
    random_branch,
    transfer,
)
from ditto.generate.body.target import Target

_DRAWN_LOAD: tuple[tuple[bool, int | None], ...] = ((False, None),)
_DRAWN_CROSSING: tuple[tuple[bool, int | None], ...] = ((False, None), (False, NEXT_LINE))
_DRAWN_STORE: tuple[tuple[bool, int | None], ...] = ((True, None),)
_DRAWN_BOTH: tuple[tuple[bool, int | None], ...] = ((False, None), (True, None))
_GROUPED = {"push_r": 2, "div_r": 3}
"""Instructions of fillers that are more than one: a pop goes with each push."""
LEAST = 1e-9
"""Executions of a class below which it is not scaled up: a profile may hold anything."""
LEAD = ("mov_r", "lea_r", "movx_r")


class Filled:
    """The steps of each slot of a block (by slot number), in order, and the block's shared context."""

    def __init__(self, slots: list[Slot], target: Target, context: Context, saved: list[int]) -> None:
        self.slots = slots
        self.target = target
        self.context = context
        self.saved = saved
        """Callee-saved registers in use."""
        self.steps: list[list[Step]] = []
        self.first = True
        """It goes on to the next random word; else it runs in a request after a block that did."""
        self.filler_loop = 0
        """Iterations of a loop of three instructions that takes up what no filler could."""


def fill(slots: list[Slot], target: Target, rng: Random) -> Filled:
    from ditto.generate.body.isa import COUNTERS, WORD

    _wander(slots, target)
    word = any(i.kind == "random" for s in slots for i in s.inline) or any(s.spread > 1 for s in slots)
    budget = {c: share * target.instructions for c, share in target.mix.items()}
    context = Context(rng, word=word, left=dict(budget))
    heights = {h for s in slots for h, _ in s.enters if h <= 4}
    saved = [COUNTERS[h - 1] for h in sorted(heights)] + ([WORD] if word else [])
    filled = Filled(slots, target, context, saved)
    entered = {s.to: s.spread for s in slots if s.spread > 1}

    groups: list[list[list[Step]]] = []
    tails: list[list[Step]] = []
    heads: list[list[Step]] = []
    for slot in slots:
        head: list[Step] = []
        if (spread := entered.get(slot.number, 1)) > 1:
            for k in range(spread - 1):
                weight = (k + 1) / spread * slot.entries
                head.append(Step(context.most_wanted(LEAD, weight), "lead", k, weight=weight / slot.times))
        if slot.first:
            head += [Step("push_r", "save", r, lines=((True, -1),)) for r in saved]
            head.append(Step("mov_l", "base", lines=((False, -2),)))
            head += next_word() if word else []
            for step in head:
                step.weight *= 1 / slot.times
        heads.append(head + enter(slot))
        inner = []
        for branch in slot.inline:
            if branch.kind == "random":
                inner.append(random_branch(context, branch.rate, slot.times))
            else:
                inner.append(fixed_branch(context, slot.times, branch.kind == "always"))
        inner += [pool_unit(*unit) for unit in slot.pools]
        groups.append(inner)
        ending = transfer(slot, context)
        for step in ending:
            step.weight *= slot.exits / slot.times
        tail = leave(slot) + ending
        if slot.last:
            tail += [Step("pop_r", "restore", r, lines=((False, -1),)) for r in reversed(saved)]
            tail.append(Step("ret", "ret", lines=((False, -1),)))
            for step in tail[-1 - len(saved) :]:
                step.weight /= slot.times
        tails.append(tail)

    used: dict[str, float] = defaultdict(float)
    count = 0.0
    for slot, head, inner, tail in zip(slots, heads, groups, tails, strict=True):
        for step in (*head, *(s for g in inner for s in g), *tail):
            if step.cls:
                used[step.cls] += slot.times * step.weight
                count += slot.times * step.weight
    vectors = _vector_steps(target)
    for step in vectors:
        step.weight /= slots[0].times
        used[step.cls] += 1
        count += 1
    heads[0] = _after_base(heads[0], vectors)
    _allot(slots, target.instructions - count, rng, filled)
    heads[0] = _after_base(heads[0], _filler_loop(filled.filler_loop, slots[0].times))
    rest = _rest(budget, used, sum(s.fill * s.times for s in slots), target, count)
    bodies = _choose(slots, rest, target.crossing, rng)
    for slot, head, inner, body, tail in zip(slots, heads, groups, bodies, tails, strict=True):
        filled.steps.append(head + _weave(inner, body, rng) + tail)
        del slot
    return filled


def _wander(slots: list[Slot], target: Target) -> None:
    """Give some indirect transfers several places to go to, so that as many as wanted go elsewhere than before."""
    spread = 1 << (max(2, target.targets) - 1).bit_length()
    left = target.wandering
    for slot in sorted(slots, key=lambda s: -s.exits):
        missed = slot.exits * (1 - 1 / spread)
        if slot.transfer in (ICALL, IJUMP) and left >= 0.5 * missed:
            slot.spread = spread
            left -= missed


def _vector_steps(target: Target) -> list[Step]:
    floating = sum(share for c, share in target.mix.items() if c.startswith(("ssefp", "avxfp"))) * target.instructions
    return [
        Step("ssemov_l", "one", i, lines=((False, 0),)) for i in range(4 if floating > 40 else 1 if floating > 0 else 0)
    ]


def _filler_loop(times: int, slot_times: int) -> list[Step]:
    if times <= 0:
        return []
    return [
        Step("mov_r", "idle_init", times, weight=1 / slot_times),
        Step("lea_r", "idle_body", weight=times / slot_times),
        Step("arith_r", "idle_count", weight=times / slot_times),
        Step("jcc", "idle_back", weight=times / slot_times),
    ]


def _after_base(head: list[Step], more: list[Step]) -> list[Step]:
    at = next(i for i, s in enumerate(head) if s.kind == "base") + 1
    return head[:at] + more + head[at:]


def _allot(slots: list[Slot], left: float, rng: Random, filled: Filled) -> None:
    """Filler counts: the same density everywhere, jittered; often-run slots first: single ones end it exactly."""
    weight = float(sum(s.times for s in slots))
    for slot in sorted(slots, key=lambda s: (-s.times, rng.random())):
        mean = max(0.0, left) / weight if weight > 0 else 0.0
        last = weight - slot.times <= 0.5
        wish = mean if last else mean * rng.uniform(0.6, 1.4)
        slot.fill = int(wish + (0.5 if last else rng.random()))
        if slot.fill * slot.times > left + 0.5 * slot.times and slot.fill:
            slot.fill = int(max(0.0, left) / slot.times)
        left -= slot.fill * slot.times
        weight -= slot.times
    single = [s for s in slots if s.times == 1]
    while single and left >= 0.5 and left < 14 * len(single):
        rng.choice(single).fill += 1
        left -= 1
    if left >= 6:
        filled.filler_loop = round((left - 1) / 3)


def _rest(
    budget: dict[str, float], used: dict[str, float], total: float, target: Target, structural: float
) -> dict[str, float]:
    """What fillers of each class should execute, loads and stores brought to the target's counts."""
    rest = {c: max(0.0, b - used.get(c, 0.0)) for c, b in budget.items() if c not in CONTROL}
    stack = used.get("pop_r", 0.0) + used.get("ret", 0.0) + used.get("ijmp", 0.0) + used.get("icall", 0.0)
    for name, wanted, classes in (
        ("mov_l", target.loads - target.crossing - stack - rest.get("pop_r", 0.0), LOAD_CLASSES),
        (
            "mov_s",
            target.stores - used.get("push_r", 0.0) - used.get("call", 0.0) - rest.get("push_r", 0.0),
            STORE_CLASSES,
        ),
    ):
        update = sum(rest.get(c, 0.0) for c in UPDATE_CLASSES)
        fixed = sum(used.get(c, 0.0) for c in (*classes, *UPDATE_CLASSES))
        have = sum(rest.get(c, 0.0) for c in sorted(classes))
        need = max(0.0, wanted - fixed - update)
        if have > LEAST:
            for cls in sorted(classes & rest.keys()):
                rest[cls] *= need / have
        elif need > 0:
            rest[name] = need
    memory = {
        c for c in rest if c in LOAD_CLASSES or c in STORE_CLASSES or c in UPDATE_CLASSES or c in ("push_r", "pop_r")
    }
    taken = sum(rest[c] for c in memory)
    plain = sum(v for c, v in rest.items() if c not in memory)
    room = max(0.0, total - taken)
    if plain > LEAST:
        for cls in rest.keys() - memory:
            rest[cls] *= room / plain
    elif room > 0:
        rest["mov_r"] = room
    return dict(sorted(rest.items()))


def _choose(slots: list[Slot], rest: dict[str, float], crossing: float, rng: Random) -> list[list[Step]]:
    """Classes of the fillers of each slot, drawn from what is left; pushes and pops in pairs."""
    names = [c for c in rest if c != "pop_r"]
    if "pop_r" in rest and "push_r" not in rest:
        names.append("push_r")
        rest["push_r"] = rest["pop_r"]
    values = [rest[c] for c in names]
    vectors = sum(rest.get(c, 0.0) for c in CROSSING_CLASSES)
    bodies: list[list[Step]] = [[] for _ in slots]
    for slot in sorted(slots, key=lambda s: (-s.times, s.number)):
        body = bodies[slot.number]
        left = slot.fill
        while left > 0:
            weights = [v if v >= 0.5 * slot.times else v * 0.05 for v in values]
            for name, size in _GROUPED.items():
                if left < size and name in names:
                    weights[names.index(name)] = 0.0  # its turn comes where there is room for it
            if sum(weights) <= 0:
                cls = "mov_r"
            else:
                at = rng.choices(range(len(names)), weights)[0]
                cls = names[at]
                values[at] = max(0.0, values[at] - slot.times)
            left -= _GROUPED.get(cls, 1)
            if cls == "push_r":
                at = rng.choice([i for i in range(len(body) + 1) if not _joined(body, i)])
                body.insert(at, Step("push_r", "push", lines=((True, -1),)))
                body.append(Step("pop_r", "pop", lines=((False, -1),)))
                continue
            if cls == "div_r":
                body += [Step("logic_r", "div_zero"), Step("logic_r", "div_odd"), Step("div_r", "div")]
                continue
            lines = _DRAWN_LOAD if cls in LOAD_CLASSES else _DRAWN_STORE if cls in STORE_CLASSES else ()
            lines = _DRAWN_BOTH if cls in UPDATE_CLASSES else lines
            if cls in CROSSING_CLASSES and rng.random() < crossing / max(1.0, vectors):
                lines = _DRAWN_CROSSING
            body.append(Step(cls, "op", rng.randrange(1 << 16), lines=lines))
    return bodies


def _joined(body: list[Step], at: int) -> bool:
    """Whether the step at ``at`` belongs to the one before it."""
    return at < len(body) and body[at].kind in ("div_odd", "div")


def _weave(groups: list[list[Step]], body: list[Step], rng: Random) -> list[Step]:
    """Branches and pool accesses at random places between fillers; what must stay together stays together."""
    if not groups:
        return body
    whole = [i for i in range(len(body) + 1) if not _joined(body, i)]
    places = sorted(rng.choice(whole) for _ in groups)
    out: list[Step] = []
    at = 0
    for place, group in zip(places, groups, strict=True):
        out += body[at:place] + group
        at = place
    return out + body[at:]
