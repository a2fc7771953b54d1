"""How HTTP replies tell where they end: a recording holds too little of a head for that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from ditto.host.spoken import Stream

ReplyEnd = Literal["length", "chunked", "close", ""]

_LENGTH = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


def framing_of(head: bytes) -> ReplyEnd:
    """What ends the reply that begins so: its length, its last chunk, or the connection; empty where it is no HTTP."""
    if not head.startswith(b"HTTP/1."):
        return ""
    head = head.split(b"\r\n\r\n", 1)[0]
    if _CHUNKED.search(head):
        return "chunked"
    bodiless = head[9:12] in (b"204", b"304") or head[9:10] == b"1"
    return "length" if bodiless or _LENGTH.search(head) else "close"


def reply_framing(streams: Iterable[Stream]) -> ReplyEnd:
    """How most replies of recorded connections end; empty where none tells."""
    seen = Counter(framing for stream in streams if (framing := framing_of(stream.head)))
    return seen.most_common(1)[0][0] if seen else ""
