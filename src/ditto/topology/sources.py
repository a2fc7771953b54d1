"""Trace files: which there are, what they are by their content, and their text in parts of bounded size."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ditto.errors import BadInputError
from ditto.topology.cut import LARGEST, Cutter

if TYPE_CHECKING:
    import zstandard

BLOCK = 2 << 20
_SNIFF = 1 << 16
_STEP = 1 << 16
_MOST_FILES = 100_000
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_REMEDY = "give OTLP (JSON or protobuf), Jaeger query-API JSON or Zipkin v2 JSON, plain or compressed with gzip or zstd"
_JSON = re.compile(rb'(?:\xef\xbb\xbf)?\s*(?:\{\s*(?:"[^"\x00-\x1f]*"\s*:|\}|\Z)|\[\s*(?:[\[{\]]|\Z))')
# Fields of ResourceSpans: resource, scope_spans (length-delimited), schema_url.
_INNER = (0x0A, 0x12, 0x1A)
_REQUEST_FIELD = 0x0A


class Kind(StrEnum):
    """How a file's text is made up."""

    JSON = "json"
    FIELDS = "one protobuf request"
    DELIMITED = "protobuf requests, each after its length as a varint"
    PREFIXED = "protobuf requests, each after its length in four bytes"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Part:
    """Some of a file: whole documents, one a line if ``lines``.

    Attributes:
        protobuf: the documents are protobuf requests, else JSON.
        documents: their bytes.
        lines: the only document is many, one a line.
    """

    protobuf: bool
    documents: list[bytes]
    lines: bool = False


@dataclass
class Broken:
    """What of a file could not be cut into documents."""

    documents: int = 0
    files: int = 0
    reason: str = ""


def trace_files(paths: list[Path]) -> list[tuple[Path, bool]]:
    """The files, folders opened, sorted; and for each whether it was named itself.

    Raises:
        BadInputError: a path does not exist, or there are too many files.
    """
    found: dict[Path, bool] = {}
    for path in paths:
        if path.is_dir():
            for inner in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
                found.setdefault(inner, False)
        elif path.is_file():
            found[path] = True
        else:
            raise BadInputError(f"{path}: no such file or folder", _REMEDY)
    if len(found) > _MOST_FILES:
        raise BadInputError(f"{len(found)} files, more than {_MOST_FILES}", "join them, or give fewer")
    return list(found.items())


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file's text, decompressed.

    Raises:
        BadInputError: it cannot be opened.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}", "give a file that can be read") from error
    with raw:
        head = raw.read(4)
        raw.seek(0)
        if head.startswith(_GZIP):
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(BinaryIO, stream)
        elif head == _ZSTD:
            yield cast(BinaryIO, _Zstd(raw))
        else:
            yield raw


def kind_of(head: bytes, whole: bool) -> Kind:
    """What a text is by its first bytes; ``whole`` if they are all of it."""
    if _JSON.match(head):
        return Kind.JSON
    if len(head) < 2:
        return Kind.UNKNOWN
    length, start = _varint(head, 1)
    if head[0] == _REQUEST_FIELD and length and start < len(head) and head[start] in _INNER:
        end = start + length
        # The field ends with the text, or where another begins; what is cut off within it is told by the reader.
        if (end >= len(head) and (end == len(head) or not whole)) or (end < len(head) and head[end] == _REQUEST_FIELD):
            return Kind.FIELDS
    length, start = _varint(head, 0)
    if length and start < len(head) and head[start] == _REQUEST_FIELD:
        return Kind.DELIMITED
    length = int.from_bytes(head[:4], "big")
    if 0 < length <= LARGEST and len(head) > 4 and head[4] == _REQUEST_FIELD:
        return Kind.PREFIXED
    if head[0] == _REQUEST_FIELD:
        return Kind.FIELDS
    return Kind.UNKNOWN


def parts_of(path: Path, named: bool, broken: Broken) -> Iterator[Part]:
    """The documents of a file, in order.  What cannot be read is counted, and the rest of the file is left out.

    Raises:
        BadInputError: a file that was named itself is none of the formats, or cannot be opened.
    """
    from zstandard import ZstdError

    with opened(path) as stream:
        try:
            head, error = _filled(stream, _SNIFF)
            if error is not None and not head:
                raise error
            kind = kind_of(head, len(head) < _SNIFF)
            if kind is Kind.UNKNOWN:
                if named:
                    what = "is empty" if not head else "is no trace file of a known format"
                    raise BadInputError(f"{path}: {what}", _REMEDY)
                return
            if kind is Kind.JSON:
                yield from _json_parts(head, stream, broken)
            else:
                yield from _protobuf_parts(kind, _Reader(head, stream), broken)
        except (EOFError, OSError, zlib.error, ZstdError) as problem:
            broken.files += 1
            broken.reason = " ".join(str(problem).split())[:200]


def _json_parts(head: bytes, stream: BinaryIO, broken: Broken) -> Iterator[Part]:
    head = head.removeprefix(b"\xef\xbb\xbf")
    blocks = _blocks(head, stream, broken)
    if _on_lines(head):
        yield from _line_parts(blocks, broken)
        return
    cutter = Cutter()
    for document in cutter.cut(blocks):
        yield Part(False, [document])
    broken.documents += cutter.broken


def _on_lines(head: bytes) -> bool:
    """Whether documents stand on lines of their own: one of the first lines is a whole document."""
    import msgspec

    lines = head.split(b"\n")
    if len(lines) == 1:
        return False
    for line in lines[:20]:
        if line[:1] in (b"{", b"[") and len(line) > 2:
            try:
                msgspec.json.decode(line)
            except (msgspec.DecodeError, RecursionError, UnicodeError):
                continue
            return True
    # A long first line that ends past what was looked at: pretty-printed text has short ones.
    return len(lines[0]) > 4096 and lines[1][:1] in (b"{", b"[")


