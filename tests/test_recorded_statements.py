"""Calls to MySQL in what was recorded of an app: one for each statement, and none for greeting, login and ends."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from ditto.topology.recorded.connections import Connection, Exchange
from ditto.topology.recorded.framing import MYSQL, OPAQUE

RECORDED = 64


def packet(number: int, content: bytes) -> bytes:
    """A packet of the protocol."""
    return len(content).to_bytes(3, "little") + bytes([number]) + content


GREETING = packet(0, b"\x0a11.1\0" + bytes(60))
LOGIN = packet(1, struct.pack("<IIB", 0x0008A205, 1 << 24, 33) + bytes(23) + b"user\0\0")
DONE = packet(2, bytes(7))
ROWS = b"".join(packet(1 + i, b"x" * 20) for i in range(4)) + packet(5, b"\xfe\0\0\2\0")
PREPARED = packet(1, b"\0" + struct.pack("<IHHBH", 77, 1, 1, 0, 0)) + packet(2, b"y" * 30)


class Talk:
    """A connection whose ends are recorded or not; what is said comes in pieces of so many bytes at most."""

    def __init__(self, client: int, server: int, cuts: tuple[int, ...] = ()) -> None:
        self.connection = Connection(None, "3306", client=client, server=server)
        self.cuts = cuts
        self.at = 0
        self.made: list[Exchange] = []

    def _pieces(self, data: bytes) -> list[bytes]:
        edges = [0, *(cut for cut in self.cuts if cut < len(data)), len(data)]
        return [data[a:b] for a, b in pairwise(edges)]

    def ask(self, data: bytes) -> None:
        for piece in self._pieces(data):
            self.at += 1
            self.made += self.connection.request_sent(self.at, piece[:RECORDED], len(piece))
            self.connection.request_received(self.at, len(piece))

    def answer(self, data: bytes) -> None:
        for piece in self._pieces(data):
            self.at += 1
            self.connection.reply_sent(self.at, piece[:RECORDED], len(piece))
            self.connection.reply_received(self.at, len(piece))


def query(text: str) -> bytes:
    return packet(0, b"\x03" + text.encode())


@pytest.mark.parametrize(("client", "server", "cuts"), [(1, 2, ()), (1, 0, (4,)), (0, 2, (4,))])
def test_statements_are_calls(client: int, server: int, cuts: tuple[int, ...]) -> None:
    talk = Talk(client, server, cuts)
    talk.answer(GREETING)
    talk.ask(LOGIN)
    talk.answer(DONE)
    assert not talk.made, "a login is no statement"
    turns = [
        (query("select place from stock where id = " + "1" * 200), ROWS),
        (packet(0, b"\x16insert into moves values (?)"), PREPARED),
        (packet(0, b"\x17" + struct.pack("<IBI", 77, 0, 1)), packet(1, bytes(7))),
        (packet(0, b"\x0e"), packet(1, bytes(7))),
        (query("update stock set n = 1"), packet(1, b"\xff\x7a\x04#42S02no such table")),
    ]
    for asked, answered in turns:
        talk.ask(asked)
        talk.answer(answered)
    talk.ask(packet(0, b"\x19" + bytes(4)))
    talk.ask(packet(0, b"\x01"))
    assert [exchange.name for exchange in talk.made] == ["SELECT", "PREPARE", "INSERT", "Ping", "UPDATE"]
    assert talk.connection.protocol == MYSQL and not talk.connection.waiting
    assert all(exchange.replied for exchange in talk.made)
    assert [exchange.reply_bytes for exchange in talk.made] == [len(answered) for _, answered in turns]
    assert talk.made[-1].failed or cuts, "a header that came by itself does not tell"
    assert not talk.connection.torn


def test_statements_that_come_together_are_told_apart() -> None:
    """A driver ends one statement and asks the next at once, or prepares and executes without waiting."""
    talk = Talk(1, 2)
    talk.answer(GREETING)
    talk.ask(LOGIN)
    talk.answer(DONE)
    last = struct.pack("<IBI", 0xFFFFFFFF, 0, 1)
    talk.ask(packet(0, b"\x19" + bytes(4)) + packet(0, b"\x16delete from t") + packet(0, b"\x17" + last))
    assert [exchange.name for exchange in talk.made] == ["PREPARE", "Bind"]
    talk.answer(PREPARED + packet(1, bytes(7)))
    assert not talk.connection.waiting and {exchange.returned for exchange in talk.made} == {talk.at}


def test_encrypted_sessions_and_other_greeters_are_followed_by_turns() -> None:
    secure = packet(1, struct.pack("<IIB", 0x0008AA05, 1 << 24, 33) + bytes(23))
    for greeting, first in ((GREETING, secure), (b"220 ready\r\n", b"EHLO x\r\n"), (b"", query("select 1"))):
        talk = Talk(1, 2)
        talk.answer(greeting)
        talk.ask(first)
        talk.answer(b"250 ok\r\n")
        talk.ask(b"\x16\3\1" + bytes(40))
        assert talk.connection.protocol == OPAQUE and len(talk.made) == 2
