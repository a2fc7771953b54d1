"""As many branches of generated code are missed as asked for, by a predictor that sees where they lie."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from ditto.artifacts.profile import Knobs
from ditto.generate.body import emit
from ditto.generate.body.outcomes import LOW, NONE, Course, Site, _kinds, _move, _set
from ditto.generate.body.reach import Order
from ditto.generate.body.steps import Step
from ditto.streams.cycles import Cycle
from ditto.streams.evidence import Requests
from test_body import request

sys.path.insert(0, str(Path(__file__).parent / "body"))

from build_body import build


def missed(program: Path, times: int) -> int:
    """Mispredicted conditional branches of a whole run, by callgrind, whose predictor is lens' one."""
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--branch-sim=yes", "--callgrind-out-file=/dev/null", str(program), "0",
         str(times)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = re.search(r"Collected : \d+ \d+ (\d+)", done.stderr)
    assert found, done.stderr
    return int(found[1])


@pytest.mark.valgrind
@pytest.mark.parametrize(("period", "asked"), [(64, 40.0), (8, 60.0)])
def test_as_many_are_missed_as_asked_for(tmp_path: Path, period: int, asked: float) -> None:
    code = emit([request(predictor_misses=asked)], Knobs(period=period), 5)
    program = build(code, tmp_path)
    found = (missed(program, 1280) - missed(program, 256)) / 1024
    assert found == pytest.approx(asked, rel=0.06)


def test_masks_are_changed_by_as_much_as_lacks() -> None:
    course = course_of(bits=2, count=40)
    assert chance(course) == pytest.approx(10.0)
    for by, left in ((5.0, 15.0), (5.0, 20.0), (-15.0, 5.0), (-5.0, 0.0)):
        assert _move(course, by, Random(1))
        assert chance(course) == pytest.approx(left, abs=0.25)
    assert not _move(course, -5.0, Random(1))
    assert {test.test.a for test in course.sites} == {LOW}  # as most of them went: one word in four has neither bit
    assert all(test.skipped.weight == 1.0 and test.jump.b == 0 for test in course.sites)


def test_outcomes_are_those_of_the_words() -> None:
    course = course_of(bits=1, count=3)
    course.words[:] = [[0, 1], [1, 1], [2, 3]]
    assert course.made().T.tolist() == [[True, False], [False, False], [True, False]]
    _set(course.sites[0], NONE)
    course.changed()
    assert course.made().T.tolist() == [[True, True], [False, False], [True, False]]


@pytest.mark.parametrize(("again", "least", "most"), [(None, 60, 140), (0.98, 4, 30), (1.0, 2, 3)])
def test_requests_of_a_kind_follow_each_other_as_observed(again: float | None, least: int, most: int) -> None:
    orders = [Order((0,), 0.5, again), Order((1,), 0.5, again)]
    kinds = [order.blocks[0] for order in _kinds(orders, 200, Random(3))]
    runs = 1 + sum(a != b for a, b in pairwise(kinds))
    assert Counter(kinds) == {0: 100, 1: 100} and least <= runs <= most


def test_requests_of_a_class_that_follow_one_of_the_same_are_counted_by_thread() -> None:
    def served(key: bytes, *places: tuple[int, int]) -> tuple[bytes, list[Cycle]]:
        return key, [cast(Cycle, SimpleNamespace(tid=tid, receive=SimpleNamespace(index=at))) for tid, at in places]

    gets, sets = served(b"get", (1, 0), (1, 4), (2, 1), (2, 3)), served(b"set", (1, 2), (1, 6))
    assert Requests("resp2", dict((gets, sets)), 6).again() == {b"get": 0.25, b"set": 0.0}


def course_of(bits: int, count: int) -> Course:
    """A pass of nothing but tests of so many bits."""
    sites = []
    for _ in range(count):
        steps = Step("cmp_r", "test_word", (1 << bits) - 1), Step("jcc", "random"), Step("mov_r", "skipped")
        sites.append(Site(*steps, mask=steps[0].a, inverse=False, times=1))
    none = np.zeros(count, dtype=np.int64)
    return Course(none, none > 0, np.arange(count), np.zeros((count, 2), dtype=np.uint32), sites, 2)


def chance(course: Course) -> float:
    return sum(test.times * test.missed(test.test.a) for test in course.sites)
