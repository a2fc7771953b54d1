"""Mispredictions of generated code under lens' reference predictor, known before it is built."""

from __future__ import annotations

import sys
from random import Random

import numpy as np
import pytest

import ditto.generate.body.emit as _  # the package gives the function of that name
from ditto.artifacts.profile import Knobs
from ditto.generate.body.isa import WORD, r64
from ditto.generate.body.plan import JUMP, NOT_TAKEN, TAKEN, Inline, Slot
from ditto.generate.body.predict import ADDRESS, HISTORY, counted, misses
from ditto.generate.body.reach import Order
from ditto.generate.body.target import make
from test_body import request

emit = sys.modules["ditto.generate.body.emit"]
del _


def slots_of(kinds: list[Inline], transfer: str = NOT_TAKEN) -> list[Slot]:
    return [Slot(number, 1, transfer=transfer, inline=[kind]) for number, kind in enumerate(kinds)]


def test_what_always_goes_the_same_way_is_not_missed() -> None:
    for kind, transfer in (("never", NOT_TAKEN), ("always", TAKEN)):
        slots = slots_of([Inline(kind)] * 100, transfer)
        assert misses(range(100), slots, 0.0, 0.3, Random(1)) == 0


@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_chance_is_missed_as_often_as_its_rarer_outcome_at_least(rate: float) -> None:
    slots = slots_of([Inline("random", rate)] * 2000)
    found = misses(range(2000), slots, 0.0, 0.3, Random(2))
    assert found >= 0.9 * 2000 * rate


def test_loops_of_a_few_trips_are_learnt_and_other_code_makes_them_forgotten() -> None:
    slots = [Slot(0, 3, inline=[Inline("never")], leaves=[(1, 3)]), *slots_of([Inline("never")] * 50)[1:]]
    order = [0] * 3 + list(range(1, 50))
    assert misses(order, slots, 0.0, 0.3, Random(3)) == 0
    assert misses(order, slots, 100_000.0, 0.5, Random(3)) > 2


def test_code_that_is_predictable_and_large_misses_by_itself() -> None:
    rng = Random(4)
    slots = slots_of([Inline(rng.choice(["never", "never", "always"])) for _ in range(20_000)])
    assert misses(range(20_000), slots, 0.0, 0.3, Random(4)) > 2000


def test_a_block_of_many_branches_has_the_misses_asked_for() -> None:
    """What its predictable branches miss is taken off those that are made unpredictable."""
    asked = request(10.0, predictor_misses=0.1 * 10 * request().branches)
    target = make(0, asked, Knobs(), 20, 20)
    assert target is not None
    built = emit._build(target, [], 0.0, Random(5))
    slots = built.filled.slots
    chance = sum(min(i.rate, 1 - i.rate) * s.times for s in slots for i in s.inline if i.kind == "random")
    found = misses(emit.sequence(built.root), slots, 0.0, target.taken_share, Random(6))
    assert found == pytest.approx(asked.predictor_misses, rel=0.2) and chance < 0.75 * found


@pytest.mark.parametrize("period", [64, 4])
def test_branches_that_soon_recur_are_missed_as_often(period: int) -> None:
    """More of them are made so where the predictor foresees some."""
    asked = request(10.0, predictor_misses=0.1 * 10 * request().branches)
    target = make(0, asked, Knobs.model_validate({"period": period}), 20, 20)
    assert target is not None
    built = emit._build(target, [], 0.0, Random(5))
    found = misses(emit.sequence(built.root), built.filled.slots, 0.0, target.taken_share, Random(6), period)
    assert found == pytest.approx(asked.predictor_misses, rel=0.2)


def test_what_recurs_in_every_pass_is_foreseen() -> None:
    slots = slots_of([Inline("random", 0.5)] * 100)
    found = [
        sum(misses(range(100), slots, 0.0, 0.3, Random(seed), period) for seed in range(8)) / 8 for period in (1, 4, 64)
    ]
    assert found[0] < 5 < found[1] < found[2]


def test_code_without_a_branch_misses_nothing() -> None:
    slots = [Slot(number, 1, transfer=JUMP) for number in range(3)]
    assert misses(range(3), slots, 100.0, 0.3, Random(1)) == 0
    assert misses([], [], 0.0, 0.3, Random(1)) == 0


def test_misses_are_those_of_the_predictor_followed_branch_by_branch() -> None:
    rng = np.random.default_rng(1)
    places = rng.integers(0, ADDRESS, 4000).astype(np.uint8)
    outcomes, labels = rng.random(4000) < rng.choice([0.05, 0.5, 0.95], 4000), rng.integers(-1, 2, 4000)
    counters, history, missed = bytearray(HISTORY * ADDRESS), 0, [0, 0]
    for place, outcome, label in zip(places.tolist(), outcomes.tolist(), labels.tolist(), strict=True):
        at = history * ADDRESS + place
        state = counters[at]
        if label >= 0:
            missed[label] += (state > 1) != outcome
        counters[at] = min(3, state + 1) if outcome else max(0, state - 1)
        history = (history << 1 | outcome) % HISTORY
    assert counted(places, outcomes, labels, 2) == missed and min(missed) > 100


def test_blocks_of_a_request_take_the_same_word_and_the_first_goes_on() -> None:
    blocks = [request(0.2, predictor_misses=20) for _ in range(3)]
    text = emit.emit(blocks, Knobs(period=4), 1, [Order((0, 1, 2))]).assembly
    goes_on, stays = (f"lea {step}({r64(WORD)}), {r64(WORD)}" for step in (1, 4))
    assert [text.count(goes_on), text.count(stays)] == [1, 2] and text.index(goes_on) < text.index(stays)
