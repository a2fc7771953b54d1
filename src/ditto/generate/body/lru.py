"""An LRU stack of cache lines that can say what lies at a depth."""

from __future__ import annotations

from collections import deque

CAP = 1 << 14
"""Lines kept; anything older counts as far."""


def bucket_of(depth: int) -> int:
    """The bucket of ``depth`` other lines since the last touch (0: the same line again)."""
    return depth.bit_length() if depth < 1 << 21 else 22


class Stack:
    """Most recent line first.  Touching costs a move of the part above, which is short for most accesses."""

    def __init__(self) -> None:
        self.lines: deque[int] = deque()
        self._known: set[int] = set()

    def touch(self, line: int) -> int:
        """Move ``line`` to the top; returns its depth before, or -1 if it was not there."""
        lines = self.lines
        if lines and lines[0] == line:
            return 0
        if line in self._known:
            depth = lines.index(line)
            del lines[depth]
            lines.appendleft(line)
            return depth
        self._known.add(line)
        lines.appendleft(line)
        if len(lines) > CAP:
            self._known.discard(lines.pop())
        return -1
