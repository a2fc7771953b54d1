"""Whether what a keyed store answers follows from what its client has stored, from nothing on."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate

from ditto.artifacts.plan import Framing
from ditto.host.spoken import Stream
from ditto.streams.pipelined import request_end
from ditto.streams.resp import reply_end

ENOUGH = 20
"""Reads of keys that nobody has stored yet, at least: of a store that was not empty, some hit."""
STRAY = 0.01
"""Share of them that may hit."""
KEPT = 0.95
"""Share of the reads of what was certainly stored before that hit: less where values expire or are pushed out."""
FOUND = 0.2
"""Share of the reads of keys that may have been stored that hit at least."""
_LONGEST_KEY = 512
_WORD = re.compile(rb"\$(\d{1,9})\r\n")
_READS = {Framing.RESP2: {b"GET"}, Framing.MEMCACHED: {b"get", b"gets", b"mg"}}
_DROPS = {b"DEL", b"UNLINK", b"GETDEL", b"delete", b"md"}
_LOOKS = {b"EXISTS", b"TTL", b"PTTL", b"TYPE", b"STRLEN", b"MGET", b"touch", b"incr", b"decr", b"gat", b"gats", b"ma"}
"""Requests that store nothing where nothing is."""
_MISSES: dict[Framing, tuple[bytes, ...]] = {
    Framing.RESP2: (b"$-1\r\n", b"_\r\n"),
    Framing.MEMCACHED: (b"END\r\n", b"EN"),
}
_REFUSALS: dict[Framing, tuple[bytes, ...]] = {
    Framing.RESP2: (b"$-1\r\n", b"_\r\n", b"-"),
    Framing.MEMCACHED: (b"NOT_STORED", b"NOT_FOUND", b"EXISTS", b"NF", b"NS", b"EX"),
}
_WITH_DATA = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}
_NEVER = 1 << 62


@dataclass(frozen=True)
class _Did:
    """What a request did with a key, and the moments between which it did: None for stores, else whether a read hit."""

    begun: int
    ended: int
    drops: bool = False
    hit: bool | None = None


def starts_empty(framing: Framing, streams: Iterable[Stream]) -> bool:
    """Whether a store held nothing when its client came, and keeps what that stores.

    Args:
        framing: how the client speaks; a store without keys never does.
        streams: everything that the client said since, on all its connections, and what was answered.
    """
    if framing not in _READS:
        return False
    changes: dict[bytes, list[_Did]] = {}
    reads: dict[bytes, list[_Did]] = {}
    for stream in streams:
        _follow(framing, stream, changes, reads)
    foreign: list[bool] = []
    own: list[bool] = []
    known: list[bool] = []
    for key, made in reads.items():
        before = _Before(changes.get(key, []))
        for read in made:
            stored = before.stored(read)
            (foreign if stored is None else known).append(bool(read.hit))
            if stored:
                own.append(bool(read.hit))
    return (
        len(foreign) >= ENOUGH
        and sum(foreign) <= STRAY * len(foreign)
        and sum(own) >= KEPT * len(own)
        and sum(known) >= max(1.0, FOUND * len(known))
    )


class _Before:
    """What was done to one key before a moment."""

    def __init__(self, changes: list[_Did]) -> None:
        changes = sorted(changes, key=lambda change: change.begun)
        self._begun = [change.begun for change in changes]
        self._ended = list(accumulate((change.ended for change in changes), max))
        # When the last request that dropped it began and had ended at most, up to each of them.
        self._dropped = list(accumulate((change.ended if change.drops else 0 for change in changes), max))
        self._stored = list(accumulate((0 if change.drops else change.begun for change in changes), max))

    def stored(self, read: _Did) -> bool | None:
        """Whether the key was there for certain; None: certainly nobody had stored it yet."""
        count = bisect_right(self._begun, read.ended)
        if not count:
            return None
        return self._ended[count - 1] < read.begun and self._stored[count - 1] > self._dropped[count - 1]


def _follow(framing: Framing, stream: Stream, changes: dict[bytes, list[_Did]], reads: dict[bytes, list[_Did]]) -> None:
    """Put one connection's requests beside their replies."""
    split = _resp_requests if framing is Framing.RESP2 else _memcached_requests
    answers, at = bytes(stream.answered), 0
    end_of = reply_end if framing is Framing.RESP2 else _memcached_reply_end
    said = [bytes_said for bytes_said, _ in stream.asked_at]
    heard = [bytes_heard for bytes_heard, _ in stream.answered_at]
    for words, asked, answered in split(stream.said):
        reply, start = b"", at
        if answered:
            end = end_of(answers, at) if at < len(answers) else None
            at = end if end is not None and end <= len(answers) else len(answers) + 1
            reply = answers[start:at]
        first, last = bisect_left(said, asked), bisect_left(heard, at)
        begun = stream.asked_at[first][1] if first < len(said) else 0
        ended = stream.answered_at[last][1] if answered and last < len(heard) else _NEVER
        if len(words) > 1 and words[0] in _READS[framing] and (len(words) == 2 or words[0] == b"mg"):
            if at <= len(answers):
                hit = not reply.startswith(_MISSES[framing])
                reads.setdefault(words[1], []).append(_Did(begun, ended, hit=hit))
        elif words and words[0] not in _LOOKS and not reply.startswith(_REFUSALS[framing]):
            # Whatever else names a key may store it.
            for key in {word for word in words[1:] if len(word) <= _LONGEST_KEY}:
                changes.setdefault(key, []).append(_Did(begun, ended, drops=words[0] in _DROPS))


def _resp_requests(data: bytes) -> Iterator[tuple[list[bytes], int, bool]]:
    """Each request's words, where it ends, and whether it has a reply."""
    at = 0
    while (end := request_end(data, at)) is not None and end <= len(data):
        words, place = [], data.find(b"\r\n", at) + 2
        while place < end and (length := _WORD.match(data, place)) is not None:
            words.append(data[length.end() : length.end() + int(length[1])])
            place = length.end() + int(length[1]) + 2
        yield ([words[0].upper(), *words[1:]] if words else []), end, True
        at = end


def _memcached_requests(data: bytes) -> Iterator[tuple[list[bytes], int, bool]]:
    at = 0
    while (line_end := data.find(b"\n", at)) >= 0:
        words = data[at:line_end].split()
        at = line_end + 1
        if words and words[0] in _WITH_DATA and len(words) > 4 and words[4].isdigit():
            at += int(words[4]) + 2
        elif words and words[0] == b"ms" and len(words) > 2 and words[2].isdigit():
            at += int(words[2]) + 2
        yield words, at, not words or words[-1] != b"noreply"


def _memcached_reply_end(data: bytes, at: int) -> int | None:
    """Where the reply that begins at a place ends: a line, or values up to theirs."""
    while (line_end := data.find(b"\r\n", at)) >= 0:
        words = data[at:line_end].split()
        at = line_end + 2
        if len(words) > 1 and words[0] == b"VA" and words[1].isdigit():
            return at + int(words[1]) + 2
        if len(words) < 4 or words[0] != b"VALUE" or not words[3].isdigit():
            return at
        at += int(words[3]) + 2
    return None
