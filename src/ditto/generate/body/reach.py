"""What one request reaches: the orders in which blocks run, and from which distance on a touch is a request's first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ditto.artifacts.work import DISTANCE_BUCKETS, Block

FAR = 21


@dataclass(frozen=True)
class Order:
    """One kind of request: the numbers of the blocks it runs, in order, its share of the requests, and the share of it
    before which another of its kind is served (None: as its share makes it)."""

    blocks: tuple[int, ...]
    share: float = 1.0
    again: float | None = None


ENOUGH = 0.4
"""Touches from a bucket on, by its smallest distance, that tell of a footprint of that size: lines touched twice in a
request come back sooner, so there are fewer touches than lines."""
ROOM = 1.08
"""Lines by the smallest distance of the edge, at least: fewer would not reach it."""


def edge_of(histogram: Sequence[float]) -> int:
    """The farthest bucket that enough touches reach for there to be a footprint of its size; at least 1."""
    for bucket in range(FAR, 1, -1):
        if sum(histogram[bucket:]) >= ENOUGH * 2 ** (bucket - 1):
            return bucket
    return 1


@dataclass(frozen=True)
class Reach:
    """What one kind of request touches, in the original.

    Attributes:
        edge: bucket of distances from which on a touch is the request's first of its line.
        lines: distinct lines of a request.
        capped: whether the request reaches farther, and what lies beyond the edge is not left to the code's own places.
    """

    edge: int
    lines: float
    capped: bool = False


LONG = 25_000.0
"""Instructions of a request from which on it has more far touches than places in its code to make them."""
CHASED = 0.3
"""Share of loads whose address was loaded, from which on those touches follow lists: a processor waits for each."""


def reaches(
    blocks: Sequence[Block],
    orders: Sequence[Order],
    names: Sequence[str],
    largest: int = FAR,
    largest_of_long: int = FAR,
) -> list[Reach]:
    """The reach of each order, by the histograms of these names together; no edge beyond ``largest``.

    A line that a request touches once comes back at the distance of all lines of the request, whichever block they
    belong to.
    """
    found = []
    for order in orders:
        total = [0.0] * 24
        for number in order.blocks:
            for name in names:
                for bucket, value in enumerate(getattr(blocks[number], name)[:24]):
                    total[bucket] += value
        whole = edge_of(total)
        chased = sum(blocks[number].chase_share * blocks[number].loads for number in order.blocks)
        long = sum(blocks[number].wanted.instructions for number in order.blocks) >= LONG
        long = long and chased >= CHASED * sum(blocks[number].loads for number in order.blocks)
        edge = min(largest, largest_of_long if long else FAR, whole)
        capped = long and edge < whole
        beyond = total[edge] if capped else sum(total[edge:])
        found.append(Reach(edge, max(beyond, ROOM * 2 ** (edge - 1)), capped))
    return found


def touches_of_request(blocks: Sequence[Block]) -> list[float]:
    """The original's touches of data in a request, by distance."""
    total = [0.0] * DISTANCE_BUCKETS
    for block in blocks:
        for histogram in (block.load_distance, block.store_distance):
            for bucket, value in enumerate(histogram[:DISTANCE_BUCKETS]):
                total[bucket] += value * block.runs_per_request
    return total


def edges(count: int, orders: Sequence[Order], found: Sequence[Reach]) -> list[Reach]:
    """The reach for each block: that of the most frequent order it is in."""
    out = [Reach(1, 1.0)] * count
    for order, reach in sorted(zip(orders, found, strict=True), key=lambda pair: pair[0].share):
        for number in order.blocks:
            out[number] = reach
    return out
