"""Calls to PostgreSQL and MySQL: their classes, and how a clone begins a session before it asks."""

from __future__ import annotations

import shutil
import socket
import struct
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

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
from ditto.artifacts.profile import CallClass, ClassMatch, Listener, Op, OpKind, Receive
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.synthetic import sample_requests
from ditto.model.downstream import _tell_statements
from ditto.model.results import sql_replies, sql_reply_of_size
from ditto.streams import mysql
from ditto.streams.pgsql import Session
from ditto.topology.recorded import framing
from profile_parts import fixed
from runtime_build import STATIC

KEY = 99
QUERY = b"SELECT body FROM pages WHERE id = 7"
READY = b"Z\0\0\0\5I"
DONE = b"C\0\0\0\x0dSELECT 1\0"
ROWS = {"pgsql": b"T\0\0\0\x19", "mysql": b"\1\0\0\1\1"}
"""What a reply with rows begins with."""


def of_class(codec: str = "pgsql", verb: str = "SELECT", text: bytes = b"abc") -> CallClass:
    return CallClass(
        probability=1.0,
        match=ClassMatch(verb=verb, path_print=path_print(KEY, b"SELECT " + text)),
        request_bytes=fixed(60),
        replies=sql_reply_of_size(codec, Counter({500: 3}), ROWS[codec]),
    )


@pytest.mark.parametrize("codec", ["pgsql", "mysql"])
@pytest.mark.parametrize("size", [60, 200])
def test_statements_have_the_class_and_the_size(size: int, codec: str) -> None:
    ((step,),) = sample_requests(codec, KEY, [of_class(codec)], [[size]])
    assert len(step.request) == size
    session = Session() if codec == "pgsql" else mysql.Session()
    verb, _, text = session.key(step.request).partition(b" ")
    assert verb == b"SELECT" and path_print(KEY, text) == of_class(codec).match.path_print


def test_what_was_prepared_before_is_asked_for_by_its_text() -> None:
    ((step,),) = sample_requests("mysql", KEY, [of_class("mysql", "Bind_SELECT")], [[60]])
    assert step.request[4] == mysql.QUERY and step.request[5:].startswith(b"SELECT ")
    ((step,),) = sample_requests("mysql", KEY, [of_class("mysql", "Parse_SELECT")], [[60]])
    assert step.request[4] == mysql.PREPARE and step.request.count(b"?") == 1 and len(step.request) == 60


def test_replies_have_the_bytes_that_were_seen() -> None:
    (shape,) = sql_reply_of_size("pgsql", Counter({500: 3}), ROWS["pgsql"])
    assert shape.kind == "rows" and shape.columns[0].size == fixed(442).model_copy(update={"weights": [3.0]})
    assert sql_reply_of_size("pgsql", Counter({20: 1}), b"C")[0].kind == "done"
    assert sql_reply_of_size("mysql", Counter({500: 3}), ROWS["mysql"])[0].kind == "rows"
    assert sql_reply_of_size("mysql", Counter({11: 3}), b"\7\0\0\1\0\0\0")[0].kind == "done"


def test_the_answer_to_a_greeting_begins_a_session() -> None:
    login = packet(1, mysql_login())
    assert mysql.greets(GREETING) and not mysql.greets(login)
    assert mysql.begins_session(login, len(login)) and not mysql.begins_session(login, len(login) + 1)
    assert not mysql.begins_session(packet(0, b"\3SELECT 1"), 13)


def mysql_login() -> bytes:
    return struct.pack("<IIB", 0x0008A205, 1 << 24, 33) + bytes(23) + b"user\0\0mysql_native_password\0"


def packet(number: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number]) + body


GREETING = packet(0, b"\x0a8.0.0\0" + bytes(40))


