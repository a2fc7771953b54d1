"""What is usual of servers: in place of what samples of a program cannot tell.

About the means over servers that were counted under lens (a web server in Go, a proxy, two key-value stores and two
small C servers), which lie close together.  Histograms are shares in the buckets of `ditto.artifacts.work`.
"""

from __future__ import annotations

from ditto.artifacts.work import DISTANCE_BUCKETS

INSTRUCTIONS_PER_NS = 3.5
"""Of user mode (1.9 to 6.9 were measured); corrected by measured CPU time where a clone is tuned."""


def _shares(*values: float) -> list[float]:
    total = sum(values)
    return [value / total for value in values] + [0.0] * (DISTANCE_BUCKETS - len(values))


LOAD_DISTANCE = _shares(0.32, 0.10, 0.135, 0.14, 0.115, 0.075, 0.045, 0.035, 0.01, 0.006, 0.004, 0.001)
STORE_DISTANCE = _shares(0.46, 0.18, 0.15, 0.075, 0.05, 0.03, 0.02, 0.018, 0.006, 0.003, 0.002, 0.001)
PAGE_DISTANCE = _shares(0.57, 0.17, 0.14, 0.07, 0.025, 0.015, 0.005, 0.003, 0.002)
READ_AFTER_WRITE = [0.2, 0.085, 0.135, 0.145, 0.165, 0.105, 0.055, 0.11]
WRITE_AFTER_READ = [0.165, 0.085, 0.1, 0.135, 0.155, 0.12, 0.105, 0.135]
WRITE_AFTER_WRITE = [0.075, 0.07, 0.1, 0.125, 0.17, 0.17, 0.135, 0.155]
"""Of register dependences, by distance as in `ditto.artifacts.work`."""
STRIDE_SHARE = 0.04
CHASE_SHARE = 0.3
MISSES_PER_BRANCH = 0.06
INDIRECT_TARGETS = 1.8
MISSES_PER_INDIRECT = 0.25
CODE_SAME_LINE = 0.42
"""Of touches of code lines: of the line before."""

_BRANCHES = {
    (0, 0): 0.56, (1, 2): 0.02, (3, 1): 0.02, (3, 3): 0.02, (3, 6): 0.02, (5, 5): 0.02, (5, 9): 0.01, (7, 4): 0.04,
    (8, 2): 0.02, (9, 0): 0.27,
}  # fmt: skip


def branch_bins() -> list[float]:
    """Shares over (taken rate, transition rate), as `Work.branch_bins` has them."""
    return [_BRANCHES.get((taken, transition), 0.0) for taken in range(10) for transition in range(10)]


def code_distance(footprint: float, touches: float) -> list[float]:
    """Shares of touches of code lines by distance.

    A request runs through each of its lines once, which come back with the next request, and through some of them
    again soon: at every distance in between as often.

    Args:
        footprint: lines that a request touches.
        touches: touches of lines in a request.
    """
    far = max(2, min(DISTANCE_BUCKETS - 3, int(footprint).bit_length()))
    once = min(1.0 - CODE_SAME_LINE, footprint / max(1.0, touches))
    between = (1.0 - CODE_SAME_LINE - once) / (far - 1)
    return [CODE_SAME_LINE, *[between] * (far - 1), once, *[0.0] * (DISTANCE_BUCKETS - far - 1)]
