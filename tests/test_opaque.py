"""A service whose protocol no codec knows: its clone is driven by the load generator, with the recorded sizes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from app_parts import write_app
from ditto import paths, pipeline
from ditto.artifacts.app import Ready, Requests, load_app
from ditto.artifacts.fidelity import load_fidelity
from ditto.artifacts.observation import ClientRun
from ditto.artifacts.plan import Framing, LoadPlan, Script, Step, StepFlags, load_plan, opaque_of
from ditto.host import drive
from ditto.host.app import AppRun
from ditto.host.clones import ready_of_clone
from ditto.host.drive import clone_plan, recorded, with_stand_in
from ditto.host.load import LoadResult
from ditto.host.progress import SilentProgress
from ditto.host.requests import count_requests
from ditto.model.classes import match_of
from ditto.model.network import fit_receive
from ditto.model.shape import receives_without_reply
from ditto.streams.evidence import requests_of
from ditto.streams.protocol import recognise
from serial_parts import LISTENER, Recorder

CLIENT = """
import selectors, socket, struct, sys, random
port, total, rnd = int(sys.argv[1]), int(sys.argv[2]), random.Random(3)
waiting, sent, done = selectors.DefaultSelector(), 0, 0
def ask(sock):
    global sent
    if sent >= total:
        waiting.unregister(sock); sock.close(); return
    sent += 1
    kind = 1 if rnd.random() < 0.7 else 2
    body = bytes([kind]) + b"secretledger" * (3 if kind == 1 else 30)
    buffers[sock] = b""
    sock.sendall(struct.pack("!I", len(body)) + body)
buffers = {}
for _ in range(8):
    sock = socket.create_connection(("127.0.0.1", port))
    waiting.register(sock, selectors.EVENT_READ); ask(sock)
while waiting.get_map():
    for key, _ in waiting.select():
        sock = key.fileobj
        data = sock.recv(65536)
        if not data: sys.exit("closed")
        buffers[sock] += data
        if len(buffers[sock]) >= 5:
            size, kind = struct.unpack("!IB", buffers[sock][:5])
            if size not in (101, 1501) or kind < 128: sys.exit("no reply of the ledger")
            if len(buffers[sock]) == size + 4: done += 1; ask(sock)
print("requests:", done)
"""


def test_a_plan_for_a_clone_has_the_sizes_and_nothing_else() -> None:
    steps = (Step(b"hello", 9), Step(b"a secret" * 20, 100), Step(b"quietly", 0, StepFlags.NOREPLY))
    made = opaque_of(LoadPlan(Framing.BYTES, (Script(steps, 1),)))
    assert made.framing is Framing.OPAQUE and made.scripts[0].opening == 1
    assert [step.request for step in made.scripts[0].steps] == [
        bytes((0xDD, 0, 0, 0, 0)),
        bytes((0, 0, 0, 160, 0xFF, 0xFF, 0, 0xD7)) + bytes(152),
        bytes((0xDF, 1, 0, 0, 0, 0, 0)),
    ]


STATEFUL = """
import socket, sys
kept = set()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    with connection:
        while word := connection.recv(64):
            connection.sendall(b"known" if word in kept else b"no")
            kept.add(word)
"""
ONCE = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    for word in (b"alpha", b"beta", b"alpha"):
        sock.sendall(word)
        sock.recv(64)
"""


def test_whether_requests_can_be_sent_again_is_seen_on_a_server_started_anew(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(STATEFUL)
    (tmp_path / "client.py").write_text(ONCE)
    (tmp_path / "app.toml").write_text(
        f"""name = "stateful"
[service]
command = ["{sys.executable}", "server.py", "{{port}}"]
port = 7000
[load]
command = ["{sys.executable}", "client.py", "{{port}}"]
connections = 1
"""
    )
    runs: list[int] = []

    def told(run: AppRun, plan: LoadPlan) -> bool:
        runs.append(run.pid)
        with socket.create_connection(("127.0.0.1", run.port)) as sock:
            sock.sendall(b"alpha")
            return sock.recv(64) == b"no"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drive, "_replays", told)
        made = recorded(load_app(tmp_path / "app.toml"), SilentProgress())
    assert made.client.replays and len(runs) == 1 and made.plan.framing is Framing.BYTES


