"""Outcomes of branches once it is known where each lies: as many are unpredictable as lens' predictor is to miss.

Which counter of a predictor a branch uses depends on its address and on the outcomes before it, so what is missed
beside unpredictable branches is only known when code is placed: ends of loops, and what shares a counter with others.
How an unpredictable branch goes is in the mask it tests, which has one length: with another mask nothing moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
from numpy.typing import NDArray

from ditto.generate.body.fill import Filled
from ditto.generate.body.isa import WORD, r32
from ditto.generate.body.place import Placed
from ditto.generate.body.predict import counted
from ditto.generate.body.reach import Order
from ditto.generate.body.render import Rendered
from ditto.generate.body.steps import Step

NEAR, FEW = 0.02, 0.05
"""Relative error of a block's misses at which they are right, or misses of one run."""
TRIES = 12
MOST_BRANCHES = 400_000
"""That are followed in one try."""
MOST_REQUESTS, LEAST_REQUESTS = 384, 3
"""That are followed, a third of them to begin with."""
SEEN, BETWEEN = 4, 8
"""Times that a block which few requests have is followed, and requests before each at most."""
LEAST_BESIDE, MOST_BESIDE = 8, 4000
"""Branches of the runtime before each run of a block."""
LOW = 0xFFFFFFFF
FACTOR, FACTOR_OF_ADD = 0x2545F491, 9
"""Of the random word, where it is mixed by a multiplication or by an addition."""
NONE = 0
"""A mask by which all words are alike; so they are by ``LOW``, in the other way."""


def foreseen(
    fills: Sequence[Filled],
    rendered: Sequence[Rendered],
    placed: Sequence[Placed],
    bases: Sequence[int],
    sequences: Sequence[Sequence[int]],
    orders: Sequence[Order],
    beside: Sequence[float],
    rng: Random,
) -> list[Rendered]:
    """The code of all blocks with masks by which as many branches are missed as their targets say.

    Args:
        bases: byte at which the code of each block begins.
        sequences: numbers of slots as they run in a pass.
        orders: by places in ``fills``.
        beside: branches that the runtime executes before each block.
    """
    courses = [course(*of) for of in zip(fills, rendered, placed, bases, sequences, strict=True)]
    settled(courses, [f.target.unforeseen for f in fills], followed(fills, courses, orders, beside, rng), rng)
    return [masked(*of) for of in zip(rendered, fills, strict=True)]


