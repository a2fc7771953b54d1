"""FastCGI: recognised and told apart in a recording, answered by a clone record by record, driven and called."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.plan import Framing, LoadPlan, Script
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import ClassMatch
from ditto.artifacts.records import RECORD, Kind, Mode, Recording
from ditto.host.exchanges import plan_of
from ditto.host.loadgen import Arrivals, Offered, drive
from ditto.host.placeholders import choose_ports
from ditto.host.synthetic import sample_requests
from ditto.host.tap import Stream
from ditto.model.classes import match_of, reply_shapes
from ditto.streams import fastcgi, protocol
from ditto.streams.arguments import arguments
from ditto.streams.cycles import follow
from ditto.streams.events import from_recording
from ditto.streams.evidence import requests_of
from ditto.streams.lives import closing_work
from profile_parts import service_profile
from runtime_build import PRINT_KEY, build_clone, receive_all, running
from strace_parts import whole_calls
from test_sharing import Threads

BEGIN = fastcgi.record(fastcgi.BEGIN, b"\0\1\0\0\0\0\0\0")
LAST = fastcgi.record(fastcgi.PARAMS, b"")
NO_INPUT = fastcgi.record(fastcgi.STDIN, b"")
END = fastcgi.record(fastcgi.END, bytes(8))


def params(path: bytes, method: bytes = b"GET", before: int = 0, **more: bytes) -> bytes:
    found = fastcgi.param(b"SCRIPT_FILENAME", b"/srv/" + b"f" * before) if before else b""
    found += fastcgi.param(b"REQUEST_METHOD", method) + fastcgi.param(b"SCRIPT_NAME", b"/index.php")
    found += fastcgi.param(b"REQUEST_URI", path)
    return found + b"".join(fastcgi.param(name.encode(), value) for name, value in more.items())


def output(text: bytes) -> bytes:
    padding = -len(text) % 8
    return struct.pack(">BBHHBB", 1, fastcgi.STDOUT, 1, len(text), padding, 0) + text + bytes(padding)


def records(reply: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at < len(reply):
        _, kind, _, length, padding, _ = struct.unpack_from(">BBHHBB", reply, at)
        found.append((kind, reply[at + 8 : at + 8 + length]))
        at += 8 + length + padding
    assert at == len(reply)
    return found


# -- what a recording shows -------------------------------------------------------------------------------------


def test_requests_are_told_apart_by_what_was_asked_for() -> None:
    whole = BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/shop?item=4")) + LAST
    assert fastcgi.request_key(whole) == b"GET /shop"
    assert fastcgi.request_key(BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/a", b"POST", before=140))) == b"POST /a"
    # What lies beyond the window tells nothing: the script that serves does.
    beyond = BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/a", before=165) + b"x" * 400)
    assert fastcgi.request_key(beyond) == b"GET /index.php"
    assert fastcgi.request_key(NO_INPUT) is None and fastcgi.request_key(BEGIN) is None
    assert len(fastcgi.request_key(BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/" + b"a" * 90))) or b"") == 64
    assert match_of("fastcgi", PRINT_KEY, b"GET /a", {}) == ClassMatch(
        verb="GET", path_print=path_print(PRINT_KEY, b"/a")
    )  # type: ignore[arg-type]
    assert match_of("fastcgi", PRINT_KEY, b"?", {}) == ClassMatch(verb="GET")  # type: ignore[arg-type]


def test_it_is_not_taken_for_the_protocol_of_a_database() -> None:
    reply = output(b"Content-type: text/html\r\n\r\nhello") + END
    assert protocol.recognise([BEGIN + LAST] * 9 + [b"?"], [reply] * 9) == "fastcgi"
    assert protocol.recognise([b"\x09\0\0\0\3SELECT 1"] * 9, [b"\1\0\0\1\1"] * 9) == "mysql"
    publish = b"2\x39\0\3t/3\0\2" + b"m" * 50  # of MQTT: shorter than a packet of MySQL's that begins so
    assert protocol.recognise([publish[:64]] * 9, [b"@\2\0\2", b"0\7\0\3t/3" + b"m" * 50] * 5) == "opaque"


@pytest.mark.parametrize(("head", "body"), [(b"Content-type: text/html", 5), (b"Status: 404 Not Found\r\nA: b", 0)])
def test_the_shape_of_a_reply_in_one_record(head: bytes, body: int) -> None:
    reply = output(head + b"\r\n\r\n" + b"x" * body) + END
    status = 404 if b"404" in head else 200
    assert fastcgi.reply_shape(reply[:64], len(reply)) == (status, len(head) + 4, body, 0)


def test_the_shape_of_a_reply_in_several_records() -> None:
    head = b"Content-type: text/html\r\n\r\n"
    text = head + b"x" * 20000
    reply = b"".join(output(text[at : at + 8184]) for at in range(0, len(text), 8184)) + END
    status, head_bytes, size, limit = fastcgi.reply_shape(reply[:64], len(reply))
    assert (status, head_bytes, limit) == (200, len(head), 8184)
    assert 20000 <= size < 20008  # the padding of the last record is not seen


def served(thread: Threads, fd: int, path: bytes) -> None:
    """php-fpm's calls for one request."""
    thread.call(5, "accept", fd, 3)
    said = params(path)
    for part in (BEGIN[:8], BEGIN[8:], struct.pack(">BBHHBB", 1, 4, 1, len(said), 0, 0), said, LAST):
        thread.call(5, "read", len(part), fd, 0, len(part), payload=part[:64])
    reply = output(b"Content-type: text/html\r\n\r\nhello") + END
    thread.call(5, "write", len(reply), fd, 0, len(reply), payload=reply[:64])
    thread.call(5, "shutdown", 0, fd, 1)
    thread.call(5, "recvfrom", 8, fd, 0, 8, 0, payload=NO_INPUT)
    thread.call(5, "recvfrom", 0, fd, 0, 8, 0)
    thread.call(5, "close", 0, fd)


