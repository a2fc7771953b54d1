"""The load generator against servers whose behaviour is known, and plans made from recorded connections."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ditto import paths
from ditto.artifacts.plan import Arrivals, Framing, LoadPlan, Script, Step, StepFlags, load_plan
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import ClassMatch, Dist, ReplyShape, RequestClass
from ditto.errors import AppError, BadInputError
from ditto.host.exchanges import plan_of
from ditto.host.loadgen import Offered, drive, percentile, save_percentiles
from ditto.host.spoken import Stream
from ditto.host.synthetic import synthetic_plan
from ditto.host.tap import Tap
from profile_parts import service_profile

Answer = Callable[[bytes], tuple[int, bytes] | None]
"""Bytes received so far → (bytes used, reply), or None for more."""


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run(["make", "-s", "-C", str(paths.native_root() / "loadgen")], check=True, timeout=120)


@contextlib.contextmanager
def serving(
    answer: Answer, cut: random.Random | None = None, stall: bool = False, close: bool = False
) -> Iterator[int]:
    """A server on a port; ``cut``: replies leave in pieces; ``stall``: it stands still 100 ms once a second."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    ended = threading.Event()
    lock = threading.Lock()
    began = time.monotonic()

    def hold() -> None:
        phase = (time.monotonic() - began) % 1.0
        if stall and phase < 0.1:
            time.sleep(0.1 - phase)

    def one(sock: socket.socket) -> None:
        data = b""
        with sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while piece := sock.recv(65536):
                data += piece
                while (found := answer(data)) is not None:
                    used, reply = found
                    data = data[used:]
                    with lock:
                        hold()
                    while cut is not None and len(reply) > 1:
                        n = cut.randint(1, len(reply) - 1)
                        sock.sendall(reply[:n])
                        reply = reply[n:]
                        if cut.random() < 0.3:
                            break
                    sock.sendall(reply)
                    if close:
                        return

    def accept() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                threading.Thread(target=one, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        ended.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def saved(tmp_path: Path, framing: Framing, *steps: Step, opening: int = 0) -> Path:
    path = tmp_path / "requests.plan"
    LoadPlan(framing, (Script(tuple(steps), opening),)).save(path)
    return path


def fixed(request: bytes, reply: bytes) -> Answer:
    return lambda data: (len(request), reply) if len(data) >= len(request) else None


HTTP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "framing, request_bytes, reply, flags",
    [
        (Framing.HTTP1, HTTP, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", StepFlags.NONE),
        (Framing.HTTP1, HTTP, b"HTTP/1.1 204 No Content\r\n\r\n", StepFlags.NONE),
        (Framing.HTTP1, HTTP, b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 500\r\n\r\n", StepFlags.NOBODY),
        (
            Framing.HTTP1,
            HTTP,
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
                b"5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: z\r\n\r\n"
            ),
            StepFlags.NONE,
        ),
        (Framing.RESP2, b"PING\r\n", b"+PONG\r\n", StepFlags.NONE),
        (
            Framing.RESP2,
            b"PING\r\n",
            b"*4\r\n$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n*0\r\n$0\r\n\r\n",
            StepFlags.NONE,
        ),
        (Framing.MEMCACHED, b"get a b\r\n", b"VALUE a 0 5\r\nEND\r\n\r\nVALUE b 0 0 7\r\n\r\nEND\r\n", StepFlags.NONE),
        (Framing.MEMCACHED, b"mg a v\r\n", b"VA 4 t\r\nHD\r\n\r\n", StepFlags.NONE),
        (Framing.BYTES, b"12345678", b"x" * 3000, StepFlags.NONE),
    ],
)
def test_replies_end_where_they_end_however_they_are_cut(
    tmp_path: Path, framing: Framing, request_bytes: bytes, reply: bytes, flags: StepFlags
) -> None:
    plan = saved(tmp_path, framing, Step(request_bytes, len(reply), flags))
    with serving(fixed(request_bytes, reply), random.Random(3)) as port:
        result = drive(plan, port, Offered(connections=3, requests=150))
    assert (result.sent, result.received, result.broken, result.failed) == (150, 150, 0, 0)
    assert result.bytes == 150 * len(reply)


@pytest.mark.parametrize(
    "framing, reply",
    [
        (Framing.HTTP1, b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
        (Framing.RESP2, b"-ERR no\r\n"),
        (Framing.MEMCACHED, b"SERVER_ERROR out of memory\r\n"),
    ],
)
def test_error_replies_are_counted(tmp_path: Path, framing: Framing, reply: bytes) -> None:
    with serving(fixed(b"12345678", reply)) as port:
        result = drive(saved(tmp_path, framing, Step(b"12345678")), port, Offered(connections=2, requests=40))
    assert (result.received, result.failed) == (40, 40)


def test_connections_that_end_are_made_again(tmp_path: Path) -> None:
    plan = saved(tmp_path, Framing.HTTP1, Step(HTTP))
    with serving(fixed(HTTP, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), close=True) as port:
        result = drive(plan, port, Offered(connections=2, requests=60))
    assert (result.received, result.broken) == (60, 0)


def test_a_connection_that_its_client_ends_is_made_when_its_request_is_due(tmp_path: Path) -> None:
    """Against a server that serves one connection at a time, one that waits unused would stop all others."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with sock:
                    if data := sock.recv(100):
                        sock.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    plan = saved(tmp_path, Framing.BYTES, Step(b"ping", 4, StepFlags.CLOSE))
    offered = Offered(Arrivals.POISSON, 200.0, 8, seconds=1.0, warmup=0.1)
    try:
        measured = drive(plan, listener.getsockname()[1], offered)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    assert measured.received == measured.sent > 100
    assert (measured.broken, measured.unanswered, measured.unsent) == (0, 0, 0)


def test_an_opening_is_made_once_a_connection_and_not_measured(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(data: bytes) -> tuple[int, bytes] | None:
        if len(data) < 4:
            return None
        seen.append(data[:4])
        return 4, b"ok"

    plan = saved(tmp_path, Framing.BYTES, Step(b"open", 2), Step(b"one_", 2), Step(b"two_", 2), opening=1)
    with serving(answer) as port:
        result = drive(plan, port, Offered(connections=3, requests=90))
    assert result.received == 90
    assert seen.count(b"open") == 3
    assert abs(seen.count(b"one_") - seen.count(b"two_")) <= 3


def test_a_stall_shows_from_the_intended_time_and_hides_in_a_closed_loop(tmp_path: Path) -> None:
    """One tenth of the arrivals fall into the stall and wait up to 100 ms: p99 is 90 ms."""
    plan = saved(tmp_path, Framing.BYTES, Step(b"12345678", 4))
    with serving(fixed(b"12345678", b"done"), stall=True) as port:
        paced = drive(plan, port, Offered(Arrivals.CONSTANT, rate=400, connections=4, seconds=5, warmup=0.5))
        closed = drive(plan, port, Offered(Arrivals.CLOSED, connections=1, seconds=3, warmup=0.5))
    assert percentile(paced.corrected, 99) == pytest.approx(90e6, rel=0.1)
    assert percentile(paced.uncorrected, 99) <= percentile(paced.corrected, 99)
    assert percentile(closed.corrected, 99) < 10e6


@pytest.mark.parametrize("arrivals, burst", [("constant", None), ("poisson", None), ("constant", (0.1, 0.15))])
def test_the_rate_is_what_was_asked_for(tmp_path: Path, arrivals: str, burst: tuple[float, float] | None) -> None:
    plan = saved(tmp_path, Framing.BYTES, Step(b"12345678", 4))
    with serving(fixed(b"12345678", b"done")) as port:
        offered = Offered(Arrivals(arrivals), rate=500, connections=8, threads=2, seconds=2, warmup=0, burst=burst)
        result = drive(plan, port, offered)
    assert result.sent + result.unsent == pytest.approx(1000, rel=0.15 if arrivals == "poisson" else 0.02)


def test_rates_and_arrivals_come_from_files(tmp_path: Path) -> None:
    plan = saved(tmp_path, Framing.BYTES, Step(b"12345678", 4))
    rates, times = tmp_path / "rates", tmp_path / "times"
    rates.write_text("0 100\n0.5 300\n1 0\n")
    times.write_text("\n".join(str(i * 5_000_000) for i in range(100)) + "\n")
    with serving(fixed(b"12345678", b"done")) as port:
        by_rate = drive(plan, port, Offered(Arrivals.CONSTANT, seconds=1.5, warmup=0, rate_file=rates))
        by_time = drive(plan, port, Offered(Arrivals.RECORDED, seconds=1.5, warmup=0, arrivals_file=times))
    assert by_rate.sent == pytest.approx(200, abs=2)
    assert by_time.sent == 100


def test_a_damaged_plan_is_one_line(tmp_path: Path) -> None:
    good = saved(tmp_path, Framing.BYTES, Step(b"12345678", 4), Step(b"x", 1))
    data = good.read_bytes()
    assert load_plan(good).scripts[0].steps[1] == Step(b"x", 1)
    damaged = tmp_path / "damaged"
    generator = random.Random(1)
    for length in range(len(data)):
        damaged.write_bytes(data[:length])
        with pytest.raises(BadInputError):
            load_plan(damaged)
        if length % 7 == 0:
            with pytest.raises(BadInputError, match="plan"):
                drive(damaged, 9, Offered())
    for _ in range(20):  # whatever lies there, no crash
        damaged.write_bytes(b"DLP1" + generator.randbytes(40))
        with pytest.raises((BadInputError, AppError)):
            drive(damaged, 9, Offered(seconds=0.01, warmup=0))


def test_a_server_that_falls_silent_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    plan = saved(tmp_path, Framing.BYTES, Step(b"12345678", 5))
    with serving(fixed(b"12345678", b"1234")) as port:  # one byte less than was recorded
        command = [
            str(paths.loadgen_binary()),
            "--plan",
            str(plan),
            "--port",
            str(port),
            "--requests",
            "9",
            "--drain",
            "0.2",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and "no reply for 0.2 s, 1 requests are under way" in done.stderr


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(AppError, match="no connection"):
        drive(saved(tmp_path, Framing.BYTES, Step(b"x", 1)), port, Offered(seconds=0.1, warmup=0))


def test_percentiles_are_written_for_other_tools(tmp_path: Path) -> None:
    save_percentiles([(1_000_000, 90), (5_000_000, 10)], tmp_path / "out.hgrm")
    text = (tmp_path / "out.hgrm").read_text()
    assert "Percentile" in text and "#[Mean" in text
    assert percentile([(1, 50), (2, 49), (9, 1)], 99) == 2
    assert percentile([], 50) == 0


def test_the_relay_keeps_what_both_sides_said() -> None:
    with serving(fixed(b"12345678", b"done")) as port, Tap(port) as tap:
        with socket.create_connection(("127.0.0.1", tap.port)) as sock:
            for _ in range(3):
                sock.sendall(b"1234")
                time.sleep(0.02)
                sock.sendall(b"5678")
                assert sock.recv(4) == b"done"
        time.sleep(0.2)
        assert tap.streams[0].turns == [(b"12345678", 4)] * 3
        assert tap.streams[0].closed_s is not None


def test_requests_are_split_as_their_protocol_has_them() -> None:
    def steps(*turns: tuple[bytes, int]) -> list[Step]:
        return list(plan_of([Stream(list(turns))], 1.0).scripts[0].steps)

    set_a = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n*2\r\n\r\n"
    assert [s.request for s in steps((set_a * 2, 10), (set_a, 5))] == [set_a] * 3
    put = b"set k 0 0 5\r\nget\r\n\r\n"
    quiet = b"set k 0 0 1 noreply\r\nx\r\n"
    assert steps((put + quiet + b"get k\r\n", 30)) == [
        Step(put),
        Step(quiet, 0, StepFlags.NOREPLY),
        Step(b"get k\r\n"),
    ]
    post = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    head = b"HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert steps((post + head, 30)) == [Step(post), Step(head, 0, StepFlags.NOBODY | StepFlags.CLOSE)]


def test_what_a_server_says_first_tells_its_protocol_too() -> None:
    """Lengths and a zero behind them may look like commands of a database, whose servers greet in another way."""
    asked = [(b"", 128), *[(b"\xce\0\0\0\x1b\x82\0\1\1\xce" + bytes(200), 60)] * 20]
    assert plan_of([Stream(asked, head=b"Server 2.6.0 (Binary)".ljust(128))], 1.0).framing is Framing.BYTES
    greeting = b"\x4a\0\0\0\x0a10.11.6".ljust(78, b"\0")
    assert plan_of([Stream(asked, head=greeting)], 1.0).framing is Framing.MYSQL


def test_a_handshake_of_an_unknown_protocol_is_an_opening() -> None:
    def packet(kind: bytes, size: int) -> bytes:
        return kind + struct.pack(">I", size) + bytes(size)

    turns = [(packet(b"\0", 80), 9), (packet(b"p", 40), 400), *[(packet(b"Q", 30), 70)] * 20]
    plan = plan_of([Stream(turns)], 1.0)
    assert plan.framing is Framing.BYTES
    assert plan.scripts[0].opening == 2
    assert plan.requests == 20


def test_the_command_drives_what_listens(tmp_path: Path) -> None:
    from ditto.cli.main import app

    plan = saved(tmp_path, Framing.BYTES, Step(b"12345678", 4))
    with serving(fixed(b"12345678", b"done")) as port:
        words = [
            "load",
            "--port",
            str(port),
            "--plan",
            str(plan),
            "--rate",
            "200",
            "-s",
            "1",
            "--warmup",
            "0",
            "--json",
        ]
        result = CliRunner().invoke(app, [*words, "--hdr", str(tmp_path / "h.hgrm")])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["received"] == pytest.approx(200, abs=4)
    assert data["latency_ns"]["p50"] > 0
    assert (tmp_path / "h.hgrm").is_file()
    missing = CliRunner().invoke(app, ["load", "--port", "9"])
    assert isinstance(missing.exception, BadInputError)


CLASSES: dict[str, list[tuple[ClassMatch, int, float]]] = {
    "http1": [
        (ClassMatch(verb="GET", path_print=1080), 90, 0.7),
        (ClassMatch(verb="POST", path_print=7), 900, 0.2),
        (ClassMatch(verb="HEAD"), 45, 0.1),
    ],
    "resp2": [
        (ClassMatch(verb="GET"), 36, 0.5),
        (ClassMatch(verb="SET"), 1144, 0.3),
        (ClassMatch(verb="LRANGE", argc=4), 60, 0.2),
    ],
    "memcached": [(ClassMatch(verb="get"), 70, 0.9), (ClassMatch(verb="set"), 1105, 0.1)],
    "opaque": [(ClassMatch(max_bytes=100), 40, 0.6), (ClassMatch(min_bytes=101, max_bytes=9000), 800, 0.4)],
}


@pytest.mark.parametrize("codec", list(CLASSES))
def test_requests_of_a_profile_have_its_classes_and_sizes(codec: str) -> None:
    shape = ReplyShape(probability=1.0, kind="http")
    classes = [
        RequestClass(
            probability=share,
            match=match,
            request_bytes=Dist(values=[size], weights=[1.0]),
            replies=[shape],
            program=[],
        )
        for match, size, share in CLASSES[codec]
    ]
    service = service_profile().services[0].model_copy(update={"codec": codec, "classes": classes})
    plan = synthetic_plan(service, seed=3, requests=3000)
    assert plan == synthetic_plan(service, seed=3, requests=3000)
    steps = [step for script in plan.scripts for step in script.steps]
    assert len(steps) == 3000
    sizes = Counter(len(step.request) for step in steps)
    for _, size, share in CLASSES[codec]:
        near = sum(n for s, n in sizes.items() if abs(s - size) <= max(3, 0.05 * size))
        assert near / 3000 == pytest.approx(share, abs=0.05)
    if codec == "http1":
        paths = {step.request.split()[1] for step in steps if step.request.startswith(b"GET")}
        assert len(paths) == 1 and path_print(service.print_key, paths.pop()) == 1080
    # Its own splitter finds the same requests in them.
    if codec != "opaque":
        streams = [Stream([(b"".join(s.request for s in script.steps), 1)], None) for script in plan.scripts]
        again = plan_of(streams, 1.0)
        assert again.framing is plan.framing and again.requests == plan.requests
