"""The protocols of databases: how requests are told apart, what is learned of results, and what clones answer."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto.artifacts.observation import ResultSeen
from ditto.artifacts.plan import Framing, LoadPlan, StepFlags, load_plan
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import ClassMatch, ServiceProfile
from ditto.host.exchanges import plan_of
from ditto.host.results import joined
from ditto.host.spoken import Stream
from ditto.host.synthetic import synthetic_plan
from ditto.model.classes import match_of
from ditto.model.network import fit_receive
from ditto.model.results import sql_replies
from ditto.paths import loadgen_binary
from ditto.streams import mysql, pgsql, protocol
from ditto.streams.evidence import request_head
from ditto.streams.matching import class_index
from ditto.streams.sql import statement_key
from profile_parts import service_profile
from runtime_build import Clone, build_clone, exchange, receive_all, running
from serial_parts import LISTENER, Recorder

PGBENCH = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))), None)
WIDE, NARROW = b"SELECT a, b, c FROM t1 WHERE id = 5", b"SELECT abalance FROM t2"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        (b"SELECT abalance FROM pgbench_accounts WHERE aid = 77;\0", b"SELECT SELECT abalance FROM pgbench_account"),
        (b"  select c from sbtest12 where id=5", b"SELECT select c from sbtest where id"),
        (b"SELECT c FROM sbtest1 WHERE id=?", b"SELECT SELECT c FROM sbtest WHERE id"),
        (b"UPDATE t SET a = 'x' WHERE b", b"UPDATE UPDATE t SET a"),
        (b"UPDATE t SET a = a + -5 WHERE b", b"UPDATE UPDATE t SET a = a"),
        (b"BEGIN;", b"BEGIN BEGIN"),
        (b"", b" "),
        (b"42", b" "),
    ],
)
def test_a_statement_is_told_by_its_verb_and_its_text_up_to_a_literal(query: bytes, key: bytes) -> None:
    assert statement_key(query) == key


def typed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


START = struct.pack(">II", 17, 3 << 16) + b"user\0a\0\0\0"[:9]
SECURE = struct.pack(">II", 8, 80877103)


def query(text: bytes) -> bytes:
    return typed(b"Q", text + b"\0")


def executed(name: bytes) -> bytes:
    bind = typed(b"B", b"\0" + name + b"\0" + struct.pack(">HHH", 0, 0, 0))
    return bind + typed(b"D", b"P\0") + typed(b"E", b"\0" + struct.pack(">I", 0)) + typed(b"S")


def parsed(name: bytes, text: bytes) -> bytes:
    return typed(b"P", name + b"\0" + text + b"\0\0\0")


def test_prepared_statements_are_followed_on_their_connection() -> None:
    session = pgsql.Session()
    keys = [session.key(m) for m in (SECURE, START, parsed(b"s1", NARROW), executed(b"s1"), executed(b"s2"))]
    assert keys == [b"Secure", b"Startup", b"Parse_SELECT SELECT abalance FROM t",
                    b"Bind_SELECT SELECT abalance FROM t", b"Bind"]  # fmt: skip
    assert pgsql.Session().key(executed(b"s1")) == b"Bind"
    other = mysql.Session()
    command = b"\x18\0\0\0"
    assert other.key(command + b"\x16" + NARROW) == b"Parse_SELECT SELECT abalance FROM t"
    other.answered(b"\x0c\0\0\1\0\7\0\0\0\1\0")  # servers may go on counting from an earlier connection
    assert other.key(command + b"\x17\x07\0\0\0") == b"Bind_SELECT SELECT abalance FROM t"
    assert other.key(command + b"\x17\xff\xff\xff\xff") == b"Bind_SELECT SELECT abalance FROM t"
    assert other.key(command + b"\x17\x02\0\0\0") == b"Bind"


def test_the_protocols_are_told_apart() -> None:
    replies = [typed(b"R", b"\0\0\0\0"), typed(b"T", b"\0\0"), typed(b"1"), b"N"]
    asked = [SECURE, START, query(NARROW), parsed(b"", NARROW), executed(b"")]
    assert protocol.recognise([m[:64] for m in asked], replies) == "pgsql"
    command = b"\x18\0\0\0\x03" + NARROW
    assert protocol.recognise([command] * 9, [b"\x01\0\0\x01\x01"]) == "mysql"
    assert protocol.recognise([b"GET / HTTP/1.1\r\n"], [b"HTTP/1.1 200 OK"]) == "http1"
    assert protocol.recognise([b"GET / HTTP/1.1\r\n"], [b"HTTP/1.1"]) == "http1"
    assert protocol.recognise([b"GET / HTTP/1.1\r\n"], [b"HTTP/1.1x"]) == "opaque"
    assert protocol.reply_shape("http1", b"HTTP/1.1", 900, 300).status == 200
    assert protocol.recognise([b"\0\0\0\x09abcdefgh"], []) == "opaque"


def pg_result() -> bytes:
    column = b"n\0" + struct.pack(">IHIhih", 0, 0, 23, 4, -1, 0)
    second = b"text\0" + struct.pack(">IHIhih", 0, 0, 16999, -1, -1, 0)
    row = struct.pack(">Hi", 2, 3) + b"123" + struct.pack(">i", -1)
    return typed(b"T", struct.pack(">H", 2) + column + second) + typed(b"D", row) * 2 + typed(b"C", b"SELECT 2\0")


def test_results_are_learned_from_both_directions() -> None:
    ready = typed(b"Z", b"I")
    said = SECURE + START + query(NARROW) + query(b"BEGIN") + query(b"UPDATE t SET a = 1") + query(NARROW)
    answered = b"N" + typed(b"R", b"\0\0\0\0") + ready + pg_result() + ready + typed(b"C", b"BEGIN\0") + ready
    answered += typed(b"C", b"UPDATE 7\0") + ready + pg_result()[:40]
    seen = {result.request: result for result in joined(pgsql.results_of(said, answered))}
    assert set(seen) == {"Startup", "SELECT SELECT abalance FROM t", "BEGIN BEGIN", "UPDATE UPDATE t SET a"}
    select = seen["SELECT SELECT abalance FROM t"]
    assert (select.kind, select.count, select.rows) == ("rows", 1, [(2, 1)])
    assert [(c.name_bytes, c.type_id, c.sizes) for c in select.columns] == [(1, 23, [(3, 2)]), (4, 16999, [(-1, 2)])]
    assert seen["UPDATE UPDATE t SET a"].rows == [(7, 1)]


def test_what_is_copied_is_rows_of_lines() -> None:
    ready = typed(b"Z", b"I")
    said = START + query(b"COPY t TO STDOUT") + query(b"COPY t FROM STDIN") + typed(b"d", b"1\n") + typed(b"c")
    said += query(b"BEGIN")
    answered = ready + typed(b"H", b"\0\0\0") + typed(b"d", b"12345\n") * 3 + typed(b"c")
    answered += typed(b"C", b"COPY 3\0") + ready
    answered += typed(b"G", b"\0\0\0") + typed(b"C", b"COPY 1\0") + ready + typed(b"C", b"BEGIN\0") + ready
    seen = {result.request: result for result in joined(pgsql.results_of(said, answered))}
    out, into = seen["COPY COPY t TO STDOUT"], seen["COPY COPY t FROM STDIN"]
    assert (out.kind, out.rows, [c.sizes for c in out.columns]) == ("rows", [(3, 1)], [[(6, 3)]])
    assert (into.kind, into.rows, seen["BEGIN BEGIN"].kind) == ("done", [(1, 1)], "done")


def test_shapes_hold_no_name_and_no_type_of_the_owners() -> None:
    seen = joined([(b"SELECT SELECT x", result) for _, result in pgsql.results_of(START + query(b"SELECT x"),
                   typed(b"Z", b"I") + pg_result() + typed(b"Z", b"I")) if result.columns])  # fmt: skip
    (shape,) = sql_replies(b"SELECT SELECT x", [], seen)
    assert [(c.name_bytes, c.type_id, c.none) for c in shape.columns] == [(1, 23, 0.0), (4, 25, 1.0)]
    assert sql_replies(b"SELECT other", [], seen)[0].kind == "done"
    match = match_of("pgsql", 7, b"Bind_SELECT SELECT secret FROM plans", {40: 1})  # type: ignore[arg-type]
    assert match.verb == "Bind_SELECT" and 0 <= match.path_print < 4096
    assert match_of("pgsql", 7, b"SECRET SECRET", {40: 1}).verb == ""  # type: ignore[arg-type]


def test_a_result_of_the_other_protocol() -> None:
    def packet(number: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "little") + bytes([number]) + body

    greeting = b"\x0a5.5.5\0" + b"\1\0\0\0" + b"x" * 8 + b"\0" + struct.pack("<HBHH", 0xFFFF, 33, 2, 0x1FF) + bytes(31)
    login = struct.pack("<IIB", 0x01FFA20F & ~(1 << 24), 1 << 24, 33) + bytes(23) + b"user\0\0"
    column = b"\3def\1s\1t\1t\1c\1c\x0c" + struct.pack("<HIBHB", 33, 480, 254, 0, 0) + b"\0\0"
    end = b"\xfe\0\0\2\0"
    ready = packet(1, b"\0\1\0\0\0\1\0\1\0\0\0\0") + packet(2, column) + packet(3, end) + packet(4, column)
    ready += packet(5, end)
    rows = packet(1, b"\1") + packet(2, column) + packet(3, end) + packet(4, b"\0\0\4abcd") + packet(5, end)
    said = (
        packet(1, login) + packet(0, b"\x16" + WIDE) + packet(0, b"\x17\1\0\0\0\0\1\0\0\0") + packet(0, b"\x19\1\0\0\0")
    )
    answered = packet(0, greeting) + packet(2, b"\0\0\0\2\0\0\0") + ready + rows
    seen = {result.request: result for result in joined(mysql.results_of(said, answered))}
    assert set(seen) == {"Parse_SELECT SELECT a, b, c FROM t WHERE id", "Bind_SELECT SELECT a, b, c FROM t WHERE id"}
    bound = seen["Bind_SELECT SELECT a, b, c FROM t WHERE id"]
    assert (bound.kind, bound.rows) == ("rows", [(1, 1)])
    assert [(c.name_bytes, c.type_id, c.sizes) for c in bound.columns] == [(5, 254, [(4, 1)])]


# --- clones -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["process", "thread", "loop"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    flags = {"process": (), "thread": ("-DTEST_HANDOVER=DITTO_HAND_SPAWN_THREAD",), "loop": ("-DTEST_LOOP",)}
    binary = build_clone(tmp_path_factory.mktemp("sql") / "pgsql", "pgsql", *flags[request.param])
    with running(binary) as clone:
        yield clone


@pytest.fixture(scope="module", params=["whole", "head"])
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    flags = {"whole": (), "head": ("-DTEST_RECV=.nr=SYS_recvfrom,.bytes=16384,.head=4",)}
    with running(build_clone(tmp_path_factory.mktemp("sql") / "mysql", "mysql", *flags[request.param])) as clone:
        yield clone


def messages(data: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 0
    while at < len(data):
        size = struct.unpack_from(">I", data, at + 1)[0]
        found.append((data[at : at + 1], data[at + 5 : at + 1 + size]))
        at += 1 + size
    assert at == len(data)
    return found


def kinds(data: bytes) -> bytes:
    return b"".join(kind for kind, _ in messages(data))


GREETED = b"R" + b"S" * 10 + b"KZ"


def test_a_session_begins(database: Clone) -> None:
    data = exchange(database, [SECURE + START + typed(b"X")])
    assert data[:1] == b"N" and len(data) == 421
    assert kinds(data[1:]) == GREETED and data.endswith(typed(b"Z", b"I"))


def test_simple_queries(database: Clone) -> None:
    said = START + query(WIDE) + query(NARROW) + query(b"BEGIN") + query(b"UPDATE t SET a = 1") + query(b"ROLLBACK")
    said += query(b"DROP TABLE t") + query(b"") + query(b"SELECT 1; SELECT 2") + query(b"BEGIN; COMMIT")
    found = messages(exchange(database, [said]))[len(GREETED) :]
    assert b"".join(kind for kind, _ in found) == b"TDDDCZ" + b"TDCZ" + b"CZ" * 3 + b"EZ" + b"IZ" + b"TDDDCZ" + b"CZ"
    assert [body for kind, body in found if kind == b"Z"] == [b"I", b"I", b"T", b"T", b"I", b"I", b"I", b"I", b"I"]
    tags = [body for kind, body in found if kind == b"C"]
    assert tags[:5] == [b"SELECT 3\0", b"SELECT 1\0", b"BEGIN\0", b"UPDATE 1\0", b"ROLLBACK\0"]
    columns = found[0][1]
    assert len(columns) == 2 + (8 + 6 + 4) + 3 * 19 and struct.unpack(">H", columns[:2]) == (3,)
    assert found[1][1] == struct.pack(">Hi", 3, 6) + b"111111" + struct.pack(">i", 84) + b"x" * 84 + b"\xff" * 4


def test_copies_go_out_as_lines_and_come_in_before_they_are_answered(database: Clone) -> None:
    said = START + query(b"COPY t TO STDOUT") + query(b"COPY t FROM STDIN")
    said += typed(b"d", b"1\n") * 9 + typed(b"c") + query(NARROW)
    found = messages(exchange(database, [said]))[len(GREETED) :]
    assert b"".join(kind for kind, _ in found) == b"HdcCZ" + b"GCZ" + b"TDCZ"
    assert found[1][1] == b"x" * 5 + b"\n" and found[3][1] == b"COPY 1\0"


def test_extended_queries_and_pieces(database: Clone) -> None:
    said = START + parsed(b"s", WIDE) + typed(b"S") + executed(b"s") * 2 + parsed(b"", NARROW) + executed(b"")
    said += parsed(b"u", b"UPDATE t SET a = $2, b = $1") + typed(b"D", b"Su\0") + typed(b"H") + typed(b"S")
    said += typed(b"C", b"Ss\0") + typed(b"S") + query(b"SELECT a, b, c FROM t1 WHERE id = " + b"7" * 3000)
    wanted = b"1Z" + b"2TDDDCZ" * 2 + b"12TDCZ" + b"1tnZ" + b"3Z" + b"TDDDCZ"
    whole = messages(exchange(database, [said]))[len(GREETED) :]
    assert b"".join(kind for kind, _ in whole) == wanted
    assert next(body for kind, body in whole if kind == b"t") == struct.pack(">HII", 2, 25, 25)
    pieces = [said[i : i + 7] for i in range(0, 700, 7)] + [said[700:]]
    assert kinds(exchange(database, pieces, 0.0002))[len(GREETED) :] == wanted


@pytest.mark.parametrize(
    "said",
    [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\3\0\3\0\0", START + b"\xff" * 9, START + typed(b"?"), START + b"Q\0\0\0\0"],
)
def test_what_is_no_request_ends_the_connection(database: Clone, said: bytes) -> None:
    data = exchange(database, [said])
    assert messages(data)[-1][0] == b"E" and messages(data)[-1][1].startswith(b"SFATAL\0")


def test_a_request_to_cancel_is_answered_by_silence(database: Clone) -> None:
    assert exchange(database, [struct.pack(">IIII", 16, 80877102, 1, 2)]) == b""


@pytest.mark.skipif(PGBENCH is None, reason="pgbench is not installed")
@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_the_original_client_drives_the_clone(database: Clone, mode: str, tmp_path: Path) -> None:
    script = tmp_path / "script.sql"
    script.write_text(
        "\\set id random(1, 100000)\nBEGIN;\nSELECT a, b, c FROM t1 WHERE id = :id;\n"
        "UPDATE t SET a = a + :id WHERE b = :id;\nEND;\nSELECT abalance FROM t2;\n"
    )
    done = subprocess.run(
        [str(PGBENCH), "-h", "127.0.0.1", "-p", str(database.port), "-U", "u", "-n", "-M", mode, "-c", "4", "-t", "100",
         "-f", str(script), "d"], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "actually processed: 400/400" in done.stdout and "failed transactions: 0" in done.stdout


def packets(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "little")
        found.append((data[at + 3], data[at + 4 : at + 4 + size]))
        at += 4 + size
    assert at == len(data)
    return found


def command(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


LOGIN = struct.pack("<IIB", 0x00FFA205, 1 << 24, 33) + bytes(23) + b"user\0\0"
LOGIN = len(LOGIN).to_bytes(3, "little") + b"\1" + LOGIN
NEWER = struct.pack("<IIB", 0x01FFA205, 1 << 24, 33) + bytes(23) + b"user\0\0"
NEWER = len(NEWER).to_bytes(3, "little") + b"\1" + NEWER


@pytest.mark.parametrize(("login", "ends"), [(LOGIN, True), (NEWER, False)])
def test_the_other_protocol(other: Clone, login: bytes, ends: bool) -> None:
    said = login + command(b"\3" + WIDE) + command(b"\x16" + b"SELECT a, b, c FROM t9 WHERE id=?")
    said += command(b"\x17\xff\xff\xff\xff\0\1\0\0\0") + command(b"\x19\1\0\0\0") + command(b"\x0e") + command(b"\x63")
    said += command(b"\3BEGIN") + command(b"\3UPDATE t SET a = 1") + command(b"\3DROP TABLE t") + command(b"\1")
    greeting, welcome, *rest = packets(exchange(other, [said]))
    assert greeting[0] == 0 and greeting[1][0] == 10 and b"mysql_native_password" in greeting[1]
    assert welcome[0] == 2 and welcome[1][0] == 0
    numbers = [number for number, _ in rest]
    text = 1 + 3 + ends + 3 + 1
    assert numbers[:text] == list(range(1, text + 1))
    prepared = 1 + 1 + ends + 3 + ends
    assert numbers[text : text + prepared] == list(range(1, prepared + 1))
    first = rest[1 + 3 + ends][1]
    assert first == b"\x06111111" + b"\x54" + b"x" * 84 + b"\xfb"
    binary = rest[text + prepared + 1 + 3 + ends][1]
    assert binary == b"\0\x10" + b"\1\0\0\0" + b"\x54" + b"x" * 84  # the third column has no value
    closing = [body for _, body in rest[2 * text + prepared :]]
    assert [body[0] for body in closing] == [0, 0xFF, 0, 0, 0xFF]
    assert closing[2][3] & 1 and closing[3][3] & 1 and closing[3][1] == 1  # in a transaction; one row changed
    answer = next(
        results for key, results in mysql.results_of(said, exchange(other, [said])) if key.startswith(b"SELECT")
    )
    assert answer.kind == "rows" and answer.rows == 3 and answer.columns[2].sizes == [-1] * 3


def test_columns_that_the_client_remembers_are_not_told_again(other: Clone) -> None:
    login = struct.pack("<IIB", 0x00FFA204, 1 << 24, 33) + bytes(19) + struct.pack("<I", 1 << 4) + b"user\0\0"
    said = len(login).to_bytes(3, "little") + b"\1" + login + command(b"\x16" + WIDE)
    said += command(b"\x17\1\0\0\0\0\1\0\0\0") + command(b"\3" + WIDE) + command(b"\1")
    answered = exchange(other, [said])
    bodies = [body for _, body in packets(answered)][2 + 1 + 3 + 1 :]
    assert bodies[0] == b"\3\0" and bodies[1][:1] == b"\xfe" and [body[0] for body in bodies[2:6]] == [0, 0, 0, 0xFE]
    assert bodies[6] == b"\3\1" and len(bodies) == 6 + 1 + 3 + 1 + 3 + 1
    results = dict(mysql.results_of(said, answered))
    bound = results[b"Bind_SELECT SELECT a, b, c FROM t WHERE id"]
    assert (bound.kind, bound.rows, bound.known) == ("rows", 3, True)
    greeting = packets(answered)[0][1]
    assert b"MariaDB" in greeting and greeting[greeting.index(b"\0") + 28 :][:4] == struct.pack("<I", 1 << 4)
    (shape,) = sql_replies(b"Bind_SELECT", [], joined([(b"Bind_SELECT", bound)]))
    (told,) = sql_replies(b"SELECT", [], joined([(b"SELECT", results[b"SELECT SELECT a, b, c FROM t WHERE id"])]))
    assert shape.columns_known and not told.columns_known
    assert [column.sizes for column in bound.columns] == [[4] * 3, [84] * 3, [-1] * 3]


@pytest.mark.skipif(shutil.which("mariadb") is None, reason="the mariadb client is not installed")
def test_the_other_original_client_drives_the_clone(other: Clone) -> None:
    done = subprocess.run(
        ["mariadb", "-h", "127.0.0.1", "-P", str(other.port), "-u", "u", "-N", "-B", "-e",
         "SELECT a, b, c FROM t1 WHERE id = 1; BEGIN; UPDATE t SET a = 1; COMMIT; SELECT abalance FROM t2"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"111111\t{'x' * 84}\tNULL"] * 3 + ["111111"]


def test_many_connections_come_and_go(database: Clone) -> None:
    for _ in range(3):
        socks = [database.connect() for _ in range(40)]
        for sock in socks:
            sock.sendall(START + query(NARROW))
        for sock in socks:
            sock.shutdown(socket.SHUT_WR)
            assert kinds(receive_all(sock)) == GREETED + b"TDCZ"
            sock.close()


def test_processes_that_served_a_connection_are_waited_for(tmp_path: Path) -> None:
    """What they used counts as their parent's only then."""

    def faults_of_children(pid: int) -> int:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])

    with running(build_clone(tmp_path / "clone", "pgsql")) as clone:
        for _ in range(5):
            assert kinds(exchange(clone, [START + query(NARROW)])) == GREETED + b"TDCZ"
        until = time.monotonic() + 10
        while time.monotonic() < until and _children(clone.process.pid):
            time.sleep(0.01)
        assert not _children(clone.process.pid)
        few = faults_of_children(clone.process.pid) / 5
        assert few > 0
    with running(build_clone(tmp_path / "touching", "pgsql", "-DTEST_BORN_PAGES=1000")) as clone:
        assert kinds(exchange(clone, [START + query(NARROW)])) == GREETED + b"TDCZ"
        until = time.monotonic() + 10
        while time.monotonic() < until and _children(clone.process.pid):
            time.sleep(0.01)
        assert 1000 + few / 2 < faults_of_children(clone.process.pid) < 1500


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_class_without_a_result_is_done() -> None:
    nothing: list[ResultSeen] = []
    assert sql_replies(b"COMMIT COMMIT", [], nothing)[0].kind == "done"
    assert sql_replies(b"Startup", [], nothing)[0].kind == "session"


