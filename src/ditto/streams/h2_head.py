"""The bytes of a head of HTTP/2, as they come."""

from __future__ import annotations

from dataclasses import dataclass

from hpack.huffman_table import decode_huffman

from ditto.streams.begun import Begun
from ditto.streams.events import Event


class CutOffError(Exception):
    """A head goes on behind what was recorded of it."""


class Block:
    """The bytes of a head, read one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise CutOffError
        self.at += 1
        return self.data[self.at - 1]

    def number(self, bits: int) -> int:
        most = (1 << bits) - 1
        value = self.byte() & most
        shift = 0
        while value >= most and shift < 28:
            more = self.byte()
            value += (more & 127) << shift
            shift += 7
            if more < 128:
                break
        return value

    def text(self) -> bytes:
        coded = self.at < len(self.data) and self.data[self.at] & 128
        size = self.number(7)
        text = self.data[self.at : self.at + size]
        if len(text) < size:
            raise CutOffError
        self.at += size
        return decode_huffman(text) if coded else text


@dataclass
class CutHead:
    """The frame of a request's head that goes on in the next call: some servers receive a frame's own head by itself.

    Attributes:
        size: bytes of the frame's content.
        flags: of the frame.
        begun: the request, as far as it is known.
        content: what was recorded of it.
        whole: whether that is all that came.
        event: the call in which it began.
    """

    size: int
    flags: int
    begun: Begun
    content: bytes
    whole: bool = True
    event: Event | None = None

    def goes_on(self, seen: bytes, length: int) -> bool:
        """Take more of it, ``length`` bytes of which those ``seen`` were recorded.

        True once it has come to its end, or no more of it can be read.
        """
        self.whole = self.whole and len(seen) == length
        self.content += seen
        return not self.whole or len(self.content) >= self.size
