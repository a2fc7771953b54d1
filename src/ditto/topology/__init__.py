"""The topology stage: trace files → the dependency graph of the app."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ditto.artifacts.graph import Graph
from ditto.errors import BadInputError
from ditto.host.progress import Progress
from ditto.topology.assemble import assemble
from ditto.topology.engine import DuckEngine, Engine
from ditto.topology.names import tables
from ditto.topology.passes import create_inputs, run_passes
from ditto.topology.reading import read_parts
from ditto.topology.rows import COLUMNS, LINK_COLUMNS, Lost, Shape
from ditto.topology.sources import Broken, Part, parts_of, trace_files

__all__ = ["graph_of_traces"]

MEMORY_MB = 1800
_MOST_SHAPES = 500_000
# Each insertion waits for the disk once, so rows are collected to this many.
_ROWS_AT_ONCE = 250_000
_SHAPE = COLUMNS.index("shape")


def graph_of_traces(paths: list[Path], progress: Progress, memory_mb: int = MEMORY_MB) -> Graph:
    """The graph that the spans of the files, and of the files in the folders, show.

    Args:
        memory_mb: what the database may take before it works from disk; reading takes up to 1 GB besides.

    Raises:
        BadInputError: a path does not exist or is no trace file, or there is not one span in them.
    """
    with tempfile.TemporaryDirectory(prefix="ditto-topology-") as folder:
        engine = DuckEngine(Path(folder), memory_mb)
        try:
            return graph_on(engine, paths, progress)
        finally:
            engine.close()


def graph_on(engine: Engine, paths: list[Path], progress: Progress) -> Graph:
    """As `graph_of_traces`, on an engine that holds no tables yet."""
    create_inputs(engine)
    files = trace_files(paths)
    broken = Broken()
    lost = Lost()
    shapes, spans = _load(engine, files, broken, lost, progress)
    lost.broken_documents += broken.documents
    if not shapes:
        what = str(paths[0]) if len(paths) == 1 else f"{len(files)} files"
        why = f" ({broken.reason})" if broken.reason else ""
        if lost.no_id or lost.wrong_types:
            why = f" ({lost.no_id} without ids, {lost.wrong_types} with fields of wrong types)"
        elif lost.broken_documents and not why:
            why = f" ({lost.broken_documents} broken or unknown documents)"
        raise BadInputError(
            f"{what}: not one usable span{why}",
            "give OTLP (JSON or protobuf), Jaeger query-API JSON or Zipkin v2 JSON, whole",
        )
    names, columns = tables(shapes, spans)
    engine.insert("shape", columns)
    edges = run_passes(engine, progress)
    progress.update("putting the graph together", 0.95)
    return assemble(engine, names, edges, lost, broken.files)


def _parts(files: list[tuple[Path, bool]], broken: Broken, progress: Progress) -> Iterator[Part]:
    for number, (path, named) in enumerate(files):
        progress.update(f"reading {path.name}", 0.5 * number / len(files))
        yield from parts_of(path, named, broken)


def _load(
    engine: Engine, files: list[tuple[Path, bool]], broken: Broken, lost: Lost, progress: Progress
) -> tuple[list[Shape], list[int]]:
    """Fill the tables of spans and links; the shapes by number, and how many spans each has."""
    numbers: dict[Shape, int] = {}
    counts = np.zeros(0, dtype=np.int64)
    loaded = held = 0
    waiting: list[NDArray[np.int64]] = []

    def store() -> None:
        nonlocal loaded, held
        table = np.concatenate(waiting)
        columns = {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(COLUMNS)}
        engine.insert("span", {"n": np.arange(loaded, loaded + len(table), dtype=np.int64)} | columns)
        loaded, held = loaded + len(table), 0
        waiting.clear()

    for batch in read_parts(_parts(files, broken, progress)):
        lost.add(batch.lost)
        table = np.frombuffer(batch.rows, dtype="<i8").reshape(-1, len(COLUMNS)).astype(np.int64)
        if len(table):
            own = np.array([numbers.setdefault(shape, len(numbers)) for shape in batch.shapes], dtype=np.int64)
            if len(numbers) > _MOST_SHAPES:
                raise BadInputError(
                    f"more than {_MOST_SHAPES} different spans by name, host and destination",
                    "span names must not hold what differs from request to request",
                )
            table[:, _SHAPE] = own[table[:, _SHAPE]]
            counts = np.concatenate([counts, np.zeros(len(numbers) - len(counts), dtype=np.int64)])
            counts += np.bincount(table[:, _SHAPE], minlength=len(numbers))
            waiting.append(table)
            held += len(table)
            if held >= _ROWS_AT_ONCE:
                store()
        links = np.frombuffer(batch.links, dtype="<i8").reshape(-1, len(LINK_COLUMNS))
        if len(links):
            engine.insert("link", {name: np.ascontiguousarray(links[:, i]) for i, name in enumerate(LINK_COLUMNS)})
    if waiting:
        store()
    return list(numbers), counts.tolist()
