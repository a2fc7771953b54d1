"""Replies of databases as shapes: columns, rows and sizes; no names and no values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ditto.artifacts.observation import ColumnSeen, ResultSeen
from ditto.artifacts.profile import Column, ReplyShape
from ditto.model.distributions import constant, dist
from ditto.streams.cycles import Cycle

_TEXT = 25
_FIRST_OWN_TYPE = 16384
_SESSION = b"Startup"
_ONE_ROW = {"pgsql": 27 + 11 + 14 + 6, "mysql": 5 + 27 + 9 + 5 + 9}
"""Bytes around one value: what columns there are (a name of one letter), the row, that it is done, who is ready."""
_TYPES = {"pgsql": (_TEXT, -1), "mysql": (253, 255)}
"""Type of a column of text, and its bytes."""


def sql_replies(key: bytes, cycles: Sequence[Cycle], results: Sequence[ResultSeen]) -> list[ReplyShape]:
    """The shape of what requests of one class are answered.

    Args:
        key: the class.
        cycles: its requests, for the size of what a connection begins with.
        results: what was seen of all classes; a class of which nothing was seen is done without rows.
    """
    if key == _SESSION:
        sizes = Counter(cycle.sent for cycle in cycles if cycle.sent)
        return [ReplyShape(probability=1.0, kind="session", size=dist(sizes) or constant(300))]
    seen = next((result for result in results if result.request.encode("latin-1") == key), None)
    if seen is None:
        return [ReplyShape(probability=1.0, kind="done")]
    rows, columns = dist(dict(seen.rows)), [_column(column) for column in seen.columns]
    known = 2 * seen.known > seen.count
    return [ReplyShape(probability=1.0, kind=seen.kind, count=rows, columns=columns, columns_known=known)]


def sql_reply_of_size(codec: str, sizes: Counter[int], first: bytes) -> list[ReplyShape]:
    """The reply of a database of which a caller saw the bytes alone: a row of one value, where there are rows.

    Args:
        codec: of the database.
        sizes: of the replies.
        first: what one of them begins with.
    """
    if not _has_rows(codec, first):
        return [ReplyShape(probability=1.0, kind="done")]
    values: Counter[int] = Counter()
    for size, count in sizes.items():
        values[_value_in(codec, size)] += count
    type_id, type_bytes = _TYPES[codec]
    column = Column(name_bytes=1, type_id=type_id, type_bytes=type_bytes, size=dist(values))
    return [ReplyShape(probability=1.0, kind="rows", count=constant(1), columns=[column])]


def _value_in(codec: str, size: int) -> int:
    """Bytes of the one value in a reply of so many; of MySQL their number takes two more from 251 on."""
    value = max(0, size - _ONE_ROW[codec])
    if codec == "mysql" and value > 250:
        return max(250, value - 2)
    return value


def _has_rows(codec: str, first: bytes) -> bool:
    if codec == "pgsql":
        return first[:1] in (b"T", b"1", b"2")
    return first[4:5] not in (b"", b"\0", b"\xff")


def _column(seen: ColumnSeen) -> Column:
    total = sum(count for _, count in seen.sizes)
    none = sum(count for size, count in seen.sizes if size < 0)
    return Column(
        name_bytes=min(1024, seen.name_bytes),
        type_id=seen.type_id if seen.type_id < _FIRST_OWN_TYPE else _TEXT,
        type_bytes=seen.type_bytes,
        binary=seen.binary,
        flags=seen.flags,
        none=none / total if total else 0.0,
        size=dist({size: count for size, count in seen.sizes if size >= 0}),
    )