@dataclass
class Site:
    """A branch that goes by bits of the random word.

    Attributes:
        test, jump, skipped: its steps.
        mask: of the bits that it was to test.
        inverse: taken if one of them is set, else if none is.
        times: executions in a pass.
    """

    test: Step
    jump: Step
    skipped: Step
    mask: int
    inverse: bool
    times: int

    @property
    def masks(self) -> list[int]:
        """Masks it may have: of all its bits, of fewer, and one by which it always goes as it mostly did."""
        low = self.mask & -self.mask
        bits = (self.mask // low).bit_length()
        return [LOW if bits > 1 else NONE, *(((1 << n) - 1) * low for n in range(bits, 0, -1))]

    def missed(self, mask: int) -> float:
        """Share of its executions that nobody foresees."""
        return 0.0 if mask in (NONE, LOW) else 0.5 ** mask.bit_count()


@dataclass
class Course:
    """One pass of a block, branch by branch.

    Attributes:
        places: byte of each.
        outcomes: of those whose way is fixed.
        tests: number in ``sites`` of those whose is not, else -1.
        words: [execution of a test, turn] random words at each.
        sites: the tests.
    """

    places: NDArray[np.int64]
    outcomes: NDArray[np.bool_]
    tests: NDArray[np.int64]
    words: NDArray[np.uint32]
    sites: list[Site]
    period: int
    _made: NDArray[np.bool_] | None = field(default=None, repr=False)

    def made(self) -> NDArray[np.bool_]:
        """[turn, branch] outcomes with the masks that the tests have now."""
        if self._made is None:
            self._made = np.tile(self.outcomes, (self.period, 1))
            at = np.flatnonzero(self.tests >= 0)
            if len(at):
                which = self.tests[at]
                masks = np.array([t.test.a & LOW for t in self.sites], dtype=np.uint32)[which]
                inverse = np.array([t.inverse for t in self.sites])[which]
                self._made[:, at] = (((self.words & masks[:, None]) == 0) != inverse[:, None]).T
        return self._made

    def changed(self) -> None:
        """Forget outcomes of earlier masks."""
        self._made = None


def course(filled: Filled, rendered: Rendered, placed: Placed, base: int, order: Sequence[int]) -> Course:
    """The branches of one pass.

    Args:
        base: byte at which the block's code begins.
        order: numbers of slots as they run.
    """
    period = filled.target.period
    sites: list[Site] = []
    events = [
        _events(filled.steps[slot.number], rendered.slots[slot.number].branches, slot.times, sites)
        for slot in filled.slots
    ]
    word = np.arange(period, dtype=np.uint64) | np.uint64(LOW & -period)
    word = _mixed(_mixed(word, FACTOR), FACTOR)
    places: list[int] = []
    outcomes: list[bool] = []
    tests: list[int] = []
    words: list[NDArray[np.uint32]] = []
    visits = [0] * len(filled.slots)
    for number in order:
        visit = visits[number] = visits[number] + 1
        start = base + placed.start[number]
        for kind, at, value in events[number]:
            if kind == "remix":
                word = _mixed(word, value)
                continue
            if kind == "idle":
                if visit == 1:
                    places += [start + at] * value
                    outcomes += [True] * (value - 1) + [False]
                    tests += [-1] * value
                continue
            places.append(start + at)
            if kind == "test":
                tests.append(value)
                outcomes.append(False)
                words.append(word.astype(np.uint32))
                continue
            tests.append(-1)
            if kind == "fixed":
                outcomes.append(bool(value))
                continue
            again = visit % value != 0
            outcomes.append(again)
            if again:
                break
            visit //= value
    return Course(
        np.array(places, dtype=np.int64),
        np.array(outcomes, dtype=bool),
        np.array(tests, dtype=np.int64),
        np.array(words, dtype=np.uint32).reshape(len(words), period),
        sites,
        period,
    )


def _mixed(word: NDArray[np.uint64], factor: int) -> NDArray[np.uint64]:
    """As the steps ``remix`` or ``remix_add`` and ``rotate`` do."""
    word = word * np.uint64(factor)
    return word >> np.uint64(29) | word << np.uint64(35)


def _events(steps: Sequence[Step], offsets: Sequence[int], times: int, sites: list[Site]) -> list[tuple[str, int, int]]:
    """What one visit of a slot does about branches, as (kind, offset, argument); its tests are added to ``sites``."""
    events: list[tuple[str, int, int]] = []
    at = iter(offsets)
    begins = False
    for number, step in enumerate(steps):
        if step.kind in ("word_turn", "word_store"):
            begins = step.kind == "word_turn"
        elif step.kind in ("remix", "remix_add") and not begins:
            events.append(("remix", 0, FACTOR if step.kind == "remix" else FACTOR_OF_ADD))
        elif step.kind == "idle_back":
            events.append(("idle", next(at), steps[_idle(steps)].a))
        elif step.kind == "loop_back":
            events.append(("loop", next(at), step.b))
        elif step.kind in ("taken", "never"):
            events.append(("fixed", next(at), step.kind == "taken"))
        elif step.kind in ("random", "random_not"):
            events.append(("test", next(at), len(sites)))
            test = steps[number - 1]
            sites.append(Site(test, step, steps[number + 1], test.a, step.kind == "random_not", times))
    return events


def _idle(steps: Sequence[Step]) -> int:
    return next(i for i, step in enumerate(steps) if step.kind == "idle_init")


@dataclass(frozen=True)
class Followed:
    """Runs of blocks in turn, as (block, turn, whether it counts), and what the runtime does before each."""

    runs: Sequence[tuple[int, int, bool]]
    beside: Sequence[tuple[NDArray[np.int64], NDArray[np.bool_]]]

    def missed(self, courses: Sequence[Course]) -> list[float | None]:
        """Misses of one pass of each block; None for those that do not run."""
        if not self.runs:
            return [None] * len(courses)
        parts: list[tuple[NDArray[np.int64], NDArray[np.bool_], int]] = []
        times = [0] * len(courses)
        for at, turn, counts in self.runs:
            places, outcomes = self.beside[at]
            parts.append((places, outcomes, -1))
            parts.append((courses[at].places, courses[at].made()[turn], at if counts else -1))
            times[at] += counts
        labels = np.repeat([label for _, _, label in parts], [len(places) for places, _, _ in parts])
        found = counted(
            np.concatenate([places for places, _, _ in parts]),
            np.concatenate([outcomes for _, outcomes, _ in parts]),
            labels,
            len(courses),
        )
        return [missed / n if n else None for missed, n in zip(found, times, strict=True)]


def followed(
    fills: Sequence[Filled], courses: Sequence[Course], orders: Sequence[Order], beside: Sequence[float], rng: Random
) -> Followed:
    """A course of requests.

    Args:
        fills: of each block.
        orders: by places in ``fills``; those without a share run as often as their block.
        beside: branches that the runtime executes before each block.
    """
    own = [max(LEAST_BESIDE, min(MOST_BESIDE, int(count))) for count in beside]
    lengths = [len(c.places) + n for c, n in zip(courses, own, strict=True)]
    mains = [order for order in orders if order.share > 0]
    others = [order for order in orders if order.share <= 0]
    shares = [order.share for order in mains]
    seldom = {o.blocks: min(1.0, max((fills[at].target.runs for at in o.blocks), default=0.0)) for o in others}
    whole = sum(shares) or 1.0
    mean = sum(s / whole * sum(lengths[at] for at in order.blocks) for s, order in zip(shares, mains, strict=True))
    mean += sum(seldom[order.blocks] * sum(lengths[at] for at in order.blocks) for order in others)
    count = max(LEAST_REQUESTS, min(MOST_REQUESTS, int(MOST_BRANCHES / max(1.0, mean))))
    runs: list[tuple[int, int, bool]] = []
    turn = 0

    def run(order: Order, counts: bool) -> None:
        nonlocal turn
        for at in order.blocks:
            turn += fills[at].first
            runs.append((at, turn % courses[at].period, counts))

    served: Counter[tuple[int, ...]] = Counter()
    for number, kind in enumerate(_kinds(mains, count, rng)):
        served[kind.blocks] += 1
        run(kind, served[kind.blocks] > count * kind.share / whole / 3)
        for order in others:
            often = seldom[order.blocks]
            if often * count >= SEEN and rng.random() < often:
                run(order, number >= count // 3)
    rare = [order for order in others if seldom[order.blocks] * count < SEEN]
    between = min(BETWEEN, int(MOST_BRANCHES / max(1.0, 2 * SEEN * len(rare) * mean)))
    for order in rare:
        for number in range(2 * SEEN):
            for other in rng.choices(mains, shares, k=between) if mains else []:
                run(other, False)
            run(order, number >= SEEN)
    places = [np.array([rng.randrange(128) for _ in range(n)], dtype=np.int64) for n in own]
    outcomes = [
        np.array([rng.random() < fills[at].target.taken_share for _ in range(n)], dtype=bool)
        for at, n in enumerate(own)
    ]
    return Followed(runs, list(zip(places, outcomes, strict=True)))


def _kinds(orders: Sequence[Order], count: int, rng: Random) -> Iterator[Order]:
    """Requests by their shares, those of a kind one after the other for as long as they come so."""
    whole = sum(order.share for order in orders) or 1.0
    left = [max(LEAST_REQUESTS, round(count * order.share / whole)) for order in orders]
    before = -1
    while any(left):
        others = [0 if number == before else n for number, n in enumerate(left)]
        (before,) = rng.choices(range(len(left)), others if any(others) else left)
        order = orders[before]
        again = order.share / whole if order.again is None else order.again
        while left[before]:
            left[before] -= 1
            yield order
            if rng.random() >= again:
                break


def settled(courses: Sequence[Course], wanted: Sequence[float], sequence: Followed, rng: Random) -> list[float | None]:
    """Give tests the masks with which as many branches of each block are missed as wanted, as far as that goes.

    Returns:
        the misses then, as `Followed.missed`.
    """
    found = sequence.missed(courses)
    best = [abs(f - w) if f is not None else 0.0 for f, w in zip(found, wanted, strict=True)]
    kept = [[t.test.a for t in c.sites] for c in courses]
    pace = [1.0] * len(courses)
    for _ in range(TRIES):
        moved = False
        for at, (course, now, goal) in enumerate(zip(courses, found, wanted, strict=True)):
            if now is not None and abs(now - goal) > max(FEW, NEAR * goal) and pace[at] > 0.05:
                moved = _move(course, (goal - now) * pace[at], rng) or moved
        if not moved:
            break
        found = sequence.missed(courses)
        for at, (course, now, goal) in enumerate(zip(courses, found, wanted, strict=True)):
            if now is None:
                continue
            if abs(now - goal) < best[at]:
                best[at], kept[at] = abs(now - goal), [t.test.a for t in course.sites]
            else:
                pace[at] *= 0.6
    for course, masks in zip(courses, kept, strict=True):
        for test, mask in zip(course.sites, masks, strict=True):
            _set(test, mask)
        course.changed()
    return sequence.missed(courses)


def _move(course: Course, by: float, rng: Random) -> bool:
    """Change masks so that about as many more are missed, or fewer."""
    left, moved = by, False
    for test in rng.sample(course.sites, len(course.sites)):
        now = test.missed(test.test.a)
        choices = [(test.times * (test.missed(mask) - now), mask) for mask in test.masks]
        gain, mask = min(choices, key=lambda choice: abs(left - choice[0]))
        if gain and abs(left - gain) < abs(left):
            _set(test, mask)
            left -= gain
            moved = True
    course.changed()
    return moved


def _set(test: Site, mask: int) -> None:
    test.test.a = mask
    unset = 1.0 if mask == NONE else 0.0 if mask == LOW else 0.5 ** mask.bit_count()
    taken = 1.0 - unset if test.inverse else unset
    test.jump.b, test.skipped.weight = int(taken * 1e6), 1.0 - taken


def masked(rendered: Rendered, filled: Filled) -> Rendered:
    """The code with the masks that its steps have now."""
    slots = list(rendered.slots)
    ending = f", {r32(WORD)}"
    for number, steps in enumerate(filled.steps):
        masks = [step.a for step in steps if step.kind == "test_word"]
        if masks:
            left = iter(masks)
            text = [
                f"\ttest ${next(left):#x}{ending}" if line.startswith("\ttest $") and line.endswith(ending) else line
                for line in slots[number].text
            ]
            slots[number] = replace(slots[number], text=text)
    return replace(rendered, slots=slots)
