"""A recording → the calls that matter between services, in the order in which they took effect.

Records come in the order in which calls returned.  A send acts when it is made: what another process received may have
returned before it.  So calls that act on others count from their beginning, calls that learn something from their end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ditto.artifacts.records import Kind, Recording
from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.events import ACCEPTS, CLOSE, RECEIVES, SENDFILES, SENDS, WAITS, Descriptors, Event, further_bytes

BIND = NUMBERS["bind"]
CONNECT = NUMBERS["connect"]
FUTEX = NUMBERS["futex"]
BIRTH = -1
"""The number of an event that is the birth of a thread: ``tid`` of process ``pid``, of the thread ``args[0]``."""
WAKE_OPS = frozenset((1, 3, 4, 5, 10))
FUTEX_WAIT_OPS = frozenset((0, 9))
FUTEX_OP_MASK = 127

_MAKERS = numbers(
    "socket", "listen", "bind", "dup", "dup2", "dup3", "fcntl", "pipe", "pipe2", "socketpair", "eventfd", "eventfd2",
    "epoll_create", "epoll_create1", "getsockname",
)  # fmt: skip
_USED = RECEIVES | SENDS | SENDFILES | WAITS | ACCEPTS | _MAKERS | {CONNECT, FUTEX, CLOSE}
# Records that are turned into objects at once.
_CHUNK = 1 << 16
_ACT_AT_ENTRY = SENDS | SENDFILES | {CONNECT, CLOSE}


def calls_in_order(recording: Recording) -> Iterator[tuple[int, Event]]:
    """When each call took effect (nanoseconds), and the call, its descriptors resolved.

    Sends, receives and waits are there while everything was recorded; calls that make or end descriptors always.
    """
    records = recording.records
    kinds, nrs = records["kind"], records["nr"]
    calls = kinds == Kind.SYSCALL
    chosen = np.flatnonzero((np.isin(nrs, sorted(_USED)) & calls) | (kinds == Kind.BIRTH))
    op = records["args"][chosen, 1].astype(np.int64) & FUTEX_OP_MASK
    numbers_of, is_call = nrs[chosen], calls[chosen]
    early = np.isin(numbers_of, sorted(_ACT_AT_ENTRY)) | ((numbers_of == FUTEX) & np.isin(op, sorted(WAKE_OPS)))
    when = records["t_ns"][chosen].astype(np.int64)
    when -= np.where(early & is_call, records["wall_ns"][chosen].astype(np.int64), 0)
    order = np.argsort(when, kind="stable")
    more, descriptors = further_bytes(records), Descriptors()
    for begin in range(0, len(order), _CHUNK):
        part = order[begin : begin + _CHUNK]
        yield from _resolved(records[chosen[part]], when[part], more, descriptors)


def _resolved(
    part: np.ndarray, when: np.ndarray, more: dict[tuple[int, int], bytes], descriptors: Descriptors
) -> Iterator[tuple[int, Event]]:
    names = ("t_ns", "wall_ns", "ret", "args", "pid", "tid", "kind", "nr", "payload_len")
    columns = [part[name].tolist() for name in names]
    blob = part["payload"].tobytes()
    rows = zip(when.tolist(), *columns, strict=True)
    for i, (at, t_out, wall, ret, args, pid, tid, kind, nr, length) in enumerate(rows):
        if kind == Kind.BIRTH:
            if args[1] != pid:
                descriptors.fork(args[1], pid)
            yield at, Event(pid, tid, BIRTH, 0, args, at, at)
            continue
        event = Event(pid, tid, nr, ret, args, t_out - wall, t_out)
        if length:
            event.payload = blob[i * 64 : i * 64 + min(length, 64)]
            event.payload += more.get((tid, t_out), b"")
        descriptors.apply(event)
        yield at, event
