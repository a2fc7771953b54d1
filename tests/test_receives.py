"""Requests that are longer than the buffer they are received into: what is asked for behind it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ditto.artifacts.profile import Receive
from ditto.model.classes import reply_shapes
from ditto.model.network import REST, _pieces, fit_receive
from ditto.streams.cycles import Cycle
from runtime_build import STATIC, build_clone, receive, running
from serial_parts import REQUEST, Recorder
from strace_parts import traced_clone, whole_calls
from test_serial_clone import serial_profile

SIZES = (500, 1500, 2500, 3500)


def test_a_head_sent_with_a_file_is_what_that_leaves_of_the_reply() -> None:
    """Of a reply that was recorded as far as its first 64 bytes; 160 are taken for the head where nothing tells."""
    for read, head in ((3000, 162), (2000, 160), (3150, 160)):
        record = Recorder((10,))
        record.call(10, "accept4", 7, 3)
        for _ in range(5):
            record.call(10, "read", 89, 7, 0, 8192, payload=b"GET /a HTTP/1.0\r\n")
            record.call(10, "openat", 9, 0xFFFFFF9C, payload=b"a\0")
            record.call(10, "pread64", read, 9, 0, read)
            record.call(10, "writev", 3162, 7, payload=b"HTTP/1.0 200 OK\r\nServer: " + b"s" * 38)
            record.call(10, "close", 0, 9)
        (shape,) = reply_shapes("http1", record.work().threads[10].cycles)
        assert (shape.head_bytes, shape.size and shape.size.values) == (head, [3162 - head])


@pytest.mark.parametrize(("rest", "head"), [((b"Server: x\r\n", b"\r\n"), 30), ((b"a: " + b"a" * 61, b"\r\n"), 17)])
def test_a_head_that_is_sent_line_by_line(rest: tuple[bytes, ...], head: int) -> None:
    """Where a line was not recorded to its end, nothing tells where the head's is."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, 3)
    for _ in range(5):
        record.call(10, "read", 89, 7, 0, 8192, payload=b"GET /a HTTP/1.0\r\n")
        for line in (b"HTTP/1.1 200 OK\r\n", *rest):
            record.call(10, "sendto", len(line) + 9 * (len(line) == 64), 7, payload=line)
        record.call(10, "sendto", 1000, 7, payload=b"x" * 64)
    (shape,) = reply_shapes("http1", record.work().threads[10].cycles)
    assert shape.head_bytes == head


@pytest.mark.parametrize("lines", [True, False])
def test_what_is_looked_at_before_it_is_taken(lines: bool) -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, 3)
    for _ in range(5):
        for size, taken in ((40, 16), (24, 24)) if lines else ((40, 40),):
            record.call(10, "recvfrom", size, 7, 0, 512, socket.MSG_PEEK, payload=b"GET /a HTTP/1.0\r\n")
            record.call(10, "recvfrom", taken, 7, 0, taken, 0, payload=b"GET /a HTTP/1.0\r\n")
        record.call(10, "sendto", 99, 7, payload=b"HTTP/1.1 200 OK\r\n\r\n")
    found = fit_receive(record.work().threads[10].cycles)
    assert (found.bytes, found.flags, found.lines) == (512, socket.MSG_PEEK, lines)


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_takes_what_it_looked_at(lines: bool, tmp_path: Path) -> None:
    """Left there, it would be a request for ever, and a reset at the end."""
    profile = serial_profile(receive_first=False)
    service = profile.services[0]
    receive = Receive(nr=45, bytes=512, flags=socket.MSG_PEEK, lines=lines)
    profile = profile.model_copy(update={"services": [service.model_copy(update={"receive": receive})]})
    with (
        traced_clone(profile, tmp_path / "clone", tmp_path / "log") as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
    ):
        sock.sendall(REQUEST)
        assert sock.recv(4096)[:1] == b"$"
        sock.shutdown(socket.SHUT_WR)
        assert not sock.recv(4096)
    calls = re.findall(r"^\d+ +recvfrom\(\d+, \"(.*)\", \d+, (\w+),", whole_calls(tmp_path / "log"), re.MULTILINE)
    taken = [len(text.encode().decode("unicode_escape")) for text, flags in calls if flags == "0"]
    assert sum(flags == "MSG_PEEK" for _, flags in calls if _) == len([size for size in taken if size])
    assert [size for size in taken if size] == ([4, 4, 5, 4, 3] if lines else [len(REQUEST)])