def test_the_stand_in_makes_and_counts_what_the_client_did(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    plan = tmp_path / "requests.plan"
    LoadPlan(Framing.BYTES, (Script((Step(b"ping", 4),)),)).save(plan)
    ours = with_stand_in(spec, plan, ClientRun(steps=700, asked=100, counted=350.0, seconds=2.0, replays=False))
    assert ours.load.command == spec.load.command
    words = ours.load.clone_command
    assert words is not None and words[0] == str(paths.loadgen_binary())
    assert words[words.index("--each") + 1] == "7.000000" and words[words.index("--counts") + 1] == "0.500000"
    assert load_plan(clone_plan(plan)).framing is Framing.OPAQUE
    both = with_stand_in(spec, plan, ClientRun(steps=700, asked=None, counted=350.0, seconds=2.0, replays=True))
    assert both.load.command[words.index("--plan") + 1] == str(plan.resolve())
    assert "--seconds" in both.load.command and both.load.clone_command is not None
    # A client of a protocol that has a codec talks to the clone itself.
    LoadPlan(Framing.RESP2, (Script((Step(b"PING\r\n"),)),)).save(plan)
    assert with_stand_in(spec, plan, ClientRun(steps=7, asked=7, counted=7, seconds=1.0)) is spec
    said = LoadResult(words, 0, 1.0, '{"received": 700}\nrequests: 350\n', "", 0)
    assert count_requests(said, 100, r"(\d+) transactions by the app's own client").requests == 350


@pytest.mark.ebpf
@pytest.mark.slow
def test_a_service_of_an_unknown_protocol_is_cloned_and_compared(tmp_path: Path) -> None:
    source = Path(__file__).parent / "runtime" / "ledger.c"
    subprocess.run(["cc", "-O2", "-w", str(source), "-o", str(tmp_path / "ledger")], check=True)
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "app.toml").write_text(
        f"""
name = "ledger"
[service]
command = ["./ledger", "{{port}}"]
port = 7100
[load]
command = ["{sys.executable}", "client.py", "{{port}}", "{{requests}}"]
requests = {{ native = 30000, lens = 2000 }}
connections = 8
"""
    )
    out = tmp_path / "out"
    words = ["clone", str(tmp_path / "app.toml"), "-o", str(out), "--rounds", "2", "--seconds", "0.5", "--no-tune"]
    words += ["--work-seconds", "5"]
    done = subprocess.run([sys.executable, "-m", "ditto", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    profile = (out / "profile.json").read_text()
    assert json.loads(profile)["services"][0]["codec"] == "opaque" and "secretledger" not in profile
    fidelity = load_fidelity(out / "fidelity.json")
    assert fidelity.conditions.load.startswith("ditto-load")  # its replies come again as they were: one client for both
    for metric in ("bytes.sent_per_request", "bytes.received_per_request", "syscalls.recvfrom", "syscalls.sendto"):
        record = fidelity.record(metric)
        assert record is not None and record.error is not None and abs(record.error) < 0.03, metric
    foreign = fidelity.record("syscalls.foreign_types")
    assert foreign is not None and foreign.clone == 0
    assert [point.share for point in fidelity.latency] == [0.25, 0.5, 0.75, 1.0]
    built = (out / "clone" / "build" / "clone").read_bytes()
    assert (
        b"secretledger" not in built and b"secretledger" not in (out / "observation" / "requests.opaque").read_bytes()
    )


@pytest.mark.parametrize(
    ("asked", "seconds", "native", "recorded_in_all"),
    [(2000, 0.1, 60_000, 20_000), (2000, 0.1, 5000, 5000), (2000, 1.5, 60_000, 2000), (2000, 0.5, 60_000, 8000)],
)
def test_more_requests_are_recorded_of_a_fast_client(
    tmp_path: Path, asked: int, seconds: float, native: int, recorded_in_all: int
) -> None:
    spec = write_app(tmp_path)
    load = spec.load.model_copy(update={"requests": Requests(native=native, lens=asked)})
    assert drive._enough(asked, seconds, spec.model_copy(update={"load": load})) == recorded_in_all


def test_another_protocol_that_begins_with_a_word_of_http() -> None:
    assert recognise([b'CONNECT {"verbose":true}\r\n'], []) == "opaque"
    assert recognise([b"CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n", b"GET /" + b"x" * 59], []) == "http1"


def test_a_clone_of_an_unknown_protocol_is_not_asked_over_http_whether_it_is_ready() -> None:
    asked = Ready(http="/health")
    assert ready_of_clone(asked) == asked and ready_of_clone(asked, own_client=False) == Ready()


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ("8 36", "36 whole 0 102"), ("5 39", "39 whole 0 102"), ("8 10 26", "36 26 whole 0 102"),
        ("0 2 1", "0 1 whole 0 102"), ("1 1 42", "4294967295 4294967295 whole 0 102"),
    ],
)  # fmt: skip
def test_a_request_that_is_received_part_by_part_wants_its_rest(tmp_path: Path, parts: str, wanted: str) -> None:
    here = Path(__file__).parent
    options = ["-std=gnu11", "-D_GNU_SOURCE", "-static", "-w", f"-I{here.parent / 'native/runtime'}"]
    never = "-Wl,--unresolved-symbols=ignore-all"  # nothing is sent here
    program = tmp_path / "parts"
    subprocess.run(["cc", *options, str(here / "runtime/opaque_parts.c"), never, "-o", str(program)], check=True)
    assert subprocess.run([str(program), *parts.split()], capture_output=True, text=True, check=True).stdout == wanted


