"""Numbers of the connections to other services that a request has: the same service has the same in all classes.

A client's connection may keep them from one request to the next, and its requests may be of different classes.
"""

from __future__ import annotations

from collections import Counter

from ditto.artifacts.profile import MAX_LINKS, OpKind, RequestClass


def numbered_alike(classes: list[RequestClass]) -> list[RequestClass]:
    """Classes whose links have one number for each service and each further connection to it.

    Where that would be more links than there may be, the classes stay as they are.
    """
    numbers: dict[tuple[int, int], int] = {}
    renamed: list[dict[int, int]] = []
    for cls in classes:
        called = {op.link: op.a for op in reversed(cls.program) if op.kind is OpKind.CALL and op.link is not None}
        nth: Counter[int] = Counter()
        new: dict[int, int] = {}
        for link in sorted(called):
            service = called[link]
            new[link] = numbers.setdefault((service, nth[service]), len(numbers))
            nth[service] += 1
        renamed.append(new)
    if len(numbers) > MAX_LINKS:
        return classes
    taken = set(numbers.values())
    return [_with(cls, new, taken) for cls, new in zip(classes, renamed, strict=True)]


def _with(cls: RequestClass, new: dict[int, int], taken: set[int]) -> RequestClass:
    """What is done to a connection that nothing is called on is left out where its number is another's now."""
    program = []
    for op in cls.program:
        if op.link is None or (op.link not in new and op.link not in taken):
            program.append(op)
        elif op.link in new:
            program.append(op.model_copy(update={"link": new[op.link]}))
    return cls.model_copy(update={"program": program})
