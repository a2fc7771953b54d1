"""Run a program under the lens tool, and tell it when to warm up, count, write and rest.

run = LensRun.create(folder, codec="resp")
process = subprocess.Popen(run.command(["redis-server", ...]), env=run.env())
...                      # until it is ready
run.control.warm()       # fill the LRU stacks
run.control.count()
...                      # load
processes = run.stop()   # every process of the run, as written at this moment
"""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from ditto.artifacts.lens import LensProcess, load_lens
from ditto.errors import MissingCapabilityError, RecordingError
from ditto.paths import lens_directory

Codec = Literal["resp", "http1", "memcached", "pgsql", "mysql", "fastcgi", "h2", "opaque"]

_TOOL = "lens-amd64-linux"
_PAGE_BYTES = 4096
_POLL_S = 0.02
_POKE_AFTER_S = 0.3
_POKE_TIMEOUT_S = 5.0


class LensMode(IntEnum):
    """The control page's first word."""

    WARM = 0
    COUNT = 1
    STOP = 2
    OFF = 3


def require_lens() -> str:
    """Full path of valgrind.

    Raises:
        MissingCapabilityError: valgrind is not installed, or the lens tool is not built.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise MissingCapabilityError("valgrind: command not found", "apt-get install valgrind")
    if not (lens_directory() / _TOOL).is_file():
        raise MissingCapabilityError(f"{lens_directory() / _TOOL}: the lens tool is not built", "make -C native/lens")
    return valgrind


def lens_command(
    command: Sequence[str],
    out_prefix: Path,
    control_path: Path | None = None,
    codec: Codec = "opaque",
    events: int = 0,
    extra: Sequence[str] = (),
) -> list[str]:
    """The command that runs ``command`` under the lens; its environment must hold :func:`lens_env`.

    Args:
        out_prefix: each process writes ``<out_prefix>.<pid>.lens``.
        control_path: a file made by :class:`LensControl`; without one everything is counted from the start.
        codec: what request classes are taken from.
        events: system call events recorded at most, per process.
        extra: further options of valgrind.

    Raises:
        MissingCapabilityError: valgrind or the tool is missing.
    """
    line = [require_lens(), "--tool=lens", "-q", "--fair-sched=yes", "--trace-children=yes", f"--out={out_prefix}",
            f"--codec={codec}", f"--events={events}"]  # fmt: skip
    if control_path is not None:
        line.append(f"--control={control_path}")
    return [*line, *extra, *command]


def lens_env(base: Mapping[str, str] | None = None, tool: Path | None = None) -> dict[str, str]:
    """The environment (default: this process') with VALGRIND_LIB set to the lens' folder, or to ``tool``."""
    return {**(os.environ if base is None else base), "VALGRIND_LIB": str(tool or lens_directory())}


def _is_public(folder: Path) -> bool:
    """Whether every user may go there."""
    return all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))


def _copy_tool(to: Path) -> None:
    """A copy of the tool, beside links to Valgrind's own files."""
    to.mkdir(exist_ok=True)
    to.chmod(0o755)
    for path in lens_directory().iterdir():
        place = to / path.name
        if path.is_symlink() and not place.is_symlink():
            place.symlink_to(path.readlink())
    shutil.copy(lens_directory() / _TOOL, to)


class LensControl:
    """The shared page through which running processes are told what to do; takes effect at each one's next block."""

    def __init__(self, path: Path, mode: LensMode = LensMode.OFF) -> None:
        """Make (or reset) the file at ``path``, readable and writable by any user, since servers change theirs."""
        self.path = path
        path.write_bytes(struct.pack("<I", mode) + bytes(_PAGE_BYTES - 4))
        path.chmod(0o666)
        with path.open("r+b") as stream:
            self._page = mmap.mmap(stream.fileno(), _PAGE_BYTES)

    @property
    def mode(self) -> LensMode:
        return LensMode(struct.unpack_from("<I", self._page)[0])

    def set(self, mode: LensMode) -> None:
        struct.pack_into("<I", self._page, 0, mode)

    def warm(self) -> None:
        """Keep LRU stacks and predictors up to date, count nothing."""
        self.set(LensMode.WARM)

    def count(self) -> None:
        """Count; every thread starts a fresh segment."""
        self.set(LensMode.COUNT)

    def stop(self) -> None:
        """Write the file now, reset the counts, then rest."""
        self.set(LensMode.STOP)

    def off(self) -> None:
        """Track nothing."""
        self.set(LensMode.OFF)

    def close(self) -> None:
        self._page.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class LensRun:
    """One run of a program and its children under the lens.

    Attributes:
        out_prefix: prefix of the files.
        control: the control page.
        codec, events, extra: see :func:`lens_command`.
        tool: folder of a copy of the lens, where the lens itself lies in one that other users may not enter (a
            checkout in root's home): a program that changed its user may execute another.
    """

    out_prefix: Path
    control: LensControl
    codec: Codec = "opaque"
    events: int = 0
    extra: tuple[str, ...] = field(default=())
    tool: Path | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        codec: Codec = "opaque",
        events: int = 0,
        extra: Sequence[str] = (),
        mode: LensMode = LensMode.OFF,
    ) -> Self:
        """Prepare ``folder`` (made if need be, writable by any user; earlier .lens files of a run there are deleted).

        Raises:
            MissingCapabilityError: valgrind or the tool is missing.
        """
        require_lens()
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)
        # Of its own: a process that changed its user must be able to delete what it made before, which /tmp forbids.
        pipes = folder / "vgdb"
        pipes.mkdir(exist_ok=True)
        pipes.chmod(0o777)
        for old in (*folder.glob("run.*.lens"), *folder.glob("run.*.lens.tmp")):
            old.unlink()
        tool = None
        if os.geteuid() == 0 and not _is_public(lens_directory()):
            tool = folder / "tool"
            _copy_tool(tool)
        return cls(folder / "run", LensControl(folder / "control", mode), codec, events, tuple(extra), tool)

    def command(self, command: Sequence[str]) -> list[str]:
        """``command`` as run under the lens."""
        extra = (f"--vgdb-prefix={self.vgdb_prefix}", *self.extra)
        return lens_command(command, self.out_prefix, self.control.path, self.codec, self.events, extra)

    @property
    def vgdb_prefix(self) -> Path:
        """What the names of the pipes begin with through which vgdb reaches the processes."""
        return self.out_prefix.parent / "vgdb" / "pipe"

    def env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for it; see :func:`lens_env`."""
        return lens_env(base, self.tool)

    def pids(self) -> list[int]:
        """Processes of this run that are alive, by their command line; in order of process id."""
        option = os.fsencode(f"--out={self.out_prefix}")
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if option in arguments and b"--tool=lens" in arguments and state not in "ZX":
                found.append(int(entry.name))
        return sorted(found)

    def path_of(self, pid: int) -> Path:
        """Where a process writes."""
        return self.out_prefix.with_name(f"{self.out_prefix.name}.{pid}.lens")

    def stop(self, timeout_s: float = 60.0) -> list[LensProcess]:
        """Stop counting, wait until every living process has written its file, and read all files of the run.

        A process that sleeps in a system call is woken; one that has changed its user is of no use after that.

        Raises:
            RecordingError: some process did not write in time; names it.
        """
        waiting = self.pids()
        before = {pid: _stamp(self.path_of(pid)) for pid in waiting}
        self.control.stop()
        begin = time.monotonic()
        poked: set[int] = set()
        while True:
            alive = set(self.pids())
            waiting = [pid for pid in waiting if pid in alive and _stamp(self.path_of(pid)) == before[pid]]
            if not waiting:
                return self.collect()
            now = time.monotonic() - begin
            if now > timeout_s:
                raise RecordingError(
                    f"process {waiting[0]} under the lens wrote no file within {timeout_s:.0f} s",
                    "make its load end later, or give lens_command in app.toml",
                )
            if now > _POKE_AFTER_S:
                for pid in waiting:
                    if pid not in poked:
                        _poke(pid, self.vgdb_prefix)
                        poked.add(pid)
            time.sleep(_POLL_S)

    def collect(self) -> list[LensProcess]:
        """All files written so far, by process id; also those of processes that have ended.

        Raises:
            BadInputError: a file is damaged.
        """
        files = self.out_prefix.parent.glob(f"{self.out_prefix.name}.*.lens")
        return sorted((load_lens(path) for path in files), key=lambda process: process.pid)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _poke(pid: int, vgdb_prefix: Path) -> None:
    """Have a sleeping process look at its control page.

    Through vgdb, which finds it in any system call and leaves no trace.  A process that has changed its user cannot
    open the pipes vgdb talks through, and Valgrind takes that as fatal: such a one, and one that vgdb does not reach,
    gets the last real-time signal.  It is Valgrind's own, for threads that are to end: it takes them out of any call,
    with a result that means nothing.  So the process writes its file, but is of no further use.
    """
    try:
        own = _user(pid) == os.geteuid()
        if not own or not _ask_vgdb(pid, vgdb_prefix):
            os.kill(pid, signal.SIGRTMAX)
    except OSError:
        pass


def _ask_vgdb(pid: int, vgdb_prefix: Path) -> bool:
    """Whether vgdb reached the process."""
    vgdb = shutil.which("vgdb")
    if vgdb is None:
        return False
    try:
        command = [vgdb, f"--pid={pid}", f"--vgdb-prefix={vgdb_prefix}", "lens.poll"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=_POKE_TIMEOUT_S, check=False)  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _user(pid: int) -> int:
    """Effective user of a process; -1 if unknown."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return -1
