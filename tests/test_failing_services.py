"""A service that a clone calls is gone, resets, says nothing, or is elsewhere: requests get errors in time.  Nor does a
clone wait for what does not come again."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from application_parts import ALONE, ask, profiles
from call_parts import (
    CONNECT_BLOCKING,
    EPOLLIN,
    EPOLLOUT,
    LOOP,
    REPLY,
    SERIAL,
    Backend,
    answer,
    build,
    call,
    calling,
    downstream,
    running,
)
from ditto.artifacts.profile import ClassMatch, Listener, Op, OpKind, ReplyShape, RequestClass
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.ports import find_free
from ditto.host.requests_h2 import begin, frame
from ditto.streams import fastcgi
from profile_parts import fixed
from runtime_build import SANITIZE

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"y" * 5000
BLOCKING = Listener(nonblocking=False, accept_flags=0)
PROGRAM = [call(), answer(), REPLY]


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An event loop; a request of one class is a call, and the others need nobody."""
    return build(profiles()["tier-1"], tmp_path_factory.mktemp("entry") / "clone")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four threads that serve one connection each, and keep one to the service."""
    to = downstream(blocking=True, connect=CONNECT_BLOCKING)
    role = SERIAL.model_copy(update={"count": 4})
    return build(calling([to], PROGRAM, role, listener=BLOCKING), tmp_path_factory.mktemp("serial") / "clone")


def at(port: int) -> tuple[str, str]:
    return ("--downstream", f"0=127.0.0.1:{port}")


@contextlib.contextmanager
def accepting(then: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does something to each connection once it has the request; its port."""
    kept = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = server.accept()
                kept.append(sock)
                sock.recv(65536)
                then(sock)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for sock in kept:
        sock.close()


def reset(sock: socket.socket) -> None:
    """In the middle of the reply."""
    sock.sendall(OK[:2000])
    time.sleep(0.05)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("waits", ["entry", "serial"])
def test_what_cannot_be_called_or_resets_is_an_error_of_the_replys_length(
    waits: str, request: pytest.FixtureRequest
) -> None:
    binary = request.getfixturevalue(waits)
    with running(binary, *at(find_free())) as (_, port):
        assert [ask(port) for _ in range(3)] == [502] * 3
    with accepting(reset) as gone, running(binary, *at(gone)) as (_, port):
        assert [ask(port) for _ in range(3)] == [502] * 3
    with accepting(lambda sock: sock.close()) as gone, running(binary, *at(gone)) as (_, port):
        assert [ask(port) for _ in range(3)] == [502] * 3


def test_requests_behind_one_that_failed_are_answered(entry: Path) -> None:
    both = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" + ALONE
    with running(entry, *at(find_free())) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(10)
        for _ in range(3):
            sock.sendall(both)
            data = b""
            while len(data) < 2 * 620:
                data += sock.recv(65536)
            assert data.startswith(b"HTTP/1.1 502  ") and data[620:].startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("waits", ["entry", "serial"])
def test_silence_ends_when_patience_does(waits: str, request: pytest.FixtureRequest) -> None:
    binary = request.getfixturevalue(waits)
    with accepting(lambda sock: None) as silent, running(binary, *at(silent), "--patience", "1") as (_, port):
        for _ in range(2):
            began = time.monotonic()
            assert ask(port) == 502
            assert 0.9 <= time.monotonic() - began < 2.5


@pytest.mark.parametrize("waits", ["entry", "serial"])
def test_the_timer_of_calls_is_set_before_any_request(waits: str, request: pytest.FixtureRequest) -> None:
    """It is a call that the original does not make, so it comes before any load."""
    with running(request.getfixturevalue(waits), *at(find_free())) as (pid, _):
        status = Path(f"/proc/{pid}/status")
        deadline = time.monotonic() + 5
        caught = 0
        while not caught and time.monotonic() < deadline:
            handled = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
            caught = int(handled.split()[1], 16) >> (signal.SIGALRM - 1) & 1
            time.sleep(0.02)
    assert caught


def test_others_are_answered_while_one_waits(entry: Path) -> None:
    with accepting(lambda sock: None) as silent, running(entry, *at(silent), "--patience", "2") as (_, port):
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(ask(port)))
        waiting.start()
        time.sleep(0.1)
        began = time.monotonic()
        assert [ask(port, ALONE) for _ in range(50)] == [200] * 50
        assert time.monotonic() - began < 1.5 and not found
        waiting.join(10)
    assert found == [502]


