"""From what a segment executed to a block of the profile."""

from __future__ import annotations

import numpy as np

from ditto.artifacts.lens import KeySummary
from ditto.artifacts.profile import Block


def scaled_block(summary: KeySummary, instructions: float, runs: float) -> Block:
    """A block of ``instructions`` that is made like the segments of ``summary``.

    Args:
        summary: totals over all visits.
        instructions: of one run of the block.
        runs: how often it runs, per request over all requests.
    """
    scale = instructions / max(1, summary.instructions)
    total = sum(summary.mix.values()) or 1

    def counts(values: object) -> list[float]:
        return [float(v) * scale for v in np.asarray(values, dtype=np.float64).ravel()]

    def shares(values: object) -> list[float]:
        array = np.asarray(values, dtype=np.float64)
        whole = float(array.sum())
        return [float(v) / whole for v in array] if whole else []

    return Block(
        instructions=instructions,
        runs_per_request=runs,
        mix={name: count / total for name, count in summary.mix.items()},
        loads=summary.loads * scale,
        stores=summary.stores * scale,
        load_distance=counts(summary.load_hist),
        store_distance=counts(summary.store_hist),
        code_distance=counts(summary.code_hist),
        page_distance=counts(summary.page_hist),
        code_touches=float(summary.code_hist.sum()) * scale,
        stride_share=_share(summary.stride_share),
        branches=summary.branches * scale,
        branch_bins=counts(summary.branch_bins),
        branch_sites=float(summary.branch_sites),
        predictor_misses=summary.branch_misses * scale,
        indirect=summary.indirect * scale,
        indirect_sites=float(summary.indirect_sites),
        indirect_targets=summary.indirect_targets,
        calls=summary.calls * scale,
        raw=shares(summary.raw),
        war=shares(summary.war),
        waw=shares(summary.waw),
        chase_share=_share(summary.chase_share),
        code_lines=float(summary.code_lines),
    )


def _share(value: float) -> float:
    return min(1.0, max(0.0, float(value)))
