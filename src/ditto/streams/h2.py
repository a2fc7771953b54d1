"""HTTP/2 by what a recording holds of each call: frames, heads of requests, and which replies begin where.

A recording has the first bytes of a call only.  A head that is cut off leaves unknown how many fields it entered into
the connection's table; how many is worked out from the next head, whose indexes must name one method and one path.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hpack.table import HeaderTable

from ditto.streams.begun import Begun
from ditto.streams.events import RECEIVES, SENDS, Event, Obj
from ditto.streams.h2_head import Block, CutHead, CutOffError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME = 9
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY = 1, 4, 8, 32
MOST_PATH = 60
"""Of a path, its last bytes: what tells classes apart; as in native/runtime/h2.h and native/lens/h2.c."""
LONGEST_HEAD = 256
"""Bytes of a call that are looked at: as many as can be recorded."""
UNSEEN_TRAILER = 10
"""Bytes of the frame of a gRPC reply's trailers where it was not seen: one that names its field by an index."""
_FRAME_MAX = 16384
_SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_STATIC: Sequence[tuple[bytes, bytes]] = HeaderTable.STATIC_TABLE
_MOST_LOST = 40
"""Fields that a head which was cut off may have entered beyond what was seen of it."""
_MOST_UNSEEN = 128
"""Fields that a table has room for."""
_TABLE_BYTES = 4096


Entry = tuple[bytes, bytes]
_UNKNOWN: Entry = (b"", b"")
Fields = list[Entry]


@dataclass
class Table:
    """The fields that one side of a connection has entered, the newest first.

    ``gap`` is how many entries are newer than those of which it is unknown how many there are; -1 without any.
    """

    entries: Fields = field(default_factory=list)
    gap: int = -1

    def field(self, index: int) -> Entry:
        """The field of an index.

        Raises:
            IndexError: there is none.
        """
        return _STATIC[index - 1] if index <= len(_STATIC) else self.entries[index - len(_STATIC) - 1]

    def add(self, entry: Entry) -> None:
        self.entries.insert(0, entry)
        if self.gap >= 0:
            self.gap += 1
        size = 0
        for number, (name, value) in enumerate(self.entries):
            size += len(name) + len(value) + 32
            if size > _TABLE_BYTES:
                del self.entries[number:]
                break

    def lose(self) -> None:
        """Unknown fields have been entered; what lies behind others that are unknown is given up."""
        if self.gap >= 0:
            del self.entries[self.gap :]
        self.gap = 0

    def with_lost(self, count: int) -> Table:
        """The table if so many unknown fields lie in the gap."""
        return Table([*self.entries[: self.gap], *[_UNKNOWN] * count, *self.entries[self.gap :]])


def read_head(table: Table, block: bytes, whole: bool) -> Fields:
    """The fields of a head as far as they were seen; enters into the table what it enters.

    Args:
        table: of the side that sent it.
        block: what was recorded of it.
        whole: whether that is all.
    """
    if table.gap >= 0:
        for count in range(_MOST_LOST + 1):
            tried = table.with_lost(count)
            found = _fields(tried, block)
            if found is not None and _plausible(found, whole):
                table.entries, table.gap = tried.entries, tried.gap
                if not whole:
                    table.lose()
                return found
    found = _fields(table, block) if table.gap < 0 else None
    if found is None or not whole:
        table.lose()
    return found or []


def read_reply_head(table: Table, block: bytes, whole: bool) -> Fields:
    """As `read_head`, of a reply, which does not tell how many fields were entered unseen.

    Fields that were entered before those are empty.
    """
    if table.gap >= 0:
        table.entries[table.gap :] = [_UNKNOWN] * _MOST_UNSEEN
    found = _fields(table, block)
    if found is None or not whole:
        table.lose()
    return found or []


def _plausible(fields: Fields, whole: bool) -> bool:
    names = [name for name, _ in fields]
    asked = [name for name in names if name.startswith(b":")]
    if not whole:
        return len(set(asked)) == len(asked) and b":path" in asked
    return names[: len(asked)] == asked and len(set(asked)) == len(asked) and {b":method", b":path"} <= set(asked)


