"""System-call streams as events whose descriptors are resolved to objects.

Both recordings, the native one and that of the instruction run, become lists of :class:`Event`; everything that
looks for structure (requests, wake-ups, timers) works on those.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ditto.artifacts.records import Kind, Mode, Recording
from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.begun import Begun
from ditto.streams.passing import PASSAGE, Passing, passes
from ditto.streams.peer_waits import find_waits_of_calls, of_a_call, of_a_send

OPENS = numbers("open", "openat", "openat2", "creat")
ACCEPTS = numbers("accept", "accept4")
RECEIVES = numbers("read", "readv", "recvfrom", "recvmsg", "recvmmsg")
SENDS = numbers("write", "writev", "sendto", "sendmsg", "sendmmsg")
BATCHES = numbers("recvmmsg", "sendmmsg")
SENDFILES = numbers("sendfile", "splice")
WAITS = numbers("epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6")
SLEEPS = numbers("nanosleep", "clock_nanosleep")
_TIMEOUT_ONLY = {NUMBERS["select"]: 0, NUMBERS["pselect6"]: 0, NUMBERS["poll"]: 1, NUMBERS["ppoll"]: 1}
_TIMEOUTS = {NUMBERS["epoll_wait"]: 3, NUMBERS["epoll_pwait"]: 3, NUMBERS["poll"]: 2}
PARKS = numbers("futex", "rt_sigsuspend", "pause", "wait4", "waitid", "rt_sigtimedwait")
MISC = numbers("getpid", "gettid", "getppid", "clock_gettime", "gettimeofday", "time", "getrusage", "sched_yield",
               "times", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getcpu", "clock_getres",
               "rt_sigaction", "rt_sigprocmask", "sigaltstack", "setitimer", "getitimer", "alarm", "getcwd", "chdir",
               "umask", "getpriority", "getpgrp", "getrlimit", "prlimit64", "sched_getaffinity", "sched_getparam",
               "sched_getscheduler", "statfs", "getrandom", "brk", "kill", "timerfd_settime",
               "timerfd_gettime", "mprotect", "mremap", "rename", "renameat", "renameat2", "link", "symlink", "unlink",
               "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmodat", "chown", "utimensat",
               "truncate")  # fmt: skip
"""Calls without lasting effect, or made in a form that has none; as ``misc_call`` in native/runtime/misc.c."""
EPOLL_CTL = NUMBERS["epoll_ctl"]
CLOSE = NUMBERS["close"]
EAGAIN = -11
EINPROGRESS = -115
MSG_ZEROCOPY, _MSG_ERRQUEUE = 0x4000000, 0x2000
SOCKET, CONNECT = NUMBERS["socket"], NUMBERS["connect"]

_FD_FIRST = numbers(
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2", "recvfrom",
    "recvmsg", "sendto", "sendmsg", "close", "fstat", "lseek", "ioctl", "fcntl", "accept", "accept4", "bind", "listen",
    "connect", "shutdown", "setsockopt", "getsockopt", "getpeername", "getsockname", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "epoll_ctl", "fsync", "fdatasync", "ftruncate", "sendfile", "flock", "fadvise64", "fallocate",
    "getdents64", "fchmod", "timerfd_settime", "timerfd_gettime", "sendmmsg", "recvmmsg", "sync_file_range", "dup",
    "dup2", "dup3", "fchown",
)  # fmt: skip
_SOCKET_RECEIVES = numbers("recvfrom", "recvmsg")
_STAT_AT = NUMBERS["newfstatat"]
_CREATORS = {
    NUMBERS["epoll_create"]: "epoll",
    NUMBERS["epoll_create1"]: "epoll",
    NUMBERS["eventfd"]: "eventfd",
    NUMBERS["eventfd2"]: "eventfd",
    NUMBERS["timerfd_create"]: "timerfd",
    NUMBERS["signalfd4"]: "signalfd",
    NUMBERS["inotify_init1"]: "inotify",
    NUMBERS["io_uring_setup"]: "io_uring",
    NUMBERS["memfd_create"]: "file",
}
_LOCAL, _SOCKET_TYPE, _DATAGRAM = 1, 15, 2
REFUSED = "refused"
"""Kind of a local socket that nobody listened for, as of a log that nobody keeps."""
_FCNTL = NUMBERS["fcntl"]
_SOCK_STREAM = 1
_MMAP = NUMBERS["mmap"]


def is_wait(event: Event) -> bool:
    """Whether the call waits for events of a set of descriptors.

    One that names none only sleeps, and one of a single connection may be a part of a call to another service, or of a
    send.
    """
    return event.nr in WAITS and not _names_none(event) and not of_a_call(event) and not of_a_send(event)


def is_sleep(event: Event) -> bool:
    """Whether the call waits for time to pass."""
    return event.nr in SLEEPS or (event.nr in WAITS and _names_none(event))


def wait_timeout(event: Event) -> int | None:
    """The time a wait may take in milliseconds, -1 for ever; None where it was not recorded."""
    at = _TIMEOUTS.get(event.nr)
    if at is None:
        return None
    value = int(event.args[at]) & 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def tells_of_sends(event: Event) -> bool:
    """Whether the call asks which sends without copying are over, and receives nothing."""
    return event.nr == NUMBERS["recvmsg"] and bool(event.args[2] & _MSG_ERRQUEUE)


def _names_none(event: Event) -> bool:
    at = _TIMEOUT_ONLY.get(event.nr)
    return at is not None and not event.args[at]


@dataclass(eq=False)
class Obj:
    """What a descriptor stands for.

    Attributes:
        kind: listener, datagram (a bound socket for such), connection, downstream, socket, file, epoll, eventfd,
            timerfd, signalfd, inotify, io_uring, pipe, pair, passage, unknown.
        serial: unique within a stream; the order in which objects were first seen.
        opened_by: the open, accept or socket event, where it was seen.
        path: first bytes of the path, for files; the address, for connections to other services (private: never leaves
            the model).
        port: of a listener, where known.
        creator_nr: the call that made it.
        sockopts: (level, option, value) set before listen.
    """

    kind: str
    serial: int
    path: bytes = b""
    port: int = 0
    creator_nr: int = 0
    flags: int = 0
    size: int = 0
    owner: Obj | None = None
    backlog: int = 0
    sockopts: list[tuple[int, int, int]] = field(default_factory=list)
    born_ns: int = 0
    """When the call that made it returned."""


class Event:
    """One system call of a thread, or a change of the recorder's mode.

    ``obj`` is what the first argument's descriptor stood for when the call was made (for accept: the listener); for
    epoll_ctl, or a message that passes one, ``target`` is the descriptor acted upon; ``made`` the object the call
    created.  Times are nanoseconds.
    ``payload`` holds the first 64 bytes that it moved, ``more`` those after them where they were asked for.
    ``gap`` is what the thread executed in user mode after this call, until its next: instructions in an instruction
    run, nanoseconds of CPU time in a native one; -1 where unknown.
    ``said`` is what begins in a receive or send on a connection of HTTP/2, None on any other.
    """

    __slots__ = (
        "args", "before_wait", "cls", "cpu_ns", "gap", "index", "iov", "iovcnt", "made", "more", "nr", "obj", "payload",
        "pid",
        "ret", "said", "t_in", "t_out", "target", "tid",
    )  # fmt: skip

    def __init__(self, pid: int, tid: int, nr: int, ret: int, args: Sequence[int], t_in: int, t_out: int) -> None:
        self.pid = pid
        self.tid = tid
        self.nr = nr
        self.ret = ret
        self.args = args
        self.t_in = t_in
        self.t_out = t_out
        self.cpu_ns = 0
        self.obj: Obj | None = None
        self.target: Obj | None = None
        self.made: Obj | None = None
        self.payload = b""
        self.more = b""
        self.iov: tuple[int, ...] = ()
        self.iovcnt = 0
        self.gap = -1.0
        self.cls: bytes | None = None
        self.said: tuple[Begun, ...] | None = None
        self.index = 0
        self.before_wait = False

    @property
    def recorded(self) -> bytes:
        """All that was recorded of what it moved."""
        return self.payload + self.more


@dataclass(frozen=True)
class KnownDescriptor:
    """A descriptor that was open before the stream begins."""

    pid: int
    fd: int
    kind: str
    path: bytes = b""
    port: int = 0
    flags: int = 0
    size: int = 0
    identity: str = ""


class Descriptors:
    """Follows descriptor tables through a stream of calls, one table a process."""

    def __init__(self, known: Iterable[KnownDescriptor] = ()) -> None:
        self._tables: dict[int, dict[int, Obj]] = {}
        self._serial = 0
        self._replaced: dict[tuple[int, int], Obj] = {}
        self.passing = Passing()
        self.objects: list[Obj] = []
        shared: dict[str, Obj] = {}
        for item in known:
            obj = shared.get(item.identity) if item.identity else None
            if obj is None:
                obj = self._new(item.kind, path=item.path, port=item.port, flags=item.flags, size=item.size)
                if item.identity:
                    shared[item.identity] = obj
            self._tables.setdefault(item.pid, {})[item.fd] = obj

    def _new(self, kind: str, path: bytes = b"", port: int = 0, flags: int = 0, size: int = 0, nr: int = 0) -> Obj:
        self._serial += 1
        obj = Obj(kind, self._serial, path=path, port=port, flags=flags, size=size, creator_nr=nr)
        self.objects.append(obj)
        return obj

    def fork(self, parent: int, child: int) -> None:
        """A new process starts with its parent's table."""
        if child != parent and child not in self._tables:
            self._tables[child] = dict(self._tables.get(parent, {}))

    def apply(self, event: Event) -> None:
        """Resolve the event's descriptors and do to the table what the call did."""
        nr, ret, args = event.nr, event.ret, event.args
        self.passing.until(event.t_out, self._tables)
        table = self._tables.setdefault(event.pid, {})
        if nr in _FD_FIRST or (nr == _STAT_AT and not event.payload.strip(b"\0")):
            fd = args[0] & 0xFFFFFFFF
            obj = table.get(fd)
            if nr == CLOSE and self._closes_earlier(event, obj):
                return
            if obj is None and ret != -9 and fd < 1 << 20:
                kind = (
                    "connection" if nr in (NUMBERS["recvfrom"], NUMBERS["recvmsg"], NUMBERS["sendmsg"]) else "unknown"
                )
                obj = table[fd] = self._new(kind)
            elif obj is not None and obj.kind == "unknown" and nr in _SOCKET_RECEIVES:
                obj.kind = "connection"
            event.obj = obj
        if passes(event) and event.obj is not None:
            event.obj.kind = PASSAGE
            event.target = self.passing.sent_or_taken(event, table) or self._new("connection", nr=nr)
            table[args[4]] = event.target
        elif nr == EPOLL_CTL:
            target = args[2] & 0xFFFFFFFF
            event.target = table.get(target)
        elif nr == _MMAP and len(args) > 4 and args[4]:
            event.target = table.get(args[4] & 0xFFFFFFFF)
        elif nr in SENDFILES:
            event.target = table.get(args[1] & 0xFFFFFFFF) if nr == NUMBERS["sendfile"] else None
        if nr == CONNECT and event.obj is not None:
            _connected(event, event.obj)
        if ret < 0:
            return
        replaced = table.get(ret) if nr in ACCEPTS or nr in OPENS else None
        self._create(event, table)
        if event.made is not None:
            event.made.born_ns = event.t_out
            if replaced is not None:
                self._replaced[(event.pid, ret)] = replaced

    def _closes_earlier(self, event: Event, now: Obj | None) -> bool:
        """Whether another thread was given the number before this close returned: what it closed is the one before.

        That thread may have closed it again meanwhile, so that the number stands for nothing ``now``.
        """
        if now is not None and now.born_ns <= event.t_in:
            return False
        event.obj = self._replaced.pop((event.pid, event.args[0] & 0xFFFFFFFF), None)
        return now is not None or event.obj is not None

    def _create(self, event: Event, table: dict[int, Obj]) -> None:
        nr, ret, args, payload = event.nr, event.ret, event.args, event.payload
        if nr in ACCEPTS:
            event.made = table[ret] = self._new("connection", nr=nr)
            event.made.owner = event.obj
            if event.obj is not None and event.obj.kind in ("unknown", "socket"):
                event.obj.kind = "listener"
        elif nr in OPENS:
            flags = args[2] if nr == NUMBERS["openat"] else args[1]
            event.made = table[ret] = self._new("file", path=payload.split(b"\0", 1)[0], flags=int(flags), nr=nr)
        elif nr == NUMBERS["socket"]:
            event.made = table[ret] = self._new("socket", flags=int(args[1]), nr=nr)
            event.made.size = int(args[0])
        elif nr in _CREATORS:
            event.made = table[ret] = self._new(_CREATORS[nr], nr=nr, flags=int(args[1]))
        elif nr in (NUMBERS["pipe"], NUMBERS["pipe2"], NUMBERS["socketpair"]) and len(payload) >= 8:
            first, second = struct.unpack_from("<ii", payload)
            pair = self._new("pair" if nr == NUMBERS["socketpair"] else "pipe", nr=nr)
            table[first] = table[second] = pair
        elif nr == NUMBERS["listen"] and event.obj is not None:
            event.obj.kind = "listener"
            event.obj.backlog = int(args[1])
        elif nr == NUMBERS["bind"] and event.obj is not None and len(payload) >= 4:
            family = struct.unpack_from("<H", payload)[0]
            if family in (2, 10):
                event.obj.port = struct.unpack_from(">H", payload, 2)[0]
                if event.obj.flags & _SOCKET_TYPE == _DATAGRAM:
                    event.obj.kind = "datagram"
        elif nr == NUMBERS["setsockopt"] and event.obj is not None and event.obj.kind == "socket":
            value = struct.unpack_from("<i", payload)[0] if len(payload) >= 4 else 0
            event.obj.sockopts.append((int(args[1]), int(args[2]), value))
        elif nr in (NUMBERS["dup"], NUMBERS["dup2"], NUMBERS["dup3"]) or (nr == _FCNTL and args[1] in (0, 1030)):
            if event.obj is not None:
                table[ret] = event.obj
        elif nr == CLOSE:
            table.pop(args[0] & 0xFFFFFFFF, None)


