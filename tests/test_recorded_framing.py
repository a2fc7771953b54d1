"""Where requests and replies begin in what was recorded of a connection."""

from __future__ import annotations

import pytest
from hpack import Encoder

from ditto.host.requests_h2 import begin, frame
from ditto.streams import h2
from ditto.topology.recorded.connections import Connection
from ditto.topology.recorded.framing import (
    HTTP,
    MEMCACHED,
    OPAQUE,
    PGSQL,
    RESP,
    protocol_of,
    reply_heads,
    request_heads,
)
from ditto.topology.recorded.paths import folded


def resp(*words: str) -> bytes:
    """A request of RESP."""
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"GET /item/7?a=b HTTP/1.1\r\nHost: x\r\n", HTTP),
        (resp("GET", "key"), RESP),
        (b"get key\r\n", MEMCACHED),
        (b"set key 0 0 5\r\nhello\r\n", MEMCACHED),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", PGSQL),
        (b"\x00\x00\x00\x08\x01\x02\x03\x04", OPAQUE),
        (b"", OPAQUE),
    ],
)
def test_protocols_are_told_by_the_first_bytes(first: bytes, protocol: str) -> None:
    assert protocol_of(first) == protocol


def test_http_names_are_method_and_path() -> None:
    (head,) = request_heads(HTTP, b"POST /cart/7?x=1 HTTP/1.1\r\n\r\n", 400)
    assert (head.at, head.name) == (0, "POST /cart/7")
    assert request_heads(HTTP, b"item=7", 6) == [], "a body goes on with its request"


def test_pipelined_commands_are_told_apart() -> None:
    commands = [resp("LPUSH", "cart:1", "17"), resp("LTRIM", "cart:1", "0", "2"), resp("EXPIRE", "cart:1", "60")]
    piece = b"".join(commands)
    heads = request_heads(RESP, piece, len(piece))
    assert [head.name for head in heads] == ["LPUSH", "LTRIM", "EXPIRE"]
    assert [head.at for head in heads] == [0, len(commands[0]), len(commands[0]) + len(commands[1])]


def test_commands_behind_the_recorded_bytes_are_estimated() -> None:
    piece = resp("INCR", "abc") * 50
    heads = request_heads(RESP, piece[:256], len(piece))
    assert len(heads) == 50
    assert {head.name for head in heads} == {"INCR"}


def test_one_long_command_is_one() -> None:
    piece = resp("SET", "key", "v" * 5000)
    assert [head.name for head in request_heads(RESP, piece[:256], len(piece))] == ["SET"]


def test_values_of_memcached_are_stepped_over() -> None:
    piece = b"set a 0 0 9\r\nget x y\r\n\r\nget b\r\nset c 0 0 1 noreply\r\nz\r\n"
    heads = request_heads(MEMCACHED, piece, len(piece))
    assert [(head.name, head.silent) for head in heads] == [("set", False), ("get", False), ("set", True)]


@pytest.mark.parametrize(
    ("piece", "most", "count"),
    [
        (b":3\r\n+OK\r\n:1\r\n", 3, 3),
        (b"$5\r\nhello\r\n", 1, 1),
        (b"*2\r\n$1\r\na\r\n$1\r\nb\r\n+OK\r\n", 2, 2),
        (b"$-1\r\n$-1\r\n", 5, 2),
        (b"llo\r\n", 1, 0),
    ],
)
def test_replies_of_resp_are_counted(piece: bytes, most: int, count: int) -> None:
    assert reply_heads(RESP, piece, len(piece), most) == count


def test_an_interim_reply_is_none() -> None:
    assert reply_heads(HTTP, b"HTTP/1.1 100 Continue\r\n\r\n", 25, 1) == 0
    assert reply_heads(HTTP, b"HTTP/1.1 200 OK\r\n\r\n", 19, 1) == 1


def test_hostile_bytes_are_taken_calmly() -> None:
    for piece in (
        b"*999999\r\n$-5\r\n",
        b"*1\r\n$99999999\r\nx",
        b"set \xff\xff -1 -1 99999999999\r\n",
        b"*0\r\n",
        b"get \r\n\r\n",
    ):
        protocol = protocol_of(piece)
        assert len(request_heads(protocol, piece, 1 << 20)) <= 5000
        assert reply_heads(RESP, piece, 1 << 20, 4) <= 4


