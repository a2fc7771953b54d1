"""Threads that share their connections and call another service: whoever is free goes on when its reply comes."""

from __future__ import annotations

import random
import socket
import threading
import time
from pathlib import Path

import pytest

from application_parts import ask
from call_parts import (
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    REPLY,
    Backend,
    answer,
    build,
    call,
    calling,
    downstream,
    get,
    running,
)
from ditto.artifacts.profile import Op, OpKind, Process, Receive, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.ports import find_free

EPOLLET, EPOLLONESHOT = -(1 << 31), 1 << 30
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"y" * 5000
CLOSES = [Op(kind=OpKind.CLOSE, nr=3)]


def watched(events: int) -> list[Op]:
    return [Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=events)]


def sharing(events: int, **changes: object) -> Role:
    """Four threads whose connections are watched for these events."""
    values = {
        "kind": "shared",
        "count": 4,
        "wait": "epoll_pwait",
        "wait_nr": NUMBERS["epoll_pwait"],
        "listens": True,
        "on_accept": watched(events),
        "on_close": CLOSES,
        "polls": True,
        **changes,
    }
    return Role.model_validate(values)


EDGE = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
DISPATCH = Role(
    kind="dispatch", count=1, wait="epoll", wait_nr=NUMBERS["epoll_wait"], listens=True, hand_to=1, unwatches=True,
    on_close=CLOSES,
)  # fmt: skip
SHAPES: dict[str, list[Role]] = {
    "polls": [sharing(EDGE, polls_first=True, running=2, listen_events=EPOLLIN)],
    "crowd": [sharing(EPOLLIN | EPOLLONESHOT, crowd=True, listen_events=EPOLLIN | EPOLLONESHOT)],
    "edges": [sharing(EPOLLIN | EPOLLET, crowd=True, listen_events=EPOLLIN | EPOLLONESHOT)],
    "dispatch": [DISPATCH, sharing(EPOLLIN, polls=False, listens=False, on_accept=[], max_events=1)],
}


def connect(events: int) -> list[Op]:
    return [
        Op(kind=OpKind.SOCKET, nr=NUMBERS["socket"], a=0o4001, link=0),
        Op(kind=OpKind.CONNECT, nr=NUMBERS["connect"], link=0),
        Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=events, link=0),
        Op(kind=OpKind.CONNECTED, link=0),
    ]


@pytest.fixture(scope="module", params=list(SHAPES))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such threads, which call one service twice at once; a build that checks itself."""
    roles = SHAPES[request.param]
    again = Op(kind=OpKind.RECV_AGAIN, nr=NUMBERS["read"], link=0)
    program = [call(0, 0), call(0, 1), answer(1), answer(0), again, REPLY]
    if request.param == "dispatch":
        program.append(Op(kind=OpKind.EPOLL_ADD, nr=NUMBERS["epoll_ctl"], a=EPOLLIN))
    events = EPOLLIN | EPOLLOUT | EPOLLRDHUP if request.param == "dispatch" else EDGE
    to = downstream(connect=connect(events), receive=Receive(nr=0, bytes=4096))
    profile = calling([to], program, roles=roles, processes=[Process(roles=list(range(len(roles))))])
    return build(profile, tmp_path_factory.mktemp(request.param) / "clone")


def at(port: int) -> tuple[str, str]:
    return ("--downstream", f"0=127.0.0.1:{port}")


def test_each_request_is_two_calls_at_once_and_connections_are_kept(shared: Path) -> None:
    with Backend(BODY) as backend, running(shared, *at(backend.port)) as (_, port):
        socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        for _ in range(20):
            for sock in socks:
                get(sock)
        for sock in socks:
            sock.close()
    assert len(backend.requests) == 120
    assert 2 <= backend.connections <= 6


def test_requests_wait_side_by_side_though_there_are_fewer_threads(shared: Path) -> None:
    with Backend(BODY, delay_s=0.2) as backend, running(shared, *at(backend.port)) as (_, port):
        began = time.monotonic()
        found: list[int] = []
        clients = [threading.Thread(target=lambda: found.append(ask(port))) for _ in range(12)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(10)
        took = time.monotonic() - began
    assert found == [200] * 12 and len(backend.requests) == 24
    assert 0.2 <= took < 6 * 0.2


def test_a_connection_that_ends_is_made_anew(shared: Path) -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"
    with Backend(closing, closes=True) as backend, running(shared, *at(backend.port)) as (_, port):
        assert [ask(port) for _ in range(10)] == [200] * 10
    assert backend.connections == 20


def test_a_service_that_is_gone_and_comes_back(shared: Path) -> None:
    free = find_free("127.0.0.1")
    with running(shared, *at(free)) as (_, port):
        assert [ask(port) for _ in range(3)] == [502] * 3
        for _ in range(2):
            with Backend(BODY, port=free) as backend:
                assert [ask(port) for _ in range(3)] == [200] * 3
                backend.drop()
            time.sleep(0.1)
            assert [ask(port) for _ in range(2)] == [502] * 2


def test_silence_ends_when_patience_does(shared: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(shared, *at(silent.getsockname()[1]), "--patience", "1") as (_, port),
    ):
        for _ in range(2):
            began = time.monotonic()
            assert ask(port) == 502
            assert 0.9 <= time.monotonic() - began < 3


def test_clients_that_leave_while_their_requests_wait(shared: Path) -> None:
    with Backend(BODY, delay_s=0.15) as backend, running(shared, *at(backend.port)) as (_, port):
        for how in ("close", "reset", "half", "more") * 2:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n" * (3 if how == "more" else 1))
            time.sleep(0.05)
            if how == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how == "half":
                sock.shutdown(socket.SHUT_WR)
            sock.close()
        assert [ask(port) for _ in range(4)] == [200] * 4


def test_many_clients_at_once(shared: Path) -> None:
    with Backend(BODY) as backend, running(shared, *at(backend.port)) as (_, port):
        failed: list[str] = []

        def client(number: int) -> None:
            chance = random.Random(number)
            try:
                sock = socket.create_connection(("127.0.0.1", port), timeout=20)
                for _ in range(60):
                    get(sock)
                    if chance.random() < 0.05:
                        sock.close()
                        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
                sock.close()
            except (OSError, AssertionError) as error:
                failed.append(repr(error))

        clients = [threading.Thread(target=client, args=(number,)) for number in range(12)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(60)
    assert not failed
    assert len(backend.requests) == 2 * 12 * 60
