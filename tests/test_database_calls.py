"""Calls to PostgreSQL: their classes, and how a clone begins a session before it asks."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from pathlib import Path

import pytest

from call_parts import (
    CONNECT_BLOCKING,
    CONNECT_LOOP,
    REPLY,
    SERIAL,
    answer,
    build,
    call,
    calling,
    downstream,
    get,
    running,
)
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import CallClass, ClassMatch, Listener, Op, OpKind
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.synthetic import sample_requests
from ditto.model.results import sql_reply_of_size
from ditto.streams.pgsql import Session
from ditto.topology.recorded import framing
from profile_parts import fixed

KEY = 99
QUERY = b"SELECT body FROM pages WHERE id = 7"
READY = b"Z\0\0\0\5I"
DONE = b"C\0\0\0\x0dSELECT 1\0"


def of_class(verb: str = "SELECT", text: bytes = b"abc") -> CallClass:
    return CallClass(
        probability=1.0,
        match=ClassMatch(verb=verb, path_print=path_print(KEY, b"SELECT " + text)),
        request_bytes=fixed(60),
        replies=sql_reply_of_size(Counter({500: 3}), b"T"),
    )


@pytest.mark.parametrize("size", [60, 200])
def test_statements_have_the_class_and_the_size(size: int) -> None:
    ((step,),) = sample_requests("pgsql", KEY, [of_class()], [[size]])
    assert len(step.request) == size
    verb, _, text = Session().key(step.request).partition(b" ")
    assert verb == b"SELECT" and path_print(KEY, text) == of_class().match.path_print


def test_replies_have_the_bytes_that_were_seen() -> None:
    (shape,) = sql_reply_of_size(Counter({500: 3}), b"T")
    assert shape.kind == "rows" and shape.columns[0].size == fixed(442).model_copy(update={"weights": [3.0]})
    assert sql_reply_of_size(Counter({20: 1}), b"C")[0].kind == "done"


class Database(threading.Thread):
    """Takes one session at a time, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.said: list[bytes] = []

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        head = file.read(4)
        self.said.append(head + file.read(struct.unpack(">I", head)[0] - 4))
        connection.sendall(b"R\0\0\0\x08\0\0\0\0" + READY)
        while kind := file.read(1):
            head = file.read(4)
            self.said.append(kind + head + file.read(struct.unpack(">I", head)[0] - 4))
            connection.sendall(DONE)
            connection.sendall(READY)


@pytest.mark.parametrize("looping", [True, False])
def test_a_session_begins_before_the_first_statement(tmp_path: Path, looping: bool) -> None:
    connect = CONNECT_LOOP if looping else CONNECT_BLOCKING
    down = downstream("pgsql", classes=[of_class()], print_key=KEY, blocking=not looping, connect=connect)
    changes = {} if looping else {"role": SERIAL, "listener": Listener(nonblocking=False, accept_flags=0)}
    # Half of the requests ask twice; the wait for a reply is not done where there is none.
    wait = Op(kind=OpKind.POLL, nr=NUMBERS["poll"], a=1, b=-1, link=0)
    program = [call(), wait, answer(), call(probability=0.5), wait, answer(), REPLY]
    profile = calling([down], program, **changes)  # type: ignore[arg-type]
    binary = build(profile, tmp_path / "clone")
    database = Database()
    database.start()
    place = f"0=127.0.0.1:{database.port}"
    with running(binary, "--downstream", place) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(20):
            assert get(sock).startswith(b"HTTP/1.1 200")
    assert database.said[0].startswith(b"\0\0\0\x1b\0\3\0\0user\0")
    assert 24 < len(database.said) < 38 and all(said.startswith(b"Q") for said in database.said[1:])
    with running(binary) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:  # its own stand-in
        assert get(sock).startswith(b"HTTP/1.1 200")


def test_requests_of_a_recording_are_named_by_their_statements() -> None:
    query = b"Q" + struct.pack(">I", len(QUERY) + 5) + QUERY + b"\0"
    assert framing.protocol_of(query) == framing.PGSQL
    assert [head.name for head in framing.request_heads(framing.PGSQL, query, len(query))] == ["SELECT"]
    assert framing.request_heads(framing.PGSQL, b"rest of a statement", 19) == []
    assert framing.reply_heads(framing.PGSQL, DONE + READY, 20, 1) == 1
    for session in (b"X\0\0\0\4", b"\0\0\0\x08\x04\xd2\x16\x2f"):
        assert framing.request_heads(framing.PGSQL, session, len(session)) == []
