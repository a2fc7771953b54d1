"""Spans as rows of whole numbers, whatever format they came in; their names go to a dictionary of *shapes*.

A row is ten 64-bit words (`COLUMNS`).  Ids become keys of 64 bits: span ids keep their value, trace ids of 128 bits are
folded, so that two traces of a set of ten million share a key with a probability of about 3e-6.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field

from ditto.artifacts.graph import MOST_NAME

COLUMNS = ("trace", "id", "parent", "shape", "start", "duration", "request", "response", "flags", "linked")
PACK = struct.Struct("<10q").pack
LINK_COLUMNS = ("trace", "id", "to_trace", "to_id")
PACK_LINK = struct.Struct("<4q").pack

# What a row holds where the trace has nothing.
NONE = -(1 << 63)
ERROR, FOLLOWS, SHARED = 1, 2, 4
UNSPECIFIED, INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(6)
UNKNOWN_SERVICE = "(unknown)"

_HALF = 1 << 63
_MASK = (1 << 64) - 1
_MASK_128 = (1 << 128) - 1
_FOLD = 0x9E3779B97F4A7C15
_MOST_ID = 64
# Nanoseconds: the year 2112, and three years; sums and doubles of them stay within 63 bits.
_LATEST = 4_500_000_000_000_000_000
_LONGEST = 100_000_000_000_000_000

# Attributes that tell the other side of a call, the place among those of one span, the first that is there counts.
DB, PEER, MESSAGING, DESTINATION, ROUTE, METHOD, REQUEST, RESPONSE, FAILED, KIND = range(10)
WANTED = {
    "db.system.name": (DB, 0), "db.system": (DB, 1), "db.type": (DB, 2),
    "peer.service": (PEER, 0), "server.address": (PEER, 1), "net.peer.name": (PEER, 2), "peer.hostname": (PEER, 3),
    "messaging.system": (MESSAGING, 0),
    "messaging.destination.name": (DESTINATION, 0), "messaging.destination": (DESTINATION, 1),
    "kafka.topic": (DESTINATION, 2), "message_bus.destination": (DESTINATION, 3),
    "http.route": (ROUTE, 0), "http.request.method": (METHOD, 0), "http.method": (METHOD, 1),
    "http.request.body.size": (REQUEST, 0), "http.request_content_length": (REQUEST, 1),
    "messaging.message.body.size": (REQUEST, 2), "http.request.size": (REQUEST, 3), "rpc.request.size": (REQUEST, 4),
    "http.response.body.size": (RESPONSE, 0), "http.response_content_length": (RESPONSE, 1),
    "http.response.size": (RESPONSE, 2), "rpc.response.size": (RESPONSE, 3),
    "error": (FAILED, 0), "span.kind": (KIND, 0),
}  # fmt: skip
SLOTS = 10
RESOURCE = {"service.name": 0, "host.name": 1, "k8s.pod.name": 2, "service.instance.id": 3}
# Attribute keys whose first part alone names a data store's system.
_STORE_PREFIXES = {"cassandra", "redis", "mongodb", "memcached", "elasticsearch", "dynamodb"}

Shape = tuple[str, str, str, int, str, str, str, str]
"""service, host, name, kind, data store's system, peer, messaging system, destination"""


