"""Request classes: what the cycles of one class have in common, as counted operations.

An operation is named by what it does, not by its place: the k-th call of a kind, with a system-call number, on a
file slot.  The same name is found in the native run, in the instruction run and in the clone's own runs, which is how
their measurements are put together.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.arguments import arguments, moved_bytes
from ditto.streams.calls import Call, peer_of
from ditto.streams.children import starts
from ditto.streams.cycles import SHUTDOWN, Cycle
from ditto.streams.datagrams import KIND as DATAGRAM
from ditto.streams.events import (
    CLOSE,
    CONNECT,
    EAGAIN,
    EPOLL_CTL,
    MISC,
    OPENS,
    PARKS,
    RECEIVES,
    REFUSED,
    SENDFILES,
    SENDS,
    SOCKET,
    Event,
    Obj,
    is_sleep,
)
from ditto.streams.order import by_courses
from ditto.streams.passing import PASSAGE
from ditto.streams.peer_waits import of_a_send
from ditto.streams.settled import STATS as STATS

FILE_READS = numbers("read", "pread64", "readv", "preadv", "preadv2")
FILE_WRITES = numbers("write", "pwrite64", "writev", "pwritev", "pwritev2")
AT_OFFSETS = numbers("pread64", "pwrite64", "preadv", "pwritev")
FILE_STATES = numbers("fstat", "newfstatat", "fchmod", "fchown", "flock", "ftruncate", "fallocate", "fadvise64")
"""Calls that ask for a file's state; those that set it set what it is, as OP_FILE_FSTAT."""
FILE_SYNCS = numbers("fsync", "fdatasync", "sync_file_range")
_CONNECTION_CALLS = {
    NUMBERS["setsockopt"]: "setsockopt",
    NUMBERS["getsockopt"]: "getsockopt",
    NUMBERS["getpeername"]: "getpeername",
    NUMBERS["getsockname"]: "getsockname",
    NUMBERS["fcntl"]: "fcntl",
    NUMBERS["ioctl"]: "ioctl",
    NUMBERS["shutdown"]: "shutdown",
    **dict.fromkeys(numbers("lseek", "fstat"), "misc"),  # by libraries that take every descriptor for a file's
    CLOSE: "close",
}
_PEER_CALLS = {SOCKET: "socket", CONNECT: "connect", NUMBERS["poll"]: "poll", NUMBERS["ppoll"]: "poll"}
_SOCKET_QUERIES = numbers("getsockopt", "getpeername", "getsockname")  # of another socket: asked of the connection
_MEMORY_CALLS = {NUMBERS["mmap"]: "mmap", NUMBERS["munmap"]: "munmap", NUMBERS["madvise"]: "madvise"}
_EPOLL_OPS = {1: "epoll_add", 2: "epoll_del", 3: "epoll_mod"}
_FUTEX = NUMBERS["futex"]
_OTHERS = ("timerfd", PASSAGE)
"""Kinds of descriptors whose calls belong to no program."""


class OpName(NamedTuple):
    """An operation of a program.

    ``slot`` is ``("t", k)`` for the k-th file the cycle opened, ``("p", path)`` for one that was open before,
    ``("d", k)`` for its k-th connection to another service, None otherwise; ``occurrence`` counts calls of the same
    kind, number and slot within a cycle.
    """

    kind: str
    nr: int
    slot: tuple[str, object] | None
    occurrence: int


@dataclass
class OpWork:
    """What was seen of one operation over all cycles of a class.

    ``gap`` sums what followed each call until the thread's next; split by whether that next call was a wait.
    """

    count: int = 0
    position: float = 0.0
    gap_inside: float = 0.0
    inside: int = 0
    gap_before_wait: float = 0.0
    before_wait: int = 0
    sizes: Counter[int] = field(default_factory=Counter)
    args: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    paths: Counter[bytes] = field(default_factory=Counter)
    calls: list[Call] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    """Thread, offset and bytes of reads and writes at given offsets."""
    cpu_ns: float = 0.0

    def add(self, event: Event, position: int, args: tuple[int, int, int]) -> None:
        self.count += 1
        self.position += position
        self.args[args] += 1
        self.cpu_ns += event.cpu_ns
        self.add_gap(event)

    def add_gap(self, event: Event) -> None:
        if event.gap < 0:
            return
        if event.before_wait:
            self.gap_before_wait += event.gap
            self.before_wait += 1
        else:
            self.gap_inside += event.gap
            self.inside += 1

    @property
    def mean_inside(self) -> float:
        return self.gap_inside / self.inside if self.inside else 0.0

    @property
    def mean_before_wait(self) -> float:
        return self.gap_before_wait / self.before_wait if self.before_wait else 0.0


