"""The native recording: fixed-size records of system calls and scheduling events.

The layout is that of ``native/collector/record.h``; both collectors (eBPF and ptrace) write it.  A recording is
private to the owner of the app: it holds the first bytes of what was sent and received.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ditto.errors import BadInputError, FormatVersionError

MAGIC = 0x43455244
VERSION = 1

HEADER = np.dtype(
    [
        ("magic", "<u4"),
        ("version", "<u4"),
        ("record_size", "<u4"),
        ("clock_id", "<u4"),
        ("start_ns", "<u8"),
        ("collector", "S16"),
    ]
)

RECORD = np.dtype(
    [
        ("t_ns", "<u8"),
        ("wall_ns", "<u8"),
        ("cpu_ns", "<u8"),
        ("ret", "<i8"),
        ("args", "<u8", (6,)),
        ("run_ns", "<u8"),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("kind", "<u2"),
        ("nr", "<u2"),
        ("nvcsw", "<u4"),
        ("nivcsw", "<u4"),
        ("iovcnt", "<u4"),
        ("iov", "<u4", (4,)),
        ("payload_len", "<u4"),
        ("aux", "<u4"),
        ("payload", "V64"),
    ]
)


class Kind(IntEnum):
    """What a record tells; see ``enum ditto_rec_kind``."""

    SYSCALL = 1
    BIRTH = 2
    EXIT = 3
    EXEC = 4
    FAULT = 5
    BLOCK = 6
    MARK = 7
    MORE = 8


class Mode(IntEnum):
    """How much a collector records; see ``enum ditto_rec_mode``."""

    OFF = 0
    STRUCTURE = 1
    ALL = 2


@dataclass(frozen=True)
class Recording:
    """One native recording, memory-mapped.

    Attributes:
        collector: ``"ebpf"`` or ``"ptrace"``.
        start_ns: CLOCK_MONOTONIC when the recording began.
        records: array of :data:`RECORD`, sorted by return time.
    """

    collector: str
    start_ns: int
    records: np.ndarray


def load_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        BadInputError: the file is no recording, or ends inside its header.
        FormatVersionError: it was written in another format version.
    """
    try:
        raw = np.fromfile(path, dtype=HEADER, count=1)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", "name a native recording") from error
    if len(raw) != 1 or int(raw[0]["magic"]) != MAGIC:
        raise BadInputError(f"{path}: not a native recording", "record it again with 'ditto observe'")
    header = raw[0]
    if int(header["version"]) != VERSION or int(header["record_size"]) != RECORD.itemsize:
        raise FormatVersionError(str(path), int(header["version"]), VERSION)
    count = (path.stat().st_size - HEADER.itemsize) // RECORD.itemsize
    if count:
        mapped = np.memmap(path, dtype=RECORD, mode="r", offset=HEADER.itemsize, shape=(count,))
        body: NDArray[np.void] = mapped[np.argsort(mapped["t_ns"], kind="stable")]
    else:
        body = np.empty(0, dtype=RECORD)
    return Recording(header["collector"].decode(), int(header["start_ns"]), body)
