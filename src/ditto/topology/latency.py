"""Quantiles of durations from counts in 16 bins an octave, each with its sum: any number of spans in one pass."""

from __future__ import annotations

from collections import defaultdict

from ditto.artifacts.graph import Latency
from ditto.topology.engine import Engine

# Natural logarithm times this is the bin: sixteen a doubling.
_BINS = "CAST(FLOOR(LN(duration) * 23.083120654223414) AS BIGINT)"


def latencies(engine: Engine, key: str, source: str) -> dict[int, Latency]:
    """Latencies by the whole number ``key`` of the table or query ``source``, of its ``duration`` in nanoseconds."""
    bins: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, _, count, total in engine.rows(
        f"SELECT {key}, {_BINS} AS bin, COUNT(*), SUM(duration) FROM {source} WHERE duration > 0"
        f" GROUP BY {key}, {_BINS} ORDER BY {key}, bin"
    ):
        bins[int(number)].append((int(count), int(total)))
    return {number: _latency(found) for number, found in bins.items()}


def _latency(bins: list[tuple[int, int]]) -> Latency:
    spans = sum(count for count, _ in bins)

    def quantile(share: float) -> float:
        seen = 0
        for count, total in bins:
            seen += count
            if seen >= share * spans:
                return round(total / count / 1000, 3)
        raise AssertionError("a share above one")

    return Latency(
        spans=spans,
        mean_us=round(sum(total for _, total in bins) / spans / 1000, 3),
        p50_us=quantile(0.50),
        p95_us=quantile(0.95),
        p99_us=quantile(0.99),
    )
