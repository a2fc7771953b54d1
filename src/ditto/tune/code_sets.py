"""Where in a cache of code the lines lie that requests execute: the body's are put beside them."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ditto.artifacts.work import CACHE_SETS, LINE_BYTES
from ditto.streams.instructions import InstructionRun

USUAL = 0.3
"""Times a request from which on a line of code is what requests touch."""


def code_sets(run: InstructionRun, requests: float) -> tuple[int, ...]:
    """Lines of code that most requests touch in all processes together, by the set of a cache that they fall into."""
    times: Counter[int] = Counter()
    for process in run.processes:
        executed = np.zeros(len(process.blocks))
        np.add.at(executed, process.execs["block"], process.execs["count"].astype(np.float64))
        for at in np.flatnonzero(executed):
            block = process.blocks[at]
            first, last = (
                int(block["addr"]) // LINE_BYTES,
                (int(block["addr"]) + int(block["length"]) - 1) // LINE_BYTES,
            )
            for line in range(first, last + 1):
                times[line] = max(times[line], int(executed[at]))
    sets = Counter(line % CACHE_SETS for line, count in times.items() if count >= USUAL * requests)
    return tuple(sets[number] for number in range(CACHE_SETS))
