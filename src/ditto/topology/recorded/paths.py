"""Endpoints from paths: where a part of a path takes too many values, it tells no endpoint but names a thing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_VALUES = 24
"""Different values of one part of a path, below the same beginning, up to which each is an endpoint of its own."""
THING = "{id}"


@dataclass
class _Node:
    names: list[str] = field(default_factory=list)
    below: dict[str, _Node] = field(default_factory=dict)


def folded(names: Iterable[str]) -> dict[str, str]:
    """The endpoint of each name that has a path; those without one keep their name and are not in the result."""
    root = _Node()
    for name in sorted(set(names)):
        if "/" in name:
            node = root
            for part in name.split("/"):
                node = node.below.setdefault(part, _Node())
            node.names.append(name)
    result: dict[str, str] = {}
    _walk(root, [], 0, result)
    return {name: endpoint for name, endpoint in result.items() if name != endpoint}


def _walk(node: _Node, above: list[str], depth: int, result: dict[str, str]) -> None:
    for name in node.names:
        result[name] = "/".join(above)
    # The first part is what comes before the path: which service, and the method.
    if depth and len(node.below) > MOST_VALUES:
        _walk(_merged(list(node.below.values())), [*above, THING], depth + 1, result)
        return
    for part, child in node.below.items():
        _walk(child, [*above, part], depth + 1, result)


def _merged(nodes: list[_Node]) -> _Node:
    """The nodes as one; what lies below equal parts is one too."""
    result = _Node()
    below: dict[str, list[_Node]] = {}
    for node in nodes:
        result.names += node.names
        for part, child in node.below.items():
            below.setdefault(part, []).append(child)
    result.below = {part: children[0] if len(children) == 1 else _merged(children) for part, children in below.items()}
    return result
