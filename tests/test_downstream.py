"""Clones that call other services: over connections of every policy, waiting in every way, also when those fail."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from call_parts import (
    CONNECT_BLOCKING,
    LOOP,
    REPLY,
    SERIAL,
    Backend,
    answer,
    build,
    call,
    calling,
    downstream,
    get,
    running,
)
from ditto.artifacts.profile import Dist, Listener, Op, OpKind, Receive, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.generate.clone import generate
from ditto.host.clones import called_services
from ditto.host.ports import find_free
from ditto.paths import runtime_sources
from profile_parts import fixed, service_profile

EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLET = 1, 4, 0x2000, -(1 << 31)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"y" * 5000
CLOSE = Op(kind=OpKind.CLOSE, nr=3, link=0)


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An event loop that calls one service and keeps its connections."""
    return build(calling([downstream()], [call(), answer(), REPLY]), tmp_path_factory.mktemp("loop") / "clone")


@contextlib.contextmanager
def asked(binary: Path, at: int, prefix: Sequence[str] = ()) -> Iterator[socket.socket]:
    """A connection to a clone that finds the service it calls on a port."""
    with (
        running(binary, "--downstream", f"0=127.0.0.1:{at}", prefix=prefix) as (_, port),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        yield sock


def test_each_request_is_a_call_and_connections_are_kept(looping: Path) -> None:
    with Backend(OK) as backend, running(looping, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port):
        socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for _ in range(20):
            for sock in socks:
                get(sock)
        for sock in socks:
            sock.close()
    assert len(backend.requests) == 60
    assert 1 <= backend.connections <= 3
    assert {len(request) for request in backend.requests} == {120}
    assert all(request.startswith(b"GET /") for request in backend.requests)


def test_draws_of_a_request_last_over_its_waits_and_even_ones_meet_their_share(tmp_path: Path) -> None:
    quarter = {"probability": 0.25, "even": True}
    program = [
        call(0, 0, draw=1, start=0.0, **quarter), answer(0), call(1, 1, draw=1, start=0.0, **quarter), answer(1),
        call(2, 2, draw=2, **quarter), answer(2), REPLY,
    ]  # fmt: skip
    binary = build(calling([downstream()] * 3, program), tmp_path / "clone")
    made = []
    with Backend(OK) as one, Backend(OK) as two, Backend(OK) as three:
        there = [("--downstream", f"{n}=127.0.0.1:{backend.port}") for n, backend in enumerate((one, two, three))]
        with (
            running(binary, *(word for option in there for word in option)) as (_, port),
            socket.create_connection(("127.0.0.1", port)) as sock,
        ):
            for _ in range(128):
                before = [len(backend.requests) for backend in (one, two, three)]
                get(sock)
                after = [len(backend.requests) for backend in (one, two, three)]
                made.append(tuple(b - a for a, b in zip(before, after, strict=True)))
    for at in range(0, 128, 4):
        assert [sum(column) for column in zip(*made[at : at + 4], strict=True)] == [1, 1, 1]
    assert all(first == second for first, second, _ in made)
    both = sum(first and third for first, _, third in made)
    assert 2 <= both <= 16, "32 of 128 make either, 8 both if by chance"


def test_requests_wait_for_replies_side_by_side(looping: Path) -> None:
    with (
        Backend(OK, delay_s=0.2) as backend,
        running(looping, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port),
    ):
        socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        began = time.monotonic()
        for sock in socks:
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        for sock in socks:
            sock.settimeout(10)
            data = b""
            while len(data) < 620:
                data += sock.recv(4096)
        took = time.monotonic() - began
        for sock in socks:
            sock.close()
    assert backend.connections == 8 and len(backend.requests) == 8
    assert 0.2 <= took < 8 * 0.2


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1f4\r\n" + b"z" * 500 + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"long" * 2000 + b"\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
def test_where_replies_end(looping: Path, reply: bytes) -> None:
    with Backend(reply) as backend, asked(looping, backend.port) as sock:
        for _ in range(5):
            get(sock)
    assert len(backend.requests) == 5 and backend.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab",
        b"no protocol\r\n",
    ],
)
def test_a_connection_that_ends_is_made_anew(looping: Path, reply: bytes) -> None:
    with Backend(reply, closes=True) as backend, asked(looping, backend.port) as sock:
        for _ in range(5):
            get(sock)
    assert len(backend.requests) == 5 and backend.connections == 5


def test_a_service_that_is_gone_and_comes_back(looping: Path) -> None:
    free = find_free("127.0.0.1")
    with asked(looping, free) as sock:
        get(sock)  # refused: answered without
        get(sock)
        with Backend(OK, port=free) as backend:
            get(sock)
            get(sock)
        assert len(backend.requests) == 2


def test_a_client_that_leaves_while_its_request_waits(looping: Path) -> None:
    with (
        Backend(OK, delay_s=0.15) as backend,
        running(looping, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port),
    ):
        for how in ("close", "reset", "half", "more"):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * (3 if how == "more" else 1))
            time.sleep(0.05)
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "half":
                sock.shutdown(socket.SHUT_WR)
                assert len(_all(sock)) == 620
            if how == "more":
                sock.shutdown(socket.SHUT_WR)
                assert len(_all(sock)) == 3 * 620
            sock.close()
        with socket.create_connection(("127.0.0.1", port)) as last:
            get(last)