def _fields(table: Table, block: bytes) -> Fields | None:
    """None where an index names nothing, or the code is broken."""
    source, found = Block(block), []
    try:
        while source.at < len(block):
            first = block[source.at]
            if first & 128:
                found.append(table.field(source.number(7)))
            elif first & 0xE0 == 0x20:
                source.number(5)
            else:
                index = source.number(6 if first & 0x40 else 4)
                entry = (table.field(index)[0] if index else source.text(), source.text())
                found.append(entry)
                if first & 0x40:
                    table.add(entry)
    except CutOffError:
        pass
    except Exception:  # whatever a decoder of damaged bytes raises
        return None
    return found


def head_key(fields: Fields) -> tuple[bytes, bool]:
    """The class key of a request's head, ``METHOD path``, empty where it is not known; and whether it is gRPC's."""
    values = dict(reversed(fields))
    method, path = values.get(b":method", b""), values.get(b":path", b"")
    key = method + b" " + path.split(b"?", 1)[0].split(b"#", 1)[0][-MOST_PATH:] if method and path else b""
    return key, values.get(b"content-type", b"").startswith(b"application/grpc")


def plausible_frame(payload: bytes) -> bool:
    """Whether a frame may begin so."""
    if len(payload) < FRAME:
        return False
    length, kind, stream = int.from_bytes(payload[:3], "big"), payload[3], int.from_bytes(payload[5:9], "big")
    if length > _FRAME_MAX or kind > CONTINUATION or kind == PUSH_PROMISE or stream >> 31:
        return False
    if kind in (SETTINGS, PING, GOAWAY):
        return stream == 0 and length == _SIZES.get(kind, length) and (kind != SETTINGS or length % 6 == 0)
    return length == _SIZES.get(kind, length) and (kind == WINDOW_UPDATE or stream % 2 == 1)


def of_connection(payload: bytes) -> bool:
    """Whether a frame begins so that belongs to no reply."""
    return plausible_frame(payload) and payload[3] in (SETTINGS, PING, GOAWAY, WINDOW_UPDATE)


def data_stream(payload: bytes) -> int:
    """The stream whose data a call begins with; 0 where it begins with something else."""
    return int.from_bytes(payload[5:9], "big") if plausible_frame(payload) and payload[3] == DATA else 0


def says_goodbye(seen: bytes) -> bool:
    """Whether one of the frames that a call begins with says that nothing more will be asked."""
    at = 0
    while plausible_frame(head := seen[at : at + FRAME]):
        if head[3] == GOAWAY:
            return True
        at += FRAME + int.from_bytes(head[:3], "big")
    return False


def begins_request(payload: bytes) -> bool:
    """Whether a frame begins so that begins a request."""
    return plausible_frame(payload) and payload[3] == HEADERS


def looks_like_request(payload: bytes) -> bool:
    """Whether a client may begin so."""
    return payload.startswith(PREFACE) or (
        plausible_frame(payload) and payload[3] in (HEADERS, WINDOW_UPDATE, PING, SETTINGS)
    )


def looks_like_reply(payload: bytes) -> bool:
    """Whether a server may answer so."""
    return plausible_frame(payload)


