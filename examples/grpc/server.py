"""A gRPC server of two methods, without generated code: messages are protobuf's, put together by hand."""

from __future__ import annotations

import sys
from concurrent import futures

import grpc

ITEMS = {number: bytes((number + at) % 251 for at in range(200 + 40 * (number % 20))) for number in range(100)}


def field(number: int, value: bytes) -> bytes:
    """One length-delimited field of at most 16383 bytes."""
    size = bytes((len(value),)) if len(value) < 128 else bytes((len(value) & 127 | 128, len(value) >> 7))
    return bytes((number << 3 | 2,)) + size + value


def get(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """One item, by the number that is the request's first byte of data."""
    return field(1, ITEMS[request[2] % 100])


def search(request: bytes, _context: grpc.ServicerContext) -> bytes:
    """The beginnings of items that hold the request's bytes."""
    wanted = request[2:4]
    found = [item[:60] for item in ITEMS.values() if wanted in item]
    return b"".join(field(1, item) for item in found[:40])


def main() -> None:
    """Serve on a port of the loopback address until killed."""
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "Search": grpc.unary_unary_rpc_method_handler(search),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("catalogue.Items", handlers),))
    if not server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}"):
        raise SystemExit(f"port {sys.argv[1]} is taken")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
