"""Two dependency graphs of the same app side by side: which services and calls only one has, and how often the
others are made.

Endpoints are compared without the names of their parameters: ``/item/{id}`` of one is ``/item/:number`` of another.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from ditto.artifacts.graph import EdgeKind, Graph

Key = tuple[str, str, str, str]
"""Calling service, its endpoint, called service, its endpoint."""

_PARAMETER = re.compile(r"(?<=/)(?:\{[^/}]*\}|:[A-Za-z_][^/]*|<[^/>]*>|\*+|\d+)(?=/|$)")


@dataclass(frozen=True)
class CallDifference:
    """One edge that both graphs have.

    Attributes:
        one, other: calls per request of the caller's endpoint.
        relative: how far ``one`` is from ``other``, as a share of it.
        same_kind: whether the caller waits (or not) in both.
        same_order: whether it stands at the same place among the calls of its endpoint.
    """

    key: Key
    one: float
    other: float
    relative: float
    same_kind: bool
    same_order: bool


@dataclass(frozen=True)
class LoneEdge:
    """An edge that one graph has alone.

    Attributes:
        calls: how many there were.
        share: of all calls to the called endpoint in that graph.
    """

    key: Key
    calls: int
    share: float


@dataclass(frozen=True)
class GraphDifference:
    """Where two graphs differ.

    Attributes:
        edges_only_in_one, edges_only_in_other: the most frequent first.
        calls: of the edges that both have, the furthest apart first.
    """

    services_only_in_one: list[str]
    services_only_in_other: list[str]
    edges_only_in_one: list[LoneEdge]
    edges_only_in_other: list[LoneEdge]
    calls: list[CallDifference]

    def same_shape(self, tolerance: float = 0.0) -> bool:
        """Whether both have the same services and edges.

        Args:
            tolerance: edges of one alone are passed over up to this share of the calls to their endpoint: requests that
                were cut off when the recording ended or began leave a few.
        """
        lone = [*self.edges_only_in_one, *self.edges_only_in_other]
        services = self.services_only_in_one or self.services_only_in_other
        return not services and all(edge.share <= tolerance for edge in lone)

    @property
    def worst(self) -> float:
        """The largest difference of calls per request, as a share."""
        return max((abs(call.relative) for call in self.calls), default=0.0)


@dataclass
class _Calls:
    """Edges of one key together: those that wait and those that do not may be listed apart."""

    calls: int = 0
    per_request: float = 0.0
    waiting: int = 0
    later: int = 0
    order: int = 1 << 30


def plain_endpoint(name: str) -> str:
    """An endpoint's name without the names of its parameters."""
    return _PARAMETER.sub("{}", name)


def compare_graphs(one: Graph, other: Graph) -> GraphDifference:
    """How ``one`` differs from ``other``."""
    here, there = _edges(one), _edges(other)
    calls = [
        CallDifference(
            key=key,
            one=here[key].per_request,
            other=there[key].per_request,
            relative=_relative(here[key].per_request, there[key].per_request),
            same_kind=(here[key].waiting >= here[key].later) == (there[key].waiting >= there[key].later),
            same_order=here[key].order == there[key].order,
        )
        for key in here.keys() & there.keys()
    ]
    own, others = {service.name for service in one.services}, {service.name for service in other.services}
    return GraphDifference(
        services_only_in_one=sorted(own - others),
        services_only_in_other=sorted(others - own),
        edges_only_in_one=_lone(here, there),
        edges_only_in_other=_lone(there, here),
        calls=sorted(calls, key=lambda call: (-abs(call.relative), call.key)),
    )


def _lone(edges: dict[Key, _Calls], others: dict[Key, _Calls]) -> list[LoneEdge]:
    """The edges that the others lack."""
    to: dict[tuple[str, str], int] = defaultdict(int)
    for key, found in edges.items():
        to[key[2:]] += found.calls
    lone = [
        LoneEdge(key, edges[key].calls, edges[key].calls / max(1, to[key[2:]])) for key in edges.keys() - others.keys()
    ]
    return sorted(lone, key=lambda edge: (-edge.calls, edge.key))


def _relative(one: float, other: float) -> float:
    return (one - other) / other if other else float(one != other)


def _edges(graph: Graph) -> dict[Key, _Calls]:
    found: dict[Key, _Calls] = defaultdict(_Calls)
    for edge in graph.edges:
        key = (edge.caller, plain_endpoint(edge.endpoint), edge.to, plain_endpoint(edge.target))
        calls = found[key]
        calls.calls += edge.calls
        calls.per_request += edge.calls_per_request
        if edge.kind is EdgeKind.CALL:
            calls.waiting += edge.calls
        else:
            calls.later += edge.calls
        calls.order = min(calls.order, edge.order)
    return dict(found)
