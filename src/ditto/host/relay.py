"""A relay between a client and a server, on a port of its own, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from typing import Self

CHUNK = 256 << 10


class Relay(ABC):
    """Listens for as long as it is entered; what it does with the bytes is told by `_carry`."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)
        self._host = host
        self.port = 0
        self._began = 0.0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._ended: asyncio.Event | None = None
        self._error: OSError | None = None

    def __enter__(self) -> Self:
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
        beside = await self._beside()
        self._began = time.monotonic()
        self._ready.set()
        await self._ended.wait()
        server.close()
        if beside is not None:
            beside.close()
        current = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not current]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        with contextlib.suppress(OSError, asyncio.CancelledError):
            up, back = await asyncio.open_connection(*self._server, limit=CHUNK)
            await self._carry(reader, writer, up, back)
        for end in (writer, back):
            if end is not None:
                end.close()

    async def _beside(self) -> asyncio.BaseTransport | None:
        """What else is opened on the relay's port, before anyone is told of it."""
        return None

    @abstractmethod
    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        """Carry one connection: what ``reader`` gives goes to ``back``, what ``up`` gives to ``writer``."""
