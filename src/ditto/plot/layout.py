"""Layered places for the services of a graph: callers to the left of what they call.

The way of Sugiyama, Tagawa and Toda (1981): edges that close a cycle are turned around, layers follow from the longest
path, and the order within a layer from the mean place of the neighbours, swept to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SWEEPS = 8


@dataclass(frozen=True)
class Place:
    """Where a service is drawn: its layer from the left, and its place in it from the top."""

    layer: int
    order: int


def places(count: int, edges: Sequence[tuple[int, int]]) -> list[Place]:
    """The places of nodes 0 to ``count`` - 1.  Edges of a node to itself are left out; order and place are stable."""
    forward = _without_cycles(count, sorted({edge for edge in edges if edge[0] != edge[1]}))
    layer = _layers(count, forward)
    order = _orders(count, forward, layer)
    return [Place(layer[node], order[node]) for node in range(count)]


def _without_cycles(count: int, edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The edges, those that lead back on a walk in depth turned around."""
    below: list[list[int]] = [[] for _ in range(count)]
    called = [0] * count
    for a, b in edges:
        below[a].append(b)
        called[b] += 1
    state = [0] * count
    back: set[tuple[int, int]] = set()
    for start in sorted(range(count), key=lambda node: (called[node] > 0, node)):
        if state[start]:
            continue
        state[start] = 1
        stack = [(start, iter(below[start]))]
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                state[node] = 2
                stack.pop()
            elif state[following] == 1:
                back.add((node, following))
            elif state[following] == 0:
                state[following] = 1
                stack.append((following, iter(below[following])))
    return sorted({(b, a) if (a, b) in back else (a, b) for a, b in edges})


def _layers(count: int, edges: list[tuple[int, int]]) -> list[int]:
    below: list[list[int]] = [[] for _ in range(count)]
    open_callers = [0] * count
    for a, b in edges:
        below[a].append(b)
        open_callers[b] += 1
    layer = [0] * count
    ready = [node for node in range(count) if not open_callers[node]]
    while ready:
        node = ready.pop()
        for following in below[node]:
            layer[following] = max(layer[following], layer[node] + 1)
            open_callers[following] -= 1
            if not open_callers[following]:
                ready.append(following)
    return layer


def _orders(count: int, edges: list[tuple[int, int]], layer: list[int]) -> list[int]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for a, b in edges:
        below[a].append(b)
        above[b].append(a)
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for node in range(count):
        rows[layer[node]].append(node)
    at = [0.0] * count
    for row in rows:
        for index, node in enumerate(row):
            at[node] = (index + 0.5) / len(row)
    for sweep in range(_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            mean = {n: sum(at[m] for m in neighbours[n]) / len(neighbours[n]) if neighbours[n] else at[n] for n in row}
            row.sort(key=lambda n: (mean[n], n))
            for index, node in enumerate(row):
                at[node] = (index + 0.5) / len(row)
    order = [0] * count
    for row in rows:
        for index, node in enumerate(row):
            order[node] = index
    return order
