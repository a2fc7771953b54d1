"""What one request reaches: the orders in which blocks run, and from which distance on a touch is a request's first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ditto.artifacts.work import Block

FAR = 21


@dataclass(frozen=True)
class Order:
    """One kind of request: the numbers of the blocks it runs, in order, and its share of the requests."""

    blocks: tuple[int, ...]
    share: float = 1.0


def edge_of(histogram: Sequence[float]) -> int:
    """The farthest bucket that enough touches reach for there to be a footprint of its size; at least 1."""
    for bucket in range(FAR, 1, -1):
        if sum(histogram[bucket:]) >= 2 ** (bucket - 1):
            return bucket
    return 1


def code_edges(blocks: Sequence[Block], orders: Sequence[Order]) -> list[int]:
    """For each block the bucket of code distances from which on its touches are the first of a request.

    The original's own histograms tell: a line that a request runs once comes back at the distance of all lines of the
    request, whichever block they belong to.
    """
    edges = [0] * len(blocks)
    for order in sorted(orders, key=lambda o: -o.share):
        total = [0.0] * 24
        for number in order.blocks:
            for bucket, value in enumerate(blocks[number].code_distance[:24]):
                total[bucket] += value
        edge = edge_of(total)
        for number in order.blocks:
            edges[number] = edges[number] or edge
    return [edge or edge_of(block.code_distance) for edge, block in zip(edges, blocks, strict=True)]