class Database(threading.Thread):
    """Takes one session at a time, and keeps what it is told."""

    def __init__(self, codec: str) -> None:
        super().__init__(daemon=True)
        self.codec = codec
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.said: list[bytes] = []

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        (self.mysql if self.codec == "mysql" else self.pgsql)(connection)

    def mysql(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        connection.sendall(GREETING)
        while head := file.read(4):
            self.said.append(head + file.read(int.from_bytes(head[:3], "little")))
            connection.sendall(packet(head[3] + 1, b"\0\0\0\2\0\0\0"))

    def pgsql(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        head = file.read(4)
        self.said.append(head + file.read(struct.unpack(">I", head)[0] - 4))
        connection.sendall(b"R\0\0\0\x08\0\0\0\0" + READY)
        while kind := file.read(1):
            head = file.read(4)
            self.said.append(kind + head + file.read(struct.unpack(">I", head)[0] - 4))
            connection.sendall(DONE)
            connection.sendall(READY)


@pytest.mark.parametrize("codec", ["pgsql", "mysql"])
@pytest.mark.parametrize("looping", [True, False])
def test_a_session_begins_before_the_first_statement(tmp_path: Path, looping: bool, codec: str) -> None:
    connect = CONNECT_LOOP if looping else CONNECT_BLOCKING
    down = downstream(codec, classes=[of_class(codec)], print_key=KEY, blocking=not looping, connect=connect)
    changes = {} if looping else {"role": SERIAL, "listener": Listener(nonblocking=False, accept_flags=0)}
    # Half of the requests ask twice; the wait for a reply is not done where there is none.
    wait = Op(kind=OpKind.POLL, nr=NUMBERS["poll"], a=1, b=-1, link=0)
    program = [call(), wait, answer(), call(probability=0.5), wait, answer(), REPLY]
    profile = calling([down], program, **changes)  # type: ignore[arg-type]
    binary = build(profile, tmp_path / "clone")
    database = Database(codec)
    database.start()
    place = f"0=127.0.0.1:{database.port}"
    with running(binary, "--downstream", place) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(20):
            assert get(sock).startswith(b"HTTP/1.1 200")
    if codec == "pgsql":
        assert database.said[0].startswith(b"\0\0\0\x1b\0\3\0\0user\0")
        assert all(said.startswith(b"Q") for said in database.said[1:])
    else:
        assert database.said[0] == packet(1, mysql_login())
        assert all(said[3:].startswith(b"\0\3SELECT ") for said in database.said[1:])
    assert 24 < len(database.said) < 38
    with running(binary) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:  # its own stand-in
        assert get(sock).startswith(b"HTTP/1.1 200")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_session_is_polled_for_where_receives_do_not_block(tmp_path: Path) -> None:
    """PHP's client polls and then receives what is there; what a session begins with is no part of a program."""
    receive = Receive(nr=NUMBERS["recvfrom"], bytes=32768, flags=64)
    down = downstream(
        "mysql", classes=[of_class("mysql")], print_key=KEY, blocking=True, connect=CONNECT_BLOCKING, receive=receive
    )
    wait = Op(kind=OpKind.POLL, nr=NUMBERS["poll"], a=1, b=-1, link=0)
    profile = calling(
        [down], [call(), wait, answer(), REPLY], SERIAL, listener=Listener(nonblocking=False, accept_flags=0)
    )
    binary = build(profile, tmp_path / "clone", STATIC)
    database, log = Database("mysql"), tmp_path / "log"
    database.start()
    strace = ("strace", "-f", "-o", str(log), "-e", "trace=recvfrom,poll")
    with (
        running(binary, "--downstream", f"0=127.0.0.1:{database.port}", prefix=strace) as (_, port),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        for _ in range(5):
            get(sock)
    lines = log.read_text().splitlines()
    received = [line for line in lines if "MSG_DONTWAIT" in line]
    assert len(received) == 7 and not any("EAGAIN" in line for line in received)


@pytest.mark.parametrize("codec", ["pgsql", "mysql"])
def test_a_stand_in_answers_with_the_bytes_that_were_seen(tmp_path: Path, codec: str) -> None:
    down = downstream(codec, classes=[of_class(codec)], print_key=KEY)
    binary = build(calling([down], [call(), answer(), REPLY]), tmp_path / "clone")
    ((step,),) = sample_requests(codec, KEY, [of_class(codec)], [[60]])
    with running(binary, "--stub", "0") as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(10)
        if codec == "mysql":
            sock.recv(4096)
            sock.sendall(packet(1, mysql_login()))
        else:
            sock.sendall(struct.pack(">II", 15, 3 << 16) + b"user\0x\0")
        sock.recv(4096)
        sock.sendall(step.request)
        found = b""
        while len(found) < 500:
            found += sock.recv(4096)
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
    assert len(found) == 500


def test_requests_of_a_recording_are_named_by_their_statements() -> None:
    query = b"Q" + struct.pack(">I", len(QUERY) + 5) + QUERY + b"\0"
    assert framing.protocol_of(query) == framing.PGSQL
    assert [head.name for head in framing.request_heads(framing.PGSQL, query, len(query))] == ["SELECT"]
    assert framing.request_heads(framing.PGSQL, b"rest of a statement", 19) == []
    assert framing.reply_heads(framing.PGSQL, DONE + READY, 20, 1) == 1
    for session in (b"X\0\0\0\4", b"\0\0\0\x08\x04\xd2\x16\x2f"):
        assert framing.request_heads(framing.PGSQL, session, len(session)) == []


def test_executions_are_told_by_the_statement_that_their_connection_prepared() -> None:
    def made(peer: object, at: int, request: bytes, reply: bytes) -> SimpleNamespace:
        sends, answers = [SimpleNamespace(index=at, payload=request)], [SimpleNamespace(payload=reply)]
        return SimpleNamespace(peer=peer, sends=sends, answers=answers, statement=b"")

    def prepare(number: int) -> bytes:
        return packet(1, b"\0" + number.to_bytes(4, "little") + bytes(7))

    run = packet(0, b"\x17" + (1).to_bytes(4, "little") + bytes(5))
    calls = [
        made("a", 4, run, packet(1, b"\1")),
        made("a", 2, packet(0, b"\x16SELECT body FROM pages WHERE id = ?"), prepare(1)),
        made("b", 3, packet(0, b"\x16UPDATE pages SET n = 1"), prepare(1)),
        made("b", 5, run, packet(1, b"\0\1\0")),
        made("c", 6, run, packet(1, b"\1")),
    ]
    _tell_statements(calls)  # type: ignore[arg-type]
    assert [call.statement.split(b" ")[0] for call in calls] == [
        b"Bind_SELECT", b"Parse_SELECT", b"Parse_UPDATE", b"Bind_UPDATE", b"Bind",
    ]  # fmt: skip


def test_a_text_gets_the_class_of_the_same_text_prepared_before(tmp_path: Path) -> None:
    """Of another clone, whose original had prepared it: a class of its own text comes first."""
    kinds = {"SELECT": b"own", "Bind_SELECT": b"prepared"}
    classes = []
    for verb, text in kinds.items():
        size = 100 if verb == "SELECT" else 300
        of = of_class("mysql", verb, text)
        replies = sql_reply_of_size("mysql", Counter({size: 1}), ROWS["mysql"])
        classes.append(of.model_copy(update={"replies": replies, "probability": 0.5}))
    down = downstream("mysql", classes=classes, print_key=KEY)
    binary = build(calling([down], [call(), answer(), REPLY]), tmp_path / "clone")
    with running(binary, "--stub", "0") as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(10)
        sock.recv(4096)
        sock.sendall(packet(1, mysql_login()))
        sock.recv(4096)
        for text, size in ((b"own", 100), (b"prepared", 300), (b"other", 100)):
            sock.sendall(packet(0, b"\x03SELECT " + text))
            found = b""
            while len(found) < size:
                found += sock.recv(4096)
            assert len(found) == size


def definition(names: int) -> bytes:
    return b"\3def\0\0\0" + bytes([names]) + b"n" * names + b"\0\x0c" + bytes(12)


END = b"\xfe\0\0\2\0"
PREPARE = packet(1, b"\0" + struct.pack("<IHHBH", 1, 3, 1, 0, 0)) + packet(2, definition(0)) + packet(3, END)
PREPARE += b"".join(packet(4 + i, definition(20)) for i in range(3)) + packet(7, END)
FOUND = packet(1, b"\3") + b"".join(packet(2 + i, definition(20)) for i in range(3)) + packet(5, END)
FOUND += packet(6, b"\x01" + b"7" + b"\xfc\x2c\1" + b"v" * 300 + b"\0") + packet(7, END)


def test_statements_of_which_no_result_was_seen_are_answered_with_as_many_bytes(tmp_path: Path) -> None:
    """Callers that know the database's port from a file go past the relay: sizes and first bytes are what is left."""
    classes = []
    for verb, reply in (("Parse_SELECT", PREPARE), ("SELECT", FOUND)):
        peer = object()
        sent = SimpleNamespace(nr=NUMBERS["sendto"], obj=peer, ret=len(reply), payload=reply[:64])
        cycle = SimpleNamespace(connection=peer, events=[sent], sent=len(reply))
        replies = sql_replies(f"{verb} SELECT abc".encode(), [cycle, cycle], [], "mysql")  # type: ignore[list-item]
        assert [(shape.kind, len(shape.columns)) for shape in replies] == [("rows", 3)]
        classes.append(of_class("mysql", verb).model_copy(update={"replies": replies, "probability": 0.5}))
    assert sql_replies(b"DELETE x", [], [], "mysql")[0].kind == "done"
    down = downstream("mysql", classes=classes, print_key=KEY)
    binary = build(calling([down], [call(), answer(), REPLY]), tmp_path / "clone")
    with running(binary, "--stub", "0") as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(10)
        sock.recv(4096)
        sock.sendall(packet(1, mysql_login()))
        sock.recv(4096)
        for asked, reply in ((b"\x16SELECT abc = ?", PREPARE), (b"\x03SELECT abc", FOUND)):
            sock.sendall(packet(0, asked))
            found = b""
            while len(found) < len(reply):
                found += sock.recv(4096)
            assert len(found) == len(reply)
            assert found[:4] == reply[:4]


def test_executions_are_told_by_what_was_prepared_in_a_message_before(tmp_path: Path) -> None:
    """PostgreSQL's drivers prepare, wait, then execute: a clone asks by the text, and gets that class's answer."""

    def typed(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack(">I", len(body) + 4) + body

    def made(peer: str, index: int, request: bytes) -> SimpleNamespace:
        sends = [SimpleNamespace(index=index, payload=request)]
        return SimpleNamespace(peer=peer, sends=sends, answers=[SimpleNamespace(payload=b"1")], statement=b"")

    parse, run = typed(b"P", b"\0SELECT abc FROM t\0\0\0"), typed(b"B", b"\0\0" + bytes(6))
    calls = [made("a", 1, parse), made("a", 3, run), made("b", 2, run)]
    _tell_statements(calls, "pgsql")  # type: ignore[arg-type]
    assert [call.statement.split(b" ")[0] for call in calls] == [b"Parse_SELECT", b"Bind_SELECT", b"Bind"]
    replies = sql_reply_of_size("pgsql", Counter({300: 1}), ROWS["pgsql"])
    of = of_class("pgsql", "Bind_SELECT", b"abc").model_copy(update={"replies": replies})
    down = downstream("pgsql", classes=[of], print_key=KEY)
    binary = build(calling([down], [call(), answer(), REPLY]), tmp_path / "clone")
    with running(binary, "--stub", "0") as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(10)
        sock.sendall(struct.pack(">II", 15, 3 << 16) + b"user\0x\0")
        found = b""
        while not found.endswith(READY):
            found += sock.recv(4096)
        sock.sendall(typed(b"Q", b"SELECT abc\0"))
        found = b""
        while len(found) < 300:
            found += sock.recv(4096)
        assert len(found) == 300