@dataclass
class ClassWork:
    """All cycles of one request class."""

    key: bytes
    cycles: list[Cycle] = field(default_factory=list)
    ops: dict[OpName, OpWork] = field(default_factory=dict)
    between: OpWork = field(default_factory=OpWork)
    arms: int = 0
    tails: int = 0
    """Cycles whose thread received again at once and found the next request."""
    unsupported: Counter[int] = field(default_factory=Counter)
    courses: list[list[OpName]] = field(default_factory=list)
    """The operations of some cycles, in their order."""

    @property
    def course_step(self) -> int:
        """Of so many cycles the course of one is kept."""
        return max(1, len(self.cycles) // COURSES)

    def coursed(self) -> list[Cycle]:
        """The cycles whose courses are kept."""
        return self.cycles[:: self.course_step]

    def ordered(self) -> list[tuple[OpName, OpWork]]:
        """Operations in the order in which they usually come.

        That is by mean places, and of two that came in the same cycles, as these had them: what only some requests do
        puts everything after it further back, in these alone.
        """
        names = sorted(self.ops, key=lambda name: (self.ops[name].position / self.ops[name].count, name.kind))
        order = by_courses(names, self.courses)
        return [(name, self.ops[name]) for name in order]


COURSES = 400
"""Cycles of a class whose course is kept, evenly spaced."""
MOST_STEPS = 96
MAX_CYCLES = 30_000
"""Cycles of a class that are counted, evenly spaced: more would only take time."""

RESUME = "resume"
"""Kind of the pseudo-operation with which a late answer begins; its gap is the work before the answer's first call."""
WRITABLE = "writable"
"""Kind of the pseudo-operation of a server that asks to be told when it can send, and sends after the next wait."""
AWAIT, YIELD, MESSAGE = "await", "yield", "message"
"""A request waits for another thread, or until its own has looked for events; what marks a message between threads."""
EPOLLOUT = 4
RECEIVE = "receive"
"""Kind of the pseudo-operation that stands for receiving the request: its gap is the work that follows."""


def build(key: bytes, cycles: list[Cycle], skip: set[int] | None = None, heads: bool = False) -> ClassWork:
    """Count the operations of a class.

    Args:
        key: names the class.
        cycles: its complete cycles.
        skip: ``id`` of events that belong to something else (timers).
        heads: whether a first send that ends with a reply's head is an operation of its own (HTTP).
    """
    cycles = cycles[:: max(1, len(cycles) // MAX_CYCLES)]
    work = ClassWork(key, cycles)
    step = work.course_step
    for number, cycle in enumerate(cycles):
        course: list[OpName] = []
        _count(work, cycle, skip or set(), heads, course)
        if number % step == 0:
            work.courses.append(course[:MOST_STEPS])
    return work


def _count(work: ClassWork, cycle: Cycle, skip: set[int], heads: bool, course: list[OpName]) -> None:
    """Add one cycle; ``course`` gets its operations."""
    seen: Counter[tuple[str, int, tuple[str, object] | None]] = Counter()
    slots: dict[Obj, tuple[str, object]] = {}
    sends = [i for i, e in enumerate(cycle.events) if e.nr in SENDS and e.obj is cycle.connection]
    transfers = [i for i, e in enumerate(cycle.events) if e.nr in SENDFILES]
    sends_all = sends + transfers
    first_send, last_send = (min(sends_all), max(sends_all)) if sends_all else (-1, -1)
    split_head = heads and len(sends_all) > 1 and bool(sends) and ends_head(cycle.events[sends[0]])
    spans_wakes = bool(sends_all) and cycle.wake_of[first_send] is not cycle.wake_of[last_send]
    reply_at = -1
    answered: OpWork | None = None
    again = False
    name: tuple[str, int, tuple[str, object] | None]
    calls = {id(call.sends[0]): call for call in cycle.calls}
    answers = {id(answer): at for call in cycle.calls for at, answer in enumerate(call.answers)}
    if cycle.resumed_after is not None and sends_all:
        _count_resumption(work, cycle, first_send)
    if _awaits_writing(cycle, first_send):
        awaited = work.ops.setdefault(OpName(WRITABLE, 0, None, 0), OpWork())
        awaited.count += 1
        awaited.position += first_send - 0.4
        awaited.args[(0, 0, 0)] += 1
    for position, event in enumerate(cycle.events):
        if id(event) in skip:
            continue
        for pause, gap in cycle.pauses.get(id(event), ()):
            course.append(_count_pause(work, OpName(pause, 0, None, seen[pause, 0, None]), position, gap))
            seen[pause, 0, None] += 1
        if event.nr == EPOLL_CTL and spans_wakes and first_send < position <= last_send + 2 and event.args[1] == 3:
            work.arms += 1
            work.between.add_gap(event)
            continue
        if position in sends:
            if split_head and position == sends[0]:
                name = ("reply_head", event.nr, None)
            elif reply_at < 0:
                name = ("reply", event.nr, None)
                reply_at = position
            else:
                work.between.add(event, position, (0, 0, 0))
                continue
        else:
            if answers.get(id(event), 0) and answered is not None:
                answered.gap_inside += max(0.0, event.gap)  # the rest of a reply
                continue
            described = describe_in(event, cycle, slots, work)
            if described is None:
                continue
            name = described
            if name[0] == "call_more" and id(event) in calls:
                name = ("call", *name[1:])
        occurrence = seen[name]
        seen[name] += 1
        kind, nr, slot = name
        op_name = OpName(kind, nr, slot, occurrence)
        course.append(op_name)
        op = work.ops.get(op_name)
        if op is None:
            op = work.ops[op_name] = OpWork()
        note(op, event, position, kind)
        if kind == "call":
            op.calls.append(calls[id(event)])
        elif kind == "answer":
            answered = op
        again = again or (kind == "recv_again" and slot is None)
    work.tails += cycle.tail_receive and not again


def note(op: OpWork, event: Event, position: int, kind: str) -> None:
    """Add a call to an operation of a kind: its arguments, size, place and path."""
    op.add(event, position, arguments(event, kind))
    if event.nr in AT_OFFSETS and event.ret > 0:
        op.places.append((event.tid, event.args[3], event.ret))
    if event.ret >= 0:
        op.sizes[moved_bytes(event, kind)] += 1
    if kind in ("file_open", "file_stat"):
        op.paths[event.payload.split(b"\0", 1)[0]] += 1


def _count_pause(work: ClassWork, name: OpName, position: int, gap: float) -> OpName:
    op = work.ops.setdefault(name, OpWork())
    op.count += 1
    op.position += position - (0.5 if name.kind == AWAIT else 0.4)
    op.args[(0, 0, 0)] += 1
    if gap >= 0:
        op.gap_inside += gap
        op.inside += 1
    return name


def _awaits_writing(cycle: Cycle, first_send: int) -> bool:
    """Whether the connection was watched for writing in an earlier wake-up than that in which the reply was sent."""
    return any(
        event.nr == EPOLL_CTL
        and event.target is cycle.connection
        and arguments(event, "epoll_mod")[0] & EPOLLOUT
        and cycle.wake_of[at] is not cycle.wake_of[first_send]
        for at, event in enumerate(cycle.events[: max(0, first_send)])
    )


def _count_resumption(work: ClassWork, cycle: Cycle, first_send: int) -> None:
    """The work on a request that is taken up again after a wait, before its first call then."""
    op = work.ops.setdefault(OpName(RESUME, cycle.events[first_send].nr, None, 0), OpWork())
    begins = first_send
    while begins and cycle.wake_of[begins - 1] is cycle.wake_of[first_send]:
        begins -= 1
    op.count += 1
    op.position += begins - 0.5
    op.args[(0, 0, 0)] += 1
    if cycle.resumed_gap >= 0:
        op.gap_inside += cycle.resumed_gap
        op.inside += 1


def ends_head(event: Event) -> bool:
    """Whether an HTTP server's first send ended with the reply's head, as far as that was recorded."""
    if event.iovcnt > 1 and event.iov and 64 < event.iov[0] < event.ret:
        return False  # the head is the first vector, and data follow
    end = event.payload.find(b"\r\n\r\n")
    return event.ret > len(event.payload) if end < 0 else end + 4 == event.ret


def describe_in(
    event: Event, cycle: Cycle, slots: dict[Obj, tuple[str, object]], work: ClassWork
) -> tuple[str, int, tuple[str, object] | None] | None:
    """Kind, number and slot of an event that is no send; None for what has no place in a program."""
    nr, obj = event.nr, event.obj
    if starts(event):
        return ("fork", nr, None)
    if event.target is not None and event.target.kind == MESSAGE:
        return (RECEIVE, nr, None) if nr in RECEIVES else ("notify", nr, ("m", event.target.serial))
    if (peer := peer_of(event)) is not None:
        return _describe_peer(event, peer, cycle)
    if obj is cycle.connection or (nr == EPOLL_CTL and event.target is cycle.connection):
        if nr in RECEIVES and cycle.events[0].nr == SHUTDOWN:
            return ("drain", nr, None)
        if nr in RECEIVES:
            return ("recv_again" if event.ret == EAGAIN else RECEIVE, nr, None)
        if nr == EPOLL_CTL:
            return (_EPOLL_OPS.get(event.args[1], "epoll_mod"), nr, None)
        if nr in _CONNECTION_CALLS:
            return (_CONNECTION_CALLS[nr], nr, None)
        if of_a_send(event):
            return ("poll", nr, None)
    if obj is not None and obj.kind in ("listener", "socket") and nr in _SOCKET_QUERIES:
        return (_CONNECTION_CALLS[nr], nr, None)
    if nr == EPOLL_CTL and event.target is not None and event.target.kind == "file" and event.ret < 0:
        return ("file_watch", nr, _slot(event.target, slots))
    if nr == EPOLL_CTL and event.target is not None and event.target.kind == DATAGRAM:
        return None  # of all datagrams: the loop's own
    if nr in SENDFILES and event.target is not None:
        return ("sendfile", nr, _slot(event.target, slots))
    if nr in OPENS:
        slot = ("t", len(slots))
        if event.made is not None:
            slots[event.made] = slot
        return ("file_open", nr, slot)
    if obj is not None and obj.kind in ("file", "unknown"):
        return _describe_file(event, _slot(obj, slots))
    if nr in STATS:
        return ("file_stat", nr, None)
    if nr in MISC or (nr == CONNECT and obj is not None and obj.kind == REFUSED):
        return ("misc", nr, None)
    if _of_refused(event):
        return None  # the runtime makes the socket with the call that is refused, and closes it
    if nr in _MEMORY_CALLS:
        mapped = event.target if event.target is not None and event.target.kind == "file" else None
        return (_MEMORY_CALLS[nr], nr, _slot(mapped, slots) if mapped is not None else None)
    if is_sleep(event):
        return ("sleep", nr, None)
    if nr == _FUTEX and (event.args[1] & 127) in (1, 10, 5):
        helps = event.target is not None and event.target.kind == "helper"
        return ("helper_wake" if helps else "futex_wake", nr, None)
    if obj is not None and obj.kind in ("eventfd", "pipe", "pair") and nr in FILE_WRITES:
        return ("notify", nr, None)
    if nr not in PARKS and (obj is None or obj.kind not in _OTHERS):  # a tick's read is the timer's
        work.unsupported[nr] += 1
    return None


def _describe_peer(event: Event, peer: Obj, cycle: Cycle) -> tuple[str, int, tuple[str, object] | None] | None:
    """An event on a connection to another service; where the cycle stands for that connection, it needs no slot."""
    nr = event.nr
    slot: tuple[str, object] | None = None
    if peer is not cycle.connection:
        if peer not in cycle.links:
            return None
        slot = ("d", cycle.links.index(peer))
    if nr in SENDS:
        return ("call_more", nr, slot)
    if nr in RECEIVES:
        return ("answer" if event.ret > 0 else "recv_again", nr, slot)
    if nr == EPOLL_CTL:
        return (_EPOLL_OPS.get(event.args[1], "epoll_mod"), nr, slot)
    kind = _PEER_CALLS.get(nr) or _CONNECTION_CALLS.get(nr)
    return (kind, nr, slot) if kind is not None else None


def _of_refused(event: Event) -> bool:
    """Whether a socket is made or closed that was refused in between."""
    obj = event.made if event.nr == SOCKET else event.obj if event.nr == CLOSE else None
    return obj is not None and obj.kind == REFUSED


def _slot(obj: Obj, slots: dict[Obj, tuple[str, object]]) -> tuple[str, object]:
    return slots.get(obj) or ("p", obj.path)


def _describe_file(event: Event, slot: tuple[str, object]) -> tuple[str, int, tuple[str, object] | None] | None:
    nr = event.nr
    if nr in FILE_READS or nr == NUMBERS["getdents64"]:
        return ("file_read", nr, slot)
    if nr in FILE_WRITES:
        return ("file_write", nr, slot)
    if nr in FILE_STATES:
        return ("file_fstat", nr, slot)
    if nr == NUMBERS["lseek"]:
        return ("file_seek", nr, slot)
    if nr in FILE_SYNCS:
        return ("file_sync", nr, slot)
    if nr == CLOSE:
        return ("file_close", nr, slot)
    if nr == NUMBERS["fcntl"]:
        return ("misc", nr, None)
    return None
