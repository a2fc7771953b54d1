"""Replies of databases as shapes: columns, rows and sizes; no names and no values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ditto.artifacts.observation import ColumnSeen, ResultSeen
from ditto.artifacts.profile import Column, ReplyShape
from ditto.model.distributions import constant, dist
from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS

_TEXT = 25
_FIRST_OWN_TYPE = 16384
_SESSION = b"Startup"
_ONE_ROW = {"pgsql": 27 + 11 + 14 + 6, "mysql": 5 + 27 + 9 + 5 + 9}
"""Bytes around one value: what columns there are (a name of one letter), the row, that it is done, who is ready."""
_DEFINITION = 26
"""Bytes of the definition of a column of MySQL without its names."""
_MOST_NAME, _MOST_COLUMNS = 250, 250
_PREPARED = b"\x0c\0\0\1\0"
_TYPES = {"pgsql": (_TEXT, -1), "mysql": (253, 255)}
"""Type of a column of text, and its bytes."""


def sql_replies(
    key: bytes, cycles: Sequence[Cycle], results: Sequence[ResultSeen], codec: str = "pgsql"
) -> list[ReplyShape]:
    """The shape of what requests of one class are answered.

    Args:
        key: the class.
        cycles: its requests, for the size of what a connection begins with.
        results: what was seen of all classes; a class of which nothing was seen (where callers are told the database's
            port by a file that the setup writes, they go past the relay) is answered with as many bytes.
        codec: of the database.
    """
    if key == _SESSION:
        sizes = Counter(cycle.sent for cycle in cycles if cycle.sent)
        return [ReplyShape(probability=1.0, kind="session", size=dist(sizes) or constant(300))]
    seen = next((result for result in results if result.request.encode("latin-1") == key), None)
    if seen is None:
        return sql_reply_of_size(codec, Counter(c.sent for c in cycles if c.sent), _first_of(cycles))
    rows, columns = dist(dict(seen.rows)), [_column(column) for column in seen.columns]
    known = 2 * seen.known > seen.count
    return [ReplyShape(probability=1.0, kind=seen.kind, count=rows, columns=columns, columns_known=known)]


def sql_reply_of_size(codec: str, sizes: Counter[int], first: bytes) -> list[ReplyShape]:
    """The reply of a database of which the bytes alone were seen: one row, if any; its first value takes what there is.

    Args:
        codec: of the database.
        sizes: of the replies.
        first: what one of them begins with.
    """
    largest = max(sizes, default=0)
    prepares = codec == "mysql" and _prepares(first, largest)
    if not prepares and not _has_rows(codec, first, largest):
        return [ReplyShape(probability=1.0, kind="done")]
    count, name_bytes = _columns_in(codec, first, largest)
    type_id, type_bytes = _TYPES[codec]
    around = _ONE_ROW[codec] + (count - 1) * (_DEFINITION + 1 + 1) + count * (name_bytes - 1)
    values: Counter[int] = Counter()
    for size, seen in sizes.items():
        values[_value_in(codec, size - around)] += seen
    columns = [
        Column(
            name_bytes=name_bytes, type_id=type_id, type_bytes=type_bytes, size=constant(0) if number else dist(values)
        )
        for number in range(count)
    ]
    return [ReplyShape(probability=1.0, kind="rows", count=constant(0 if prepares else 1), columns=columns)]


def _first_of(cycles: Sequence[Cycle]) -> bytes:
    """What the first reply begins with."""
    replies = (e for c in cycles for e in c.events if e.nr in SENDS and e.obj is c.connection and e.ret > 0)
    first = next(replies, None)
    return b"" if first is None else first.payload


def _value_in(codec: str, value: int) -> int:
    """Bytes of the one value for which so many are left; of MySQL their number takes two more from 251 on."""
    if codec == "mysql" and value > 250:
        return max(250, value - 2)
    return max(0, value)


def _prepares(first: bytes, size: int) -> bool:
    """Whether a reply of MySQL is that to a statement which is prepared, and gives columns."""
    return first[:5] == _PREPARED and size > len(_PREPARED) + 11 and int.from_bytes(first[9:11], "little") > 0


def _columns_in(codec: str, first: bytes, size: int) -> tuple[int, int]:
    """How many columns there are, and bytes of the names in the definition of each; of MySQL alone."""
    if codec != "mysql" or len(first) < 13:
        return 1, 1
    if _prepares(first, size):
        count, parameters = (int.from_bytes(first[at : at + 2], "little") for at in (9, 11))
        left = size - 16 - (parameters * _DEFINITION + 9 if parameters else 0) - 9
        return min(_MOST_COLUMNS, count), max(0, min(_MOST_NAME, left // count - _DEFINITION))
    if first[:3] != b"\1\0\0" or first[4] > _MOST_COLUMNS:
        return 1, 1
    name_bytes = int.from_bytes(first[5:8], "little") + 4 - _DEFINITION
    fits = (size - 5 - 9 - 9 - 5) // first[4] - _DEFINITION - 1
    return first[4], max(0, min(_MOST_NAME, name_bytes, fits))


def _has_rows(codec: str, first: bytes, size: int) -> bool:
    if codec == "pgsql":
        return first[:1] == b"T" or (first[:1] in (b"1", b"2") and size > _ONE_ROW[codec])
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