def test_parts_of_paths_with_many_values_name_things() -> None:
    names = {
        f"80 GET /user/{word}/{leaf}" for word in (chr(97 + i) * 3 for i in range(26)) for leaf in ("posts", "likes")
    }
    names |= {"80 GET /health", "80 POST /user/new", "90 GET"}
    found = folded(names)
    assert {found[name] for name in names if "GET /user" in name} == {
        "80 GET /user/{id}/posts", "80 GET /user/{id}/likes",
    }  # fmt: skip
    assert not {"80 GET /health", "80 POST /user/new", "90 GET"} & found.keys()


def test_a_body_sent_after_an_interim_reply_is_no_request() -> None:
    connection = Connection(None, "80", client=1, server=2)
    (asked,) = connection.request_sent(10, b"PUT /file HTTP/1.1\r\nExpect: 100-continue\r\n\r\n", 50)
    assert connection.request_received(11, 50) == [asked]
    assert connection.reply_sent(12, b"HTTP/1.1 100 Continue\r\n\r\n", 25) == []
    assert connection.request_sent(13, b"x" * 64, 5000) == []
    assert not asked.replied
    connection.request_received(14, 5000)
    assert connection.reply_sent(15, b"HTTP/1.1 503 Busy\r\n\r\n", 40) == [asked]
    assert connection.reply_received(16, 65) == [asked]
    assert (asked.called, asked.arrived, asked.answered, asked.returned) == (10, 11, 15, 16)
    assert (asked.asked_bytes, asked.reply_bytes, asked.failed) == (5050, 40, True)
    assert not connection.torn


def test_pipelined_requests_keep_their_replies_however_pieces_are_cut() -> None:
    connection = Connection(None, "6379", client=1, server=2)
    commands = [resp("INCR", "a"), resp("GET", "key"), resp("DEL", "b")]
    sizes = [len(command) for command in commands]
    first, second = connection.request_sent(1, commands[0] + commands[1], sizes[0] + sizes[1])
    (third,) = connection.request_sent(2, commands[2], sizes[2])
    # The receiver gets part of the first, then all the rest at once.
    assert connection.request_received(3, 5) == [first]
    assert connection.request_received(4, sum(sizes) - 5) == [second, third]
    assert connection.reply_sent(5, b":1\r\n$5\r\nhello\r\n", 15) == [first, second]
    assert connection.reply_sent(6, b":0\r\n", 4) == [third]
    assert connection.reply_received(7, 19) == [first, second, third]
    assert {exchange.returned for exchange in (first, second, third)} == {7}
    assert not connection.torn


def test_bytes_from_nowhere_tear_a_connection() -> None:
    connection = Connection(None, "80", client=1, server=2)
    connection.request_sent(1, b"GET / HTTP/1.1\r\n\r\n", 18)
    connection.request_received(2, 20)
    assert connection.torn


def test_replies_of_http2_belong_to_the_requests_of_their_streams() -> None:
    """Three requests under way at once, answered in another order; pings and windows are nobody's replies."""
    connection = Connection((1, 2, 3, 4), "4", client=10, server=20)
    asks, answers = Encoder(), Encoder()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", ""), ("content-type", "application/grpc")]
    ping = frame(h2.PING, 0, 0, bytes(8))
    made = []
    for number, path in enumerate(("/shop.Similar/Of", "/shop.Similar/All", "/shop.Similar/Of")):
        fields[2] = (":path", path)
        data = frame(h2.HEADERS, 4, 2 * number + 1, asks.encode(fields)) + frame(h2.DATA, 1, 2 * number + 1, bytes(9))
        data = (begin() if not number else ping) + data
        made += connection.request_sent(100 + number, data[:256], len(data))
        connection.request_received(110 + number, len(data))
    assert [exchange.name for exchange in made] == ["shop.Similar/Of", "shop.Similar/All", "shop.Similar/Of"]
    order = []
    for at, number in enumerate((2, 0, 1)):
        reply = frame(h2.HEADERS, 4, 2 * number + 1, answers.encode([(":status", "200")])) + frame(
            h2.DATA, 0, 2 * number + 1, bytes(300)
        )
        for piece in (ping, reply, frame(h2.DATA, 1, 2 * number + 1, bytes(40)), ping):
            order += connection.reply_sent(200 + 10 * at, piece[:256], len(piece))
            connection.reply_received(205 + 10 * at, len(piece))
    assert [made.index(exchange) for exchange in order] == [2, 2, 0, 0, 1, 1]
    assert [exchange.returned for exchange in made] == [215, 225, 205]
    assert all(exchange.reply_bytes > 340 for exchange in made) and not connection.waiting
