"""The order of things that came in many courses, none of which need have all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def by_courses(names: Iterable[Name], courses: Iterable[Sequence[Name]]) -> list[Name]:
    """Names so that of two that came in the same courses, the one that mostly came first is first.

    Args:
        names: in an order that is kept where courses tell nothing.
        courses: each name at most once in each.
    """
    before: Counter[tuple[Name, Name]] = Counter()
    for course in courses:
        before.update((a, b) for at, a in enumerate(course) for b in course[at + 1 :])
    order: list[Name] = []
    for name in names:
        order.insert(_place(name, order, before), name)
    return order


def _place(name: Name, order: list[Name], before: Counter[tuple[Name, Name]]) -> int:
    """Where in ``order`` the fewest courses had it otherwise; the last of such places."""
    cost = sum(before[name, other] for other in order)
    best, place = cost, len(order)
    for at in range(len(order) - 1, -1, -1):
        cost += before[order[at], name] - before[name, order[at]]
        if cost < best:
            best, place = cost, at
    return place
