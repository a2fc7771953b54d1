"""A change, the error of the clone's change, and the noise of the original's.

change
    ``median(runs under the setting) / median(unchanged runs of the same side) - 1``.
error
    the clone's change less the original's, in percentage points (of connections their quotient: ``records``).
noise
    the original's change against itself: the 95th percentile of ``|c' - c''|`` in points over pairs of independent
    bootstrap resamples of its n rounds, each resample taking the runs of both settings, times sqrt(n / (n - 1)), for a
    resample of few runs spreads less than new runs would.  With one run it is not known (None).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000


def change_of(setting: Sequence[float], unchanged: Sequence[float]) -> float | None:
    """The change, as a fraction; None without runs, or where the unchanged median is 0."""
    if not setting or not unchanged:
        return None
    base = float(np.median(unchanged))
    return float(np.median(setting)) / base - 1.0 if base else None


def noise_of(setting: Sequence[float], unchanged: Sequence[float], name: str) -> float | None:
    """The noise in points (module text).

    Args:
        name: of the figure; it seeds the resampling, so that the same runs give the same noise.
    """
    a, b = np.asarray(setting, dtype=np.float64), np.asarray(unchanged, dtype=np.float64)
    if len(a) < 2 or len(b) < 2:
        return None
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    differences = np.abs(_changes(a, b, generator) - _changes(a, b, generator))
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return None
    n = min(len(a), len(b))
    return 100.0 * float(np.percentile(differences, 95)) * math.sqrt(n / (n - 1))


def _changes(
    setting: NDArray[np.float64], unchanged: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    picks = generator.integers(0, len(setting), (_RESAMPLES, len(setting)))
    # As many runs of both: a round is drawn as a whole, so that what both share cancels.
    others = (
        picks if len(setting) == len(unchanged) else generator.integers(0, len(unchanged), (_RESAMPLES, len(unchanged)))
    )
    base = np.median(unchanged[others], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.median(setting[picks], axis=1) / base - 1.0, dtype=np.float64)
