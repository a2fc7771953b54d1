"""Load plans of databases: what a connection begins with, then its requests over and over."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ditto.artifacts.plan import Framing, Script, Step, StepFlags
from ditto.host.spoken import Stream
from ditto.streams import mysql

DATABASES = (Framing.PGSQL, Framing.MYSQL)
FEW = 0.01
"""Connections with a smaller share of the requests of the busiest are the client's own preparations."""

_Steps = tuple[list[Step], int]
"""Steps, and how many of them are made once a connection."""


def database_scripts(framing: Framing, streams: Sequence[Stream], most: int) -> tuple[Script, ...]:
    """A script of each connection that is more than the client's preparations, ``most`` steps together."""
    read = _pgsql_steps if framing is Framing.PGSQL else _mysql_steps
    found = [made for stream in streams if len((made := read(stream.said))[0]) > made[1]]
    busiest = max((len(steps) for steps, _ in found), default=0)
    scripts = []
    for steps, opening in found:
        kept = steps[: max(0, most)]
        if len(steps) < FEW * busiest or len(kept) <= opening:
            continue
        most -= len(kept)
        scripts.append(Script(tuple(kept), opening))
    return tuple(scripts)


def _pgsql_steps(said: bytes) -> _Steps:
    """Messages up to the one that asks for an answer; what only prepares statements belongs to the opening."""
    steps: list[Step] = []
    opening = at = begun = 0
    executes = False
    while at + 8 <= len(said) or (at + 5 <= len(said) and said[at]):
        untyped = not said[at]
        kind = b"" if untyped else said[at : at + 1]
        size = struct.unpack_from(">I", said, at if untyped else at + 1)[0] + (not untyped)
        if size < 5 or at + size > len(said):
            break
        at += size
        if kind == b"X":
            break
        executes = executes or kind in (b"Q", b"E", b"F")
        if untyped or kind in (b"Q", b"S", b"F"):
            steps.append(Step(said[begun:at]))
            if not executes and opening == len(steps) - 1:
                opening = len(steps)
            begun, executes = at, False
    return steps, opening


def _mysql_steps(said: bytes) -> _Steps:
    """Greeting, login, then a command a step; what comes before the first that executes belongs to the opening."""
    steps = [Step(b"")]
    opening = 1
    at = 0
    flags = StepFlags.NONE
    while at + 5 <= len(said):
        size = int.from_bytes(said[at : at + 3], "little")
        packet = said[at : at + 4 + size]
        if len(packet) < 4 + size or size < 1:
            break
        at += 4 + size
        if packet[3]:
            if len(steps) == 1 and size >= 4 and mysql.without_ends(packet[4:]):
                flags = StepFlags.NO_ENDS
            steps.append(Step(packet))
            opening = len(steps)
            continue
        if packet[4] == mysql.QUIT:
            break
        silent = packet[4] in mysql.NO_REPLY
        steps.append(Step(packet, 0, flags | (StepFlags.NOREPLY if silent else StepFlags.NONE)))
        if packet[4] == mysql.PREPARE and opening == len(steps) - 1:
            opening = len(steps)
    if sum(step.request[4:5] == _PREPARES for step in steps) == 1:
        steps = [_by_order(step) for step in steps]
    return steps, opening


_PREPARES, _EXECUTES = bytes([mysql.PREPARE]), bytes([mysql.EXECUTE])


def _by_order(step: Step) -> Step:
    """An execution of the statement prepared last, for a server may number it otherwise the next time."""
    if step.request[3:5] != b"\0" + _EXECUTES:
        return step
    request = step.request[:5] + mysql.LAST.to_bytes(4, "little") + step.request[9:]
    return Step(request, step.reply, step.flags)
