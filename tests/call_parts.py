"""A profile of a service that calls others, and servers that count what they are asked."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import runtime_build
from ditto.artifacts.profile import (
    CallClass,
    ClassMatch,
    Dist,
    Downstream,
    Op,
    OpKind,
    Profile,
    Receive,
    ReplyShape,
    RequestClass,
    Role,
    Send,
)
from ditto.artifacts.syscalls import NUMBERS
from ditto.generate.clone import generate, write_clone
from ditto.paths import runtime_sources
from profile_parts import fixed, service_profile
from runtime_build import DRIVERS, SANITIZE, compile_c

NONBLOCK = 0o4000
EPOLLIN, EPOLLOUT, EPOLLRDHUP = 1, 4, 0x2000
LOOP = Role(
    kind="loop",
    count=1,
    wait_nr=NUMBERS["epoll_wait"],
    listens=True,
    on_accept=[Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=EPOLLIN)],
    on_close=[Op(kind=OpKind.CLOSE, nr=3)],
)
SERIAL = Role(kind="accept_serve", count=1, wait="blocking", wait_nr=0, listens=True,
              on_close=[Op(kind=OpKind.CLOSE, nr=3)])  # fmt: skip
CONNECT_LOOP = [
    Op(kind=OpKind.SOCKET, nr=NUMBERS["socket"], a=NONBLOCK | 1, link=0),
    Op(kind=OpKind.CONNECT, nr=NUMBERS["connect"], link=0),
    Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=EPOLLIN | EPOLLOUT | EPOLLRDHUP, link=0),
    Op(kind=OpKind.CONNECTED, link=0),
]
CONNECT_BLOCKING = [
    Op(kind=OpKind.SOCKET, nr=NUMBERS["socket"], a=1, link=0),
    Op(kind=OpKind.SETSOCKOPT, nr=NUMBERS["setsockopt"], a=6, b=1, c=1, link=0),
    Op(kind=OpKind.CONNECT, nr=NUMBERS["connect"], link=0),
]
HTTP_REPLY = ReplyShape(probability=1.0, kind="http", status=200, head_bytes=160, size=fixed(3000))
FASTCGI_REPLY = ReplyShape(probability=1.0, kind="fastcgi", status=200, head_bytes=60, size=fixed(9000))
GRPC_REPLY = ReplyShape(probability=1.0, kind="grpc", head_bytes=30, size=fixed(9000), second=fixed(10))
RESP_REPLY = ReplyShape(probability=1.0, kind="bulk", size=fixed(50))


def downstream(codec: str = "http1", **changes: object) -> Downstream:
    """A service that is called in one of the protocols, over connections kept by the thread."""
    match = {"http1": ClassMatch(verb="GET", path_print=77), "resp2": ClassMatch(verb="GET")}
    match["fastcgi"] = match["h2"] = match["http1"]
    reply = {"http1": HTTP_REPLY, "resp2": RESP_REPLY, "fastcgi": FASTCGI_REPLY, "h2": GRPC_REPLY}
    opaque = ReplyShape(probability=1.0, kind="opaque", size=fixed(700))
    memcached = ReplyShape(probability=1.0, kind="value", size=fixed(90), second=fixed(1))
    values: dict[str, object] = {
        "codec": codec,
        "receive": Receive(nr=NUMBERS["recvfrom"], bytes=2048),
        "connect": CONNECT_LOOP,
        "classes": [
            CallClass(
                probability=1.0,
                match=match.get(codec, ClassMatch(verb="get", min_bytes=1, max_bytes=1 << 20)),
                request_bytes=fixed(120),
                replies=[reply.get(codec, memcached if codec == "memcached" else opaque)],
            )
        ],
        **changes,
    }
    return Downstream.model_validate(values)


def calling(downstreams: Sequence[Downstream], program: Sequence[Op], role: Role = LOOP, **changes: object) -> Profile:
    """A profile of one HTTP class that runs a program."""
    profile = service_profile()
    service = profile.services[0].model_copy(
        update={
            "codec": "http1",
            "classes": [
                RequestClass(
                    probability=1.0,
                    match=ClassMatch(verb="GET"),
                    request_bytes=fixed(60),
                    replies=[ReplyShape(probability=1.0, kind="http", status=200, head_bytes=120, size=fixed(500))],
                    program=list(program),
                )
            ],
            "send": Send(nr=NUMBERS["sendto"]),
            "roles": [role],
            "files": [],
            "blocks": [],
            "downstreams": list(downstreams),
            **changes,
        }
    )
    return Profile.model_validate(profile.model_copy(update={"services": [service]}).model_dump())


def call(to: int = 0, link: int = 0, **changes: object) -> Op:
    values = {"kind": "call", "nr": NUMBERS["sendto"], "a": to, "link": link, "size": Dist(values=[0], weights=[1])}
    return Op.model_validate({**values, **changes})


def answer(link: int = 0) -> Op:
    return Op(kind=OpKind.ANSWER, nr=NUMBERS["recvfrom"], link=link)


REPLY = Op(kind=OpKind.REPLY, nr=NUMBERS["sendto"])


def build(profile: Profile, folder: Path, mode: tuple[str, ...] = SANITIZE) -> Path:
    """A built clone of a profile without blocks; by default one that checks itself."""
    write_clone(generate(profile, runtime_sources()), folder)
    (folder / "build").mkdir()
    sources = [*runtime_build.runtime_sources(), DRIVERS / "body_standin.c", folder / "tables.c"]
    return compile_c(folder / "build" / "clone", sources, mode)


@contextlib.contextmanager
def running(binary: Path, *options: str, prefix: Sequence[str] = ()) -> Iterator[tuple[int, int]]:
    """A clone: process and port; it must end with 0 and say nothing."""
    command = [*prefix, str(binary), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None and clone.stderr is not None
        line = clone.stdout.readline()
        assert "port" in line, clone.stderr.read()
        try:
            yield clone.pid, int(line.split()[-1])
            assert clone.poll() is None, clone.stderr.read()
        finally:
            if prefix:  # the clone below a tool ends, and with it the tool
                subprocess.run(["pkill", "-TERM", "-P", str(clone.pid)], check=False)
            else:
                clone.terminate()
            errors = clone.communicate(timeout=10)[1]
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors


class Backend(socketserver.ThreadingTCPServer):
    """Answers each request of so many bytes with the bytes given, and counts."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, reply: bytes, end: bytes = b"\r\n\r\n", closes: bool = False, delay_s: float = 0.0, port: int = 0
    ) -> None:
        self.reply, self.end, self.closes, self.delay_s = reply, end, closes, delay_s
        self.requests: list[bytes] = []
        self.connections = 0
        self.open: list[socket.socket] = []
        super().__init__(("127.0.0.1", port), _Handler)
        self.port = int(self.server_address[1])

    def drop(self) -> None:
        """End all connections, as a process that dies does."""
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Backend:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Backend)
        server.connections += 1
        server.open.append(self.request)
        data = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while piece := self.request.recv(65536):
                data += piece
                while server.end in data:
                    request, _, data = data.partition(server.end)
                    server.requests.append(request + server.end)
                    time.sleep(server.delay_s)
                    self.request.sendall(server.reply)
                    if server.closes:
                        return


def get(sock: socket.socket, timeout: float = 10.0) -> bytes:
    """One request to a clone of `calling`; its whole reply."""
    sock.settimeout(timeout)
    sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
    data = b""
    while len(data) < 620:
        piece = sock.recv(65536)
        assert piece, data
        data += piece
    assert len(data) == 620
    return data