# --- what the load generator sends ------------------------------------------------------------------------------------


def test_a_plan_begins_a_session_once_and_leaves_the_clients_own_preparations_out() -> None:
    busy = Stream([(SECURE, 1), (START, 400), (parsed(b"s", NARROW) + typed(b"S"), 11), *[(executed(b"s"), 80)] * 300])
    ended = Stream([(SECURE, 1), (START, 400), (query(b"select count(*)"), 66), (typed(b"X"), 0)], closed_s=0.1)
    plan = plan_of([ended, busy], 9.0)
    assert plan.framing is Framing.PGSQL and len(plan.scripts) == 1
    script = plan.scripts[0]
    assert (script.opening, len(script.steps)) == (3, 303) and not any(step.flags for step in script.steps)
    said = [(b"", 80), (NEWER, 11), (command(b"\x16" + NARROW), 60), *[(command(b"\x17\1\0\0\0"), 80)] * 9]
    plan = plan_of([Stream([*said, (command(b"\x19\1\0\0\0"), 0), (command(b"\1"), 0)])], 9.0)
    assert plan.framing is Framing.MYSQL
    script = plan.scripts[0]
    assert (script.opening, len(script.steps)) == (3, 13)
    assert script.steps[-1].flags == StepFlags.NO_ENDS | StepFlags.NOREPLY
    assert load_plan_of(plan) == plan


