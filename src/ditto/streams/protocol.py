"""Recognising wire protocols from the first bytes of requests and replies.

What is learned here stays in shapes: the class of a request (protocol words from public command tables), the kind
and size of a reply.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ditto.artifacts.plan import first_word, opaque_key
from ditto.artifacts.prints import folded
from ditto.streams import dns, fastcgi, h2, mysql, pgsql, resp
from ditto.streams.events import Event

_HTTP_REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|TRACE|CONNECT) (\S*)")
RECORDED = 64
"""Bytes of a payload that a recording holds by itself."""
MOST_FURTHER = 3
"""Pieces of that size that can be recorded beside, see native/collector/record.h."""
MOST_PATHS = 24
"""Different paths up to which each may be a class of its own."""
STRANGE = b"?"
"""Key of what does not begin like a request of HTTP or FastCGI, and of HTTP/2 where the path was not seen."""
BODILESS = frozenset({204, 304})
"""Statuses of HTTP replies that are all head."""
_HTTP_REPLY = re.compile(rb"^HTTP/1\.[01](?: (\d{3})|$)")
"""The version may be all that the first vector of a send holds."""
_RESP_MULTI = re.compile(rb"^\*(\d+)\r\n\$(\d+)\r\n([^\r]{1,32})")
_MEMCACHED_VERBS = frozenset(
    b"get gets gat gats set add replace append prepend cas delete incr decr touch version stats verbosity flush_all "
    b"quit "
    b"mg ms md ma mn me".split()
)
_MEMCACHED_REPLIES = (
    b"VALUE ", b"END\r\n", b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND", b"DELETED", b"TOUCHED", b"OK\r\n",
    b"VERSION", b"STAT ", b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR", b"HD", b"VA ", b"EN", b"MN\r\n",
    b"NF", b"NS", b"EX",
)  # fmt: skip


def recognise(requests: Iterable[bytes], replies: Iterable[bytes]) -> str:
    """The codec of a service, from the first bytes of what its connections received and sent.

    A codec is taken when at least nine tenths of the requests and of the replies look like it (continuations of long
    messages do not: callers pass only first receives and first sends).
    """
    request_list, reply_list = list(requests), list(replies)
    if not request_list:
        return "opaque"
    scores = {
        "http1": (sum(map(_looks_like_http, request_list)),
                  sum(bool(_HTTP_REPLY.match(r)) for r in reply_list)),
        "resp2": (sum(bool(_RESP_MULTI.match(r)) for r in request_list),
                  sum(r[:1] in resp.MARKS for r in reply_list if r)),
        "memcached": (sum(_first_word(r) in _MEMCACHED_VERBS for r in request_list),
                      sum(r.startswith(_MEMCACHED_REPLIES) or r[:1].isdigit() for r in reply_list)),
        "dns": (sum(map(dns.is_question, request_list)), sum(map(dns.is_answer, reply_list))),
        "fastcgi": (sum(map(fastcgi.looks_like_request, request_list)),
                    sum(map(fastcgi.looks_like_reply, reply_list))),
        "pgsql": (sum(map(pgsql.looks_like_request, request_list)), sum(map(pgsql.looks_like_reply, reply_list))),
        "mysql": (sum(map(mysql.looks_like_request, request_list)), sum(map(mysql.looks_like_reply, reply_list))),
        "h2": (sum(map(h2.looks_like_request, request_list)), sum(map(h2.looks_like_reply, reply_list))),
    }  # fmt: skip
    for codec, (asked, answered) in scores.items():
        if asked >= 0.9 * len(request_list) and answered >= 0.9 * len(reply_list):
            return codec
    return "opaque"


def _looks_like_http(request: bytes) -> bool:
    """Whether a request begins as one of HTTP, as far as it was recorded: others have a CONNECT of their own."""
    line, end, _ = request.partition(b"\n")
    return _HTTP_REQUEST.match(line) is not None and (not end or b" HTTP/" in line)


def _first_word(payload: bytes) -> bytes:
    return re.split(rb"[ \r\n]", payload[:32], maxsplit=1)[0]


def request_key(codec: str, payload: bytes, length: int) -> bytes:
    """What tells request classes apart: RESP's and memcached's command, HTTP's and FastCGI's method and path.

    Elsewhere it is the size, and the word of letters that the request begins with, where it does.
    """
    if codec == "resp2":
        match = _RESP_MULTI.match(payload)
        if match:
            return match[3].upper()
        return _first_word(payload).upper()
    if codec == "memcached":
        return _first_word(payload)
    if codec == "http1":
        match = _HTTP_REQUEST.match(payload)
        return match[1] + b" " + match[2].split(b"?", 1)[0] if match else STRANGE
    if codec == "fastcgi":
        return fastcgi.request_key(payload) or STRANGE
    if codec == "dns":
        return b"question"
    return opaque_key(payload) or sized(first_word(payload), length)


def sized(word: bytes, length: int) -> bytes:
    """The key of a request of an unknown protocol; ``word`` is what it begins with, or ``#`` and its fingerprint."""
    return b"size %d" % max(length, 1).bit_length() + (b" " + word if word else b"")


