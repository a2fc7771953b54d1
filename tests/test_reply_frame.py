"""Where replies of called services end, whatever pieces they come in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runtime_build import DRIVERS, RUNTIME, SANITIZE, compile_c

OPAQUE, HTTP1, RESP2, MEMCACHED = range(4)
PGSQL, MYSQL = 5, 6
FASTCGI, H2 = 7, 8


@pytest.fixture(scope="module")
def feeder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [*sorted(RUNTIME.glob("reply_frame*.c")), RUNTIME / "rng.c", RUNTIME / "dist.c", DRIVERS / "feed_frame.c"]
    return compile_c(tmp_path_factory.mktemp("frame") / "feed", sources, SANITIZE)


def fed(feeder: Path, codec: int, data: bytes, piece: int, nobody: int = 0) -> str:
    command = [str(feeder), str(codec), str(int(nobody)), str(piece)]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=30).stdout.decode().strip()


WHOLE = [
    (HTTP1, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (HTTP1, b"HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n"),
    (HTTP1, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
    (HTTP1, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    (
        HTTP1,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0a\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
    ),
    (HTTP1, b"HTTP/1.1 200 OK\r\nX: " + b"v" * 5000 + b"\r\nContent-Length: 2\r\n\r\nab"),
    (RESP2, b"+OK\r\n"),
    (RESP2, b"-ERR no\r\n"),
    (RESP2, b":12\r\n"),
    (RESP2, b"$-1\r\n"),
    (RESP2, b"$7\r\na\r\nb\r\nc\r\n"),
    (RESP2, b"*0\r\n"),
    (RESP2, b"*3\r\n$3\r\nabc\r\n*2\r\n:1\r\n$0\r\n\r\n+x\r\n"),
    (MEMCACHED, b"STORED\r\n"),
    (MEMCACHED, b"VALUE key 0 7\r\nEND\r\nab\r\nEND\r\n"),
    (MEMCACHED, b"STAT a 1\r\nSTAT b 2\r\nEND\r\n"),
    (OPAQUE, b"\x00\x00\x00\x0c\x00\x00\x00\xd7abcd"),
    (OPAQUE, b"\x00\x00\x00\x08\x00\x00\x00\xd7"),
    (OPAQUE, b"\xdfabcdef"),
    (OPAQUE, b"\xd9"),
    (FASTCGI, b"\1\6\0\1\0\5\3\0hello\0\0\0\1\6\0\1\0\0\0\0\1\3\0\1\0\x08\0\0" + bytes(8)),
    (FASTCGI, b"\1\3\0\1\0\0\0\0"),
    (H2, b"\0\0\1\1\5\0\0\0\1\x88"),
    (
        H2,
        (
            b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\1\0\0\x08\6\0\0\0\0\0ABCDEFGH\0\0\1\1\4\0\0\0\1\x88"
            b"\0\0\2\0\0\0\0\0\1ab\0\0\0\0\1\0\0\0\3\0\0\0\0\1\0\0\0\1"
        ),
    ),
    (PGSQL, b"T\0\0\0\x06\0\0D\0\0\0\x06\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\5I"),
]


@pytest.mark.parametrize(("codec", "reply"), WHOLE)
@pytest.mark.parametrize("piece", [1, 2, 7, 100_000])
def test_a_whole_reply_ends_with_its_last_byte(feeder: Path, codec: int, reply: bytes, piece: int) -> None:
    assert fed(feeder, codec, reply, piece) == str(len(reply))
    assert fed(feeder, codec, reply[:-1], piece) in ("more", "to the end")


def test_what_has_no_end_of_its_own_and_what_is_no_reply(feeder: Path) -> None:
    assert fed(feeder, HTTP1, b"HTTP/1.1 200 OK\r\n\r\nany number of bytes", 3) == "to the end"
    assert fed(feeder, HTTP1, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", 3, nobody=1) == "38"
    assert fed(feeder, HTTP1, b"SSH-2.0\r\n", 100) == "broken"
    assert fed(feeder, RESP2, b"hello\r\n", 1) == "broken"
    assert fed(feeder, RESP2, b"*999999999\r\n", 1) == "broken"
    assert fed(feeder, OPAQUE, b"\x00\x00\x00\x07\x00\x00\x00\xd7", 1) == "broken"


def test_random_bytes(feeder: Path) -> None:
    subprocess.run([str(feeder), "fuzz", "300000", "1"], check=True, timeout=120)


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


FINE, END = b"\0\0\0\2\0\0\0", b"\xfe\0\0\2\0"
COLUMN = b"\3def" + bytes(4) + b"\1c" + bytes(14)
QUERY, PREPARE, LOGIN = 0x03, 0x16, 0x05


@pytest.mark.parametrize(
    ("command", "packets"),
    [
        (QUERY, [FINE]),
        (QUERY, [b"\xff\x15\x04#42000no"]),
        (QUERY, [b"\2", COLUMN, COLUMN, END, b"\1a\1b", b"\xfb\xfb", b"\0\0", END]),
        (QUERY, [b"\1", COLUMN, END, END]),
        (QUERY, [b"\1", COLUMN, END, b"\xfe" + (300).to_bytes(8, "little") + b"x" * 300, b"\xff\x15\x04#42000no"]),
        (PREPARE, [b"\0" + bytes(11)]),
        (PREPARE, [b"\0\1\0\0\0\1\0\2\0\0\0\0", COLUMN, COLUMN, END, COLUMN, END]),
        (PREPARE, [b"\0\1\0\0\0\0\0\1\0\0\0\0", COLUMN, END]),
        (PREPARE, [b"\xff\x15\x04#42000no"]),
        (LOGIN, [FINE]),
        (0, [b"\x0a8.0.0\0" + bytes(40)]),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_packets_of_mysql(feeder: Path, command: int, packets: list[bytes], piece: int) -> None:
    reply = b"".join(packet(n + 1, body) for n, body in enumerate(packets))
    assert fed(feeder, MYSQL, reply, piece, command) == str(len(reply))
    assert fed(feeder, MYSQL, reply[:-1], piece, command) == "more"


def test_what_no_reply_of_mysql_is(feeder: Path) -> None:
    assert fed(feeder, MYSQL, packet(1, b""), 1, QUERY) == "broken"
    assert fed(feeder, MYSQL, packet(1, b"\xfbfile"), 3, QUERY) == "broken"
    assert fed(feeder, MYSQL, packet(2, b"\xff\x15\x04#28000Access denied"), 9, LOGIN) == "broken"
