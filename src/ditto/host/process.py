"""Processes: starting one, finding everything that came of it, what it used, and ending it all."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto.errors import AppError
from ditto.host import interrupts

MARKER = "DITTO_RUN"
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_SKIPPED = 256

# Children that this process started on purpose; any other child was left to it by an app (see become_subreaper).
_own_children: set[int] = set()

# Orphans without a readable marker, each with the run that first recognised it.
_claimed: dict[ProcessId, str] = {}


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number: its start time is part of it."""

    pid: int
    start_ticks: int


@dataclass(frozen=True)
class _Stat:
    parent: int
    session: int
    state: str
    start_ticks: int
    user_s: float
    system_s: float
    children_s: float
    children_user_s: float


@dataclass(frozen=True)
class CpuTimes:
    """CPU used so far, in seconds; the difference of two is what was used between them.

    Attributes:
        user_s: in user mode (resolution of the kernel's ticks, usually 10 ms).
        system_s: in the kernel (same resolution).
        run_s: both together, in the scheduler's own nanoseconds, including threads that have ended.
    """

    user_s: float
    system_s: float
    run_s: float

    def __sub__(self, earlier: CpuTimes) -> CpuTimes:
        return CpuTimes(self.user_s - earlier.user_s, self.system_s - earlier.system_s, self.run_s - earlier.run_s)


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes: pages counted once per process (rss), and shared pages divided (pss, 0 if unknown)."""

    rss_bytes: int
    pss_bytes: int


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process, so that daemons are found.  Harmless if refused."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    output: Path,
    errors: Path | None = None,
    hold: bool = False,
    with_parent: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ``command`` in a session of its own, with its output in files so that it never waits for a reader.

    With ``hold`` the process exists but waits before its exec until a line is written to its ``stdin``; its
    number stays the same.  Without ``errors`` both streams go to ``output``, which is appended to.  With
    ``with_parent`` it gets SIGTERM when this process ends, however it ends.

    Raises:
        AppError: the command cannot be executed.
    """
    words = list(command)
    if hold:
        words = ["/bin/sh", "-c", 'read -r go || exit 125; exec "$@" </dev/null', "ditto-hold", *words]
    with interrupts.held(), output.open("ab") as out, (errors or output).open("ab") as err:
        try:
            process = subprocess.Popen(
                words,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE if hold else subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()) if with_parent else None,
            )
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOEXEC, errno.EACCES, errno.E2BIG):
                raise
            raise AppError(
                f"{command[0]} cannot be executed: {os.strerror(error.errno)}",
                "a script needs a first line such as #!/bin/sh that names a program which is there",
            ) from None
        _own_children.add(process.pid)
    return process


def skip_numbers() -> None:
    """Let a random number of process numbers go by, up to 255: threads that do nothing take them.

    Clients seed their generators with the time and their process number, often ``time ^ pid``.  Where both grow by one
    from one run to the next, one run in three repeats the requests of the run before it, and a store that was filled
    by that is given no new key.
    """
    for _ in range(secrets.randbelow(_MOST_SKIPPED)):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()


def _end_with(parent: int) -> Callable[[], None]:
    prctl = ctypes.CDLL(None).prctl  # looked up here: the child only calls it

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def identify(pid: int) -> ProcessId | None:
    """The process that now has this number, or None."""
    stat = _read_stat(pid)
    return ProcessId(pid, stat.start_ticks) if stat else None


def is_alive(process: ProcessId) -> bool:
    """Whether it still runs (a zombie does not)."""
    stat = _read_stat(process.pid)
    return stat is not None and stat.start_ticks == process.start_ticks and stat.state not in "ZX"