def _blocks(head: bytes, stream: BinaryIO, broken: Broken) -> Iterator[bytes]:
    """The text in blocks.  Of a stream that breaks off, what came before it."""
    yield head
    error = None
    while error is None:
        block, error = _filled(stream, BLOCK)
        if block:
            yield block
        elif error is None:
            return
    broken.files += 1
    broken.reason = " ".join(str(error).split())[:200]


def _filled(stream: BinaryIO, size: int) -> tuple[bytes, Exception | None]:
    """Up to ``size`` bytes, and why there are no more; what comes before a break in a compressed stream is kept."""
    from zstandard import ZstdError

    pieces: list[bytes] = []
    have = 0
    try:
        while have < size:
            # In small steps: a step that breaks off gives nothing.
            piece = stream.read(min(_STEP, size - have))
            if not piece:
                break
            pieces.append(piece)
            have += len(piece)
    except (EOFError, OSError, zlib.error, ZstdError) as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


class _Zstd:
    """A stream of zstd frames, decompressed.  Unlike the library's reader it tells when the last frame is cut off."""

    # So few bytes decompress to 16 MB at most.
    _FEED = 512

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._held = b""
        self._rest = b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end.

        Raises:
            EOFError: the last frame is not whole.
            ZstdError: it is no zstd.
        """
        import zstandard

        while not self._held:
            packed = self._rest or self._raw.read(self._FEED)
            self._rest = b""
            if not packed:
                if self._frame is not None:
                    raise EOFError("the compressed file ended before the end of its last frame")
                return b""
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
            self._held = self._frame.decompress(packed)
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        taken, self._held = self._held[:size], self._held[size:]
        return taken


def _line_parts(blocks: Iterator[bytes], broken: Broken) -> Iterator[Part]:
    kept: list[bytes] = []
    size = 0
    skip = False
    for block in blocks:
        end = block.rfind(b"\n")
        if end < 0 and skip:
            continue
        if end < 0:
            kept.append(block)
            size += len(block)
            if size > LARGEST:
                broken.documents += 1
                kept, size, skip = [], 0, True
            continue
        begin = 0
        if skip:
            begin = block.find(b"\n") + 1
            kept, skip = [], False
        text = b"".join([*kept, block[begin : end + 1]])
        if text.strip():
            yield Part(False, [text], lines=True)
        kept, size = [block[end + 1 :]], len(block) - end - 1
    text = b"".join(kept)
    if text.strip() and not skip:
        yield Part(False, [text], lines=True)


class _Reader:
    """Bytes of a stream in the lengths asked for."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._held, self._at, self._stream = head, 0, stream

    def read(self, size: int) -> bytes:
        """``size`` bytes, or as many as there are."""
        have = len(self._held) - self._at
        if have < size:
            more = self._stream.read(max(size - have, _STEP))
            pieces = [self._held[self._at :], more]
            have += len(more)
            while more and have < size:
                more = self._stream.read(size - have)
                pieces.append(more)
                have += len(more)
            self._held, self._at = b"".join(pieces), 0
        taken = self._held[self._at : self._at + size]
        self._at += len(taken)
        return taken

    def skip(self, size: int) -> bool:
        """Pass over ``size`` bytes; whether there were as many."""
        while size > 0:
            taken = self.read(min(size, BLOCK))
            if not taken:
                return False
            size -= len(taken)
        return True

    def varint(self) -> int | None:
        """A protobuf varint; none at the end of the stream.

        Raises:
            ValueError: it is cut off or too long.
        """
        value = shift = 0
        while True:
            byte = self.read(1)
            if not byte:
                if shift:
                    raise ValueError("cut off")
                return None
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("too long")


def _protobuf_parts(kind: Kind, reader: _Reader, broken: Broken) -> Iterator[Part]:
    """Requests, or the fields of the only one, each of which is a request by itself, some megabytes at a time."""
    batch: list[bytes] = []
    size = 0
    while True:
        try:
            message = _message(kind, reader, broken)
        except ValueError:
            broken.documents += 1
            break
        if message is None:
            break
        if message:
            batch.append(message)
            size += len(message)
            if size > BLOCK:
                yield Part(True, batch)
                batch, size = [], 0
    if batch:
        yield Part(True, batch)


def _message(kind: Kind, reader: _Reader, broken: Broken) -> bytes | None:
    """The next request; empty for one that was passed over, none at the end.

    Raises:
        ValueError: the stream is cut off or no protobuf from here on.
    """
    head = b""
    if kind is Kind.PREFIXED:
        prefix = reader.read(4)
        if not prefix:
            return None
        if len(prefix) < 4:
            raise ValueError("cut off")
        length: int | None = int.from_bytes(prefix, "big")
    else:
        if kind is Kind.FIELDS:
            tag = reader.read(1)
            if not tag:
                return None
            if tag[0] != _REQUEST_FIELD:
                raise ValueError("not a field of a request")
            head = tag
        length = reader.varint()
        if length is None:
            if head:
                raise ValueError("cut off")
            return None
    if length is None or length > LARGEST:
        broken.documents += 1
        if length is None or not reader.skip(length):
            raise ValueError("cut off")
        return b""
    body = reader.read(length)
    if len(body) < length:
        raise ValueError("cut off")
    return head + _to_varint(length) + body if head else body


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The varint at a place and where it ends; zero if there is none."""
    value = shift = 0
    for place in range(at, min(len(data), at + 10)):
        value |= (data[place] & 0x7F) << shift
        if data[place] < 0x80:
            return value, place + 1
        shift += 7
    return 0, at


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