def head_bytes(codec: str) -> int:
    """First bytes of a request that tell its class; more than 64 are there only where that was asked for."""
    return {"fastcgi": fastcgi.LONGEST_HEAD, "h2": h2.LONGEST_HEAD}.get(codec, RECORDED)


def further_records(codec: str) -> int:
    """How many further pieces of each call a recording needs, for requests to be told apart."""
    return min(MOST_FURTHER, -(-(head_bytes(codec) - RECORDED) // RECORDED))


def folds(codec: str, keys: Collection[bytes]) -> bool:
    """Whether classes are told by their paths without digits: there are many paths, and most differ by digits alone."""
    return codec in ("http1", "h2") and len(keys) > MOST_PATHS and len({folded(key) for key in keys}) < len(keys) / 2


Session = pgsql.Session | mysql.Session


def session_of(codec: str) -> Session | None:
    """What is remembered of one connection, for protocols whose requests refer to earlier ones."""
    if codec == "pgsql":
        return pgsql.Session()
    return mysql.Session() if codec == "mysql" else None


@dataclass(frozen=True)
class ReplySeen:
    """A reply's shape: ``kind`` as in the profile; sizes in bytes."""

    kind: str
    status: int = 0
    head_bytes: int = 0
    count: int = 0
    size: int = 0
    second: int = 0


def reply_shape(codec: str, payload: bytes, total: int, first_send: int, first_vector: int = 0) -> ReplySeen:
    """The shape of a reply of ``total`` bytes that begins with ``payload`` and whose first send had ``first_send``.

    Where that send had several vectors, the first had ``first_vector``.
    """
    if codec == "resp2":
        return _resp_shape(payload, total)
    if codec == "memcached":
        return _memcached_shape(payload, total)
    if codec == "http1":
        match = _HTTP_REPLY.match(payload)
        status = int(match[1]) if match and match[1] else 200
        end = payload.find(b"\r\n\r\n")
        if end >= 0:
            head = end + 4
        elif 64 < first_vector < first_send:
            head = first_vector
        elif first_send < total or first_send <= 64:
            head = first_send
        else:
            head = min(total, 160)
        if status in BODILESS:
            head = total
        chunked = b"chunked" in payload[:head].lower()
        return ReplySeen(
            "http_chunked" if chunked else "http", status=status, head_bytes=head, size=max(0, total - head)
        )
    if codec == "fastcgi":
        status, head, size, record = fastcgi.reply_shape(payload, total)
        return ReplySeen("fastcgi", status=status, head_bytes=head, size=size, count=record)
    if codec == "dns":
        code, answers, others, size = dns.answer_shape(payload, total)
        return ReplySeen("dns", status=code, count=answers, second=others, size=size)
    return ReplySeen("opaque", size=total)


def stream_reply(calls: Sequence[Event], total: int, grpc: bool) -> ReplySeen:
    """The shape of a reply on a stream of HTTP/2 by its calls; ``grpc`` is what its request told."""
    payload, told = (calls[0].recorded, h2.begun(calls[0])) if calls else (b"", None)
    pieces = sum(h2.data_stream(call.payload) != 0 for call in calls)
    status, head, size, trailer = h2.reply_shape(payload, total, grpc, told, pieces)
    return ReplySeen("grpc" if grpc else "h2", status=status, head_bytes=head, size=size, second=trailer)


def _resp_shape(payload: bytes, total: int) -> ReplySeen:
    head, _, rest = payload.partition(b"\r\n")
    mark, number = head[:1], head[1:]
    if mark == b"+":
        return ReplySeen("simple", status=int(payload.startswith(resp.QUEUED)), size=max(0, total - 3))
    if mark == b"-":
        return ReplySeen("error", size=max(0, total - 3))
    if mark and mark in b":#(":
        return ReplySeen("integer", size=max(1, total - 3))
    if mark == b",":
        return ReplySeen("integer", status=1, size=max(1, total - 3))
    if mark == b"_" or (mark and mark in b"$*" and number == b"-1"):
        return ReplySeen("nil")
    if mark and mark in resp.BULKS and number.isdigit():
        return ReplySeen("bulk", size=int(number))
    if mark and mark in resp.AGGREGATES and number.isdigit():
        count = int(number)
        if not count:
            return ReplySeen("array", status=10 * resp.AGGREGATES.index(mark))
        if (inner := resp.within(mark, count, rest, total - len(head) - 2)) is not None:
            return ReplySeen("array", status=inner[0], count=inner[1], size=inner[2])
        status, size = resp.aggregate(mark, count, rest, total - len(head) - 2)
        return ReplySeen("array", status=status, count=count, size=size)
    return ReplySeen("simple", size=max(0, total - 3))


_MEMCACHED_KINDS = {
    b"END": "miss", b"STORED": "stored", b"NOT_STORED": "not_stored", b"EXISTS": "exists", b"NOT_FOUND": "not_found",
    b"DELETED": "deleted", b"TOUCHED": "touched", b"OK": "ok", b"VERSION": "version", b"STAT": "stats",
    b"HD": "stored", b"EN": "miss", b"NF": "not_found", b"NS": "not_stored", b"EX": "exists",
}  # fmt: skip


def _memcached_shape(payload: bytes, total: int) -> ReplySeen:
    word = _first_word(payload)
    if word == b"VALUE":
        line = payload.split(b"\r\n", 1)[0]
        parts = line.split(b" ")
        complete = b"\r\n" in payload
        if len(parts) >= 4 and complete and parts[3].isdigit():
            return ReplySeen("value", size=int(parts[3]), second=len(parts[2]))
        return ReplySeen("value", size=-1, second=1)
    if word == b"VA":
        size = re.match(rb"VA (\d{1,9})", payload)
        return ReplySeen("value", size=int(size[1]) if size else max(0, total - 7), second=1)
    if word[:1].isdigit():
        return ReplySeen("number", size=max(1, total - 2))
    return ReplySeen(_MEMCACHED_KINDS.get(word, "ok"), size=max(0, total - 2))


def value_size_from_total(total: int, key_bytes: int, flag_digits: int) -> int:
    """The size of a memcached value whose header line did not fit into what was recorded.

    The reply is ``VALUE <key> <flags> <bytes>CRLF <data> CRLF END CRLF``.
    """
    fixed = 6 + key_bytes + 1 + flag_digits + 1 + 2 + 2 + 5
    for digits in range(1, 9):
        size = total - fixed - digits
        if size >= 0 and len(str(size)) == digits:
            return size
    return max(0, total - fixed - 1)


def most_common(counter: Counter[bytes], share: float = 0.5) -> bytes | None:
    """The key that makes up at least ``share`` of a counter, if any."""
    total = sum(counter.values())
    if not total:
        return None
    key, count = counter.most_common(1)[0]
    return key if count >= share * total else None
