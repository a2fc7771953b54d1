"""A client of the server beside: so many calls over so many connections, some of them in flight together on each."""

from __future__ import annotations

import sys
import threading
import time

import grpc

DEPTH = 2
"""Calls in flight on a connection."""


def call(port: str, number: int, calls: int, failed: list[str]) -> None:
    """Make calls over one connection, three quarters of them to the first method."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        get = channel.unary_unary("/catalogue.Items/Get")
        search = channel.unary_unary("/catalogue.Items/Search")
        flying: list[grpc.Future] = []
        try:
            for at in range(calls):
                value = (number * 31 + at * 7) % 100
                if at % 4 == 3:
                    flying.append(search.future(bytes((10, 2, value, value + 1)), timeout=20))
                else:
                    flying.append(get.future(bytes((10, 1, value)), timeout=20))
                if len(flying) == DEPTH:
                    check(flying.pop(0).result())
            for one in flying:
                check(one.result())
        except grpc.RpcError as error:
            failed.append(f"{error.code()}: {error.details()}")
        except ValueError as error:
            failed.append(str(error))


def varint(reply: bytes, at: int) -> tuple[int, int]:
    """A number of protobuf's, and where it ends."""
    value = shift = 0
    while True:
        value |= (reply[at] & 127) << shift
        shift += 7
        at += 1
        if reply[at - 1] < 128:
            return value, at


def check(reply: bytes) -> None:
    """Whether a reply is length-delimited fields of a message and nothing else.

    Raises:
        ValueError: it is not.
    """
    at = 0
    while at < len(reply):
        tag, at = varint(reply, at)
        size, at = varint(reply, at)
        at += size
        if tag & 7 != 2 or at > len(reply):
            raise ValueError("a reply that is no message")


def main() -> None:
    """``load.py PORT CALLS CONNECTIONS``; prints the rate."""
    port, calls, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    failed: list[str] = []
    began = time.monotonic()
    threads = [
        threading.Thread(target=call, args=(port, number, calls // connections, failed))
        for number in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"{len(failed)} connections failed, the first with {failed[0]}")
    print(f"{calls / (time.monotonic() - began):.0f} requests/s")


if __name__ == "__main__":
    main()