def test_what_is_read_after_a_shutdown_is_no_request() -> None:
    thread = Threads()
    for number in range(20):
        served(thread, 9, b"/a" if number % 2 else b"/b")
    work = follow(thread.threads)
    found = requests_of(work)
    assert (found.codec, found.total) == ("fastcgi", 20)
    assert {key: len(cycles) for key, cycles in found.classes.items()} == {b"GET /a": 10, b"GET /b": 10}
    assert all(cycle.closed for cycles in found.classes.values() for cycle in cycles)
    closing = [name.kind for name, _ in closing_work(work).ordered()]
    assert closing == ["shutdown", "drain", "drain", "close"]
    (shape,) = reply_shapes("fastcgi", found.classes[b"GET /a"])
    assert (shape.kind, shape.head_bytes, shape.size and shape.size.values) == ("fastcgi", 27, [5])


def test_a_drain_asks_for_as_much_as_was_asked_for() -> None:
    thread = Threads()
    served(thread, 9, b"/a")
    drains = [e for e in thread.threads[5] if e.nr == 45]
    assert [arguments(e, "drain") for e in drains] == [(8, 0, 0)] * 2


def test_further_bytes_of_a_call_are_joined_to_it() -> None:
    rows = np.zeros(4, dtype=RECORD)
    said = bytes(range(150))
    rows[0]["kind"], rows[0]["nr"] = Kind.MARK, Mode.ALL
    for row, part, kind in zip(
        rows[1:], (said[:64], said[64:128], said[128:]), (Kind.SYSCALL, Kind.MORE, Kind.MORE), strict=True
    ):
        row["kind"], row["pid"], row["tid"], row["ret"], row["t_ns"] = kind, 4, 5, len(said), 100
        row["payload"], row["payload_len"] = part, len(part)
    stream = from_recording(Recording("ebpf", 0, rows))
    assert [(event.payload, event.more) for event in stream.threads[5]] == [(said[:64], said[64:])]


# -- the clone --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clone(tmp_path_factory.mktemp("fastcgi") / "fastcgi", "fastcgi")


