"""Errors, intervals and noise on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from ditto.artifacts.fidelity import Samples
from ditto.artifacts.verdict import Bound, Verdict
from ditto.validate.statistics import interval_of, make_record, noise_of


def test_the_error_is_that_of_the_medians() -> None:
    samples = Samples(original=[100, 101, 99, 100, 500], clone=[90, 91, 89, 90, 1], empty_body=[50])
    record = make_record("cpu.x", "ns", "cpu", samples, "measured: here", Bound(relative=0.05))
    assert record.original == 100 and record.clone == 90 and record.empty_body == 50
    assert record.error == pytest.approx(-0.1)
    assert record.error_kind == "relative"


def test_the_same_samples_give_the_same_record() -> None:
    samples = Samples(original=[1.0, 1.1, 0.9], clone=[1.2, 1.1, 1.3])
    first = make_record("m", "u", "g", samples, "measured: here")
    assert first == make_record("m", "u", "g", samples, "measured: here")
    assert first.noise is not None and first.noise > 0


def test_an_original_near_zero_gives_an_absolute_error() -> None:
    record = make_record(
        "syscalls.x", "calls", "syscalls", Samples(original=[0.0, 0.0], clone=[0.02, 0.02]), "measured: here",
        Bound(relative=0.03, absolute=0.01), near_zero=0.01,
    )  # fmt: skip
    assert (record.error_kind, record.error, record.verdict) == ("absolute", 0.02, Verdict.OUTSIDE)


def test_a_side_without_samples_is_not_available() -> None:
    record = make_record("m", "u", "g", Samples(original=[1.0]), "measured: here")
    assert record.verdict is Verdict.NOT_AVAILABLE and record.error is None and record.original == 1.0


def test_one_run_tells_nothing_of_noise() -> None:
    generator = np.random.default_rng(1)
    assert noise_of([5.0], "relative", generator) is None
    assert interval_of([5.0], [5.0, 6.0], "relative", generator) is None
    assert noise_of([5.0, 5.0], "relative", generator) == 0.0


def test_noise_covers_the_original_against_itself() -> None:
    """Two sets of runs of one thing differ by less than the noise nearly always; a shift of five spreads does not."""
    generator = np.random.default_rng(7)
    inside = shifted = 0
    trials = 150
    for _ in range(trials):
        first, second = generator.normal(1000, 20, 5), generator.normal(1000, 20, 5)
        noise = noise_of(list(first), "relative", generator)
        assert noise is not None
        inside += abs(np.median(second) / np.median(first) - 1) <= noise
        shifted += abs(np.median(second + 100) / np.median(first) - 1) <= noise
    assert inside / trials > 0.75
    assert shifted / trials < 0.1


def test_interleaved_rounds_share_their_drift() -> None:
    """A machine that slows down evenly leaves the interval of the quotient narrow, while the noise is wide."""
    drift = np.array([1.0, 1.2, 1.4, 1.6, 1.8])
    samples = Samples(original=list(100 * drift), clone=list(105 * drift))
    record = make_record("m", "u", "g", samples, "measured: here")
    assert record.interval is not None and record.noise is not None
    assert record.interval.high - record.interval.low < 1e-9
    assert record.noise > 0.2
