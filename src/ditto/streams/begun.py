"""What is noted with calls of HTTP/2: the requests and replies that begin in them."""

from __future__ import annotations

from typing import NamedTuple


class Begun(NamedTuple):
    """A request or a reply of HTTP/2 that begins in a call.

    Attributes:
        stream: its number.
        key: of a request, its class.
        grpc: of a request, whether it is gRPC's.
        at: where in the call it begins.
        head: of a reply, the bytes of its head, with frames.
        status: of a reply, as far as its head tells; 0 where it does not.
        size: of a reply, the bytes of data that its head tells; -1 where it does not.
        ended: of a reply, whether its head is all of it.
    """

    stream: int
    key: bytes
    grpc: bool
    at: int
    head: int = 0
    status: int = 0
    size: int = -1
    ended: bool = False
