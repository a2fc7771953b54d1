"""Recording what a client says: a relay between the client and the server keeps the bytes of both directions.

The server sees the same requests as ever, from as many connections; nothing of it is traced.  Only used for a short
extra run of the client, for a relay costs time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from ditto.host.relay import CHUNK, Relay
from ditto.host.spoken import Stream
from ditto.host.tap_datagrams import DatagramRelay

MOST_BYTES = 64 << 20
"""Request bytes kept of all connections."""
MOST_CONNECTIONS = 4096
HEAD_BYTES = 4096


class Tap(Relay):
    """A relay that keeps what passes through it, on connections and in datagrams.

    ``answers`` is how many bytes of replies are kept of each connection.  ``datagrams`` are the streams of clients that
    sent such; a turn is one of them.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", answers: int = 0) -> None:
        super().__init__(port, host)
        self.streams: list[Stream] = []
        self.datagrams: list[Stream] = []
        self._answers = answers
        self._kept = self._answered = 0
        self._moments = itertools.count(1)

    async def _beside(self) -> asyncio.BaseTransport | None:
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: DatagramRelay(self._server, self.datagrams), local_addr=(self._host, self.port)
            )
        except OSError:  # someone else has the port in datagrams: what comes there is not for us
            return None
        return transport

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        stream = Stream()
        if len(self.streams) < MOST_CONNECTIONS:
            self.streams.append(stream)
        replies = asyncio.ensure_future(self._replies(stream, up, writer))
        try:
            await self._requests(stream, reader, back)
            stream.closed_s = self.seconds
            with contextlib.suppress(OSError):
                back.write_eof()
            await asyncio.wait_for(replies, 1.0)
        except TimeoutError:
            pass
        finally:
            replies.cancel()

    async def _requests(self, stream: Stream, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self._kept < MOST_BYTES:
                self._kept += len(data)
                if stream.turns and stream.turns[-1][1] == 0:
                    stream.turns[-1] = (stream.turns[-1][0] + data, 0)
                else:
                    stream.turns.append((data, 0))
                said = (stream.asked_at[-1][0] if stream.asked_at else 0) + len(data)
                stream.asked_at.append((said, next(self._moments)))
            to.write(data)
            await to.drain()

    async def _replies(self, stream: Stream, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if not stream.turns:
                stream.turns.append((b"", 0))  # the server speaks first
            request, size = stream.turns[-1]
            if len(stream.turns) == 1 and len(stream.head) < HEAD_BYTES:
                stream.head += data[: HEAD_BYTES - len(stream.head)]
            if len(stream.answered) < self._answers and self._answered < MOST_BYTES:
                stream.answered += data[: self._answers - len(stream.answered)]
                self._answered += len(data)
                stream.answered_at.append((len(stream.answered), next(self._moments)))
            if self._kept < MOST_BYTES:
                stream.turns[-1] = (request, size + len(data))
            to.write(data)
            await to.drain()
        with contextlib.suppress(OSError):
            to.write_eof()
