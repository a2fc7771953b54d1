"""Context switches of tasks that have ended: a server may make a process or a thread for each connection, and none of
them is there any more when a run of the client is over.

The kernel tells what each task used when it ends (taskstats, over netlink), to whoever may ask: root, in the first
namespaces of a kernel that has it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_NETLINK_GENERIC = 16
_REQUEST, _REQUEST_ACK = 1, 5
_CONTROLLER, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_REGISTER, _CPUS = 1, 3
_ONE_TASK, _STATS = 4, 3
_ERROR = 2
_HEAD = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 8 << 20
_RECEIVE = 1 << 16
# Of struct taskstats: process number and parent, both kinds of switches, and the process of a thread (from version 12).
_PID, _SWITCHES, _PROCESS = 128, 272, 368
_FIRST_VERSION, _MOVED = 12, 15
"""In version 15 fields were put in between, and moved to the end in the next."""


@dataclass(frozen=True)
class Ended:
    """One task that ended: its process, that one's parent, and its context switches."""

    process: int
    parent: int
    voluntary: int
    involuntary: int


def family_of(ended: Collection[Ended], known: Collection[int]) -> set[int]:
    """The ``known`` processes, and those that ended and were begun by them."""
    of = set(known)
    while more := {task.process for task in ended if task.parent in of} - of:
        of |= more
    return of


def switches_of(ended: Collection[Ended], known: Collection[int]) -> tuple[int, int]:
    """Voluntary and involuntary switches of those that belong to ``known`` processes or were begun by them."""
    of = family_of(ended, known)
    ours = [task for task in ended if task.process in of]
    return sum(task.voluntary for task in ours), sum(task.involuntary for task in ours)


class EndedTasks:
    """Every task of this machine that ends while it is entered: `found`, once that is over.

    Where the kernel does not tell, nothing is found.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self.found: list[Ended] = []

    def __enter__(self) -> EndedTasks:
        try:
            self._socket = _listen()
        except (OSError, struct.error):
            self._socket = None
        return self

    def __exit__(self, *what: object) -> None:
        if self._socket is None:
            return
        with self._socket as listener:
            self.found = list(_read(listener))
        self._socket = None


def _listen() -> socket.socket:
    """A socket that is told of every task that ends.

    Raises:
        OSError: this kernel does not tell, or not us.
    """
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
    try:
        with suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, 33, _BUFFER)  # SO_RCVBUFFORCE: what ends meanwhile has to fit
        listener.bind((0, 0))
        listener.settimeout(1.0)
        _send(listener, _CONTROLLER, _GET_FAMILY, _FAMILY_NAME, b"TASKSTATS\0", _REQUEST)
        answer = listener.recv(_RECEIVE)
        family = dict(_attributes(answer[_HEAD.size + _GENERIC.size :])).get(_FAMILY_ID)
        if _HEAD.unpack_from(answer)[1] == _ERROR or family is None:
            raise OSError("taskstats: no such family")
        cpus = Path("/sys/devices/system/cpu/possible").read_text().strip().encode() + b"\0"
        _send(listener, struct.unpack("=H", family)[0], _REGISTER, _CPUS, cpus, _REQUEST_ACK)
        answer = listener.recv(_RECEIVE)
        if struct.unpack_from("=i", answer, _HEAD.size)[0] != 0:
            raise OSError("taskstats: not permitted")
    except BaseException:
        listener.close()
        raise
    return listener


def _send(listener: socket.socket, family: int, command: int, attribute: int, value: bytes, flags: int) -> None:
    padded = value + b"\0" * (-len(value) % 4)
    body = _GENERIC.pack(command, 1, 0) + _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + padded
    listener.send(_HEAD.pack(_HEAD.size + len(body), family, flags, 1, 0) + body)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3


def _read(listener: socket.socket) -> Iterator[Ended]:
    """What came so far."""
    listener.setblocking(False)
    while True:
        try:
            data = listener.recv(_RECEIVE)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                continue  # more came than the buffer takes: what is in it is read
            return
        yield from tasks_in(data)


def tasks_in(message: bytes) -> Iterator[Ended]:
    """The tasks that one message of the kernel tells of."""
    for kind, parts in _attributes(message[_HEAD.size + _GENERIC.size :]):
        if kind != _ONE_TASK:
            continue
        stats = dict(_attributes(parts)).get(_STATS, b"")
        version = struct.unpack_from("=H", stats)[0] if len(stats) >= _PROCESS + 4 else 0
        if version < _FIRST_VERSION or version == _MOVED:
            continue
        parent = struct.unpack_from("=I", stats, _PID + 4)[0]
        voluntary, involuntary = struct.unpack_from("=QQ", stats, _SWITCHES)
        yield Ended(struct.unpack_from("=I", stats, _PROCESS)[0], parent, voluntary, involuntary)
