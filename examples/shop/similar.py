"""Products like one: ``similar.py PORT``, over gRPC, without generated code: messages are put together by hand.

``/shop.Similar/Of`` takes a product's number as a field of 32 bits, and answers with the numbers of others likewise.
"""

from __future__ import annotations

import struct
import sys
from concurrent import futures

import grpc
from common import Telemetry, end_on_sigterm

PRODUCTS = 400
TAG = bytes((1 << 3 | 5,))
telemetry = Telemetry("similar")
kinds = {number: {number % 7, number % 11 + 7, number % 13 + 18} for number in range(PRODUCTS)}


def number_of(field: bytes) -> int:
    """The number in a field."""
    return int(struct.unpack("<I", field[1:5])[0])


def of(asked: bytes, context: grpc.ServicerContext) -> bytes:
    """The ten products that have most in common with one."""
    told = dict(context.invocation_metadata())
    request = telemetry.begin("shop.Similar/Of", told.get("traceparent", ""))
    own = kinds[number_of(asked) % PRODUCTS]
    best = sorted(kinds, key=lambda number: -len(own & kinds[number]))[:10]
    telemetry.end(request)
    return b"".join(TAG + struct.pack("<I", number) for number in best)


def main() -> None:
    """Serve on a port of the loopback address until killed."""
    handlers = {"Of": grpc.unary_unary_rpc_method_handler(of)}
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Similar", handlers),))
    if not server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}"):
        raise SystemExit(f"port {sys.argv[1]} is taken")
    end_on_sigterm(telemetry)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