def received(*asked: tuple[int, int]) -> list[Cycle]:
    """Requests that come in receives of so many bytes asked for and got."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, 3)
    for _ in range(10):
        for size, got in asked:
            record.call(10, "recvfrom", got, 7, 0, size, payload=b"POST / HTTP/1.1\r\n")
        record.call(10, "sendto", 20, 7, 0, 20, payload=b"HTTP/1.1 200 OK\r\n")
    return record.work().threads[10].cycles


@pytest.mark.parametrize(
    ("asked", "rest"),
    [
        (((1024, 1024), (570, 570)), 0),  # what is asked for anyway will do
        (((1024, 1024), (60000, 570)), 60000),
        (((1024, 1024), (1024, 570)), 0),
        (((1024, 700),), 0),
        (((1024, 700), (2000, 570)), 2000),
    ],
)
def test_what_is_asked_for_behind_a_first_buffer(asked: tuple[tuple[int, int], ...], rest: int) -> None:
    found = fit_receive(received(*asked))
    assert (found.bytes, found.rest) == (1024, rest)


def post(size: int) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    body = size - len(head % (size - 60))
    return head % body + b"x" * (size - len(head % body))


def test_long_requests_are_answered(tmp_path: Path) -> None:
    """Under the address sanitizer: whole, in pieces, and several at once."""
    with (
        running(build_clone(tmp_path / "rest", "http", "-DTEST_BODY", "-DTEST_REST")) as clone,
        clone.connect() as sock,
    ):
        for size in SIZES * 3:
            sock.sendall(post(size))
            assert len(receive(sock, 190)) == 190
            for at in range(0, size, 700):
                sock.sendall(post(size)[at : at + 700])
                time.sleep(0.001)
            assert len(receive(sock, 190)) == 190
        sock.sendall(b"".join(map(post, SIZES)))
        assert len(receive(sock, 190 * len(SIZES))) == 190 * len(SIZES)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_the_rest_is_received_at_once(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    binary = build_clone(tmp_path / "rest", "http", "-DTEST_BODY", "-DTEST_REST", mode=STATIC)
    with running(binary, prefix=("strace", "-f", "-qq", "-o", str(log)), check=False) as clone:
        with clone.connect() as sock:
            for size in SIZES:
                sock.sendall(post(size))
                assert len(receive(sock, 190)) == 190
        time.sleep(0.2)
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    got = re.findall(r"recvfrom\(.*, (\d+), 0, NULL, NULL\) += ([1-9]\d*)$", whole_calls(log), re.M)
    assert got == [
        ("1024", "500"),
        *[pair for size in SIZES[1:] for pair in (("1024", "1024"), (str(REST + 1), str(size - 1024)))],
    ]


@pytest.mark.parametrize(
    ("spread", "replies", "parts"),
    [
        ([(52, 3, 4, 200)] * 9 + [(52, 2, 4, 90)], 10, [52, 3, 4]),  # a server that writes a reply word by word
        ([(4096, 4096, 100)] * 10, 10, []),  # a limit of each call
        ([(30, 400)] * 3, 10, []),  # few of the replies
        ([], 10, []),
    ],
)
def test_pieces_of_replies_are_told_from_limits_of_calls(
    spread: list[tuple[int, ...]], replies: int, parts: list[int]
) -> None:
    assert _pieces(spread, replies) == parts
