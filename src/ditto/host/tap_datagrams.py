"""Recording what a client says in datagrams, for the tap (`ditto.host.tap`)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from typing import Any, cast

from ditto.host.spoken import Stream

MOST_CLIENTS = 4096
MOST_DATAGRAM = 1 << 16
MOST_BYTES = 64 << 20
"""Request bytes kept of all clients."""
LOST_S = 1.0
"""A datagram that has no reply by then gets none."""


class _Client:
    """One address that datagrams came from, with a socket of its own towards the server."""

    def __init__(self, server: tuple[str, int], stream: Stream) -> None:
        self.stream = stream
        self.waiting: deque[tuple[int, float]] = deque()
        self.up = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
        self.up.setblocking(False)
        self.up.connect(server)

    def asked(self, data: bytes) -> None:
        self.waiting.append((len(self.stream.turns), time.monotonic()))
        self.stream.turns.append((data, 0))

    def answered(self, data: bytes) -> None:
        """The reply is taken to be that to the earliest datagram that still may get one."""
        before = time.monotonic() - LOST_S
        while len(self.waiting) > 1 and self.waiting[0][1] < before:
            self.waiting.popleft()
        self.stream.head = self.stream.head or data
        if self.waiting:
            at, _ = self.waiting.popleft()
            self.stream.turns[at] = (self.stream.turns[at][0], len(data))


class DatagramRelay(asyncio.DatagramProtocol):
    """Carries datagrams between clients and a server, and keeps the requests: a stream for each client's address.

    Args:
        server: host and port.
        streams: where to put them.
    """

    def __init__(self, server: tuple[str, int], streams: list[Stream]) -> None:
        self._server = server
        self._streams = streams
        self._clients: dict[Any, _Client] = {}
        self._kept = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        client = self._clients.get(addr) or self._new(addr)
        if client is None:
            return
        if self._kept < MOST_BYTES:
            self._kept += len(data)
            client.asked(data)
        with contextlib.suppress(OSError):  # a lost one, as datagrams may be
            client.up.send(data)

    def _new(self, address: Any) -> _Client | None:
        if len(self._clients) >= MOST_CLIENTS:
            return None
        client = self._clients[address] = _Client(self._server, Stream())
        self._streams.append(client.stream)
        asyncio.get_running_loop().add_reader(client.up, self._replies, client, address)
        return client

    def _replies(self, client: _Client, address: Any) -> None:
        with contextlib.suppress(OSError):  # there is no more, or nobody has the port
            while True:
                data = client.up.recv(MOST_DATAGRAM)
                client.answered(data)
                if self._transport is not None:
                    self._transport.sendto(data, address)

    def connection_lost(self, exc: Exception | None) -> None:
        for client in self._clients.values():
            asyncio.get_running_loop().remove_reader(client.up)
            client.up.close()
