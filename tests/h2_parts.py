"""Calls of a made-up gRPC service."""

from __future__ import annotations

from hpack import Encoder

from ditto.host.requests_h2 import frame
from ditto.streams import h2

GET, LIST = b"/test.Service/Get", b"/test.Service/List"


def grpc_fields(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"), (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )  # fmt: skip


def request(encoder: Encoder, stream: int, path: bytes = GET, data: bytes = b"\0\0\0\0\0") -> bytes:
    return frame(h2.HEADERS, 4, stream, encoder.encode(list(grpc_fields(path)))) + frame(h2.DATA, 1, stream, data)