def _connected(event: Event, obj: Obj) -> None:
    """A stream socket that connects is a connection to another service; datagrams have no model."""
    if event.ret not in (0, EINPROGRESS):
        obj.kind = REFUSED if obj.kind == "socket" and obj.size == _LOCAL else obj.kind
    elif obj.kind in ("socket", "unknown", REFUSED) and (obj.creator_nr != SOCKET or obj.flags & 0xF == _SOCK_STREAM):
        obj.kind, obj.path = "downstream", event.payload


@dataclass
class Stream:
    """The events of a recording in order of return, by thread, with what was born.

    Attributes:
        threads: tid -> events in order, of the window in which everything was recorded.
        outside: events recorded outside that window (start-up and what follows), but for those in ``said``.
        parents: pid -> parent pid, of processes born in the recording.
        births: tid -> (pid, parent tid).
        born_ns: tid -> when it was born, CLOCK_MONOTONIC.
        window_ns: (start, end) of the window, CLOCK_MONOTONIC; (0, 0) if there was none.
        descriptors: the tables as they are at the end.
        said: what moved data outside the window, where that was kept.
    """

    threads: dict[int, list[Event]]
    outside: list[Event]
    parents: dict[int, int]
    births: dict[int, tuple[int, int]]
    exits: set[int]
    window_ns: tuple[int, int]
    descriptors: Descriptors
    said: list[Event] = field(default_factory=list)
    born_ns: dict[int, int] = field(default_factory=dict)


