"""Cutting a stream of JSON that does not stand on lines into pieces that can be decoded one by one.

A document may be larger than memory, so what is handed on are the elements of the list it consists of: of the root
list, or of the list under ``resourceSpans`` or ``data`` of a root map.  Which brackets stand inside strings is found
for a whole block at a time from the parity of the quotes before them, the way of "Parsing Gigabytes of JSON per Second"
(Langdale and Lemire, 2019), here with numpy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

LARGEST = 64 << 20
PIECE = 4 << 20
_KEY = re.compile(rb'"(resourceSpans|data)"\s*:\s*\Z')
_OPEN = (ord("["), ord("{"))


@dataclass
class _State:
    """Where in the documents the cutter is; ``start`` is where what it keeps of the block begins."""

    depth: int = 0
    in_string: bool = False
    root: int = 0
    key: bytes = b""
    element: int | None = None
    document: int | None = None
    used: bool = False


class Cutter:
    """Cuts blocks into documents.  ``broken`` counts pieces that were too large, cut off or not nested rightly."""

    def __init__(self) -> None:
        self.broken = 0
        self._state = _State()

    def cut(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The documents of a stream, none larger than about `LARGEST`."""
        state, kept = self._state, b""
        batch: list[bytes] = []
        size = 0
        for block in self._whole_escapes(blocks):
            buffer = kept + block
            for position, opens, depth in self._brackets(block, len(kept)):
                if opens and depth == 1 and batch:
                    yield self._wrapped(batch)
                    batch, size = [], 0
                piece = self._bracket(buffer, position, opens, depth)
                if piece is None:
                    continue
                text, whole = piece
                if whole:
                    yield text
                    continue
                batch.append(text)
                size += len(text)
                if size > PIECE:
                    yield self._wrapped(batch)
                    batch, size = [], 0
            if batch:
                yield self._wrapped(batch)
                batch, size = [], 0
            kept = self._keep(buffer)
        if state.depth or state.in_string:
            self.broken += 1

    def _wrapped(self, batch: list[bytes]) -> bytes:
        inner = b",".join(batch)
        return b'{"' + self._state.key + b'":[' + inner + b"]}" if self._state.key else b"[" + inner + b"]"

    @staticmethod
    def _whole_escapes(blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Blocks that do not end in a backslash, so that each escape is inside one block."""
        held = b""
        for block in blocks:
            held += block
            if not held.endswith(b"\\") or len(held) > LARGEST:
                yield held
                held = b""
        if held:
            yield held

    def _brackets(self, block: bytes, offset: int) -> Iterator[tuple[int, bool, int]]:
        """Brackets outside strings that matter: position, whether it opens, depth after it (down to 3)."""
        data = np.frombuffer(block, dtype=np.uint8)
        quotes = np.flatnonzero(data == ord('"'))
        if b"\\" in block:
            at = np.arange(len(data), dtype=np.int32)
            before = np.maximum.accumulate(np.where(data != ord("\\"), at, -1))
            previous = quotes - 1
            run = np.where(previous >= 0, previous - before[np.maximum(previous, 0)], 0)
            quotes = quotes[run % 2 == 0]
        low = data | 0x20
        places = np.flatnonzero((low == ord("{")) | (low == ord("}")))
        inside = (np.searchsorted(quotes, places) + self._state.in_string) % 2 == 1
        places = places[~inside]
        opens = (data[places] | 0x20) == ord("{")
        depths = self._state.depth + np.cumsum(np.where(opens, 1, -1))
        self._state.in_string = bool((len(quotes) + self._state.in_string) % 2)
        final = int(depths[-1]) if len(depths) else self._state.depth
        matters = np.flatnonzero((depths <= 3) & (opens | (depths <= 2)))
        for index in matters.tolist():
            yield int(places[index]) + offset, bool(opens[index]), int(depths[index])
        self._state.depth = max(0, final)

    def _bracket(self, buffer: bytes, position: int, opens: bool, depth: int) -> tuple[bytes, bool] | None:
        """Follow one bracket; a piece that ends with it, and whether that is a whole document."""
        state = self._state
        if depth < 0:
            self.broken += 1
            return None
        if opens:
            if depth == 1:
                state.root, state.key, state.element, state.used = buffer[position], b"", None, False
                state.document = None if state.root == _OPEN[0] else position
            elif depth == 2 and state.root == _OPEN[1] and buffer[position] == _OPEN[0]:
                found = _KEY.search(buffer, max(0, position - 64), position)
                if found:
                    state.key, state.used, state.document = found[1], True, None
            if depth == self._level():
                state.element = position
            return None
        if depth == self._level() - 1 and state.element is not None:
            text, state.element = buffer[state.element : position + 1], None
            return text, False
        if depth == 1 and state.key:
            # The list is over; what follows in the map is not looked at.
            state.root = 0
        if depth == 0 and state.document is not None and not state.used:
            text, state.document = buffer[state.document : position + 1], None
            return text, True
        return None

    def _level(self) -> int:
        """The depth at which elements begin; 0 if there are none here."""
        if self._state.root == _OPEN[0]:
            return 2
        return 3 if self._state.root == _OPEN[1] and self._state.key else 0

    def _keep(self, buffer: bytes) -> bytes:
        """What of the block belongs to a piece that has not ended."""
        state = self._state
        starts = [start for start in (state.element, state.document) if start is not None]
        if not starts:
            return b""
        start = min(starts)
        if len(buffer) - start > LARGEST:
            self.broken += 1
            state.element = state.document = None
            state.used = True
            return b""
        return self._shift(buffer, start)

    def _shift(self, buffer: bytes, start: int) -> bytes:
        state = self._state
        if state.element is not None:
            state.element -= start
        if state.document is not None:
            state.document -= start
        return buffer[start:]
