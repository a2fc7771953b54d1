"""The limits that app.toml puts on a run's servers, and what they read from disks and wrote to them under these."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.app import AppSpec, Limits, Which
from ditto.errors import MissingCapabilityError
from ditto.host.cgroup import ControlGroup

_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_NO_DISK = "0:"
"""Of file systems in memory, over a network or over others."""


@dataclass(frozen=True)
class DiskUse:
    """Operations that disks were asked for so far, and their bytes; the difference of two is what was done between."""

    reads: float = 0.0
    read_bytes: float = 0.0
    writes: float = 0.0
    write_bytes: float = 0.0

    def __add__(self, other: DiskUse) -> DiskUse:
        return DiskUse(
            self.reads + other.reads,
            self.read_bytes + other.read_bytes,
            self.writes + other.writes,
            self.write_bytes + other.write_bytes,
        )

    def __sub__(self, earlier: DiskUse) -> DiskUse:
        return DiskUse(
            self.reads - earlier.reads,
            self.read_bytes - earlier.read_bytes,
            self.writes - earlier.writes,
            self.write_bytes - earlier.write_bytes,
        )


class LimitedGroup:
    """A control group with an app's limits set, before anything is in it.

    Args:
        limits: what the app's servers are to be held to.
        folders: where they have their files: reads are limited, and all is counted, on the disks of these.

    Raises:
        MissingCapabilityError: no such group can be made here, or reads on no disk are to be limited.
    """

    def __init__(self, limits: Limits, folders: Iterable[Path]) -> None:
        if limits.memory is not None:
            forget_page_cache()
        self._group = ControlGroup(("memory", "io"))
        self._group.__enter__()
        try:
            if limits.memory is not None:
                self._group.limit_memory(limits.memory)
            devices = sorted({device for folder in folders if not (device := device_of(folder)).startswith(_NO_DISK)})
            if limits.read_iops is not None and not devices:
                raise MissingCapabilityError(
                    "limits.read_iops: the app's files are on no disk", "put them, and TMPDIR, on a disk's file system"
                )
            for device in devices:
                self._group.limit_reads(device, limits.read_iops)
        except BaseException:
            self._group.remove()
            raise

    def wrap(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """A command that joins the group first."""
        return self._group.wrap(command, environment)

    def disk_use(self) -> DiskUse:
        """Of everything that has run in it."""
        return DiskUse(*self._group.disk_totals())

    def remove(self) -> None:
        """May be called any number of times."""
        self._group.remove()


def forget_page_cache() -> None:
    """Give up what the page cache holds of files: what others read or wrote before would cost a limited group nothing.

    Raises:
        MissingCapabilityError: refused.
    """
    os.sync()
    try:
        _DROP_CACHES.write_text("1")
    except OSError as error:
        raise MissingCapabilityError(
            f"{_DROP_CACHES}: {os.strerror(error.errno or 0)}",
            "run ditto as root, outside of containers that keep this from it",
        ) from error


def limited_group(spec: AppSpec, which: Which) -> LimitedGroup | None:
    """The group of a run; None where the app has no limits, and under an instrument, which needs more than the app.

    Raises:
        MissingCapabilityError: see `LimitedGroup`.
    """
    if spec.limits is None or which != "native":
        return None
    return LimitedGroup(spec.limits, (spec.folder, Path(tempfile.gettempdir())))  # of the app, and of a clone


def device_of(folder: Path, sys: Path = Path("/sys")) -> str:
    """The whole disk that a folder is on, as ``MAJOR:MINOR``."""
    number = os.stat(folder).st_dev
    name = f"{os.major(number)}:{os.minor(number)}"
    entry = sys / "dev" / "block" / name
    if (entry / "partition").exists():
        return (entry.resolve().parent / "dev").read_text().strip()
    return name