def find_tree(known: Iterable[ProcessId], marker: str) -> set[ProcessId]:
    """All live processes that came of a run: its ``known`` ones, their descendants, and those with its marker.

    A server that makes itself a daemon leaves the tree but keeps the marker in its environment.  One that also
    writes its title over its environment is recognised as an orphan that this process did not start.
    """
    stats = {pid: stat for pid in _all_pids() if (stat := _read_stat(pid)) is not None and stat.state not in "ZX"}
    known = set(known)
    earliest = min((p.start_ticks for p in known), default=0)
    found = {p.pid for p in known if p.pid in stats and stats[p.pid].start_ticks == p.start_ticks}
    wanted = f"{MARKER}={marker}".encode()
    me = os.getpid()
    for pid, stat in stats.items():
        if pid in found or pid == me or stat.start_ticks < earliest:
            continue
        environment = _environment(pid)
        overwritten = bool(environment) and not environment.strip(b"\0").count(b"=")
        orphan = stat.parent == me and pid not in _own_children
        if wanted in environment.split(b"\0") or (
            orphan and overwritten and known and _claimed.setdefault(ProcessId(pid, stat.start_ticks), marker) == marker
        ):
            found.add(pid)
    growing = True
    while growing:
        children = {pid for pid, stat in stats.items() if stat.parent in found} - found
        growing = bool(children)
        found |= children
    found.discard(me)
    return {ProcessId(pid, stats[pid].start_ticks) for pid in found}


def any_marked(prefix: str) -> bool:
    """Whether a live process has a marker that begins with ``prefix``."""
    wanted = f"{MARKER}={prefix}".encode()
    return any(b"\0" + wanted in b"\0" + _environment(pid) for pid in _all_pids())


def cpu_times(processes: Iterable[ProcessId]) -> CpuTimes:
    """CPU used by these processes since they began, with their children that ended and were waited for."""
    user = system = run = 0.0
    for process in processes:
        stat = _read_stat(process.pid)
        if stat is None or stat.start_ticks != process.start_ticks:
            continue
        user += stat.user_s + stat.children_user_s
        system += stat.system_s + stat.children_s - stat.children_user_s
        try:
            # The kernel's clock of a whole process: the number of clock_getcpuclockid(3).
            run += time.clock_gettime((~process.pid << 3) | 2)
        except OSError:
            run += stat.user_s + stat.system_s
        run += stat.children_s
    return CpuTimes(user, system, run)


def memory(processes: Iterable[ProcessId]) -> Memory:
    """Resident memory of these processes now."""
    rss = pss = 0
    for process in processes:
        try:
            rss += int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * _PAGE
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1]) * 1024
        except OSError:
            continue
    return Memory(rss, pss)


def end_processes(
    known: Iterable[ProcessId], marker: str, patience_s: float, reap: Callable[[], object] = lambda: None
) -> None:
    """End all that `find_tree` finds: SIGTERM, then SIGKILL to what is left after ``patience_s`` seconds.

    ``reap`` is called again and again to collect the caller's own child.
    """
    tracked = set(known)
    deadline = time.monotonic() + patience_s
    told: set[ProcessId] = set()
    empty_looks = 0
    while True:
        live = find_tree(tracked, marker)
        tracked |= live
        _reap(tracked)
        reap()
        # Twice, for one look at /proc can miss a process in the middle of forking itself into the background.
        empty_looks = 0 if live else empty_looks + 1
        if empty_looks == 2:
            return
        late = time.monotonic() >= deadline
        for process in live:
            if late or process not in told:
                # A stopped process acts on SIGTERM only once it continues.
                _signal(process, signal.SIGKILL if late else signal.SIGTERM)
                _signal(process, signal.SIGCONT)
                told.add(process)
        if late and time.monotonic() > deadline + 10:
            return
        time.sleep(0.01)


def _signal(process: ProcessId, number: signal.Signals) -> None:
    if is_alive(process):
        try:
            os.kill(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def _reap(processes: Iterable[ProcessId]) -> None:
    """Collect orphans that became ours; children of subprocess are collected by their owners."""
    for process in processes:
        if process.pid not in _own_children:
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                pass


def forget(pid: int) -> None:
    """A process started by `spawn` was waited for: its number may be used again."""
    _own_children.discard(pid)


def threads_of(pid: int) -> list[int]:
    """Live threads of a process, in the order of their numbers; none where it has ended."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return []


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _read_stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may itself hold blanks and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(
        parent=int(fields[1]),
        session=int(fields[3]),
        state=fields[0],
        start_ticks=int(fields[19]),
        user_s=int(fields[11]) / _TICKS,
        system_s=int(fields[12]) / _TICKS,
        children_s=(int(fields[13]) + int(fields[14])) / _TICKS,
        children_user_s=int(fields[13]) / _TICKS,
    )