def ask(port: int, data: bytes, pieces: int = 1, end: bool = True) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        step = -(-len(data) // pieces)
        for at in range(0, len(data), step):
            sock.sendall(data[at : at + step])
            time.sleep(0.002 if pieces > 1 else 0)
        if end:
            sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)


def test_a_clone_answers_by_class_whatever_pieces_requests_come_in(clone_binary: Path) -> None:
    with running(clone_binary) as clone:
        for pieces in (1, 3, 50):
            page = BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/else")) + LAST + NO_INPUT
            (kind, text), (last, code) = records(ask(clone.port, page, pieces))
            assert (kind, last, code) == (fastcgi.STDOUT, fastcgi.END, bytes(8))
            head, body = text.split(b"\r\n\r\n", 1)
            assert (len(head) + 4, len(body)) == (43, 1651)
            wide = BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/chunked?a=1")) + LAST + NO_INPUT
            parts = records(ask(clone.port, wide, pieces))
            assert [len(text) for _, text in parts] == [8184, 8184, 20100 - 2 * 8184, 8]
            posted = BEGIN + fastcgi.record(fastcgi.PARAMS, params(b"/p", b"POST", CONTENT_LENGTH=b"9")) + LAST
            posted += fastcgi.record(fastcgi.STDIN, b"four") + fastcgi.record(fastcgi.STDIN, b"five!") + NO_INPUT
            (_, text), _ = records(ask(clone.port, posted, pieces))
            assert text.startswith(b"Status: 500 ") and text.endswith(b"\r\n\r\n") and len(text) == 60


