"""Facts of running processes at one moment: their threads, what each waits in, their descriptors and files."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.observation import DescriptorSeen, FileSeen, ProcessSeen, ThreadSeen
from ditto.artifacts.records import RECORD, Kind, load_recording
from ditto.artifacts.syscalls import numbers

_PROC = Path("/proc")
_ESTABLISHED, _LISTENING = "01", "0A"
_PIDFD_GETFD = 438
_NO_FILES = ("/memfd:", "/dev/zero")
_NAMED = ("eventfd", "timerfd", "signalfd", "io_uring")
_SHARED = ("pipe", "listener", "datagram", "connection", "downstream", "socket")
_PATH_CALLS = numbers("open", "openat", "stat", "lstat", "newfstatat", "access", "statx")


def tree(pids: Iterable[int]) -> list[ProcessSeen]:
    """The processes and their threads now; those that end meanwhile are left out."""
    return [process for pid in pids if (process := _process(pid)) is not None]


def _process(pid: int) -> ProcessSeen | None:
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")
        name = fields[0].partition("(")[2]
        rest = fields[2].split()
        threads = [_thread(pid, int(task.name)) for task in sorted((_PROC / str(pid) / "task").iterdir())]
        status = dict(line.split(":", 1) for line in (_PROC / str(pid) / "status").read_text().splitlines())
    except OSError:
        return None
    return ProcessSeen(
        pid=pid,
        ppid=int(rest[1]),
        name=name,
        threads=[t for t in threads if t],
        rss_bytes=int(rest[21]) * os.sysconf("SC_PAGE_SIZE"),
        file_bytes=int(status.get("RssFile", "0 kB").split()[0]) << 10,
        session=int(rest[3]),
    )


def _thread(pid: int, tid: int) -> ThreadSeen | None:
    folder = _PROC / str(pid) / "task" / str(tid)
    try:
        name = (folder / "comm").read_text().strip()
        first = (folder / "syscall").read_text().split()[0]
    except (OSError, IndexError):
        return None
    return ThreadSeen(tid=tid, name=name, syscall=int(first) if first.lstrip("-").isdigit() else -1)


def descriptors(pids: Iterable[int]) -> list[DescriptorSeen]:
    """Every open descriptor of the processes now."""
    seen: list[DescriptorSeen] = []
    for pid in pids:
        listeners, connections, outward = _sockets(pid)
        datagrams = _datagram_sockets(pid)
        try:
            links = sorted((_PROC / str(pid) / "fd").iterdir(), key=lambda p: int(p.name))
        except OSError:
            continue
        for link in links:
            item = _descriptor(pid, link, listeners, connections, outward, datagrams)
            if item is not None:
                seen.append(item)
    return seen


def _descriptor(
    pid: int,
    link: Path,
    listeners: dict[str, int],
    connections: set[str],
    outward: dict[str, int],
    datagrams: dict[str, int],
) -> DescriptorSeen | None:
    try:
        target = os.readlink(link)
        info = (_PROC / str(pid) / "fdinfo" / link.name).read_text()
    except OSError:
        return None
    flags = next((int(line.split()[1], 8) for line in info.splitlines() if line.startswith("flags:")), 0)
    kind, path, port, size = "unknown", "", 0, 0
    if target.startswith("socket:["):
        inode = target[8:-1]
        if inode in listeners:
            kind, port = "listener", listeners[inode]
        elif inode in outward:
            kind, port = "downstream", outward[inode]
        elif inode in datagrams:
            kind, port = "datagram", datagrams[inode]
        else:
            kind = "connection" if inode in connections else "socket"
    elif target.startswith("anon_inode:"):
        name = target.partition(":")[2].strip("[]")
        kind = "epoll" if name == "eventpoll" else name if name in _NAMED else "unknown"
    elif target.startswith("pipe:"):
        kind = "pipe"
    elif target.startswith("/"):
        kind, path = "file", target
        try:
            size = os.stat(link).st_size
        except OSError:
            size = 0
    identity = target if kind in _SHARED else ""
    nodelay = kind == "connection" and _nodelay(pid, int(link.name))
    return DescriptorSeen(
        pid=pid, fd=int(link.name), kind=kind, path=path, port=port, flags=flags, size=size, identity=identity,
        nodelay=nodelay,
    )  # fmt: skip


def _nodelay(pid: int, fd: int) -> bool:
    """Whether TCP_NODELAY is set on another process' connection; false where that may not be asked."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    copy = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, fd, 0)
    os.close(process)
    if copy < 0:
        return False
    with socket.socket(fileno=copy) as connection:
        try:
            return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        except OSError:  # no TCP
            return False


