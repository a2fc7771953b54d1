"""What a database answers: columns, rows and sizes of its results, of which a recording holds the first bytes only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

from ditto.artifacts.observation import ColumnSeen, ResultSeen
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.exchanges import takes_relay
from ditto.host.tap import Tap
from ditto.streams import mysql, pgsql
from ditto.streams.results import Result

SECONDS = 1.0
ANSWERS = 1 << 20
"""Bytes of replies that are kept of each connection."""
MOST_SIZES = 64
MOST_COLUMNS = 256

_READERS: dict[str, Callable[[bytes, bytes], Iterator[tuple[bytes, Result]]]] = {
    "pgsql": pgsql.results_of,
    "mysql": mysql.results_of,
}


def results_for(run: AppRun, codec: str, requests: int | None) -> list[ResultSeen]:
    """What the requests of the app's client give, from a short run of it through a relay; nothing for other protocols.

    Args:
        run: started and filled.
        codec: the service's protocol.
        requests: for the client, where it takes a number.
    """
    read = _READERS.get(codec)
    if read is None or not takes_relay(run.spec):
        return []
    try:
        with Tap(run.port, run.host, answers=ANSWERS) as tap:
            client = run.start_load(requests, port=tap.port)
            client.pause(SECONDS)
            if client.is_running():
                client.stop()
    except (AppError, OSError):
        return []
    return joined(found for stream in tap.streams for found in read(stream.said, bytes(stream.answered)))


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
    )
