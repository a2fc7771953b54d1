"""What a running process tree has open, and who is in it, read from ``/proc``.

For a service that was running before it is observed: the calls that opened its descriptors were never seen.
Everything here is a snapshot of something that changes; what disappears while it is read is left out.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DescriptorKind = Literal[
    "tcp-listener",
    "tcp-connection",
    "udp",
    "unix",
    "epoll",
    "eventfd",
    "timerfd",
    "pipe",
    "file",
    "device",
    "other",
]

_TCP_LISTEN = 0x0A
_UNIX_ACCEPTING = 0x10000
_ANONYMOUS: dict[str, DescriptorKind] = {"[eventpoll]": "epoll", "[eventfd]": "eventfd", "[timerfd]": "timerfd"}
_WATCHED = re.compile(r"^tfd:\s*(\d+)", re.MULTILINE)
_SOCKET = re.compile(r"socket:\[(\d+)\]$")


@dataclass(frozen=True)
class Descriptor:
    """One open descriptor.

    Attributes:
        target: what ``/proc/PID/fd`` says it is: a path, ``socket:[inode]``, ``anon_inode:[eventpoll]``.
        local: for TCP and UDP ``address:port`` (IPv6 in brackets), for unix the bound path (``@`` if abstract).
        remote: for a TCP connection or a connected UDP socket its other end, else empty.
        flags: the flags of open(2), as the kernel has them.
        offset: the file position, in bytes; 0 where there is none.
        size: of a regular file, in bytes; 0 for anything else.
        listening: it accepts connections (TCP or unix).
        watched: of an epoll descriptor, the descriptors it waits for, sorted.
    """

    pid: int
    fd: int
    kind: DescriptorKind
    target: str
    local: str
    remote: str
    flags: int
    offset: int
    size: int
    listening: bool
    watched: tuple[int, ...] = ()


@dataclass(frozen=True)
class ThreadFacts:
    """One thread: its id and its name."""

    tid: int
    comm: str


@dataclass(frozen=True)
class ProcessFacts:
    """One process.

    Attributes:
        threads: sorted by id; the first is the main thread.
        start_ns: when it started, in nanoseconds since boot (to a hundredth of a second).
    """

    pid: int
    ppid: int
    comm: str
    threads: tuple[ThreadFacts, ...]
    start_ns: int


@dataclass(frozen=True)
class _Socket:
    kind: DescriptorKind
    local: str
    remote: str
    listening: bool


def snapshot(pids: Iterable[int]) -> list[Descriptor]:
    """The open descriptors of the processes, sorted by process and number; a process that is gone has none.

    Raises:
        PermissionError: a process belongs to another user.
    """
    return [descriptor for pid in sorted(set(pids)) for descriptor in _of_process(pid)]


def process_tree(root: int) -> list[ProcessFacts]:
    """The process and everything below it, parents before children; empty if it is gone."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(entry)
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[ProcessFacts] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop(0)
        facts = _facts(pid)
        if facts:
            found.append(facts)
            waiting.extend(sorted(children.get(pid, [])))
    return found


def _of_process(pid: int) -> Iterator[Descriptor]:
    base = Path(f"/proc/{pid}")
    links: list[tuple[int, str]] = []
    try:
        numbers = sorted(int(name) for name in os.listdir(base / "fd"))
    except (FileNotFoundError, ProcessLookupError):
        return
    for number in numbers:
        try:
            links.append((number, os.readlink(base / "fd" / str(number))))
        except (FileNotFoundError, ProcessLookupError):
            continue
    # After the links: a socket opened in between is then unknown, but none is missed that was there before.
    sockets = _sockets(base / "net") if any(_SOCKET.match(target) for _, target in links) else {}
    for number, target in links:
        try:
            yield _describe(base, pid, number, target, sockets)
        except (FileNotFoundError, ProcessLookupError):
            continue