_MOVES = RECEIVES | SENDS


def further_bytes(records: np.ndarray) -> dict[tuple[int, int], bytes]:
    """The further bytes of calls, by the thread and the time of the call's return."""
    part = records[records["kind"] == Kind.MORE]
    blob = part["payload"].tobytes()
    found: dict[tuple[int, int], bytes] = {}
    for i, (tid, at, length) in enumerate(
        zip(part["tid"].tolist(), part["t_ns"].tolist(), part["payload_len"].tolist(), strict=True)
    ):
        found[tid, at] = found.get((tid, at), b"") + blob[i * 64 : i * 64 + min(length, 64)]
    return found


def from_recording(recording: Recording, known: Iterable[KnownDescriptor] = ()) -> Stream:
    """Turn a native recording into a stream; ``gap`` becomes CPU nanoseconds where the collector gave them."""
    descriptors = Descriptors(known)
    records = recording.records
    descriptors.passing.expect(records)
    columns = {name: records[name].tolist() for name in
               ("t_ns", "wall_ns", "cpu_ns", "ret", "args", "run_ns", "pid", "tid", "kind", "nr", "iovcnt",
                "payload_len", "aux")}  # fmt: skip
    iovs = records["iov"].tolist()
    payloads = records["payload"]
    blob = payloads.tobytes()
    more = further_bytes(records)
    threads: dict[int, list[Event]] = {}
    outside: list[Event] = []
    said: list[Event] = []
    parents: dict[int, int] = {}
    births: dict[int, tuple[int, int]] = {}
    born_ns: dict[int, int] = {}
    exits: set[int] = set()
    last: dict[int, tuple[Event, int]] = {}
    marks: list[tuple[int, int]] = []
    mode = Mode.ALL if not (records["kind"] == Kind.MARK).any() else Mode.OFF
    for i in range(len(records)):
        kind = columns["kind"][i]
        pid, tid, t_out = columns["pid"][i], columns["tid"][i], columns["t_ns"][i]
        if kind == Kind.MARK:
            mode = Mode(columns["nr"][i])
            marks.append((t_out, mode))
            last.clear()
            continue
        if kind == Kind.BIRTH:
            parent_tid, parent_pid = columns["args"][i][0], columns["args"][i][1]
            births[tid] = (pid, parent_tid)
            born_ns[tid] = t_out
            if parent_pid != pid:
                parents[pid] = parent_pid
                descriptors.fork(parent_pid, pid)
            continue
        if kind == Kind.EXIT:
            exits.add(tid)
            continue
        if kind != Kind.SYSCALL:
            continue
        args = columns["args"][i]
        if columns["nr"][i] in BATCHES:  # which have one argument less: the first message's bytes
            args = [*args[:5], columns["aux"][i]]
        event = Event(pid, tid, columns["nr"][i], columns["ret"][i], args, t_out - columns["wall_ns"][i], t_out)
        event.cpu_ns = columns["cpu_ns"][i]
        event.iovcnt = columns["iovcnt"][i]
        if event.iovcnt:
            event.iov = tuple(iovs[i][: event.iovcnt])
        length = min(columns["payload_len"][i], 64)
        if length:
            event.payload = blob[i * 64 : i * 64 + length]
            if more:
                event.more = more.get((tid, t_out), b"")
        event.index = i
        descriptors.apply(event)
        if mode != Mode.ALL:
            (said if event.nr in _MOVES and not passes(event) else outside).append(event)
            continue
        run_ns = columns["run_ns"][i]
        previous = last.get(tid)
        if previous is not None and run_ns:
            previous[0].gap = max(0, run_ns - previous[1] - event.cpu_ns)
        last[tid] = (event, run_ns)
        threads.setdefault(tid, []).append(event)
    find_waits_of_calls(threads)
    window = (0, 0)
    for at, (t, new_mode) in enumerate(marks):
        if new_mode == Mode.ALL:
            window = (t, marks[at + 1][0] if at + 1 < len(marks) else int(records["t_ns"][-1]))
    if not marks and len(records):
        window = (int(records["t_ns"][0]), int(records["t_ns"][-1]))
    return Stream(threads, outside, parents, births, exits, window, descriptors, said, born_ns)
