"""What the load generator sends: scripts of requests, each with what tells the end of its reply.

Plans made from an app's own requests are private, as the observation they belong to is.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from pathlib import Path

from ditto.artifacts.prints import WORD_KEY, path_print
from ditto.errors import BadInputError

PLAN_NAME = "requests.plan"
"""Of the plan that an observation keeps."""
MAGIC = b"DLP1"
_MOST_BYTES = 1 << 30
_REMEDY = "record it again: ditto load APP.toml --save-plan FILE"


class Arrivals(StrEnum):
    """How requests arrive."""

    CLOSED = "closed"
    CONSTANT = "constant"
    POISSON = "poisson"
    RECORDED = "recorded"


class Framing(IntEnum):
    """How replies are told apart; as ``native/loadgen/plan.h``."""

    BYTES = 0
    HTTP1 = 1
    RESP2 = 2
    MEMCACHED = 3
    OPAQUE = 4
    PGSQL = 5
    MYSQL = 6
    FASTCGI = 7
    H2 = 8
    DATAGRAM = 9
    DNS = 10


WITHOUT_CODEC = (Framing.BYTES, Framing.DATAGRAM)
"""Framings of protocols whose clones need a plan of their own, see `opaque_of`."""


class StepFlags(IntFlag):
    """As ``native/loadgen/plan.h``."""

    NONE = 0
    NOREPLY = 1
    NOBODY = 2
    CLOSE = 4
    NO_ENDS = 8


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        request: its bytes.
        reply: bytes of its reply, for plans framed by bytes.
        flags: no reply comes, a reply without body comes, or the connection ends after it.
    """

    request: bytes
    reply: int = 0
    flags: StepFlags = StepFlags.NONE


@dataclass(frozen=True)
class Script:
    """What one connection sends.

    Attributes:
        steps: in order.
        opening: how many of them are made once a connection; the others over and over.
    """

    steps: tuple[Step, ...]
    opening: int = 0


@dataclass(frozen=True)
class LoadPlan:
    """Scripts that connections take in turn."""

    framing: Framing
    scripts: tuple[Script, ...]

    @property
    def requests(self) -> int:
        """Requests in all scripts, openings left out."""
        return sum(len(s.steps) - s.opening for s in self.scripts)

    def as_bytes(self) -> bytes:
        """The file's contents."""
        parts = [MAGIC, struct.pack("<II", self.framing, len(self.scripts))]
        for script in self.scripts:
            parts.append(struct.pack("<II", script.opening, len(script.steps)))
            for step in script.steps:
                parts += (struct.pack("<III", len(step.request), step.reply, step.flags), step.request)
        return b"".join(parts)

    def save(self, path: Path) -> None:
        """Write it for the owner's eyes only."""
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.as_bytes())


OPAQUE_HEAD_BYTES = 8
_SHORT = 0xD8
_BY_SIZE, _BY_WORD, _NO_REPLY, _CLOSES, _MARKER = 0xFFFF, 0x8000, 1, 2, 0xD7
_WORD = re.compile(rb"([A-Za-z][A-Za-z_]{1,23})[ \r\n]")


def opaque_of(plan: LoadPlan) -> LoadPlan:
    """The same scripts for a clone whose protocol has no codec: each request as long as it was, and empty.

    Its framing is that of ``native/runtime/codec_opaque.c``; the clone finds the class by the size, and by a
    fingerprint of the word that the request begins with, if it does.  A datagram too short for a header is as long, and
    empty.
    """

    def step(was: Step) -> Step:
        flags = _NO_REPLY if was.flags & StepFlags.NOREPLY else 0
        flags |= _CLOSES if was.flags & StepFlags.CLOSE else 0
        if plan.framing is Framing.DATAGRAM and len(was.request) < OPAQUE_HEAD_BYTES:
            return Step(bytes(len(was.request)), 0, was.flags)
        word = first_word(was.request)
        cls = _BY_WORD | path_print(WORD_KEY, word) if word else _BY_SIZE
        return Step(opaque_request(len(was.request), cls, flags), 0, was.flags)

    scripts = tuple(Script(tuple(step(s) for s in script.steps), script.opening) for script in plan.scripts)
    return LoadPlan(plan.framing if plan.framing is Framing.DATAGRAM else Framing.OPAQUE, scripts)


def opaque_request(size: int, cls: int, flags: int = 0) -> bytes:
    """A request of ``size`` bytes in the clones' own framing, for a request class; one below 8 bytes is for any."""
    if size < OPAQUE_HEAD_BYTES:
        return bytes([_SHORT + max(1, size), flags])[: max(1, size)].ljust(size, b"\0")
    return (struct.pack(">I", size) + struct.pack("<HBB", cls, flags, _MARKER)).ljust(size, b"\0")


def first_word(request: bytes) -> bytes:
    """The word of letters that a request of a protocol of lines begins with; empty elsewhere."""
    found = _WORD.match(request)
    return found[1] if found else b""


def opaque_key(payload: bytes) -> bytes | None:
    """The class key (``ditto.streams.protocol.request_key``) of a request in the clones' framing; None of another."""
    if len(payload) < OPAQUE_HEAD_BYTES:
        return None
    size, cls, flags, marker = (*struct.unpack_from(">I", payload), *struct.unpack_from("<HBB", payload, 4))
    if marker != _MARKER or flags > (_NO_REPLY | _CLOSES) or size < OPAQUE_HEAD_BYTES:
        return None
    if cls < _BY_WORD:
        return b"class %d" % cls
    return b"size %d" % size.bit_length() + (b" #%d" % (cls & 0xFFF) if cls != _BY_SIZE else b"")


def load_plan(path: Path) -> LoadPlan:
    """Read a plan.

    Raises:
        BadInputError: missing or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", _REMEDY) from error
    if data[:4] != MAGIC or len(data) > _MOST_BYTES:
        raise BadInputError(f"{path}: not a load plan", _REMEDY)
    try:
        return _parsed(data)
    except (struct.error, ValueError) as error:
        raise BadInputError(f"{path}: a damaged load plan ({error})", _REMEDY) from error


def _parsed(data: bytes) -> LoadPlan:
    framing, count = struct.unpack_from("<II", data, 4)
    at = 12
    scripts: list[Script] = []
    for _ in range(count):
        opening, steps = struct.unpack_from("<II", data, at)
        at += 8
        if not opening < steps:
            raise ValueError("a script without requests")
        made: list[Step] = []
        for _ in range(steps):
            size, reply, flags = struct.unpack_from("<III", data, at)
            at += 12
            if at + size > len(data):
                raise ValueError("it ends inside a request")
            made.append(Step(data[at : at + size], reply, StepFlags(flags)))
            at += size
        scripts.append(Script(tuple(made), opening))
    if not scripts:
        raise ValueError("no scripts")
    return LoadPlan(Framing(framing), tuple(scripts))
