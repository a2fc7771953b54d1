"""What comes together, or evenly: found as such, and drawn so."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

import pytest

from ditto.artifacts.profile import Op, OpKind
from ditto.artifacts.syscalls import NUMBERS
from ditto.generate.writer import Tables
from ditto.model.together import FILE_DRAW, comes_evenly, draws_of, starts_of
from ditto.streams.calls import Call
from ditto.streams.cycles import Cycle
from ditto.streams.programs import ClassWork, OpName, OpWork


def log_of(segment: bytes) -> tuple[OpName, OpName]:
    slot = ("p", segment)
    return OpName("file_write", NUMBERS["pwrite64"], slot, 0), OpName("file_sync", NUMBERS["fdatasync"], slot, 0)


FIRST, SECOND = log_of(b"1"), log_of(b"2")
TABLE = OpName("file_write", NUMBERS["pwrite64"], ("p", b"table"), 0)
REPLY = OpName("reply", NUMBERS["sendto"], None, 0)


def test_a_log_is_written_and_synced_or_neither_and_of_two_segments_one() -> None:
    courses = [[*FIRST, REPLY]] * 60 + [[*SECOND, REPLY]] * 20 + [[REPLY]] * 20
    shares = {FIRST[0]: 0.6, SECOND[0]: 0.2, SECOND[1]: 0.2, FIRST[1]: 0.6, REPLY: 1.0}
    starts = starts_of(shares, courses)
    assert starts == {FIRST[0]: 0.0, FIRST[1]: 0.0, SECOND[0]: pytest.approx(0.6), SECOND[1]: pytest.approx(0.6)}


def test_what_comes_with_a_log_half_of_the_time_is_drawn_by_itself() -> None:
    courses = [[*FIRST, TABLE]] * 25 + [[*FIRST]] * 25 + [[TABLE]] * 25 + [[REPLY]] * 25
    assert set(starts_of({FIRST[0]: 0.5, FIRST[1]: 0.5, TABLE: 0.5}, courses)) == set(FIRST)


def test_what_is_made_always_or_hardly_ever_or_alone_needs_no_draw() -> None:
    courses = [[*FIRST, TABLE]] * 4 + [[FIRST[0]]] * 396
    assert starts_of({FIRST[0]: 1.0, FIRST[1]: 0.01, TABLE: 0.01}, courses) == {}
    assert starts_of({FIRST[0]: 0.5}, [[FIRST[0]], []] * 50) == {}


def test_the_first_of_a_program_draws_for_all() -> None:
    own = {"probability": 0.5, "start": 0.0}
    writer = Tables()
    writer.ops([Op(kind=OpKind.REPLY), Op(kind=OpKind.FILE_WRITE, **own), Op(kind=OpKind.FILE_SYNC, **own)])
    rows = [line for line in writer.lines if line.startswith("\t{")]
    assert ["DITTO_DRAWS" in row for row in rows] == [False, True, False]
    assert ["DITTO_DRAWN" in row for row in rows] == [False, False, True]


ASKED = OpName("call", NUMBERS["sendto"], ("d", 0), 0)
MISSED = OpName("call", NUMBERS["sendto"], ("d", 1), 0)
FILLED = OpName("call", NUMBERS["sendto"], ("d", 0), 1)


def work_of(requests: int, makers: dict[OpName, set[int]]) -> tuple[ClassWork, list[tuple[OpName, OpWork]]]:
    """A class of requests, of which some make each call."""
    cycles = [cast(Cycle, SimpleNamespace(receive=SimpleNamespace(t_out=at))) for at in range(requests)]
    ordered = []
    for name, made in makers.items():
        calls = [cast(Call, SimpleNamespace(cycle=cycles[at])) for at in sorted(made)]
        ordered.append((name, OpWork(count=len(made), calls=calls)))
    courses = [[name for name, made in makers.items() if at in made] for at in range(requests)]
    return ClassWork(b"GET", cycles, courses=courses), ordered


def test_what_a_cache_misses_is_asked_and_filled_in_by_the_same_requests() -> None:
    missed = set(random.Random(1).sample(range(1000), 80))
    draws = draws_of(*work_of(1000, {ASKED: set(range(1000)), MISSED: missed, FILLED: missed}))
    assert draws == {name: {"start": 0.0, "draw": 1, "even": False} for name in (MISSED, FILLED)}


def test_a_call_for_every_fourth_request_comes_evenly_and_by_itself() -> None:
    by_chance = set(random.Random(2).sample(range(1000), 250))
    draws = draws_of(*work_of(1000, {ASKED: set(range(1000)), MISSED: set(range(0, 1000, 4))}))
    assert draws == {MISSED: {"draw": 2, "even": True}}
    assert draws_of(*work_of(1000, {MISSED: by_chance})) == {}
    assert not comes_evenly([True] * 1000) and not comes_evenly([False, True] * 100)


def of_file(slot: int, kind: str, call: str, occurrence: int = 0) -> OpName:
    return OpName(kind, NUMBERS[call], ("t", slot), occurrence)


OPENED, READ, READ_AGAIN, CLOSED = (
    of_file(0, "file_open", "openat"),
    of_file(0, "file_read", "pread64"),
    of_file(0, "file_read", "pread64", 1),
    of_file(0, "file_close", "close"),
)


def test_what_is_done_with_a_file_that_some_requests_open_comes_with_its_opening() -> None:
    """Others find it open still; one that opened it may read for two."""
    opened = set(range(0, 1000, 2))
    of_all = {OPENED: opened, READ: opened, READ_AGAIN: set(range(0, 1000, 10)), CLOSED: opened}
    draws = draws_of(*work_of(1000, {**of_all, REPLY: set(range(1000))}))
    assert draws == {name: {"start": 0.0, "draw": FILE_DRAW} for name in of_all}


def test_files_that_all_requests_open_or_that_their_replies_tell_need_no_draw() -> None:
    everyone, some = set(range(1000)), set(range(0, 1000, 3))
    assert draws_of(*work_of(1000, {OPENED: everyone, READ: some, CLOSED: everyone})) == {}
    assert draws_of(*work_of(1000, {OPENED: some, READ: some, CLOSED: some}), settled={OPENED}) == {}