@pytest.mark.parametrize(
    ("parts", "wanted"), [((1, 1, 30), (1, 1)), ((2, 30), (2, 0)), ((4, 8), (4, 0)), ((32,), (0, 0))]
)
def test_the_parts_in_which_requests_are_received(parts: tuple[int, ...], wanted: tuple[int, int]) -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for turn in range(10):
        record.call(10, "epoll_wait", 1, 4)
        for size in parts if turn else parts[:2]:  # one has no rest
            record.call(10, "read", size, 7, 0, size, payload=bytes(size))
        record.call(10, "write", 4, 7, payload=bytes(4))
    cycles = [cycle for cycles in requests_of(record.work(), "opaque").classes.values() for cycle in cycles]
    found, of_records = fit_receive(cycles), fit_receive(cycles, records=True)
    assert (found.head, found.second) == wanted
    assert (of_records.head, of_records.second) == (wanted[0], 0)


def test_requests_that_get_no_reply_are_a_class_of_their_own_where_their_size_tells_them() -> None:
    record = Recorder((10,))
    for fd in range(7, 11):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "accept4", fd, LISTENER)
        for length, reply in ((14, 14), (41, 120), (43, 14), (8, 0)):
            record.call(10, "epoll_wait", 1, 4)
            record.call(10, "read", length, fd, payload=bytes([0x30]) + bytes(length - 1))
            if reply:
                record.call(10, "write", reply, fd, payload=bytes(reply))
        if fd % 2:  # the client's end may be seen first
            record.call(10, "read", 0, fd)
        record.call(10, "close", 0, fd)
    seen = requests_of(record.work(), "opaque").classes
    sizes = {key: Counter(cycle.received_bytes for cycle in cycles) for key, cycles in seen.items()}
    assert sizes == {b"size 4": {14: 4}, b"size 4\0": {8: 4}, b"size 6": {41: 4, 43: 4}}
    assert all(cycle.closed for cycle in seen[b"size 4\0"]) and not any(cycle.closed for cycle in seen[b"size 6"])
    matches = [match_of("opaque", 1, key, found) for key, found in sorted(sizes.items())]
    assert [(m.min_bytes, m.max_bytes, m.path_print) for m in matches] == [(8, 15, -1), (8, 8, -1), (32, 63, -1)]


@pytest.mark.parametrize(
    ("framing", "steps", "factor"),
    [(Framing.BYTES, 1000, 1.0), (Framing.BYTES, 2000, 2.0), (Framing.HTTP1, 1000, None)],
)
def test_what_was_recorded_tells_how_often_the_client_makes_its_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, framing: Framing, steps: int, factor: float | None
) -> None:
    """A server's receives do not: it may receive a request in parts, and hand it on to be received again."""
    LoadPlan(framing, (Script((Step(b"x" * 20, 20),)),)).save(tmp_path / "requests.plan")
    client = ClientRun(steps=steps, asked=1000, counted=None, seconds=1.0)
    monkeypatch.setattr(pipeline, "load_observation", lambda _folder: SimpleNamespace(client=client))
    assert pipeline.requests_per_asked(tmp_path) == factor


@pytest.mark.parametrize("answers", [False, True])
def test_streams_that_are_never_answered_are_told_of(answers: bool) -> None:
    """Whatever comes before an answer is one request: of a stream of lines without any, all that a client says."""
    record = Recorder((10,))
    for _ in range(3):
        record.call(10, "accept4", 7, LISTENER)
        for _ in range(20):
            record.call(10, "epoll_wait", 1, 4)
            record.call(10, "recvfrom", 4096, 7, 0, 4096, payload=b"<13>line")
            if answers:
                record.call(10, "sendto", 2, 7, 0, 2)
        record.call(10, "recvfrom", 0, 7, 0, 4096)
        record.call(10, "close", 0, 7)
    found = requests_of(record.work())
    evidence = SimpleNamespace(requests=SimpleNamespace(codec="opaque", classes=found.classes), datagrams=False)
    assert receives_without_reply(evidence) == (0.0 if answers else 20.0)  # type: ignore[arg-type]