def _all(sock: socket.socket) -> bytes:
    sock.settimeout(10)
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("wait", "armed"), [("epoll", False), ("epoll", True), ("poll", False), ("select", False)])
def test_a_waiting_loop_sleeps(tmp_path: Path, wait: str, armed: bool) -> None:
    """While a reply is awaited the loop is not woken, whatever its client sends meanwhile.

    Nor is it after the reply, where a program (``armed``) left the connection watched for being writable.
    """
    role = LOOP.model_copy(
        update={
            "wait": wait,
            "wait_nr": NUMBERS["select" if wait == "select" else wait + ("_wait" if wait == "epoll" else "")],
        }
    )
    arm = [Op(kind=OpKind.EPOLL_MOD, nr=NUMBERS["epoll_ctl"], a=EPOLLIN | EPOLLOUT, link=0)] if armed else []
    binary = build(calling([downstream()], [call(), answer(), *arm, REPLY], role), tmp_path / "clone", ("-O1",))
    log = tmp_path / "log"
    with (
        Backend(OK, delay_s=0.3) as backend,
        asked(binary, backend.port, ("strace", "-f", "-qq", "-o", str(log))) as sock,
    ):
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.1)
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        assert len(_all(sock)) == 2 * 620
        time.sleep(0.1)
    waits = len(re.findall(r"\d+ +(?:epoll_wait|poll|select|pselect6)\(", log.read_text()))
    assert waits <= 14, log.read_text()[-4000:]


def test_calls_side_by_side_and_one_after_the_other(tmp_path: Path) -> None:
    """Two at once, then a third that needs both."""
    program = [call(0, 0), call(1, 1), answer(0), answer(1), call(0, 0), answer(0), REPLY]
    binary = build(calling([downstream(), downstream("resp2")], program), tmp_path / "clone")
    bulk = b"$5\r\nhello\r\n"
    with Backend(OK, delay_s=0.1) as slow, Backend(bulk, end=b"\r\n") as fast:
        options = ("--downstream", f"0=127.0.0.1:{slow.port}", "--downstream", f"1=127.0.0.1:{fast.port}")
        with running(binary, *options) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
            began = time.monotonic()
            for _ in range(3):
                get(sock)
            took = time.monotonic() - began
    assert len(slow.requests) == 6 and slow.connections == 1 and fast.connections >= 1
    assert fast.requests[0].startswith(b"*2")
    assert took >= 0.6


@pytest.mark.parametrize("codec", ["http1", "resp2", "memcached", "opaque", "fastcgi", "h2"])
@pytest.mark.parametrize("serial", [False, True])
def test_the_stand_in_understands_and_answers(tmp_path: Path, codec: str, serial: bool) -> None:
    """Without being told where the service is, a clone stands in for it; every reply is found complete."""
    classes = downstream(codec).classes
    slow = classes[0].model_copy(update={"delay_us": fixed(50_000)})
    to = downstream(codec, classes=[slow], blocking=serial)
    if serial:
        to = to.model_copy(update={"connect": CONNECT_BLOCKING})
    binary = build(calling([to], [call(), answer(), REPLY], SERIAL if serial else LOOP), tmp_path / "clone")
    with running(binary) as (pid, port):
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            for _ in range(10):
                get(sock)
        took = time.monotonic() - began
        assert _children(pid) == 1
    assert 0.45 <= took < 2.0  # ten delays of 50 ms: the stand-in was understood and understood the calls


