"""Requests and replies of a connection of HTTP/2: several are under way at once, told apart by their streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditto.streams.h2 import PREFACE, Side, of_connection
from ditto.topology.recorded.framing import Head

if TYPE_CHECKING:
    from ditto.topology.recorded.connections import Exchange

UNKNOWN = "request"


class Interleaved:
    """What both sides of a connection say."""

    def __init__(self, first: bytes) -> None:
        self._asks, self._answers = Side(True), Side(False)
        self._open: dict[int, Exchange] = {}
        self._streams: list[int] = []
        if not first.startswith(PREFACE):
            self._asks.table.lose()

    def requests(self, piece: bytes, count: int) -> list[Head]:
        """The requests whose heads begin in a piece of the client's; `began` is to be told of them."""
        begun = self._asks.feed(piece, count)
        self._streams = [head.stream for head in begun]
        return [Head(head.at, _name(head.key, head.grpc)) for head in begun]

    def began(self, made: list[Exchange]) -> None:
        """What was made of the requests that were found last."""
        self._open.update(zip(self._streams, made, strict=True))

    def replies(self, piece: bytes, count: int) -> list[Exchange]:
        """The requests whose replies begin in a piece of the server's."""
        begun = self._answers.feed(piece, count)
        return [self._open.pop(head.stream) for head in begun if head.stream in self._open]

    @staticmethod
    def is_reply(piece: bytes) -> bool:
        """Whether a piece in which no reply begins goes on with one: settings, pings and windows belong to none."""
        return not of_connection(piece)


def _name(key: bytes, grpc: bool) -> str:
    """A request's name: of gRPC the method with its service, as its tracing names it."""
    text = key.decode("utf-8", "replace")
    return (text.removeprefix("POST /") if grpc else text) or UNKNOWN
