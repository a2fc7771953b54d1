"""Work: what a stretch of code executes, as counts of one run; and blocks, the work between two operations."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ditto.artifacts.base import Count, Histogram, Model, Probability

DISTANCE_BUCKETS = 24
"""Stack-distance buckets: 0 is the same line again; k in 1..21 is 2**(k-1) <= d < 2**k other lines; 22 is 2**21 and
more; 23 is a first touch."""


LINE_BYTES, CACHE_SETS = 64, 64
"""Of the caches with sets, whose misses are counted."""
DEEP = 4
"""First bucket for which it is known whether other threads work on the line: 8 other lines and more."""


class Work(Model):
    """What one run executes.

    Histograms count accesses (data: cache-line touches; code: line touches as lens defines them) of ONE run, in the
    buckets of :data:`DISTANCE_BUCKETS`; the distance is that of the whole thread.

    Attributes:
        instructions: instructions of one run.
        mix: share of each iform class (see ``ditto.artifacts.iforms``); sums to 1.
        loads, stores: data accesses of one run, by line touched.
        load_distance, store_distance, code_distance, page_distance: histograms, counts of one run.
        shared_loads, shared_stores: of load_distance and store_distance, accesses of lines that other threads work on
            as well; known from bucket :data:`DEEP` on.
        code_touches: code line touches of one run.
        stride_share: share of data accesses by static instructions that follow a constant non-zero stride.
        branches: conditional branches of one run.
        branch_bins: joint histogram over (taken rate, transition rate), counts of one run; each axis in
            ten bins of 0.1 (the last closed), row-major with taken first.
        branch_sites: static conditional branches.
        predictor_misses: misses of the reference predictor in one run.
        indirect: indirect jumps and calls of one run (returns apart).
        indirect_sites, indirect_targets: static sites, and the mean number of distinct targets of a site by execution.
        indirect_misses: of these, how many went elsewhere than the site's last one.
        indirect_shared: of these, how many came when another had been at their place in a table of 512 addresses.
        calls: calls of one run, direct and indirect.
        raw, war, waw: register dependence distances, shares in buckets 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more.
        chase_share: share of loads whose address comes from an earlier load.
        code_lines, data_lines: distinct lines that all runs together touch, as far as known (0: unknown).
        code_set_misses, data_set_misses: misses in one run of caches of 64 sets, of 8 lines for code and 12 for data:
            beyond the distances, they tell how evenly lines are spread over sets.
    """

    instructions: Count
    mix: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")], Probability] = {}
    loads: Count = 0.0
    stores: Count = 0.0
    load_distance: Histogram = []
    store_distance: Histogram = []
    code_distance: Histogram = []
    page_distance: Histogram = []
    shared_loads: Histogram = []
    shared_stores: Histogram = []
    code_touches: Count = 0.0
    stride_share: Probability = 0.0
    branches: Count = 0.0
    branch_bins: Annotated[list[Count], Field(max_length=100)] = []
    branch_sites: Count = 0.0
    predictor_misses: Count = 0.0
    indirect: Count = 0.0
    indirect_sites: Count = 0.0
    indirect_targets: Count = 1.0
    indirect_misses: Count = 0.0
    indirect_shared: Count = 0.0
    calls: Count = 0.0
    raw: Histogram = []
    war: Histogram = []
    waw: Histogram = []
    chase_share: Probability = 0.0
    code_lines: Count = 0.0
    data_lines: Count = 0.0
    code_set_misses: Count = 0.0
    data_set_misses: Count = 0.0


class Block(Work):
    """The work after an operation, in the original.

    Attributes:
        runs_per_request: how often one runs, over all requests; tells what matters and what is a rare visitor.
        request_class: the class of the profile in whose requests it runs; -1: in none (a wake-up, a timer).
        after: number of the system call it follows; -1: unknown.
        aim: what the generator is to make so that the clone as a whole executes what the original does: the clone's own
            runtime taken off, and what generation missed put right.  None: the work itself.
    """

    runs_per_request: Count = 1.0
    request_class: Annotated[int, Field(ge=-1, le=255)] = -1
    after: Annotated[int, Field(ge=-1, le=1023)] = -1
    aim: Work | None = None

    @property
    def wanted(self) -> Work:
        """What to generate."""
        return self if self.aim is None else self.aim