def _children(pid: int) -> int:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return len(found.stdout.split())


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_serial_caller_makes_the_calls_of_its_original(tmp_path: Path) -> None:
    """A connection a request, polled before it is received from, closed at its end."""
    poll = Op(kind=OpKind.POLL, nr=NUMBERS["poll"], a=1, b=5000, link=0)
    to = downstream(blocking=True, pool="request", connect=CONNECT_BLOCKING)
    program = [call(), poll, answer(), CLOSE, REPLY]
    blocking = Listener(nonblocking=False, accept_flags=0)
    binary = build(calling([to], program, SERIAL, listener=blocking), tmp_path / "clone", ("-O1",))
    log = tmp_path / "log"
    with Backend(OK) as backend, asked(binary, backend.port, ("strace", "-f", "-qq", "-o", str(log))) as sock:
        for _ in range(6):
            get(sock)
    assert backend.connections == 6
    lines = log.read_text().split("accept4(", 1)[1].splitlines()
    calls = [m[1] for line in lines if (m := re.match(r"\d+ +(\w+)\(", line)) is not None]
    for name in ("socket", "setsockopt", "connect"):
        assert calls.count(name) == 6, (name, calls)
    assert calls.count("sendto") == 12 and calls.count("poll") == 6, calls
    assert 6 <= calls.count("close") <= 7, calls


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_loop_that_is_told_of_changes_alone_receives_once_a_request(tmp_path: Path) -> None:
    """Its request fitted into the buffer: what comes while it waits for the reply to its call is reported anew."""
    watch = Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=EPOLLIN | EPOLLRDHUP | EPOLLET)
    role = LOOP.model_copy(update={"on_accept": [watch]})
    program = [call(), answer(), REPLY]
    own = Receive(nr=NUMBERS["read"], bytes=8000)
    binary = build(calling([downstream()], program, role, receive=own), tmp_path / "clone", mode=("-O1",))
    log = tmp_path / "log"
    with (
        Backend(OK, delay_s=0.02) as backend,
        asked(binary, backend.port, ("strace", "-qq", "-e", "read", "-o", str(log))) as sock,
    ):
        for _ in range(5):
            get(sock)
        for _ in range(2):  # the second comes while the first waits
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.005)
        left = 2 * 620
        while left:
            left -= len(sock.recv(left))
        assert len(backend.requests) == 7
    assert "EAGAIN" not in log.read_text()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_rest_of_a_reply_is_received_as_the_original_did(tmp_path: Path) -> None:
    further = [Receive(nr=NUMBERS["readv"], bytes=1024), Receive(nr=NUMBERS["readv"], bytes=2000)]
    service = downstream(receive=Receive(nr=NUMBERS["recvfrom"], bytes=1000), further=further)
    binary = build(calling([service], [call(), answer(), REPLY]), tmp_path / "clone", mode=("-O1",))
    log = tmp_path / "log"
    with (
        Backend(OK) as backend,
        asked(binary, backend.port, ("strace", "-qq", "-e", "recvfrom,readv", "-o", log)) as sock,
    ):
        for _ in range(3):
            get(sock)
            time.sleep(0.05)
    found = re.findall(r"^(\w+)\(.* = (\d+)$", log.read_text(), re.M)
    reply = [("recvfrom", 1000), ("readv", 1024), ("readv", 2000), ("readv", len(OK) - 4024)]
    own = [(name, int(size)) for name, size in found]
    assert [one for one in own if one in reply] == reply * 3 and len(own) <= 3 * 5 + 1


def test_options_are_checked(looping: Path) -> None:
    wrong = [("--downstream", told) for told in ("1=127.0.0.1:80", "0=some where:80", "0=127.0.0.1:0", "0=[::1]")]
    for words in (*wrong, ("--stub", "1")):
        done = subprocess.run(
            [str(looping), "--port", "0", *words], capture_output=True, text=True, timeout=10, check=False
        )
        assert done.returncode == 2 and words[0] in done.stderr and len(done.stderr.splitlines()) == 1
    assert called_services(str(looping)) == 1
    assert called_services("/bin/sh") == 0


def test_profiles_name_only_what_there_is() -> None:
    with pytest.raises(ValidationError, match="downstream 1 does not exist"):
        calling([downstream()], [call(1)])
    with pytest.raises(ValidationError, match="class 3 of downstream 0"):
        calling([downstream()], [call(size=Dist(values=[3], weights=[1]))])
    with pytest.raises(ValidationError, match="names no connection"):
        calling([downstream()], [call(link=None)])


def test_a_clone_without_calls_is_as_before() -> None:
    files = generate(service_profile(), runtime_sources()).files
    assert ".downstreams = 0" in files["tables.c"] and "text_" not in files["tables.c"]


def test_same_profile_same_requests() -> None:
    profile = calling([downstream("resp2")], [call(), answer(), REPLY])
    first, second = (generate(profile, runtime_sources()).files["tables.c"] for _ in range(2))
    assert first == second


def test_an_unusual_order_of_operations_is_survived(tmp_path: Path) -> None:
    """A hostile profile may ask for answers without calls and calls without answers."""
    program = [answer(3), call(0, 0), call(0, 0), CLOSE, answer(0), Op(kind=OpKind.CALL_MORE, nr=1, link=0), call(0, 1),
               Op(kind=OpKind.EPOLL_DEL, nr=233, link=1), Op(kind=OpKind.RECV_AGAIN, nr=45, link=1),
               Op(kind=OpKind.SOCKET, nr=41, link=1), call(0, 2, c=10), answer(2), REPLY]  # fmt: skip
    role: Role = LOOP
    binary = build(calling([downstream(pool="connection")], program, role), tmp_path / "clone")
    with Backend(OK) as backend, running(binary, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            sock.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                sock.recv(4096)
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"nonsense\r\n\r\n")
            assert _all(sock).startswith(b"HTTP/1.1 400")


def test_a_request_that_is_sent_in_parts_is_sent_whole_before_its_reply_is_awaited(tmp_path: Path) -> None:
    """Parts of a program come by chance, and a request of which one is left out is never answered."""
    more = Op(kind=OpKind.CALL_MORE, nr=NUMBERS["sendto"], link=0, c=30, probability=0.5)
    binary = build(calling([downstream()], [call(c=40), more, answer(), REPLY]), tmp_path / "clone")
    with Backend(OK) as backend, asked(binary, backend.port) as sock:
        for _ in range(30):
            get(sock)
    assert len(backend.requests) == 30
    assert {len(request) for request in backend.requests} == {120}
