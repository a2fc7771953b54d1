"""Control groups of version 1 and 2: limits on the CPU time, memory or reads of a run's servers, removed at its end.

    with ControlGroup(("cpu",)) as group, AppRun(spec, wrap=group.wrap) as run:
        run.prepare()
        group.limit_cpu(0.5)

A group is made below the one that this process is in, so that the limits it is under itself go on to hold, and named
after this process, so that a later run finds and removes what one that was killed has left.
"""

from __future__ import annotations

import atexit
import errno
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType

from ditto.errors import BadInputError, MissingCapabilityError
from ditto.host import interrupts, process

PREFIX = "ditto-"
PERIOD_US = 100_000
_SHORTEST_QUOTA_US = 1000
_PATIENCE_S = 5.0
_JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"'
_OLD_NAMES = {"io": "blkio"}
"""Of controllers that version 1 calls otherwise."""
_UNREACHED = 1_000_000_000
_MOUNT_V2 = "mount -t cgroup2 none /sys/fs/cgroup"

_numbers = itertools.count(1)
_live: set[ControlGroup] = set()


@dataclass(frozen=True)
class Place:
    """Where groups of one controller can be made.

    Attributes:
        version: 1 or 2.
        folder: the group that this process is in.
        mount: where the hierarchy is mounted.
    """

    version: int
    folder: Path
    mount: Path


def find_places(proc: Path = Path("/proc/self")) -> dict[str, Place]:
    """The place of each controller that is mounted, by its name; version 2 alone is under the empty name.

    A controller belongs to one hierarchy at a time: where version 1 has it, version 2 does not.
    """
    own: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    found: dict[str, Place] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount = (_plain(word) for word in before.split()[3:5])
        kind, *_, options = after.split()
        if kind == "cgroup2":
            found.setdefault("", Place(2, _below(mount, root, own.get("", "/")), Path(mount)))
        elif kind == "cgroup":
            for name in options.split(","):
                if name in own:
                    found.setdefault(name, Place(1, _below(mount, root, own[name]), Path(mount)))
    return found


def _plain(word: str) -> str:
    return word.replace("\\040", " ")


def _below(mount: str, root: str, path: str) -> Path:
    """The folder of the group ``path`` where ``root`` of its hierarchy is mounted; the mount if it is not in there."""
    try:
        folder = Path(mount) / PurePosixPath(path).relative_to(root)
    except ValueError:
        return Path(mount)
    return folder if folder.is_dir() else Path(mount)


