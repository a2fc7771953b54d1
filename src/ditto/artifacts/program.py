"""Programs of a profile: lists of operations, and the distributions that their sizes are drawn from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from ditto.artifacts.base import Model, Probability, SmallInt, SyscallNumber


class Dist(Model):
    """A discrete distribution of whole numbers; ``weights`` need not be normalised."""

    values: Annotated[list[Annotated[int, Field(ge=0, le=0xFFFFFFFF)]], Field(min_length=1, max_length=256)]
    weights: Annotated[list[Annotated[float, Field(gt=0, le=1e15)]], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _same_length(self) -> Dist:
        if len(self.values) != len(self.weights):
            raise ValueError("values and weights differ in length")
        return self

    @property
    def mean(self) -> float:
        return sum(v * w for v, w in zip(self.values, self.weights, strict=True)) / sum(self.weights)


class OpKind(StrEnum):
    """The operations of ``native/runtime/ditto.h`` (OP_*), which explains each and its arguments a, b, c."""

    COMPUTE = "compute"
    REPLY = "reply"
    SENDFILE = "sendfile"
    RECV_AGAIN = "recv_again"
    DRAIN = "drain"
    SETSOCKOPT = "setsockopt"
    GETSOCKOPT = "getsockopt"
    GETPEERNAME = "getpeername"
    GETSOCKNAME = "getsockname"
    FCNTL = "fcntl"
    IOCTL = "ioctl"
    EPOLL_ADD = "epoll_add"
    EPOLL_MOD = "epoll_mod"
    EPOLL_DEL = "epoll_del"
    WRITABLE = "writable"
    SHUTDOWN = "shutdown"
    CLOSE = "close"
    FILE_OPEN = "file_open"
    FILE_STAT = "file_stat"
    FILE_FSTAT = "file_fstat"
    FILE_READ = "file_read"
    FILE_WRITE = "file_write"
    FILE_SEEK = "file_seek"
    FILE_SYNC = "file_sync"
    FILE_CLOSE = "file_close"
    FILE_WATCH = "file_watch"
    MISC = "misc"
    BATCH = "batch"
    MMAP = "mmap"
    MUNMAP = "munmap"
    MADVISE = "madvise"
    FUTEX_WAKE = "futex_wake"
    SLEEP = "sleep"
    NOTIFY = "notify"
    AWAIT = "await"
    YIELD = "yield"
    SOCKET = "socket"
    CONNECT = "connect"
    CONNECTED = "connected"
    POLL = "poll"
    CALL = "call"
    CALL_MORE = "call_more"
    ANSWER = "answer"
    FORK = "fork"


FIRST_OPEN_SLOT = 8
"""The first of the file slots that are open for the life of a process; ``DITTO_SLOT_PERSISTENT``."""
FILE_SLOTS = 64
"""All file slots; ``DITTO_SLOTS``."""
MAX_FILE_GROUPS = 256
"""Groups of files that one service uses."""
MAX_DOWNSTREAMS = 16
"""Services that one service calls; ``DITTO_DOWNSTREAMS``."""
MAX_LINKS = 8
"""Connections to other services that one request may use; as ``DITTO_LINKS`` in native/runtime/ditto.h."""


class Op(Model):
    """One step of a program; see ``struct ditto_op``.

    ``where`` is told of reads and writes at offsets: numbers of places, hottest first, each with those before it.
    ``start`` tells where in the program's one draw, from 0 to 1, the probability begins; None for one drawn by itself.
    ``draw`` numbers the draws that a request keeps over all its waits; ``start`` is a place in that one then.  With
    ``even`` it is made as often in each few requests of the class as in all of them, without the spread of chance.
    ``link`` tells which of the request's connections to other services it is for; None for the client's own.
    """

    kind: OpKind
    nr: SyscallNumber = 0
    probability: Probability = 1.0
    start: Probability | None = None
    draw: Annotated[int, Field(ge=0, le=512)] = 0
    even: bool = False
    deferred: bool = False
    a: SmallInt = 0
    b: SmallInt = 0
    c: SmallInt = 0
    size: Dist | None = None
    where: Dist | None = None
    block: Annotated[int, Field(ge=0, le=255)] | None = None
    link: Annotated[int, Field(ge=0, lt=MAX_LINKS)] | None = None


Program = Annotated[list[Op], Field(max_length=512)]


class Timer(Model):
    """A background activity of a thread: ``program`` runs every ``period_ms``.

    With ``requests`` it runs once in so many requests of the thread instead: what follows the load, not the clock.  A
    periodic thread's are those that came in a period: where fewer come, by a factor f, it sleeps f ** ``follows`` times
    as long, as far as tuning found.
    ``descriptor``: a loop is told of it by a timerfd.  A process that a request starts runs each of its own so many
    ``times``, one after the other, and ends.
    """

    period_ms: Annotated[float, Field(gt=0, le=1e9)]
    requests: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    follows: Annotated[float, Field(ge=0, le=1)] = 1.0
    program: Program
    descriptor: bool = False
    times: Annotated[int, Field(ge=1, le=1 << 20)] = 1


class Passage(Model):
    """How the threads of a role are given connections by another process; see ``struct ditto_passage``."""

    bytes: Annotated[int, Field(ge=1, le=4096)]
    flags: SmallInt = 0
    own: bool = True
    again: bool = False


class Inbox(Model):
    """By what the threads of a role learn of messages; see ``struct ditto_inbox``."""

    nr: SyscallNumber
    read_nr: SyscallNumber
    bytes: Annotated[int, Field(ge=1, le=1 << 16)]
    each: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    again: bool = False
    own: bool = True


class OpenAtStart(Model):
    """A file that stays open for the life of a process."""

    group: Annotated[int, Field(ge=0, le=255)]
    slot: Annotated[int, Field(ge=FIRST_OPEN_SLOT, lt=FILE_SLOTS)]
    flags: SmallInt
