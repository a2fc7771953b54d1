"""The observation: what was recorded of an app.  Private: it stays with the owner.

A folder holding ``observation.json`` (this model), the native recording and the files of the instruction run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ditto.artifacts.files import write_atomic
from ditto.artifacts.reading import read_model

FORMAT_VERSION = 1
FILE_NAME = "observation.json"


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DescriptorSeen(_Facts):
    """An open descriptor of a process at one moment.

    ``identity`` is equal for descriptors that share an open file; ``nodelay`` tells whether a connection sends at once.
    """

    pid: int
    fd: int
    kind: str
    path: str = ""
    port: int = 0
    flags: int = 0
    size: int = 0
    identity: str = ""
    nodelay: bool = False


class ThreadSeen(_Facts):
    """A thread at one moment; ``syscall`` is the call it was in, -1 if none."""

    tid: int
    name: str
    syscall: int = -1


class ProcessSeen(_Facts):
    """A process at one moment; ``session`` is the number of the session it belongs to.

    ``file_bytes`` is the part of ``rss_bytes`` that is pages of files: programs, libraries, data that is mapped.
    """

    pid: int
    ppid: int
    name: str
    threads: list[ThreadSeen]
    rss_bytes: int = 0
    file_bytes: int = 0
    session: int = 0


class FileSeen(_Facts):
    """Size of a file the app used; -1 if it does not exist any more."""

    path: str
    size: int


class ColumnSeen(_Facts):
    """A column of results: bytes of its name, its type in the protocol's own numbers, sizes of values as (size, count).

    A size of -1 stands for no value (NULL).
    """

    name_bytes: int
    type_id: int
    type_bytes: int
    binary: bool = False
    flags: int = 0
    sizes: list[tuple[int, int]] = []


class ResultSeen(_Facts):
    """What one kind of database request gave: its class (Latin-1), columns, and numbers of rows as (rows, count).

    ``known`` is how many of the results left the columns out, which their client knew.
    """

    request: str
    kind: Literal["rows", "done", "failed"]
    count: int
    columns: list[ColumnSeen] = []
    rows: list[tuple[int, int]] = []
    known: int = 0


class NativeRun(_Facts):
    """The native run: which recording, under which load, and what was lost.

    ``descriptors`` are those that were open before the recording began; ``processes`` is the tree under load.
    ``makes_code`` tells of memory that holds code of no file: a compiler works at run time.  ``samples`` is the file of
    `ditto.artifacts.samples`, where there is one.
    ``alone`` is a recording of requests that came one at a time, if there is one.
    """

    recording: str
    collector: str
    records: int
    lost: int
    seconds: float
    connections: int
    port: int
    load_count: int = 1
    descriptors: list[DescriptorSeen]
    processes: list[ProcessSeen]
    files: list[FileSeen] = []
    makes_code: bool = False
    alone: str = ""
    samples: str = ""


class LensRun(_Facts):
    """The instruction run: its files (one a process), and the descriptors open when counting began.

    ``folds`` where digits in paths told no class.
    """

    files: list[str]
    codec: str
    descriptors: list[DescriptorSeen]
    processes: list[ProcessSeen]
    folds: bool = False


class ClientRun(_Facts):
    """What the app's client did while its requests were recorded.

    Attributes:
        steps: requests and replies in turn, on all connections.
        asked: the number it was asked for; None where it takes none.
        counted: the requests it said to have made; None where it said nothing.
        replays: the app answers the recorded requests in the same way when they are sent again.
        reply_framing: what ends HTTP replies; empty where that is not known.
        results: what a database answered.
        starts_empty: a keyed store held nothing when the client came, and then what that stored.
    """

    steps: int
    asked: int | None
    counted: float | None
    seconds: float
    replays: bool = False
    reply_framing: Literal["length", "chunked", "close", ""] = ""
    results: list[ResultSeen] = []
    starts_empty: bool = False


class Observation(_Facts):
    """Everything recorded of one service of an app.

    ``notes`` are sentences on what was dropped or could not be had, for the report.
    """

    format_version: int = FORMAT_VERSION
    app: str
    made_at: str
    machine: dict[str, Any]
    native: NativeRun
    lens: LensRun | None = None
    client: ClientRun | None = None
    notes: list[str] = []

    def save(self, folder: Path) -> None:
        """Write ``observation.json`` into ``folder``, for the owner's eyes only."""
        write_atomic(folder / FILE_NAME, self.model_dump_json(indent=1) + "\n", mode=0o600)


def load_observation(folder: Path) -> Observation:
    """Read an observation.

    Raises:
        BadInputError: missing, not JSON, or outside the schema.
        FormatVersionError: another format version.
    """
    return read_model(folder / FILE_NAME, Observation, FORMAT_VERSION, "make it with 'ditto observe APP.toml -o OUT'")