class ControlGroup:
    """A group with the controllers that are asked for; without a limit as long as none is set.

    Args:
        controllers: of ``cpu``, ``memory`` and ``io``.
        places: what `find_places` gives, looked up without it.
    """

    def __init__(self, controllers: Sequence[str], places: dict[str, Place] | None = None) -> None:
        self._controllers = tuple(controllers)
        self._places = places
        self._folders: dict[str, Path] = {}
        self._versions: dict[str, int] = {}
        self._pid = os.getpid()

    def __enter__(self) -> ControlGroup:
        with interrupts.held():
            try:
                self._make()
            except BaseException:
                self.remove()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _make(self) -> None:
        places = find_places() if self._places is None else self._places
        me = process.identify(os.getpid())
        name = f"{PREFIX}{os.getpid()}-{me.start_ticks if me else 0}-{next(_numbers)}"
        _live.add(self)
        for controller in self._controllers:
            place = places.get(_OLD_NAMES.get(controller, controller)) or places.get("")
            if place is None:
                raise MissingCapabilityError(f"no control groups are mounted for {controller}", _MOUNT_V2)
            parent = place.folder if place.version == 1 else _parent_v2(place, self._controllers)
            remove_stale_groups(parent)
            folder = parent / name
            try:
                folder.mkdir(exist_ok=folder in self._folders.values())
            except OSError as error:
                raise _refused(folder.parent, error) from error
            self._folders[controller], self._versions[controller] = folder, place.version

    @property
    def folders(self) -> tuple[Path, ...]:
        """Its folders: one a controller in version 1, one in all in version 2."""
        return tuple(dict.fromkeys(self._folders.values()))

    def wrap(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """A command that joins the group before anything else and becomes ``command``; for `AppRun`."""
        joins = [str(folder / "cgroup.procs") for folder in self.folders]
        return ["/bin/sh", "-c", _JOIN, "ditto-join", *joins, "--", *command], environment

    def limit_cpu(self, cores: float) -> None:
        """Let it use the CPU time of so many cores, in each tenth of a second.

        Raises:
            BadInputError: less than the kernel takes.
            MissingCapabilityError: refused.
        """
        quota = round(cores * PERIOD_US)
        if quota < _SHORTEST_QUOTA_US:
            raise BadInputError(f"a quota of {cores:g} cores is too small", "0.01 cores is the least")
        if self._versions["cpu"] == 2:
            self._write("cpu", "cpu.max", f"{quota} {PERIOD_US}")
        else:
            self._write("cpu", "cpu.cfs_period_us", str(PERIOD_US))
            self._write("cpu", "cpu.cfs_quota_us", str(quota))

    def yield_cpu(self) -> None:
        """Let it have only the CPU time that nothing else wants, and give it up at once.

        A low priority would not do: sessions share a CPU evenly, whatever the priorities inside of them are
        (sched_autogroup), and so do groups.

        Raises:
            MissingCapabilityError: refused, or a kernel before 5.15.
        """
        self._write("cpu", "cpu.idle", "1")

    def limit_memory(self, size: int) -> None:
        """Let it hold so many bytes, page cache and the kernel's memory for it included; set before anything joins.

        Raises:
            MissingCapabilityError: refused.
        """
        name = "memory.max" if self._versions["memory"] == 2 else "memory.limit_in_bytes"
        self._write("memory", name, str(size))

    def limit_reads(self, device: str, per_second: int | None) -> None:
        """Let it make so many reads a second on a disk (``MAJOR:MINOR``), None for any number, and count them.

        Raises:
            MissingCapabilityError: refused, or no disk.
        """
        if self._versions["io"] == 2:
            self._write("io", "io.max", f"{device} riops={per_second or 'max'}")
            return
        # Version 1 counts only where there is a limit.
        self._write("io", "blkio.throttle.read_iops_device", f"{device} {per_second or _UNREACHED}")
        self._write("io", "blkio.throttle.write_iops_device", f"{device} {_UNREACHED}")

    def disk_totals(self) -> tuple[int, int, int, int]:
        """Reads, bytes read, writes and bytes written that its processes asked disks for."""
        folder = self._folders["io"]
        if self._versions["io"] == 2:
            words = [word.partition("=") for word in (folder / "io.stat").read_text().split()]
            sums = {
                key: sum(int(v) for name, _, v in words if name == key) for key in ("rios", "rbytes", "wios", "wbytes")
            }
            return sums["rios"], sums["rbytes"], sums["wios"], sums["wbytes"]
        found = []
        for kind in ("Read", "Write"):
            for name in ("io_serviced", "io_service_bytes"):
                lines = (folder / f"blkio.throttle.{name}").read_text().splitlines()
                found.append(sum(int(line.split()[2]) for line in lines if line.split()[1:2] == [kind]))
        return found[0], found[1], found[2], found[3]

    def memory_peak(self) -> int:
        """The most bytes it has held; what it holds now where the kernel does not keep the most."""
        names = ("memory.peak", "memory.current") if self._versions["memory"] == 2 else ("memory.max_usage_in_bytes",)
        for name in names:
            try:
                return int((self._folders["memory"] / name).read_text())
            except OSError:
                continue
        return 0

    def kills(self) -> int:
        """How many of its processes the kernel ended because memory ran out."""
        name = "memory.events" if self._versions["memory"] == 2 else "memory.oom_control"
        lines = (self._folders["memory"] / name).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def remove(self) -> None:
        """Remove it; what still runs in it goes to the group above.  May be called any number of times."""
        with interrupts.held():
            for folder in self.folders:
                _remove(folder, time.monotonic() + _PATIENCE_S)
            self._folders.clear()
            _live.discard(self)

    def _write(self, controller: str, name: str, value: str) -> None:
        try:
            (self._folders[controller] / name).write_text(value)
        except OSError as error:
            raise MissingCapabilityError(
                f"{self._folders[controller] / name}: {value}: {os.strerror(error.errno or 0)}",
                "run ditto as root, outside of containers that keep this from it",
            ) from error


def remove_stale_groups(parent: Path) -> None:
    """Remove groups below ``parent`` whose ditto is gone; one that still has processes stays as it is."""
    for folder in parent.glob(f"{PREFIX}*-*-*"):
        try:
            pid, ticks, _ = (int(word) for word in folder.name.removeprefix(PREFIX).split("-"))
            if not process.is_alive(process.ProcessId(pid, ticks)):
                folder.rmdir()
        except (OSError, ValueError):
            continue


def _parent_v2(place: Place, controllers: Sequence[str]) -> Path:
    """The nearest group, from this process' own upwards, whose groups have the controllers.

    Groups with processes of their own cannot hand controllers on, except for the topmost, which is told to where none
    does yet.
    """
    steps = [place.folder, *place.folder.parents]
    for folder in steps[: steps.index(place.mount) + 1 if place.mount in steps else 1]:
        if set(controllers) <= _words(folder / "cgroup.subtree_control"):
            return folder
    try:
        text = " ".join(f"+{name}" for name in controllers)
        (place.mount / "cgroup.subtree_control").write_text(text)
    except OSError as error:
        raise _refused(place.mount, error) from error
    return place.mount


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _refused(folder: Path, error: OSError) -> MissingCapabilityError:
    inside = error.errno in (errno.EROFS, errno.EBUSY, errno.ENOENT)
    return MissingCapabilityError(
        f"{folder}: no control group can be made here ({os.strerror(error.errno or 0)})",
        "start the container with --privileged" if inside else "run ditto as root",
    )


def _remove(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            # Busy: something has not ended yet.  A server that outlives its run is no reason to keep its limit.
            if time.monotonic() > deadline:
                return
            for pid in _members(folder):
                try:
                    (folder.parent / "cgroup.procs").write_text(str(pid))
                except OSError:
                    continue
            time.sleep(0.02)


def _members(folder: Path) -> Iterator[int]:
    try:
        yield from (int(word) for word in (folder / "cgroup.procs").read_text().split())
    except OSError:
        return


@atexit.register
def _remove_forgotten_groups() -> None:
    for group in list(_live):
        if group._pid == os.getpid():
            group.remove()
