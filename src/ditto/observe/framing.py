"""How HTTP replies tell where they end: a recording holds too little of a head for that."""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.exchanges import takes_relay
from ditto.host.tap import Tap

SECONDS = 0.5
Framing = Literal["length", "chunked", "close", ""]

_LENGTH = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


def framing_of(head: bytes) -> Framing:
    """What ends the reply that begins so: its length, its last chunk, or the connection; empty where it is no HTTP."""
    if not head.startswith(b"HTTP/1."):
        return ""
    head = head.split(b"\r\n\r\n", 1)[0]
    if _CHUNKED.search(head):
        return "chunked"
    bodiless = head[9:12] in (b"204", b"304") or head[9:10] == b"1"
    return "length" if bodiless or _LENGTH.search(head) else "close"


def reply_framing(run: AppRun, requests: int | None) -> Framing:
    """How most replies to the app's client end, from a short run of it through a relay; empty where not known."""
    if not takes_relay(run.spec):
        return ""
    try:
        with Tap(run.port, run.host) as tap:
            client = run.start_load(requests, port=tap.port)
            client.pause(SECONDS)
            if client.is_running():
                client.stop()
    except (AppError, OSError):
        return ""
    seen = Counter(framing for stream in tap.streams if (framing := framing_of(stream.head)))
    return seen.most_common(1)[0][0] if seen else ""
