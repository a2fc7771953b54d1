"""What a database answers: columns, rows and sizes of its results, of which a recording holds the first bytes only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from ditto.artifacts.observation import ColumnSeen, ResultSeen
from ditto.artifacts.plan import Framing
from ditto.host.spoken import Stream
from ditto.streams import mysql, pgsql
from ditto.streams.results import Result

MOST_SIZES = 64
MOST_COLUMNS = 256

_READERS: dict[Framing, Callable[[bytes, bytes], Iterator[tuple[bytes, Result]]]] = {
    Framing.PGSQL: pgsql.results_of,
    Framing.MYSQL: mysql.results_of,
}


def results_for(framing: Framing, streams: Iterable[Stream]) -> list[ResultSeen]:
    """What the requests of recorded connections gave; nothing for protocols that are no database's."""
    read = _READERS.get(framing)
    if read is None:
        return []
    return joined(found for stream in streams for found in read(stream.said, bytes(stream.answered)))


def joined(found: Iterable[tuple[bytes, Result]]) -> list[ResultSeen]:
    """The results of each class as one, of the kind that is most common."""
    by_class: dict[bytes, list[Result]] = defaultdict(list)
    for key, result in found:
        by_class[key].append(result)
    return [_one(key, results) for key, results in sorted(by_class.items())]


def _one(key: bytes, results: list[Result]) -> ResultSeen:
    kinds = Counter((result.kind, len(result.columns)) for result in results)
    (kind, columns), _ = kinds.most_common(1)[0]
    alike = [result for result in results if (result.kind, len(result.columns)) == (kind, columns)]
    seen = []
    for number, first in enumerate(alike[0].columns[:MOST_COLUMNS]):
        sizes = Counter(size for result in alike for size in result.columns[number].sizes)
        seen.append(
            ColumnSeen(
                name_bytes=first.name_bytes,
                type_id=first.type_id,
                type_bytes=first.type_bytes,
                binary=first.binary,
                flags=first.flags,
                sizes=sizes.most_common(MOST_SIZES),
            )
        )
    return ResultSeen(
        request=key.decode("latin-1"),
        kind=kind,
        count=len(results),
        columns=seen,
        rows=Counter(result.rows for result in alike).most_common(MOST_SIZES),
        known=sum(result.known for result in alike),
    )
