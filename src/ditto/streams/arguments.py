"""The numeric arguments of calls, as operations of programs have them."""

from __future__ import annotations

import struct

from ditto.artifacts.syscalls import NUMBERS, numbers
from ditto.streams.events import Event

_WITH_FLAGS = numbers("sendto", "sendmsg")
FIONBIO = 0x5421
UNTOUCHED = 2
"""Argument of a mapping without access (a thread's stack, of which little is ever used)."""


def arguments(event: Event, kind: str) -> tuple[int, int, int]:
    """The numeric arguments a, b, c of an operation, as ``struct ditto_op`` wants them."""
    args = event.args
    if kind in ("setsockopt", "getsockopt") and len(args) >= 3:
        value = struct.unpack_from("<i", event.payload)[0] if len(event.payload) >= 4 else 0
        return (signed(args[1]), signed(args[2]), value if kind == "setsockopt" else 0)
    if kind.startswith("epoll_"):
        events = struct.unpack_from("<I", event.payload)[0] if len(event.payload) >= 4 else 0
        return (signed(events), 0, 0)
    if kind == "ioctl" and args[1] & 0xFFFFFFFF == FIONBIO:
        return (FIONBIO, int(forbids_blocking(event)), 0)
    if kind in ("fcntl", "ioctl"):
        return (signed(args[1]), signed(args[2]) if abs(signed(args[2])) < 1 << 20 else 0, 0)
    if kind == "mmap":
        return (0 if args[2] else UNTOUCHED, 0, 0)
    if kind == "notify":
        return (0, signed(args[3]) if event.nr == NUMBERS["sendto"] else 0, max(0, event.ret) & 0xFFFF)
    if kind in ("shutdown", "socket"):
        return (signed(args[1]), 0, 0)
    if kind == "drain":
        return (min(int(args[2]), 1 << 20) if event.nr in (NUMBERS["read"], NUMBERS["recvfrom"]) else 0, 0, 0)
    if kind == "poll":
        wanted = struct.unpack_from("<h", event.payload, 4)[0] if len(event.payload) >= 8 else 1
        return (wanted, signed(args[2]) if event.nr == NUMBERS["poll"] else -1, 0)
    if kind in ("call", "call_more"):
        at = 3 if event.nr == NUMBERS["sendto"] else 2
        return (0, signed(args[at]) if event.nr in _WITH_FLAGS else 0, max(0, event.ret) & 0x7FFFFFFF)
    if kind == "file_open":
        return (0, 0, signed(args[2] if event.nr == NUMBERS["openat"] else args[1]))
    return (0, 0, 0)


def forbids_blocking(event: Event) -> bool:
    """Whether an ioctl makes calls on its descriptor return at once; the other way round it lets them block again.

    What the address points at is taken to be set where it was not recorded.
    """
    if event.args[1] & 0xFFFFFFFF != FIONBIO:
        return False
    return len(event.payload) < 4 or struct.unpack_from("<i", event.payload)[0] != 0


def signed(value: int) -> int:
    """A register's low 32 bits as a signed number."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def moved_bytes(event: Event, kind: str) -> int:
    if kind in ("mmap", "munmap", "madvise"):
        return int(event.args[1]) & 0xFFFFFFFF
    if kind == "sendfile":
        return max(0, event.ret)
    return max(0, min(event.ret, 0xFFFFFFFF))
