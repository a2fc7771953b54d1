"""What a relay keeps of a conversation between a client and a server."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Stream:
    """One connection as the relay saw it.

    Attributes:
        turns: (request bytes, bytes of the reply) in order: a turn begins when the client speaks after the server.
        head: how the first reply begins, up to 4 KiB.
        answered: everything the server sent, as far as the relay was asked to keep it.
        asked_at: (bytes that the client has sent by now, when) for each time it spoke; moments are numbers that grow,
            on all connections alike.
        answered_at: the same of what the server sent.
        closed_s: seconds from the relay's start at which the client closed it; None while open.
    """

    turns: list[tuple[bytes, int]] = field(default_factory=list)
    closed_s: float | None = None
    head: bytes = b""
    answered: bytearray = field(default_factory=bytearray)
    asked_at: list[tuple[int, int]] = field(default_factory=list)
    answered_at: list[tuple[int, int]] = field(default_factory=list)

    @property
    def said(self) -> bytes:
        """Everything the client sent."""
        return b"".join(request for request, _ in self.turns)
