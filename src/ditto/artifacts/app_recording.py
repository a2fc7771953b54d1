"""The recording of a whole app under its own load: private, for its first bytes of what was sent stay with the owner.

A folder holding ``app.json`` (this model) and the native recording of all services together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ditto.artifacts.base import Model
from ditto.artifacts.files import write_atomic
from ditto.artifacts.reading import read_model
from ditto.artifacts.records import Kind, Recording

FORMAT_VERSION = 1
FILE_NAME = "app.json"
RECORDING = "app.rec"

_Port = Annotated[int, Field(ge=0, le=65535)]
_Pid = Annotated[int, Field(ge=1, le=1 << 22)]
_Name = Annotated[str, Field(min_length=1, max_length=256)]


class ServiceRecorded(Model):
    """One service: the process that was started for it, and the port it was given."""

    name: _Name
    pid: _Pid
    port: _Port


class BesideRecorded(Model):
    """A server that was called and not recorded."""

    name: _Name
    port: _Port


class AppRecording(Model):
    """What was recorded of an app, and what was lost.

    Attributes:
        collector: ``ebpf`` or ``ptrace``.
        services: the entry first.
        seconds: how long everything was recorded.
        notes: sentences on what was replaced or repeated.
    """

    format_version: int = FORMAT_VERSION
    app: _Name
    made_at: Annotated[str, Field(max_length=64)]
    collector: Annotated[str, Field(max_length=16)]
    records: Annotated[int, Field(ge=0)]
    lost: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(ge=0.0, le=1e6)]
    services: Annotated[list[ServiceRecorded], Field(min_length=1, max_length=1000)]
    beside: Annotated[list[BesideRecorded], Field(max_length=1000)] = []
    notes: list[str] = []

    def save(self, folder: Path) -> None:
        """Write ``app.json`` into ``folder``, for the owner's eyes only."""
        write_atomic(folder / FILE_NAME, self.model_dump_json(indent=1) + "\n", mode=0o600)


def owners(app: AppRecording, recording: Recording) -> dict[int, str]:
    """The service of each process: the one that it, or the process it came from, was started for."""
    names = {service.pid: service.name for service in app.services}
    records = recording.records
    births = records[records["kind"] == Kind.BIRTH]
    for pid, args in zip(births["pid"].tolist(), births["args"].tolist(), strict=True):
        if pid not in names and args[1] in names:
            names[pid] = names[args[1]]
    return names


def load_app_recording(folder: Path) -> AppRecording:
    """Read what `AppRecording.save` wrote.

    Raises:
        BadInputError: missing, not JSON, or outside the schema.
        FormatVersionError: another format version.
    """
    return read_model(folder / FILE_NAME, AppRecording, FORMAT_VERSION, "record the app again")