def test_kept_connections_take_further_requests_and_strange_ones_are_answered(clone_binary: Path) -> None:
    kept = fastcgi.request(params(b"/else"), kept=True)
    with running(clone_binary) as clone:
        assert [kind for kind, _ in records(ask(clone.port, kept * 3))] == [6, 3] * 3
        unknown = fastcgi.request(params(b"/else", b"BREW"), kept=False)
        (_, text), _ = records(ask(clone.port, unknown))
        assert text.startswith(b"Status: 404 ")
        assert ask(clone.port, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert records(ask(clone.port, fastcgi.record(9, b"\x0f\0FCGI_MPXS_CONNS", 0))) == [(10, b"")]
        assert [kind for kind, _ in records(ask(clone.port, BEGIN + fastcgi.record(2, b"")))] == [fastcgi.END]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_receives_record_by_record_and_drains(clone_binary: Path, tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "plain", "fastcgi", mode=("-O2", "-static"))
    log = tmp_path / "calls"
    with running(binary) as clone:
        command = ["strace", "-qq", "-f", "-p", str(clone.process.pid), "-o", str(log)]
        tracer = subprocess.Popen([*command, "-e", "trace=read,recvfrom,write,shutdown,accept,close"])
        time.sleep(0.5)
        assert records(ask(clone.port, fastcgi.request(params(b"/else"), kept=False), end=False))
        time.sleep(0.2)
        tracer.terminate()
        tracer.wait()
    calls = [line.split(None, 1)[1] for line in whole_calls(log).splitlines()]
    first = next(
        at for at, line in enumerate(calls) if line.startswith("accept") and "= " in line and "= -" not in line
    )
    seen = [(line.split("(")[0], line.rsplit("= ", 1)[1]) for line in calls[first + 1 :] if "= " in line][:9]
    size = str(len(params(b"/else")))
    assert seen[:5] == [("read", "8"), ("read", "8"), ("read", "8"), ("read", size), ("read", "8")]
    assert [name for name, _ in seen[5:]] == ["write", "shutdown", "recvfrom", "recvfrom"]
    assert [result for _, result in seen[7:]] == ["8", "0"]


# -- driving and calling ----------------------------------------------------------------------------------------


def test_made_requests_have_the_size_and_the_class_that_is_wanted() -> None:
    classes = [
        cls.model_copy(update={"match": ClassMatch(verb="GET", path_print=7), "closes": closes})
        for cls, closes in zip(service_profile().services[0].classes[:1] * 2, (1.0, 0.0), strict=True)
    ]
    for steps, flag in zip(sample_requests("fastcgi", PRINT_KEY, classes, [[200, 560, 3000]] * 2), (0, 1), strict=True):
        assert [len(step.request) for step in steps] == [200, 560, 3000]
        for step in steps:
            verb, path = (fastcgi.request_key(step.request) or b"").split(b" ")
            assert verb == b"GET" and path_print(PRINT_KEY, path) == 7
            assert step.request[10] == flag
            assert fastcgi.request_end(step.request, 0) == len(step.request)


def test_the_load_generator_drives_a_clone(clone_binary: Path, tmp_path: Path) -> None:
    one = service_profile().services[0].classes[0]
    classes = [one.model_copy(update={"match": ClassMatch(verb="GET"), "closes": closes}) for closes in (1.0, 0.0)]
    made = sample_requests("fastcgi", PRINT_KEY, classes, [[300], [300]])
    with running(clone_binary) as clone:
        for steps in made:
            plan = tmp_path / "plan"
            LoadPlan(Framing.FASTCGI, (Script(tuple(steps)),)).save(plan)
            seen = drive(
                plan, clone.port, Offered(Arrivals.CLOSED, connections=1, seconds=0.5, warmup=0.1), "127.0.0.1"
            )
            assert seen.received > 100 and not seen.broken and not seen.failed


def test_a_plan_is_recorded_of_a_web_servers_requests() -> None:
    one, other = fastcgi.request(params(b"/a"), True), fastcgi.request(params(b"/b"), False)
    plan = plan_of([Stream([(one + other, 90)])], 1.0)
    assert plan.framing is Framing.FASTCGI
    assert [(step.request, int(step.flags)) for step in plan.scripts[0].steps] == [(one, 0), (other, 4)]


# -- behind a server that is not cloned ---------------------------------------------------------------------------

FRONTED = """
name = "app"
setup = ["true", "{port}", "{port:front}"]
[[beside]]
name = "front"
command = ["true", "{port}"]
port = 8080
[service]
command = ["true", "{port:front}"]
port = 9000
[load]
command = ["true", "{port:front}"]
"""


def test_the_load_may_go_to_a_server_beside_that_calls_the_service(tmp_path: Path) -> None:
    path = tmp_path / "app.toml"
    path.write_text(FRONTED)
    spec = load_app(path)
    assert spec.fronted and spec.port_can_change
    for is_clone in (False, True):
        chosen = choose_ports(spec, "127.0.0.1", None, is_clone)
        assert chosen[""] >= 20000 and chosen["front"] >= 20000 and chosen[""] != chosen["front"]
    path.write_text(FRONTED.replace('"{port}", "{port:front}"]\n[[', '"{port:front}"]\n[['))
    assert not load_app(path).port_can_change  # nobody tells the front where the service is


@pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("curl"), reason="nginx or curl is not installed")
def test_nginx_takes_a_clones_replies(clone_binary: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(clone_binary) as clone:
        user = "user root;" if Path.home() == Path("/root") else ""
        temps = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"{user} daemon off; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}} "
            f"http {{ access_log off; {temps} "
            f"server {{ listen 127.0.0.1:{port}; location / {{ fastcgi_pass 127.0.0.1:{clone.port}; "
            "include /etc/nginx/fastcgi_params; } } }"
        )
        server = subprocess.Popen(["nginx", "-e", str(tmp_path / "log"), "-c", str(tmp_path / "nginx.conf")])
        try:
            deadline = time.monotonic() + 10
            sizes = {}
            for path in ("else", "chunked"):
                command = [
                    "curl",
                    "-s",
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code} %{size_download}",
                    f"http://127.0.0.1:{port}/{path}",
                ]
                while (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.1)
                sizes[path] = done.stdout
            posted = subprocess.run(
                [*command[:-1], "-d", "x" * 5000, f"http://127.0.0.1:{port}/p"],
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            server.terminate()
            server.wait()
    assert sizes == {"else": "200 1651", "chunked": "200 20000"}
    assert posted.stdout == "500 0"
