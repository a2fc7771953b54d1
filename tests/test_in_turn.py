"""Runs of the client in parts, what they used added up, and the order in which sides take turns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from app_parts import write_app
from ditto.artifacts.app import Load, Requests
from ditto.host.app import AppRun
from ditto.host.counters import Counts
from ditto.host.in_turn import Length, asked_in, in_turn, parts_of, timed_length
from ditto.host.limits import DiskUse
from ditto.host.loadgen import LoadMeasured
from ditto.host.usage import Usage


def test_every_other_time_is_backwards() -> None:
    assert "".join(in_turn("ABC", 3)) == "ABCCBAABC"


def test_a_run_has_as_many_parts_as_fit() -> None:
    assert [parts_of(3.0, each) for each in (0.0, 0.1, 1.0, 1.4, 9.0)] == [5, 5, 3, 2, 1]
    assert Length(1000, 4).asked_a_part == 250 and Length(150, 4).asked_a_part == 100
    assert Length(1000, 4).shorter(0.5) == Length(500, 4)


@pytest.mark.parametrize(("start", "each", "wanted"), [(0.0, 1e-5, 250_000), (0.3, 1e-5, 137_000), (0.0, 0.5, 100)])
def test_the_rate_is_told_by_a_run_that_is_long_enough(start: float, each: float, wanted: int) -> None:
    """Of a client that takes 0.3 s to start, a run of 5000 requests would tell 36,000 for the 220,000 that fit."""
    run = SimpleNamespace(
        load=lambda asked: SimpleNamespace(seconds=start + each * asked),
        spec=SimpleNamespace(load=SimpleNamespace(requests=Requests(native=100 if each > 0.1 else 200_000))),
    )
    assert asked_in(run, 2.5) == pytest.approx(wanted, rel=0.2)  # type: ignore[arg-type]


def test_a_client_that_is_told_its_time_runs_once_a_second() -> None:
    told = Load(command=("wait", "{seconds}"))
    assert timed_length(told, 2.5) == Length(None, 3, 1) and timed_length(told, 2.5).whole_seconds == 3
    assert timed_length(told, 2.5).shorter(0.5) == Length(None, 2, 1)
    assert timed_length(Load(command=("wait", "5")), 2.5) == Length()


def test_the_time_is_put_into_the_command(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    load = spec.load.model_copy(update={"command": ("echo", "{seconds}"), "seconds": 7})
    with AppRun(spec.model_copy(update={"load": load})) as run:
        assert run.load().stdout.strip() == "7"
        assert Length(None, 3, 1).load(run).stdout.strip() == "1"


def test_parts_add_up() -> None:
    first = Usage(1, 0, 1, 10, 1, 2, 0, 0.5, DiskUse(1, 10, 2, 20), Counts({("cycles", "user"): 5}, 0.5))
    second = Usage(3, 3, 0, 5, 0, 1, 1, 0.1, DiskUse(1, 10, 0, 0), Counts({("cycles", "user"): 7}))
    both = first + second
    assert both.run_s == 4 and both.user_share == pytest.approx(0.2) and both.voluntary == 15
    assert (both.minor_faults, both.major_faults) == (3, 1) and both.disk == DiskUse(2, 20, 2, 20)
    assert both.counts is not None and both.counts.values == {("cycles", "user"): 12} and both.counts.running == 0.5


def test_loads_of_parts_are_one_load() -> None:
    first = LoadMeasured(1.0, 10, 9, 0, 1, 0, 0, 100, 0.5, 7, ((5, 3), (9, 6)), ((5, 9),))
    second = LoadMeasured(3.0, 30, 30, 2, 0, 0, 1, 300, 0.5, 3, ((4, 10), (9, 20)), ((5, 30),))
    both = first + second
    assert both.rate == pytest.approx(39 / 4) and (both.failed, both.broken, both.unsent, both.late_p99_ns) == (
        2,
        1,
        1,
        7,
    )
    assert both.corrected == ((4, 10), (5, 3), (9, 26)) and both.uncorrected == ((5, 39),)


def test_a_part_without_samples_leaves_the_kernels_own_division() -> None:
    both = Usage(1, 0, 1, 0, 0, 0, 0, 0.5) + Usage(3, 3, 0, 0, 0, 0, 0)
    assert both.user_share is None and both.split_user_s == pytest.approx(3.0)
    assert (Usage(1, 1, 0, 0, 0, 0, 0, disk=DiskUse(1)) + Usage(1, 1, 0, 0, 0, 0, 0)).disk is None


def test_what_one_part_could_not_count_is_not_counted() -> None:
    both = Counts({("cycles", "user"): 5, ("l1d", "user"): 2}) + Counts(
        {("cycles", "user"): 5}, missing={("l1d", "user"): "busy"}
    )
    assert both.values == {("cycles", "user"): 10} and both.missing == {("l1d", "user"): "busy"}