def load_plan_of(plan: LoadPlan) -> LoadPlan:
    with tempfile.TemporaryDirectory() as folder:
        plan.save(Path(folder) / "plan")
        return load_plan(Path(folder) / "plan")


def small_service(codec: str) -> ServiceProfile:
    verbs = (("SELECT", 77, 0.5), ("Bind_SELECT", 99, 0.3), ("UPDATE", -1, 0.1), ("Startup", -1, 0.1))
    first = service_profile().services[0].classes[0]
    classes = [
        first.model_copy(update={"match": ClassMatch(verb=verb, path_print=mark), "probability": share})
        for verb, mark, share in verbs
    ]
    return service_profile().services[0].model_copy(update={"codec": codec, "classes": classes})


@pytest.mark.parametrize("codec", ["pgsql", "mysql"])
def test_statements_drawn_from_a_profile_are_of_its_classes(codec: str) -> None:
    service = small_service(codec)
    plan = synthetic_plan(service, requests=200)
    session = protocol.session_of(codec)
    assert session is not None
    found = set()
    for step in (step for script in plan.scripts for step in script.steps if step.request):
        found.add(class_index(service, session.key(step.request)))
        session.answered(b"\x0c\0\0\1\0\1\0\0\0")
    assert found >= {0, 1, 2}


