"""A relay that lets one request at a time through."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ditto.host.turns import Turns


@dataclass
class Seen:
    """What the server saw: requests under way at the same time at most, and all of them."""

    now: int = 0
    most: int = 0
    requests: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def server() -> Iterator[tuple[int, Seen]]:
    """Answers each line after a while, in two pieces."""
    seen = Seen()

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(BrokenPipeError), connection:
            while data := connection.recv(100):
                with seen.lock:
                    seen.now += 1
                    seen.most = max(seen.most, seen.now)
                    seen.requests.append(data)
                time.sleep(0.003)
                with seen.lock:
                    seen.now -= 1
                connection.sendall(b"re:")
                connection.sendall(data)

    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], seen
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def ask(port: int, name: int, count: int, failed: list[bytes]) -> None:
    """Requests one after the other on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for turn in range(count):
            text = b"%d.%d\n" % (name, turn)
            connection.sendall(text)
            got = b""
            while not got.endswith(b"\n") and (piece := connection.recv(100)):
                got += piece
            if got != b"re:" + text:
                failed.append(got)


def test_requests_of_many_connections_come_one_at_a_time(server: tuple[int, Seen]) -> None:
    port, seen = server
    failed: list[bytes] = []
    with Turns(port) as relay:
        clients = [threading.Thread(target=ask, args=(relay.port, n, 15, failed)) for n in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    assert failed == []
    assert len(seen.requests) == 60
    assert seen.most == 1
    firsts = [text.partition(b".")[0] for text in seen.requests[:16]]
    assert len(set(firsts)) == 4, "no connection waits for another's end"


def test_a_client_that_goes_away_gives_its_turn_back(server: tuple[int, Seen]) -> None:
    port, _ = server
    failed: list[bytes] = []
    with Turns(port) as relay:
        gone = socket.create_connection(("127.0.0.1", relay.port))
        gone.sendall(b"gone\n")
        gone.close()
        ask(relay.port, 1, 3, failed)
    assert failed == []
