"""From a recording to the graph: exchanges, spans, the passes over spans."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ditto.artifacts.app_recording import RECORDING, load_app_recording, owners
from ditto.artifacts.graph import Dropped, Graph, Repaired
from ditto.artifacts.records import Kind, Mode, Recording, load_recording
from ditto.errors import RecordingError
from ditto.host.progress import Progress
from ditto.topology.assemble import assemble
from ditto.topology.engine import DuckEngine
from ditto.topology.names import tables
from ditto.topology.passes import create_inputs, run_passes
from ditto.topology.recorded.follow import Followed, follow
from ditto.topology.recorded.spans import Made, spans_of
from ditto.topology.rows import COLUMNS, Lost

SOURCE = "recording"
_MEMORY_MB = 1000


def graph_of_recording(folder: Path, progress: Progress, load_only: bool = False) -> Graph:
    """The graph of the calls that a recording of all services of an app shows.

    Args:
        load_only: requests that came before the last mark are followed, and not counted.

    Raises:
        BadInputError: the folder holds no recording of an app.
        RecordingError: not one request of a service is in it.
    """
    app = load_app_recording(folder)
    recording = load_recording(folder / RECORDING)
    progress.update("following requests", 0.1)
    followed = follow(recording)
    made = spans_of(followed.exchanges, owners(app, recording), app, _load_began(recording) if load_only else 0)
    if not made.rows.packed:
        raise RecordingError(
            f"{app.app}: not one request to a service was recorded",
            "check that the load reaches the entry, and that services talk over TCP",
        )
    with tempfile.TemporaryDirectory(prefix="ditto-topology-") as scratch:
        engine = DuckEngine(Path(scratch), _MEMORY_MB)
        try:
            graph = _passed(engine, made, progress)
        finally:
            engine.close()
    return _counted(graph, made, followed, app.lost)


def _load_began(recording: Recording) -> int:
    records = recording.records
    marks = records["t_ns"][(records["kind"] == Kind.MARK) & (records["nr"] == Mode.ALL)]
    return int(marks[-1]) if len(marks) else 0


def _passed(engine: DuckEngine, made: Made, progress: Progress) -> Graph:
    create_inputs(engine)
    table = np.frombuffer(b"".join(made.rows.packed), dtype="<i8").reshape(-1, len(COLUMNS)).astype(np.int64)
    columns = {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate(COLUMNS)}
    engine.insert("span", {"n": np.arange(len(table), dtype=np.int64)} | columns)
    shapes = list(made.rows.shapes)
    counts = np.bincount(table[:, COLUMNS.index("shape")], minlength=len(shapes)).tolist()
    names, shape_columns = tables(shapes, counts)
    engine.insert("shape", shape_columns)
    return assemble(engine, names, run_passes(engine, progress), Lost(), 0)


def _counted(graph: Graph, made: Made, followed: Followed, lost: int) -> Graph:
    """The graph with what was lost or guessed on the way, and stores told by their protocol."""
    services = [
        service.model_copy(update={"kind": made.kinds[service.name]}) if service.name in made.kinds else service
        for service in graph.services
    ]
    return graph.model_copy(
        update={
            "source": SOURCE,
            "services": services,
            "repaired": Repaired(guessed_parents=made.guessed),
            "dropped": Dropped(
                lost_records=lost,
                unfinished=made.unfinished,
                torn_connections=sum(connection.torn for connection in followed.connections),
            ),
        }
    )