@dataclass
class Lost:
    """What a part of the input could not give, by the names of `ditto.artifacts.graph`."""

    no_id: int = 0
    wrong_types: int = 0
    broken_documents: int = 0
    long_names: int = 0
    no_service: int = 0
    negative_durations: int = 0

    def add(self, other: Lost) -> None:
        """Add the counts of another part."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Rows:
    """The spans of one part of the input.

    Attributes:
        packed: `COLUMNS` of each span.
        shapes: the shapes that rows name by number.
        links: `LINK_COLUMNS` of each link to a span of another trace, or of the same.
        lost: what was left out or shortened.
    """

    packed: list[bytes] = field(default_factory=list)
    shapes: dict[Shape, int] = field(default_factory=dict)
    links: list[bytes] = field(default_factory=list)
    lost: Lost = field(default_factory=Lost)

    def _new_shape(self, key: Shape) -> int:
        """The number of a shape that is new, or whose names are too long or missing."""
        if not key[0]:
            self.lost.no_service += 1
            key = (UNKNOWN_SERVICE, *key[1:])
        clean: Shape = (
            self.short(key[0]), self.short(key[1]), self.short(key[2]), key[3],
            self.short(key[4]), self.short(key[5]), self.short(key[6]), self.short(key[7]),
        )  # fmt: skip
        return self.shapes.setdefault(clean, len(self.shapes))

    def short(self, text: str) -> str:
        """The text, or its beginning and a mark of the rest where it is longer than a name may be; no control codes."""
        if len(text) > MOST_NAME:
            self.lost.long_names += 1
            mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
            text = f"{text[: MOST_NAME - 9]}~{mark}"
        return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)

    def add(
        self,
        trace: str,
        span: str,
        parent: str,
        key: Shape,
        start: int | None,
        duration: int | None,
        values: list[str | None],
        flags: int,
        links: list[tuple[str, str]] | None = None,
    ) -> None:
        """Add one span of a format whose ids are text; times in nanoseconds.

        Args:
            values: of the span's attributes by slot, for sizes and failure.
            key: its shape; long names in it are shortened here.
        """
        try:
            trace_key, span_key = int(trace, 16), int(span, 16)
            parent_key = int(parent, 16) if parent else 0
        except ValueError:
            trace_key = span_key = parent_key = -1
        if not (0 < trace_key <= _MASK_128 and 0 < span_key <= _MASK and 0 <= parent_key <= _MASK):
            # Ids that are no hexadecimal numbers of the usual length, which are rare, are taken as text.
            if not (trace.strip("0") and span.strip("0") and len(trace) <= _MOST_ID and len(span) <= _MOST_ID):
                self.lost.no_id += 1
                return
            trace_key, span_key = key_of(trace), key_of(span)
            parent_key = key_of(parent) if parent.strip("0") else NONE
        else:
            trace_key = (trace_key ^ (trace_key >> 64) * _FOLD & _MASK) & _MASK
            trace_key = (trace_key or 1) - _HALF
            span_key -= _HALF
            parent_key = parent_key - _HALF if parent_key else NONE
        if (start is not None and not 0 <= start <= _LATEST) or (duration is not None and duration > _LONGEST):
            self.lost.wrong_types += 1
            return
        if duration is not None and duration < 0:
            self.lost.negative_durations += 1
            duration = 0
        number = self.shapes.get(key)
        if number is None:
            number = self._new_shape(key)
        if links:
            for to_trace, to_span in links[:128]:
                self.links.append(PACK_LINK(trace_key, span_key, key_of(to_trace), key_of(to_span)))
        if values[FAILED] and values[FAILED] != "false":
            flags |= ERROR
        self.packed.append(
            PACK(
                trace_key, span_key, parent_key, number,
                NONE if start is None else start, NONE if duration is None else duration,
                size_of(values[REQUEST]) if values[REQUEST] else NONE,
                size_of(values[RESPONSE]) if values[RESPONSE] else NONE, flags, len(links) if links else 0,
            )
        )  # fmt: skip


def key_of(text: str) -> int:
    """The 64-bit key of an id: its value if it is a hexadecimal number, else a hash; never `NONE`."""
    try:
        value = int(text, 16)
        if not 0 <= value <= _MASK_128:
            raise ValueError
    except ValueError:
        value = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
    value = (value ^ (value >> 64) * _FOLD & _MASK) & _MASK
    return (value or 1) - _HALF


def size_of(text: str | None) -> int:
    """A size in bytes from an attribute; `NONE` if it tells none."""
    if not text:
        return NONE
    try:
        value = int(text)
    except ValueError:
        return NONE
    return value if 0 <= value < 1 << 50 else NONE


def store_of(tag: str) -> str:
    """The system that a tag's key names, such as ``cassandra`` in ``cassandra.keyspace``; empty if none."""
    prefix = tag.partition(".")[0]
    return prefix if prefix in _STORE_PREFIXES else ""