class Side:
    """What one side of a connection says, followed call by call."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks
        self.table = Table()
        self.left = 0
        self.block = b""
        self.whole = True
        self.ends = False
        self.grpc = False
        self.streams: set[int] = set()
        self.cut: CutHead | None = None
        self.told: Begun | None = None

    def hear(self, event: Event) -> None:
        """Note with a call what begins in it, and with an earlier one what its head has turned out to be."""
        before, self.told = self.cut, None
        event.said = self.feed(event.recorded, event.ret)
        if self.told is not None and before is not None and before.event is not None:
            before.event.said = (*(before.event.said or ())[:-1], self.told)
        if self.cut is not None and self.cut is not before:
            self.cut.event = event

    def feed(self, seen: bytes, length: int) -> tuple[Begun, ...]:
        """What begins in a call that moved ``length`` bytes, of which the first were recorded."""
        return tuple(self._feed(seen, length))

    def _feed(self, seen: bytes, length: int) -> Iterator[Begun]:
        at = self.left
        if self.cut is not None and self.cut.goes_on(seen[:at], min(at, length)):
            self._told(self.cut)
        if at > length:
            self.left -= length
            return
        self.left = 0
        begun_at = at
        while at < length:
            if seen.startswith(PREFACE, at):
                at += len(PREFACE)
                continue
            head = seen[at : at + FRAME]
            if not plausible_frame(head):
                return  # what is behind was not recorded
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            content = seen[at + FRAME : at + FRAME + size]
            stream = int.from_bytes(head[5:9], "big")
            behind = at + FRAME + size
            if self.asks and kind == HEADERS and flags & END_HEADERS and len(seen) == length < behind:
                self.cut = CutHead(size, flags, Begun(stream, b"", self.grpc, at), content)
                self.streams.add(stream)
                yield self.cut.begun
            elif kind in (HEADERS, CONTINUATION):
                if kind == HEADERS:
                    self.block, self.whole, begun_at = b"", True, at
                    self.ends = bool(flags & END_STREAM)
                    content = unpadded(content, flags)
                if self.whole:
                    self.block += content
                self.whole = self.whole and at + FRAME + size <= len(seen)
                if stream not in self.streams and (flags & END_HEADERS or not self.whole):
                    self.streams.add(stream)
                    yield self._begun(stream, begun_at, at + FRAME + size - begun_at)
                elif flags & END_HEADERS:
                    self._read()
            at += FRAME + size
        self.left = max(0, at - length)

    def _told(self, cut: CutHead) -> None:
        """The head that began in an earlier call is there, or was not recorded."""
        self.cut, self.whole = None, cut.whole
        self.block = unpadded(cut.content, cut.flags)
        key, grpc = head_key(self._read())
        self.grpc = self.grpc or grpc
        self.told = cut.begun._replace(key=key, grpc=self.grpc)

    def _read(self) -> Fields:
        return (read_head if self.asks else read_reply_head)(self.table, self.block, self.whole)

    def _begun(self, stream: int, at: int, head: int) -> Begun:
        if not self.asks:
            told = dict(reversed(self._read()))
            status, size = told.get(b":status", b""), told.get(b"content-length", b"")
            return Begun(
                stream, b"", False, at, head, int(status) if status.isdigit() else 0,
                int(size) if size.isdigit() else -1, self.ends,
            )  # fmt: skip
        key, grpc = head_key(self._read())
        self.grpc = self.grpc or grpc  # a head may be cut off before the field that tells
        return Begun(stream, key, self.grpc, at)


def unpadded(content: bytes, flags: int) -> bytes:
    """What a frame of headers or of data holds beside its padding, and beside what its stream depends on."""
    behind = content[0] if flags & PADDED and content else 0
    before = bool(flags & PADDED) + (5 if flags & WITH_PRIORITY else 0)
    return content[before : len(content) - behind]


def annotate(events: Iterable[Event]) -> None:
    """Note with each receive and send on a connection of HTTP/2 what begins in it; ``None`` stays with all others."""
    sides: dict[Obj, tuple[Side, Side] | None] = {}
    for event in events:
        obj = event.obj
        if obj is None or obj.kind not in ("connection", "downstream") or event.ret <= 0:
            continue
        if event.nr not in RECEIVES and event.nr not in SENDS:
            continue
        asks = (event.nr in SENDS) == (obj.kind == "downstream")
        if obj not in sides:
            if not event.recorded:
                continue  # an instruction run, which has no bytes
            if not asks:
                if not (plausible_frame(event.payload) and event.payload[3] == SETTINGS):
                    sides[obj] = None
                    continue
            elif not event.payload.startswith(PREFACE):
                sides[obj] = None
                continue
            sides[obj] = (Side(True), Side(False))
        if (pair := sides[obj]) is not None:
            pair[not asks].hear(event)


def begun(event: Event) -> Begun:
    """The first request that begins in a call; one of which nothing is known where none does."""
    return next(iter(event.said or ()), Begun(0, b"", False, 0))


def parts(event: Event) -> list[Event]:
    """A call as one for each request or reply that begins in it; the first keeps the time and the work of all."""
    said = event.said or ()
    if len(said) < 2 or not event.recorded:
        return [event]
    ends = [begun.at for begun in said[1:]] + [event.ret]
    moved, alone = _moved(said, ends)
    made = []
    for number, (begun, end) in enumerate(zip(said, ends, strict=True)):
        start = begun.at if number else 0
        part = copy.copy(event)
        seen = event.recorded[start : begun.at + begun.head if number in alone else end]
        part.payload, part.more, part.ret, part.said = seen[:64], seen[64:], moved[number], (begun,)
        if number:
            part.gap, part.cpu_ns = -1.0, 0
        made.append(part)
    return made


def _moved(said: Sequence[Begun], ends: Sequence[int]) -> tuple[list[int], set[int]]:
    """The bytes of each that begins in a call, and those of which the data does not follow the head.

    Servers that write the replies of all streams in turn write the heads first.  What is behind the last head is the
    data of all whose heads were no end: as much as each head tells, of others equal shares of what is left.
    """
    moved = [end - begun.at for begun, end in zip(said, ends, strict=True)]
    moved[0] = ends[0]
    last = len(said) - 1
    waiting = [
        number
        for number, begun in enumerate(said)
        if begun.head and not begun.ended and (number == last or begun.at + begun.head == ends[number])
    ]
    left = ends[-1] - said[-1].at - said[-1].head
    if len(waiting) < 2 or left < 0:
        return moved, set()
    told = {number: said[number].size + FRAME for number in waiting if said[number].size >= 0}
    share = max(0, left - sum(told.values())) // max(1, len(waiting) - len(told))
    moved[-1] -= left
    for number in waiting:
        data = min(left, told.get(number, share))
        moved[number] += data
        left -= data
    return moved, set(waiting)


def reply_shape(
    payload: bytes, total: int, grpc: bool, told: Begun | None = None, pieces: int = 0
) -> tuple[int, int, int, int]:
    """Status, bytes of the frame of headers, of data and of the frame of trailers, of a reply of ``total`` bytes.

    The status is HTTP's, of gRPC its own, which is taken to be 0 where data follows and 2 (unknown) where none does.
    What its head ``told`` of HTTP's counts, since replies of other streams may lie between.  Data was seen to begin in
    so many ``pieces``.
    """
    if told is not None and told.head and not grpc and (told.ended or told.size >= 0):
        status = told.status or reply_shape(payload, total, grpc)[0]
        return status, told.head, 0 if told.ended else told.size, 0
    at = 0
    while plausible_frame(payload[at : at + FRAME]) and payload[at + 3] != HEADERS:
        at += FRAME + int.from_bytes(payload[at : at + 3], "big")
    total -= at
    if payload[at + 3 : at + 4] != bytes((HEADERS,)):
        return (0 if grpc else 200), 0, max(0, total - FRAME), UNSEEN_TRAILER if grpc else 0
    size, flags = int.from_bytes(payload[at : at + 3], "big"), payload[at + 4]
    head, block = FRAME + size, payload[at + FRAME : at + FRAME + size]
    fields = _fields(Table(), block[:1] if block[:1] >= b"\x80" else block[:8]) or []
    status = next((int(value) for name, value in fields if name == b":status" and value.isdigit()), 200)
    if flags & END_STREAM or total <= head:
        return (2 if grpc else status), head, 0, 0
    behind = total - head
    data = payload[at + head : at + head + FRAME]
    first = int.from_bytes(data[:3], "big") if plausible_frame(data) and data[3] == DATA else 0
    if not grpc:
        frames = max(pieces, -(-behind // (FRAME + (first or _FRAME_MAX))))
        return status, head, max(0, behind - FRAME * frames), 0
    trailer = behind - FRAME - first if first else UNSEEN_TRAILER
    if trailer == UNSEEN_TRAILER + FRAME + _SIZES[WINDOW_UPDATE]:
        trailer = UNSEEN_TRAILER  # and a window behind it
    if not first or not FRAME < trailer < 64:
        frames = max(1, -(-(behind - UNSEEN_TRAILER) // (FRAME + _FRAME_MAX)))
        trailer = min(UNSEEN_TRAILER, behind)
        return 0, head, max(0, behind - trailer - FRAME * frames), trailer
    return 0, head, first, trailer
