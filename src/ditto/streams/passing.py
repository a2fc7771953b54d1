"""Descriptors that pass from process to process with a message (SCM_RIGHTS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditto.artifacts.records import Kind
from ditto.artifacts.syscalls import NUMBERS, numbers

if TYPE_CHECKING:
    import numpy as np

    from ditto.streams.events import Event, Obj

PASSAGE = "passage"
"""Kind of what connections pass over: a socket pair, as a rule."""
_MESSAGES, _SENDMSG = numbers("sendmsg", "recvmsg"), NUMBERS["sendmsg"]
_Tables = dict[int, dict[int, "Obj"]]


def passes(event: Event) -> bool:
    """Whether a descriptor passed to or from another process with the message."""
    return event.nr in _MESSAGES and event.ret >= 0 and bool(event.args[3])


class Passing:
    """What is under way between processes, by the inode of what the descriptor stands for."""

    def __init__(self) -> None:
        self._under_way: dict[int, Obj] = {}
        self._leaving: list[tuple[int, int, int, int]] = []

    def expect(self, records: np.ndarray) -> None:
        """Find the messages of a recording with which descriptors leave.

        What is sent may be received before the send returns, and is recorded as received first then: it leaves when the
        send begins.
        """
        sent = records[(records["kind"] == Kind.SYSCALL) & (records["nr"] == _SENDMSG)]
        sent = sent[(sent["ret"] >= 0) & (sent["args"][:, 3] != 0)]
        self._leaving = sorted(
            ((int(r["t_ns"] - r["wall_ns"]), int(r["pid"]), int(r["args"][4]), int(r["args"][5])) for r in sent),
            reverse=True,
        )

    def until(self, now: int, tables: _Tables) -> None:
        """Take what left until now (CLOCK_MONOTONIC ns) from the senders' tables."""
        while self._leaving and self._leaving[-1][0] <= now:
            _, pid, fd, inode = self._leaving.pop()
            if (obj := tables.get(pid, {}).get(fd)) is not None:
                self._under_way[inode] = obj

    def sent_or_taken(self, event: Event, table: dict[int, Obj]) -> Obj | None:
        """What passes with a message; None if it is received and its sending was not seen."""
        if event.nr != _SENDMSG:
            return self._under_way.get(event.args[5]) if event.args[5] else None
        obj = table.get(event.args[4])
        if obj is not None:
            self._under_way[event.args[5]] = obj
        return obj