@pytest.mark.parametrize("codec", ["pgsql", "mysql"])
def test_the_load_generator_knows_where_replies_end(codec: str, database: Clone, other: Clone, tmp_path: Path) -> None:
    if not loadgen_binary().exists():
        pytest.skip("the load generator is not built: make -C native/loadgen")
    synthetic_plan(small_service(codec), requests=200).save(tmp_path / "plan")
    port = (database if codec == "pgsql" else other).port
    done = subprocess.run(
        [str(loadgen_binary()), "--plan", str(tmp_path / "plan"), "--port", str(port), "--connections", "4",
         "--requests", "4000"], capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["received"], found["failed"], found["broken"]) == (4000, 0, 0), found


def test_requests_that_come_as_a_head_and_a_rest() -> None:
    record = Recorder((9,))
    for number in range(8):
        record.call(9, "accept", 20 + number, LISTENER)
        for body in (b"\x0e", b"\x03SELECT 1"):
            record.call(9, "recvfrom", 4, 20 + number, 0, 4, payload=len(body).to_bytes(3, "little") + b"\0")
            record.call(9, "recvfrom", len(body), 20 + number, 0, len(body), payload=body)
            record.call(9, "sendto", 11, 20 + number, 0, 11, payload=b"\7\0\0\1\0\0\0\2\0\0\0")
    cycles = [cycle for thread in record.work().threads.values() for cycle in thread.cycles]
    assert {request_head(cycle) for cycle in cycles} == {b"\1\0\0\0\x0e", b"\x09\0\0\0\3SELECT 1"}
    received = fit_receive(cycles)
    assert (received.head, received.bytes) == (4, 16384)


