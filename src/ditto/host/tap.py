"""Recording what a client says: a relay between the client and the server keeps the bytes of both directions.

The server sees the same requests as ever, from as many connections; nothing of it is traced.  Only used for a short
extra run of the client, for a relay costs time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field

CHUNK = 256 << 10
MOST_BYTES = 64 << 20
"""Request bytes kept of all connections."""
MOST_CONNECTIONS = 4096
HEAD_BYTES = 4096


@dataclass
class Stream:
    """One connection as the relay saw it.

    Attributes:
        turns: (request bytes, bytes of the reply) in order: a turn begins when the client speaks after the server.
        head: how the first reply begins, up to HEAD_BYTES.
        answered: everything the server sent, as far as the relay was asked to keep it.
        closed_s: seconds from the relay's start at which the client closed it; None while open.
    """

    turns: list[tuple[bytes, int]] = field(default_factory=list)
    closed_s: float | None = None
    head: bytes = b""
    answered: bytearray = field(default_factory=bytearray)

    @property
    def said(self) -> bytes:
        """Everything the client sent."""
        return b"".join(request for request, _ in self.turns)


class Tap:
    """A relay on a port of its own, in a thread of its own, for as long as it is entered.

    ``answers`` is how many bytes of replies are kept of each connection.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", answers: int = 0) -> None:
        self._answers = answers
        self._server = (host, port)
        self._host = host
        self.port = 0
        self.streams: list[Stream] = []
        self._kept = self._answered = 0
        self._began = 0.0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._ended: asyncio.Event | None = None
        self._error: OSError | None = None

    def __enter__(self) -> Tap:
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._ended is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Since it began to listen."""
        return time.monotonic() - self._began

    def _main(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        try:
            server = await asyncio.start_server(self._accepted, self._host, 0, limit=CHUNK)
        except OSError as error:
            self._error = error
            self._ready.set()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._began = time.monotonic()
        self._ready.set()
        await self._ended.wait()
        server.close()
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream()
        if len(self.streams) < MOST_CONNECTIONS:
            self.streams.append(stream)
        back: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up, back = await asyncio.open_connection(*self._server, limit=CHUNK)
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
        for end in (writer, back):
            if end is not None:
                end.close()

    async def _requests(self, stream: Stream, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self._kept < MOST_BYTES:
                self._kept += len(data)
                if stream.turns and stream.turns[-1][1] == 0:
                    stream.turns[-1] = (stream.turns[-1][0] + data, 0)
                else:
                    stream.turns.append((data, 0))
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
            if self._kept < MOST_BYTES:
                stream.turns[-1] = (request, size + len(data))
            to.write(data)
            await to.drain()
        with contextlib.suppress(OSError):
            to.write_eof()