@pytest.mark.parametrize("waits", ["entry", "serial"])
def test_a_connection_that_is_never_made(waits: str, request: pytest.FixtureRequest) -> None:
    """A full backlog drops what asks to connect, as a network that leads nowhere does."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        time.sleep(0.1)
        words = (*at(server.getsockname()[1]), "--patience", "1")
        with running(request.getfixturevalue(waits), *words) as (_, port):
            assert ask(port) == 502


def test_a_time_out_as_observed(tmp_path: Path) -> None:
    """The original polls for the reply for a second."""
    poll = Op(kind=OpKind.POLL, nr=NUMBERS["poll"], a=1, b=1000, link=0)
    to = downstream(blocking=True, connect=CONNECT_BLOCKING)
    binary = build(calling([to], [call(), poll, answer(), REPLY], SERIAL, listener=BLOCKING), tmp_path / "clone")
    with accepting(lambda sock: None) as silent, running(binary, *at(silent)) as (_, port):
        began = time.monotonic()
        assert ask(port) == 502
        assert 0.9 <= time.monotonic() - began < 2.5


def test_a_service_that_was_started_again_costs_one_request(serial: Path) -> None:
    free = find_free()
    with running(serial, *at(free)) as (_, port):
        with Backend(OK, port=free) as first:
            socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]  # one a thread
            for sock in socks:
                assert _status(sock) == 200
            assert first.connections == 4
            first.drop()
        with Backend(OK, port=free) as second:
            assert sorted(_status(sock) for _ in range(2) for sock in socks) == [200] * 7 + [502]
            assert second.connections == 4
        for sock in socks:
            sock.close()


def _status(sock: socket.socket) -> int:
    sock.settimeout(10)
    sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    while len(data) < 620:
        piece = sock.recv(65536)
        assert piece
        data += piece
    return int(data.split(b" ", 2)[1])


RESP = RequestClass(
    probability=1.0, match=ClassMatch(verb="GET"), request_bytes=fixed(30),
    replies=[ReplyShape(probability=1.0, kind="bulk", size=fixed(100))], program=PROGRAM,
)  # fmt: skip
MEMCACHED = RequestClass(
    probability=1.0, match=ClassMatch(verb="get", min_bytes=1, max_bytes=100), request_bytes=fixed(30),
    replies=[ReplyShape(probability=1.0, kind="value", size=fixed(100), second=fixed(1))], program=PROGRAM,
)  # fmt: skip
FASTCGI = RequestClass(
    probability=1.0, match=ClassMatch(verb="GET"), request_bytes=fixed(120),
    replies=[ReplyShape(probability=1.0, kind="fastcgi", status=200, head_bytes=60, size=fixed(500))], program=PROGRAM,
)  # fmt: skip
GRPC = RequestClass(
    probability=1.0, match=ClassMatch(verb="GET"), request_bytes=fixed(60),
    replies=[ReplyShape(probability=1.0, kind="grpc", head_bytes=30, size=fixed(500), second=fixed(10))],
    program=PROGRAM,
)  # fmt: skip
OPAQUE = RequestClass(
    probability=1.0, match=ClassMatch(min_bytes=1, max_bytes=1 << 20), request_bytes=fixed(30),
    replies=[ReplyShape(probability=1.0, kind="opaque", size=fixed(700))], program=PROGRAM,
)  # fmt: skip


H2_REQUEST = begin() + frame(1, 5, 1, b"\x82\x84\x86\x5f\x10application/grpc")


@pytest.mark.parametrize(
    ("codec", "cls", "request_bytes", "error"),
    [
        ("resp2", RESP, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"-ERR called service is gone"),
        ("memcached", MEMCACHED, b"get k\r\n", b"SERVER_ERROR called service is gone"),
        (
            "fastcgi",
            FASTCGI,
            fastcgi.request(fastcgi.param(b"REQUEST_METHOD", b"GET"), kept=True),
            struct.pack(">BBHHBB", 1, 6, 1, 560, 0, 0) + b"Status: 502 Called service is gone\r\n\r\n",
        ),
        ("h2", GRPC, H2_REQUEST, b"\x8e"),
        ("opaque", OPAQUE, struct.pack(">IHBB", 120, 0, 0, 0xD7) + b"x" * 112, b""),
    ],
)
def test_errors_are_those_of_the_protocol_and_go_up(
    tmp_path: Path, codec: str, cls: RequestClass, request_bytes: bytes, error: bytes
) -> None:
    """A clone whose service is gone answers with an error, or hangs up where the protocol has none; its caller too."""
    middle = build(calling([downstream()], [], LOOP, codec=codec, classes=[cls]), tmp_path / "middle")
    caller = build(calling([downstream(codec)], PROGRAM), tmp_path / "caller")
    free = find_free()
    with running(middle, *at(free)) as (_, between):
        with socket.create_connection(("127.0.0.1", between), timeout=10) as sock:
            sock.sendall(request_bytes)
            got = sock.recv(4096)
            if codec == "h2":  # after settings, a window and an acknowledgement
                got += b"" if len(got) > 60 else sock.recv(4096)
                got = got[got.index(b"\1\4\0\0\0\1") + 6 :]
            assert got.startswith(error) and (error or got == b"")
            if codec == "fastcgi":
                assert len(got) == 8 + 560 + 16
            elif codec != "h2":
                assert got.endswith(b"\r\n" if error else b"") and got.count(b"\n") == (1 if error else 0)
        with running(caller, *at(between)) as (_, port):
            assert ask(port) == 502
            with Backend(OK, port=free) as backend:
                assert ask(port) == 200
                backend.drop()
            assert ask(port) == 502


class NameServer:
    """Answers with what ``reply`` makes of a question; counts."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = int(self.sock.getsockname()[1])
        self.addresses: dict[str, str] = {}
        self.asked: list[str] = []
        self.noise = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, who = self.sock.recvfrom(512)
                for reply in self._replies(question):
                    self.sock.sendto(reply, who)

    def _replies(self, question: bytes) -> list[bytes]:
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += question[at] + 1
        name = ".".join(labels)
        self.asked.append(name)
        found = self.addresses.get(name)
        head = (
            question[:2]
            + (b"\x81\x80" if found else b"\x81\x83")
            + b"\0\1"
            + (b"\0\2" if found else b"\0\0")
            + b"\0" * 4
        )
        alias = b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, 4) + b"\1a\xc0\x0c"
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(found or "0.0.0.0")
        noise = [question[:2] + b"\x81\x80" + self.noise, self.noise, question[:12] + self.noise] if self.noise else []
        return [*noise, head + question[12:] + (alias + record if found else b"")]


