"""A relay that lets one request at a time through, whatever the client's connections: what a service does for a request
is then seen by itself.

It knows no protocol: a request is over when its client speaks again after a reply began, or when nothing has come for
some milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib

from ditto.host.relay import CHUNK, Relay

QUIET_S = 0.004
# For a reply that does not come at all.
PATIENCE_S = 2.0


class Turns(Relay):
    """Carries connections in turn, in the order in which they speak."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self._turn = asyncio.Lock()

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        ask = asyncio.ensure_future(reader.read(CHUNK))
        reply = asyncio.ensure_future(up.read(CHUNK))
        holding = replied = False
        try:
            while True:
                patience = (QUIET_S if replied else PATIENCE_S) if holding else None
                done, _ = await asyncio.wait({ask, reply}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if reply in done:
                    if not (data := reply.result()):
                        return
                    writer.write(data)
                    replied = True
                    reply = asyncio.ensure_future(up.read(CHUNK))
                if holding and (not done or (replied and ask in done)):
                    self._turn.release()
                    holding = False
                if ask in done:
                    if not (data := ask.result()):
                        return
                    if not holding:
                        await self._turn.acquire()
                        holding, replied = True, False
                    back.write(data)
                    ask = asyncio.ensure_future(reader.read(CHUNK))
        finally:
            if holding:
                self._turn.release()
            for task in (ask, reply):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await task