@dataclass(frozen=True)
class _Socket:
    """A line of a protocol's table in ``/proc/PID/net``."""

    inode: str
    local: int
    remote: int
    state: str


def _table(pid: int | str, protocol: str) -> Iterator[_Socket]:
    """The sockets of a protocol (``tcp`` or ``udp``) in the network namespace of a process, both families."""
    for name in (protocol, f"{protocol}6"):
        try:
            lines = (_PROC / str(pid) / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            parts = line.split()
            local, remote = (int(parts[at].rpartition(":")[2], 16) for at in (1, 2))
            yield _Socket(parts[9], local, remote, parts[3])


def connections_to(port: int) -> int:
    """Connections that a server on this port has."""
    return sum(s.state == _ESTABLISHED and s.local == port for s in _table("self", "tcp"))


def _sockets(pid: int) -> tuple[dict[str, int], set[str], dict[str, int]]:
    """Inodes of listening TCP sockets with their ports, of accepted ones, and of those that connected, with whereto.

    A connection that was accepted has the port of its listener.
    """
    found = list(_table(pid, "tcp"))
    listeners = {s.inode: s.local for s in found if s.state == _LISTENING}
    connected = [s for s in found if s.state != _LISTENING]
    ports = set(listeners.values())
    accepted = {s.inode for s in connected if s.local in ports}
    return listeners, accepted, {s.inode: s.remote for s in connected if s.inode not in accepted}


def _datagram_sockets(pid: int) -> dict[str, int]:
    """Inodes of UDP sockets that are bound and have no peer, with their ports."""
    return {s.inode: s.local for s in _table(pid, "udp") if not s.remote}


def file_sizes(recording: Path, pids: Iterable[int]) -> list[FileSeen]:
    """Sizes of the files that a recording names, seen from the processes' own working directories."""
    records = load_recording(recording).records
    calls = records[(records["kind"] == Kind.SYSCALL) & (records["payload_len"] > 0)]
    folders = {int(pid): f"/proc/{pid}/cwd" for pid in pids}
    seen: dict[str, int] = {}
    named = calls[[int(nr) in _PATH_CALLS for nr in calls["nr"]]] if len(calls) else calls
    offset = RECORD.fields["payload"][1]  # type: ignore[index]
    for record in named[:200_000]:
        raw = record.tobytes()[offset : offset + int(record["payload_len"])].split(b"\0", 1)[0]
        path = raw.decode("utf-8", "surrogateescape")
        if not path or path in seen or len(raw) >= 64 or len(seen) >= 100_000:
            continue
        base = folders.get(int(record["pid"])) or next(iter(folders.values()), "/")
        try:
            seen[path] = os.stat(os.path.join(base, path) if not path.startswith("/") else path).st_size
        except OSError:
            seen[path] = -1
    printable = {p: s for p, s in seen.items() if p.isprintable()}
    return [FileSeen(path=path, size=size) for path, size in sorted(printable.items())]


def makes_code(pids: Iterable[int]) -> bool:
    """Whether some process has executable memory that is of no file, as compilers at run time need."""
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
        except OSError:  # it has ended
            continue
        for words in map(str.split, lines):
            if "x" in words[1] and (len(words) < 6 or words[5].startswith(_NO_FILES)):
                return True
    return False
