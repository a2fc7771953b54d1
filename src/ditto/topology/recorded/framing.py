"""Where requests and replies begin in what a connection carries, and what kind of request one is.

Of each send and receive only the first bytes were recorded, so a head is looked for where a piece begins, and further
ones in it where a protocol's lengths lead to them within those bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ditto.streams import h2, pgsql
from ditto.streams.pipelined import request_end
from ditto.streams.resp import MARKS, reply_end

HTTP, RESP, MEMCACHED, PGSQL, MYSQL, FRAMES, OPAQUE = (
    "http1", "resp2", "memcached", "pgsql", "mysql", "http2", "opaque",
)  # fmt: skip

_HTTP_HEAD = re.compile(rb"(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|TRACE|CONNECT) ([^ ?\r\n]*)")
_HTTP_REPLY = re.compile(rb"HTTP/1\.[01] (\d{3})")
_RESP_WORDS = re.compile(rb"\*(\d{1,6})\r\n")
_RESP_NAME = re.compile(rb"\*\d{1,6}\r\n\$\d{1,4}\r\n([A-Za-z][A-Za-z0-9._-]{0,30})")
_STORES = {b"set", b"add", b"replace", b"append", b"prepend", b"cas"}
_ASKS = {
    b"get", b"gets", b"gat", b"gats", b"delete", b"incr", b"decr", b"touch", b"version", b"stats", b"flush_all",
    b"quit", b"verbosity", b"mg", b"ms", b"md", b"ma", b"mn", b"me",
}  # fmt: skip
# In one piece: a recording may be damaged.
_MOST_HEADS = 4096


@dataclass(frozen=True)
class Head:
    """A request that begins ``at`` so many bytes into a piece; ``name`` tells its kind, ``silent`` has no reply."""

    at: int
    name: str
    silent: bool = False


def protocol_of(first: bytes) -> str:
    """The protocol of a connection, from the first bytes that its client sent."""
    if first.startswith(h2.PREFACE) or h2.begins_request(first):
        return FRAMES
    if _HTTP_HEAD.match(first):
        return HTTP
    if _RESP_WORDS.match(first):
        return RESP
    if pgsql.looks_like_request(first):
        return PGSQL
    word = re.split(rb"[ \r\n]", first[:32], maxsplit=1)[0]
    return MEMCACHED if word in _STORES or word in _ASKS else OPAQUE


def request_heads(protocol: str, piece: bytes, length: int) -> list[Head]:
    """The requests that begin in a piece of ``length`` bytes which starts with ``piece``; none: it goes on with one.

    The number of those that lie behind the recorded bytes is estimated from the size of those before.
    """
    if protocol == HTTP:
        match = _HTTP_HEAD.match(piece)
        return [Head(0, f"{match[1].decode()} {_text(match[2])}")] if match else []
    if protocol == RESP:
        return _walk(piece, length, _resp_request)
    if protocol == MEMCACHED:
        return _walk(piece, length, _memcached_request)
    if protocol == PGSQL:
        return _pgsql_request(piece)
    return [Head(0, "request")]


def reply_heads(protocol: str, piece: bytes, length: int, most: int) -> int:
    """How many replies begin in a piece of ``length`` bytes; at most so many are awaited.  0: it goes on with one."""
    if protocol == HTTP:
        return int(_HTTP_REPLY.match(piece) is not None and not interim(protocol, piece))
    if protocol == RESP:
        return _resp_replies(piece, length, most)
    if protocol == MEMCACHED:
        return _memcached_replies(piece, length, most)
    if protocol == PGSQL:
        return int(pgsql.looks_like_reply(piece) and most > 0)
    return most


def interim(protocol: str, piece: bytes) -> bool:
    """Whether a reply only says that another will follow."""
    match = _HTTP_REPLY.match(piece) if protocol == HTTP else None
    return match is not None and match[1][:1] == b"1"


def failed(protocol: str, piece: bytes) -> bool:
    """Whether a reply tells of an error of the server."""
    if protocol == HTTP:
        match = _HTTP_REPLY.match(piece)
        return match is not None and match[1][:1] == b"5"
    if protocol == MYSQL:
        return piece[3:5] == b"\1\xff"
    return protocol == RESP and piece[:1] == b"-"


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


_Step = Callable[[bytes, int], tuple[str, int | None, bool] | None]
"""The request that begins at a place of a piece: its name, its end if that was recorded, whether it has no reply."""


def _walk(piece: bytes, length: int, step: _Step) -> list[Head]:
    """Follow the requests of a piece by their lengths, then guess at those that were not recorded."""
    heads: list[Head] = []
    at = 0
    while at < min(len(piece), length):
        found = step(piece, at)
        if found is None:
            break
        name, end, silent = found
        heads.append(Head(at, name, silent))
        if end is None:
            return heads
        at = end
    if heads and at < length and (at >= len(piece) or len(heads) > 1):
        size = at / max(1, len(heads))
        rest = min(_MOST_HEADS, round((length - at) / size)) if size else 0
        heads += [Head(min(length - 1, int(at + i * size)), heads[-1].name, heads[-1].silent) for i in range(rest)]
    return heads


def _resp_request(piece: bytes, at: int) -> tuple[str, int | None, bool] | None:
    words = _RESP_WORDS.match(piece, at)
    if words is None:
        return None
    name = _RESP_NAME.match(piece, at)
    end = request_end(piece, at)
    return (name[1].decode().upper() if name else "request"), end, False


def _pgsql_request(piece: bytes) -> list[Head]:
    """The messages that a client sends at once are one request: named by the statement's verb where it has one."""
    if not pgsql.looks_like_request(piece):
        return []
    word = pgsql.Session().key(piece).split(b" ", 1)[0].removeprefix(b"Parse_").removeprefix(b"Bind_")
    name = _text(word) or "request"
    # What begins and ends a session asks for nothing.
    return [] if name in ("Secure", "Startup", "Terminate", "Cancel") else [Head(0, name)]


def _memcached_request(piece: bytes, at: int) -> tuple[str, int | None, bool] | None:
    line, mark, _ = piece[at:].partition(b"\r\n")
    words = line.split(b" ")
    if words[0] not in _STORES and words[0] not in _ASKS:
        return None
    end: int | None = at + len(line) + 2 if mark else None
    if end is not None and words[0] in _STORES:
        end = end + int(words[4]) + 2 if len(words) > 4 and words[4].isdigit() else None
    return words[0].decode(), end, words[-1] == b"noreply"


def _resp_replies(piece: bytes, length: int, most: int) -> int:
    if not piece or piece[:1] not in MARKS:
        return 0
    count, at = 0, 0
    while count < most and at < len(piece):
        count += 1
        end = reply_end(piece, at)
        if end is None:
            # Cut off within a reply: where more than one is awaited, the rest of the piece answers the rest.
            return most if length > len(piece) and count > 1 else count
        at = end
    return most if at < length and at <= len(piece) else count


def _memcached_replies(piece: bytes, length: int, most: int) -> int:
    if piece.startswith((b"VALUE ", b"VA ")):
        ends = piece.count(b"END\r\n")
        return max(1, min(most, ends)) if length <= len(piece) else 1
    if re.match(rb"[A-Z0-9][A-Z0-9_]*[ \r]", piece) is None:
        return 0
    lines = piece.count(b"\r\n") + (length > len(piece))
    return max(1, min(most, lines))
