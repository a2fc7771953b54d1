"""Parts of trace files → rows, in as many processes as the machine has processors where there is much to read."""

from __future__ import annotations

import gc
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from ditto.host.workers import worker_pool
from ditto.topology import jaeger, otlp, zipkin
from ditto.topology.rows import Lost, Rows, Shape
from ditto.topology.sources import Part

# Fewer parts than this are read faster without starting processes.
_FEW = 6
_LOOK = 4096


@dataclass(frozen=True)
class Batch:
    """Rows as they travel between processes: packed words, and the shapes they name by number."""

    rows: bytes
    shapes: list[Shape]
    links: bytes
    lost: Lost
    documents: int


def read_part(part: Part) -> Batch:
    """The rows of one part."""
    rows = Rows()
    documents = 0
    texts: Iterable[bytes] = part.documents
    if part.lines:
        texts = part.documents[0].split(b"\n")
    for text in texts:
        if part.protobuf:
            otlp.add_protobuf(text, rows)
        elif text and not text.isspace():
            _add_json(text, rows)
        else:
            continue
        documents += 1
    return Batch(b"".join(rows.packed), list(rows.shapes), b"".join(rows.links), rows.lost, documents)


def _add_json(text: bytes, rows: Rows) -> None:
    """Add one document of JSON, whose format its first keys tell."""
    head = text[:_LOOK]
    if b'"resourceSpans"' in head:
        otlp.add_json(text, rows)
    elif head.lstrip()[:1] == b"[":
        zipkin.add_json(text, rows)
    elif any(key in head for key in (b'"data"', b'"traceID"', b'"processes"', b'"spans"')):
        jaeger.add_json(text, rows)
    elif b'"traceId"' in head:
        zipkin.add_json(text, rows)
    else:
        rows.lost.broken_documents += 1


def read_parts(parts: Iterable[Part]) -> Iterator[Batch]:
    """The rows of all parts, in their order; only a few parts are in memory at a time."""
    source = iter(parts)
    first = []
    for part in source:
        first.append(part)
        if len(first) == _FEW:
            break
    else:
        yield from map(read_part, first)
        return
    # What is decoded has no cycles, and looking for them is a fifth of the time.
    most = 2 * len(os.sched_getaffinity(0)) + 2
    with worker_pool(first=gc.disable) as pool:
        under_way: deque[Future[Batch]] = deque(pool.submit(read_part, part) for part in first)
        try:
            for part in source:
                under_way.append(pool.submit(read_part, part))
                if len(under_way) > most:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