@pytest.fixture
def names(tmp_path: Path) -> Iterator[tuple[NameServer, Path]]:
    """A name server, and an event loop that asks it for the names of services."""
    server = NameServer()
    (tmp_path / "resolv.conf").write_text("# by hand\nsearch shop.test\noptions ndots:2\nnameserver 127.0.0.1\n")
    (tmp_path / "hosts").write_text("127.0.0.1 localhost other # comment\n::1 six\n")
    files = (f'-DHOSTS_FILE="{tmp_path}/hosts"', f'-DRESOLVER_FILE="{tmp_path}/resolv.conf"')
    mode = (*SANITIZE, *files, f"-DRESOLVER_PORT={server.port}")
    yield server, build(calling([downstream()], PROGRAM), tmp_path / "clone", mode)
    server.sock.close()


def test_services_are_found_by_name(names: tuple[NameServer, Path]) -> None:
    server, binary = names
    with Backend(OK) as backend:
        with running(binary, "--downstream", f"0=other:{backend.port}") as (_, port):
            assert ask(port) == 200 and not server.asked  # in the file of hosts
        server.addresses["tier-2.shop.test"] = "127.0.0.1"
        with running(binary, "--downstream", f"0=tier-2:{backend.port}") as (_, port):
            assert ask(port) == 200 and server.asked[0] == "tier-2.shop.test"
        server.addresses = {"tier-2.else.where": "127.0.0.1"}
        with running(binary, "--downstream", f"0=tier-2.else.where:{backend.port}") as (_, port):
            assert ask(port) == 200


def test_a_name_without_an_address_is_asked_for_again(names: tuple[NameServer, Path]) -> None:
    server, binary = names
    server.noise = b"\xc0" * 40
    words = [str(binary), "--port", "0", "--downstream"]
    with Backend(OK) as backend:
        process = subprocess.Popen(
            [*words, f"0=tier-2:{backend.port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        port = int(process.stdout.readline().split()[-1])
        assert ask(port) == 502
        server.addresses["tier-2.shop.test"] = "127.0.0.2"  # nobody is there
        time.sleep(0.6)
        server.addresses["tier-2.shop.test"] = "127.0.0.1"  # and it moves
        deadline = time.monotonic() + 15
        while ask(port) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.terminate()
        errors = process.communicate(timeout=10)[1]
    assert errors == "clone: tier-2 has no address yet: asking again\n"


@pytest.mark.parametrize("asked", [0.0, 0.5, 1.0])
def test_nothing_is_waited_for_that_was_reported_before(tmp_path: Path, asked: float) -> None:
    """Of a wait for an edge the call that asks for it anew may be left out by chance."""
    edges = EPOLLIN | EPOLLOUT | 1 << 31
    watch = Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=edges - (1 << 32))
    anew = watch.model_copy(update={"kind": OpKind.EPOLL_MOD, "probability": asked})
    role = LOOP.model_copy(update={"on_accept": [watch]})
    profile = calling([], [anew, Op(kind=OpKind.WRITABLE), REPLY], role)
    binary = build(profile, tmp_path / "clone")
    with (
        running(binary) as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
        sock.makefile("rb") as replies,
    ):
        for _ in range(50):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert replies.read(620).startswith(b"HTTP/1.1 200 OK")