def test_a_text_is_of_the_class_of_the_same_text_prepared_before() -> None:
    """As in the runtime: another clone asks by texts alone.  A class of the text itself comes first."""
    service = small_service("mysql")
    own, prepared = service.classes[0], service.classes[1]
    marks = [path_print(service.print_key, text) for text in (b"SELECT own", b"SELECT prepared")]
    classes = [
        own.model_copy(update={"match": own.match.model_copy(update={"verb": "SELECT", "path_print": marks[0]})}),
        prepared.model_copy(
            update={"match": own.match.model_copy(update={"verb": "Bind_SELECT", "path_print": marks[1]})}
        ),
    ]
    changed = service.model_copy(update={"classes": classes})
    keys = (b"SELECT SELECT own", b"SELECT SELECT prepared", b"SELECT SELECT other", b"Bind_SELECT SELECT prepared")
    assert [class_index(changed, key) for key in keys] == [0, 1, 0, 1]
    assert class_index(changed.model_copy(update={"classes": classes[1:]}), keys[2]) == 0


def test_rows_of_executions_have_the_columns_told_when_they_were_prepared() -> None:
    ready = typed(b"Z", b"I")
    said = START + typed(b"P", b"\0SELECT n, text FROM t\0\0\0") + typed(b"D", b"S\0") + typed(b"S", b"")
    said += typed(b"B", b"\0\0" + bytes(6)) + typed(b"E", b"\0" + bytes(4)) + typed(b"S", b"")
    told, _, rows = pg_result().partition(typed(b"D", struct.pack(">Hi", 2, 3) + b"123" + struct.pack(">i", -1)))
    row = typed(b"D", struct.pack(">Hi", 2, 3) + b"123" + struct.pack(">i", -1))
    answered = typed(b"R", b"\0\0\0\0") + ready + typed(b"1", b"") + told + ready
    answered += typed(b"2", b"") + row * 2 + typed(b"C", b"SELECT 2\0") + ready
    seen = {result.request.split(" ")[0]: result for result in joined(pgsql.results_of(said, answered))}
    assert (seen["Bind_SELECT"].kind, seen["Bind_SELECT"].rows) == ("rows", [(2, 1)])
    assert [column.sizes for column in seen["Bind_SELECT"].columns] == [[(3, 2)], [(-1, 2)]]
    assert [column.sizes for column in seen["Parse_SELECT"].columns] == [[], []] and rows
