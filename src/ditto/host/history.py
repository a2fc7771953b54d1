"""Whether what a keyed store answers follows from what its client has stored, from nothing on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ditto.artifacts.plan import Framing
from ditto.host.spoken import Stream
from ditto.streams.pipelined import request_end
from ditto.streams.resp import reply_end

ENOUGH = 20
"""Reads of keys that nobody stores, at least: of a store that was not empty, some hit."""
STRAY = 0.01
"""Share of them that may hit."""
KEPT = 0.95
"""Share of the reads of what the same connection stored before that hit: less where values expire or are pushed out."""
FOUND = 0.2
"""Share of the reads of keys that are stored at some time that hit at least."""
_LONGEST_KEY = 512
_WORD = re.compile(rb"\$(\d{1,9})\r\n")
_READS = {Framing.RESP2: {b"GET"}, Framing.MEMCACHED: {b"get", b"gets"}}
_MISSES: dict[Framing, tuple[bytes, ...]] = {Framing.RESP2: (b"$-1\r\n", b"_\r\n"), Framing.MEMCACHED: (b"END\r\n",)}
_WITH_DATA = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}


@dataclass
class _Reads:
    """Reads of single keys: (key, whether it was found, whether the same connection had stored it before)."""

    made: list[tuple[bytes, bool, bool]] = field(default_factory=list)
    stored: set[bytes] = field(default_factory=set)


def starts_empty(framing: Framing, streams: Iterable[Stream]) -> bool:
    """Whether a store held nothing when its client came, and keeps what that stores.

    Args:
        framing: how the client speaks; a store without keys never does.
        streams: everything that the client said since, on all its connections, and what was answered.
    """
    if framing not in _READS:
        return False
    seen = _Reads()
    for stream in streams:
        _follow(framing, stream, seen)
    foreign = [hit for key, hit, _ in seen.made if key not in seen.stored]
    own = [hit for _, hit, before in seen.made if before]
    known = [hit for key, hit, _ in seen.made if key in seen.stored]
    return (
        len(foreign) >= ENOUGH
        and sum(foreign) <= STRAY * len(foreign)
        and sum(own) >= KEPT * len(own)
        and sum(known) >= max(1.0, FOUND * len(known))
    )


def _follow(framing: Framing, stream: Stream, seen: _Reads) -> None:
    """Put one connection's requests beside their replies."""
    split = _resp_requests if framing is Framing.RESP2 else _memcached_requests
    answers, at, here = bytes(stream.answered), 0, set()
    end_of = reply_end if framing is Framing.RESP2 else _memcached_reply_end
    for words, answered in split(stream.said):
        reply, begun = b"", at
        if answered:
            end = end_of(answers, at) if at < len(answers) else None
            at = end if end is not None and end <= len(answers) else len(answers) + 1
            reply = answers[begun:at]
        if len(words) == 2 and words[0] in _READS[framing]:
            if at <= len(answers):
                seen.made.append((words[1], not reply.startswith(_MISSES[framing]), words[1] in here))
        elif words:
            # Whatever else names a key may store it.
            keys = {word for word in words[1:] if len(word) <= _LONGEST_KEY}
            here |= keys
            seen.stored |= keys


def _resp_requests(data: bytes) -> Iterator[tuple[list[bytes], bool]]:
    """Each request's words, and whether it has a reply."""
    at = 0
    while (end := request_end(data, at)) is not None and end <= len(data):
        words, place = [], data.find(b"\r\n", at) + 2
        while place < end and (length := _WORD.match(data, place)) is not None:
            words.append(data[length.end() : length.end() + int(length[1])])
            place = length.end() + int(length[1]) + 2
        yield ([words[0].upper(), *words[1:]] if words else []), True
        at = end


def _memcached_requests(data: bytes) -> Iterator[tuple[list[bytes], bool]]:
    at = 0
    while (line_end := data.find(b"\n", at)) >= 0:
        words = data[at:line_end].split()
        at = line_end + 1
        if words and words[0] in _WITH_DATA and len(words) > 4 and words[4].isdigit():
            at += int(words[4]) + 2
        yield words, not words or words[-1] != b"noreply"


def _memcached_reply_end(data: bytes, at: int) -> int | None:
    """Where the reply that begins at a place ends: a line, or values up to theirs."""
    while (line_end := data.find(b"\r\n", at)) >= 0:
        words = data[at:line_end].split()
        at = line_end + 2
        if len(words) < 4 or words[0] != b"VALUE" or not words[3].isdigit():
            return at
        at += int(words[3]) + 2
    return None
