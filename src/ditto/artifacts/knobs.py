"""What tuning turns of a profile as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ditto.artifacts.base import Model


class Knobs(Model):
    """What tuning may turn, over all blocks; 1 leaves a block as fitted.

    Attributes:
        instructions: scales instruction counts.
        dependence: scales register dependence distances (below 1: longer chains, slower).
        irregular: scales the share of irregular data accesses and dependent loads.
        entropy: scales the share of unpredictable branches.
        period: requests after which these take the same course again; a power of two.  The shorter, the more of them a
            processor learns, and the reference predictor hardly any.
        stalls: waits a request, each dependent on the one before, for what instruments do not see the original wait for
            (lines that other threads wrote, pages beyond the TLB's reach, code fetched late): reads of memory far
            from anything it touched, if nothing else is said.
        stalls_in_store: whether these lead through what clients have stored, from what was asked for on, where that is
            more lines than the blocks' own.
        stalls_computed: whether these are no reads but slow instructions, which no cache knows of.
        resident_bytes: added to what is touched at start, so that the clone's resident memory is the original's.
        born_pages: that a process made for a connection touches at birth, for as many page faults as the original's.
        fresh_pages: a request, touched that are not in memory: what a service takes and gives back unseen by its own
            requests (collectors of garbage), and what it grows by while it serves.
    """

    instructions: Annotated[float, Field(gt=0.1, le=10)] = 1.0
    dependence: Annotated[float, Field(gt=0.01, le=100)] = 1.0
    irregular: Annotated[float, Field(ge=0, le=100)] = 1.0
    entropy: Annotated[float, Field(ge=0, le=100)] = 1.0
    period: Literal[1, 2, 4, 8, 16, 32, 64] = 64
    stalls: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    stalls_in_store: bool = False
    stalls_computed: bool = False
    resident_bytes: Annotated[int, Field(ge=-(1 << 42), le=1 << 42)] = 0
    born_pages: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    fresh_pages: Annotated[float, Field(ge=0, le=1 << 14)] = 0.0
