"""Operations that go with a kind of reply: drawn with it, by one number.

The same path is answered whole, in part, with "not modified" or not at all, as the client asks in its head.  A file is
sent, and its connection corked and uncorked, for the whole replies alone.  Drawn each for itself, some replies would
stay corked until the kernel gives up waiting for more, and a file would be sent where a head says otherwise.
So kinds of reply lie side by side in a range from 0 to 1, and an operation takes the part of those that it goes with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ditto.artifacts.profile import ReplyShape
from ditto.streams.programs import RECEIVE, RESUME, WRITABLE, ClassWork, OpName

REPLY_DRAW = 512
"""The number of the draw that tells the kind of reply."""
FEWEST = 5
"""Courses with a kind of reply from which on it is told what goes with it."""
CLEAR = 0.96
"""Share of replies of a kind that come with an operation from which on all do; below what it leaves of 1 none do."""
SURE = 0.995
_OTHERS = frozenset({"call", "call_more", "answer", "await", "yield", "message", "poll", RECEIVE, RESUME, WRITABLE})

Sort = tuple[str, int, bool]
"""What tells replies apart: ``kind`` and ``status`` of their shape, and whether a file is sent."""


def drawn_with(
    kinds: Sequence[Sort], work: ClassWork, sorts: Mapping[Sort, ReplyShape]
) -> tuple[list[ReplyShape], dict[OpName, dict[str, object]]] | None:
    """The kinds of reply in their order, and the fields of `Op` of the operations drawn with them; None without such.

    Args:
        kinds: of the replies of the cycles whose courses were kept.
        work: a class.
        sorts: its kinds of reply.
    """
    total = max(1, len(work.cycles))
    names = [name for name, op in work.ordered() if may_go_with_a_reply(name, op.count / total)]
    ordered, drawn = side_by_side(sorts, kinds_with(kinds, work.courses, names))
    drawn = without_part_of_the_ways(list(work.ops), drawn)
    return (ordered, drawn) if drawn else None


def kinds_with(
    kinds: Sequence[Sort], courses: Sequence[Sequence[OpName]], names: Sequence[OpName]
) -> dict[OpName, frozenset[Sort]]:
    """Of the operations that only some requests make, the kinds of reply that each goes with.

    Args:
        kinds: of the reply, course by course.
        courses: the operations of some cycles.
        names: the operations that may be told by the reply.
    """
    of_kind = Counter(kinds)
    if len(of_kind) < 2:
        return {}
    both = Counter((kind, name) for kind, course in zip(kinds, courses, strict=True) for name in set(course))
    found: dict[OpName, frozenset[Sort]] = {}
    for name in names:
        shares = {kind: both[kind, name] / count for kind, count in of_kind.items() if count >= FEWEST}
        own = frozenset(kind for kind, share in shares.items() if share >= CLEAR)
        rest = [share for kind, share in shares.items() if kind not in own]
        if own and rest and max(rest) <= 1 - CLEAR:
            found[name] = own
    return found


def side_by_side(
    sorts: Mapping[Sort, ReplyShape], found: Mapping[OpName, frozenset[Sort]]
) -> tuple[list[ReplyShape], dict[OpName, dict[str, object]]]:
    """The kinds of reply in an order in which those of an operation adjoin, and how the operations are drawn then."""
    sets = [own for own, _ in Counter(found.values()).most_common()]
    ordered = sorted(sorts, key=lambda sort: tuple(sort not in own for own in sets))
    starts, at = [], 0.0
    for sort in ordered:
        starts.append(at)
        at += sorts[sort].probability
    drawn: dict[OpName, dict[str, object]] = {}
    for name, own in found.items():
        places = [number for number, sort in enumerate(ordered) if sort in own]
        if places and places[-1] - places[0] == len(places) - 1:
            share = sum(sorts[ordered[number]].probability for number in places)
            drawn[name] = {"draw": REPLY_DRAW, "start": min(1.0, starts[places[0]]), "probability": min(1.0, share)}
    return [sorts[sort] for sort in ordered], drawn


def may_go_with_a_reply(name: OpName, share: float) -> bool:
    """Whether an operation of this share of the requests is one that the kind of reply may tell."""
    return share <= SURE and name.kind not in _OTHERS and (name.slot is None or name.slot[0] != "d")


def without_part_of_the_ways(
    names: Sequence[OpName], drawn: dict[OpName, dict[str, object]]
) -> dict[OpName, dict[str, object]]:
    """The draws, without those of the calls that reply where not each of several such calls has one."""
    ways = [name for name in names if name.kind == "reply"]
    if all(name in drawn for name in ways):
        return drawn
    return {name: fields for name, fields in drawn.items() if name not in ways}
