"""Errors, their intervals and the noise floor, from a few runs of each side.

All three are defined through the same estimator, the median over runs, and through bootstrap resamples of the
runs, so that an error and a noise can be compared with each other:

error
    ``median(clone) / median(original) - 1``, or ``median(clone) - median(original)`` where it is absolute.
interval
    2.5th to 97.5th percentile of that error over resamples.  Runs that were interleaved (as many of each side) are
    resampled by round, so that a drift of the machine, which both sides of a round share, cancels.
noise
    The same error of the original against itself: the 95th percentile of ``|median(a') / median(a'') - 1|`` over
    pairs of independent resamples a', a'' of the original's n runs, times sqrt(n / (n - 1)), for a resample of few
    runs spreads less than new runs would.  With one run it is not known (None).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ditto.artifacts.fidelity import Interval, Record, Samples
from ditto.artifacts.verdict import Bound, judge

ErrorKind = Literal["relative", "absolute"]

_RESAMPLES = 4000
_Floats = NDArray[np.float64]


def error_of(original: float, clone: float, kind: ErrorKind) -> float:
    """The signed error.

    Raises:
        ZeroDivisionError: it is relative and the original is 0.
    """
    return clone / original - 1.0 if kind == "relative" else clone - original


def _medians(values: _Floats, picks: NDArray[np.int64]) -> _Floats:
    return np.asarray(np.median(values[picks], axis=1), dtype=np.float64)


def _errors(original: _Floats, clone: _Floats, kind: ErrorKind) -> _Floats:
    if kind == "absolute":
        return clone - original
    valid = original != 0
    errors: _Floats = clone[valid] / original[valid] - 1.0
    return errors


def interval_of(
    original: Sequence[float], clone: Sequence[float], kind: ErrorKind, generator: np.random.Generator
) -> Interval | None:
    """95 % interval of the error; None with fewer than two runs of a side."""
    a, b = np.asarray(original, dtype=np.float64), np.asarray(clone, dtype=np.float64)
    if len(a) < 2 or len(b) < 2:
        return None
    picks = generator.integers(0, len(a), (_RESAMPLES, len(a)))
    others = picks if len(a) == len(b) else generator.integers(0, len(b), (_RESAMPLES, len(b)))
    errors = _errors(_medians(a, picks), _medians(b, others), kind)
    if not len(errors):
        return None
    low, high = np.percentile(errors, [2.5, 97.5])
    return Interval(low=float(low), high=float(high))


def noise_of(original: Sequence[float], kind: ErrorKind, generator: np.random.Generator) -> float | None:
    """The noise floor (module text); None with fewer than two runs."""
    a = np.asarray(original, dtype=np.float64)
    n = len(a)
    if n < 2:
        return None
    first = _medians(a, generator.integers(0, n, (_RESAMPLES, n)))
    second = _medians(a, generator.integers(0, n, (_RESAMPLES, n)))
    errors = _errors(first, second, kind)
    if not len(errors):
        return None
    return float(np.percentile(np.abs(errors), 95)) * math.sqrt(n / (n - 1))


def make_record(
    metric: str,
    unit: str,
    group: str,
    samples: Samples,
    how: str,
    bound: Bound | None = None,
    near_zero: float = 0.0,
    seed: int = 1,
) -> Record:
    """The record of one metric from its samples.

    Args:
        near_zero: an original at or below this is too near 0 for a quotient: the error is absolute.
        seed: of the resampling; with the metric's name it fixes every figure.
    """
    original = float(np.median(samples.original)) if samples.original else None
    clone = float(np.median(samples.clone)) if samples.clone else None
    empty = float(np.median(samples.empty_body)) if samples.empty_body else None
    kind: ErrorKind = "absolute" if original is not None and abs(original) <= near_zero else "relative"
    if original is None or clone is None:
        return Record(
            metric=metric,
            unit=unit,
            group=group,
            original=original,
            clone=clone,
            empty_body=empty,
            bound=bound,
            how=how,
        )
    generator = np.random.default_rng([seed, zlib.crc32(metric.encode())])
    error = error_of(original, clone, kind)
    noise = noise_of(samples.original, kind, generator)
    return Record(
        metric=metric,
        unit=unit,
        group=group,
        original=original,
        clone=clone,
        empty_body=empty,
        error_kind=kind,
        error=error,
        interval=interval_of(samples.original, samples.clone, kind, generator),
        noise=noise,
        bound=bound,
        verdict=judge(error, kind, original, noise, bound),
        how=how,
    )