def _describe(base: Path, pid: int, number: int, target: str, sockets: dict[int, _Socket]) -> Descriptor:
    text = (base / "fdinfo" / str(number)).read_text(errors="replace")
    info = _fields(text)
    kind: DescriptorKind = "other"
    entry = _Socket("other", "", "", False)
    size = 0
    match = _SOCKET.match(target)
    if match:
        entry = sockets.get(int(match.group(1)), entry)
        kind = entry.kind
    elif target.startswith("anon_inode:"):
        kind = _ANONYMOUS.get(target.removeprefix("anon_inode:"), "other")
    elif target.startswith("pipe:"):
        kind = "pipe"
    else:
        facts = os.stat(base / "fd" / str(number))
        if stat.S_ISREG(facts.st_mode):
            kind, size = "file", facts.st_size
        elif stat.S_ISCHR(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
            kind = "device"
        elif stat.S_ISFIFO(facts.st_mode):
            kind = "pipe"
    return Descriptor(
        pid=pid,
        fd=number,
        kind=kind,
        target=target,
        local=entry.local,
        remote=entry.remote,
        flags=int(info.get("flags", "0"), 8),
        offset=int(info.get("pos", "0")),
        size=size,
        listening=entry.listening,
        watched=tuple(sorted(int(fd) for fd in _WATCHED.findall(text))),
    )


def _fields(text: str) -> dict[str, str]:
    """``name: value`` lines; the first of a name counts (epoll repeats ``pos`` for each of its targets)."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _sockets(net: Path) -> dict[int, _Socket]:
    """Sockets of the process' network namespace, by inode."""
    found: dict[int, _Socket] = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for row in _rows(net / name):
            if len(row) < 10:
                continue
            local, remote, state = _address(row[1]), _address(row[2]), int(row[3], 16)
            connected = not row[2].endswith(":0000")
            if name.startswith("udp"):
                found[int(row[9])] = _Socket("udp", local, remote if connected else "", False)
            elif state == _TCP_LISTEN:
                found[int(row[9])] = _Socket("tcp-listener", local, "", True)
            else:
                found[int(row[9])] = _Socket("tcp-connection", local, remote if connected else "", False)
    for row in _rows(net / "unix"):
        if len(row) >= 7:
            listening = bool(int(row[3], 16) & _UNIX_ACCEPTING)
            found[int(row[6])] = _Socket("unix", " ".join(row[7:]), "", listening)
    return found


def _rows(path: Path) -> Sequence[list[str]]:
    try:
        lines = path.read_text(errors="replace").splitlines()[1:]
    except OSError:  # no IPv6, for example
        return []
    return [line.split() for line in lines]


def _address(text: str) -> str:
    """``0100007F:1F90`` to ``127.0.0.1:8080``: 32-bit words in host order, the port in hexadecimal."""
    host, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8))
    if len(raw) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, raw)}:{int(port, 16)}"
    return f"[{socket.inet_ntop(socket.AF_INET6, raw)}]:{int(port, 16)}"


def _stat_fields(base: Path) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name (which may hold spaces and brackets); empty if it is gone."""
    try:
        return (base / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def _comm(base: Path) -> str:
    return (base / "comm").read_text(errors="replace").rstrip("\n")


def _facts(pid: int) -> ProcessFacts | None:
    base = Path(f"/proc/{pid}")
    fields = _stat_fields(base)
    if not fields:
        return None
    threads: list[ThreadFacts] = []
    try:
        comm = _comm(base)
        for tid in sorted(int(name) for name in os.listdir(base / "task")):
            try:
                threads.append(ThreadFacts(tid, _comm(base / "task" / str(tid))))
            except OSError:
                continue
    except OSError:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return ProcessFacts(
        pid=pid,
        ppid=int(fields[1]),
        comm=comm,
        threads=tuple(threads),
        start_ns=int(fields[19]) * (1_000_000_000 // ticks),
    )
