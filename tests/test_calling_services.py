"""Small services that call another one, recorded under load, modelled and cloned; the clone calls as they did."""

from __future__ import annotations

import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from call_parts import Backend, running
from ditto.artifacts.app import load_app
from ditto.artifacts.observation import Observation, load_observation
from ditto.artifacts.profile import OpKind, ServiceProfile
from ditto.generate.clone import generate, write_clone
from ditto.host.app import AppRun
from ditto.host.clones import clone_command
from ditto.host.progress import SilentProgress
from ditto.model.service import fit
from ditto.observe.native_phase import NativeOptions, record_native
from ditto.paths import runtime_sources
from ditto.streams.evidence import load_evidence

pytestmark = pytest.mark.slow

BACKEND = """
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            body = b"b" * (300 if b"/small" in line else 3000)
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 64
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

SERVER = """
import selectors, socket, sys, threading, time
shape, port, backend = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ASK = b"GET /%s HTTP/1.1\\r\\nHost: backend\\r\\n\\r\\n"
REPLY = b"HTTP/1.1 200 OK\\r\\nContent-Length: 200\\r\\n\\r\\n" + b"r" * 200
def whole(sock):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(8192)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    left = int(head.rpartition(b":")[2]) - len(body)
    while left:
        left -= len(sock.recv(left))
def ask(sock, what):
    sock.sendall(ASK % what)
    whole(sock)
def connect():
    return socket.create_connection(("127.0.0.1", backend))
def worker(client):
    kept = connect() if shape != "anew" else None
    while client.recv(4096):
        if kept is None:
            with connect() as one:
                ask(one, b"large")
        else:
            ask(kept, b"small")
            ask(kept, b"large")
        client.sendall(REPLY)
    client.close()
def proxy(listener):
    chosen = selectors.DefaultSelector()
    partner, asked = {}, {}
    chosen.register(listener, 1)
    while True:
        for key, _ in chosen.select():
            sock = key.fileobj
            if sock is listener:
                client = sock.accept()[0]
                other = connect()
                for one in (client, other):
                    one.setblocking(False)
                    chosen.register(one, 1)
                partner[client], asked[other] = other, client
                continue
            data = sock.recv(16384)
            if sock in asked:
                asked[sock].send(REPLY)
            elif data:
                partner[sock].send(ASK % b"large")
            else:
                other = partner.pop(sock)
                for one in (sock, other):
                    chosen.unregister(one)
                    one.close()
def telling():
    other = connect()
    while True:
        other.sendall(b"metric")
        time.sleep(0.0001)
if shape == "telling":
    threading.Thread(target=telling, daemon=True).start()
listener = socket.create_server(("127.0.0.1", port), backlog=64)
if shape == "proxy":
    proxy(listener)
while True:
    client = listener.accept()[0]
    serve = worker if shape != "telling" else lambda c: [c.sendall(REPLY) for _ in iter(lambda: c.recv(4096), b"")]
    threading.Thread(target=serve, args=(client,), daemon=True).start()
"""

CLIENT = """
import socket, sys, time
port, until = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
request = b"GET /page HTTP/1.1\\r\\nHost: front\\r\\n\\r\\n"
socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
done = 0
def receive(sock):
    data = b""
    while b"\\r\\n\\r\\n" not in data:
        data += sock.recv(8192)
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    length = next(int(l.split(b":")[1]) for l in head.split(b"\\r\\n") if l.lower().startswith(b"content-length"))
    while len(body) < length:
        body += sock.recv(8192)
while time.monotonic() < until:
    for sock in socks:
        sock.sendall(request)
    for sock in socks:
        receive(sock)
        done += 1
print(done, "requests")
"""

APP = """
name = "front"
[[beside]]
name = "backend"
command = ["{python}", "backend.py", "{{port}}"]
port = 7001
[service]
command = ["{python}", "server.py", "{shape}", "{{port}}", "{{port:backend}}"]
port = 7000
ready = "tcp"
[load]
command = ["{python}", "client.py", "{{port}}", "1.5"]
connections = 4
"""


def observed(folder: Path, shape: str) -> Path:
    """The app file of a service that was recorded natively into ``observation`` beside it."""
    for name, text in (("server.py", SERVER), ("client.py", CLIENT), ("backend.py", BACKEND)):
        (folder / name).write_text(text)
    app = folder / "app.toml"
    app.write_text(APP.format(python=sys.executable, shape=shape))
    out = folder / "observation"
    out.mkdir()
    native, notes = record_native(load_app(app), out, NativeOptions(seconds=1.0), SilentProgress())
    Observation(
        app="front", made_at=datetime.now(UTC).isoformat(), machine={}, native=native, lens=None, notes=notes
    ).save(out)
    return app


def cloned(folder: Path) -> tuple[ServiceProfile, Path]:
    """The fitted service and its built clone."""
    out = folder / "observation"
    profile = fit(load_evidence(out, load_observation(out)), "0.1.0", 1).profile
    clone = folder / "clone"
    write_clone(generate(profile, runtime_sources()), clone)
    subprocess.run(["make", "-s", "-C", str(clone), "CFLAGS=-O1"], check=True, capture_output=True, timeout=200)
    return profile.services[0], clone / "build" / "clone"


@pytest.mark.parametrize(
    ("shape", "pools", "blocking", "calls"),
    [
        ("proxy", {"connection"}, False, [b"large"]),
        ("anew", {"request"}, True, [b"large"]),
        ("kept", {"connection", "thread"}, True, [b"small", b"large"]),
    ],
)
def test_a_clone_calls_as_its_original(
    tmp_path: Path, shape: str, pools: set[str], blocking: bool, calls: list[bytes]
) -> None:
    app = observed(tmp_path, shape)
    service, binary = cloned(tmp_path)
    assert len(service.downstreams) == 1
    down = service.downstreams[0]
    assert down.codec == "http1" and down.pool in pools and down.blocking is blocking
    assert {cls.match.verb for cls in down.classes} == {"GET"} and len(down.classes) == len(calls)
    sizes = {round(cls.replies[0].head_bytes + cls.replies[0].size.mean) for cls in down.classes if cls.replies[0].size}
    assert sizes == {(3041 if name == b"large" else 340) for name in calls}
    program = [op.kind for op in service.classes[0].program if op.probability > 0.9]
    assert program.count(OpKind.CALL) == program.count(OpKind.ANSWER) == len(calls)
    assert program.index(OpKind.ANSWER) < program.index(OpKind.REPLY)
    text = "".join(path.read_text() for path in (tmp_path / "clone").rglob("*.[chS]"))
    assert "backend" not in text and "/large" not in text

    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"b" * 3000
    with Backend(reply) as backend, running(binary, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port):
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                for _ in range(10):
                    sock.sendall(b"GET /page HTTP/1.1\r\nHost: front\r\n\r\n")
                    assert len(_reply(sock)) > 200
    assert len(backend.requests) == 20 * len(calls)
    assert backend.connections == (20 if shape == "anew" else backend.connections)
    assert len({request.split(b" ")[1] for request in backend.requests}) == len(calls)

    with AppRun.for_clone(load_app(app), clone_command(binary)) as run:  # with a stand-in of the clone's own
        assert len(run.services) == 1
        assert run.load().exit_code == 0


def _reply(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data or len(data) - data.index(b"\r\n\r\n") - 4 < 200:
        piece = sock.recv(8192)
        assert piece
        data += piece
    return data


def test_messages_for_no_request_are_left_out_and_told(tmp_path: Path) -> None:
    observed(tmp_path, "telling")
    folder = tmp_path / "observation"
    notes = fit(load_evidence(folder, load_observation(folder)), "0.1.0", 1).notes
    assert any("for no request and are left out" in note for note in notes)
    _, binary = cloned(tmp_path)
    with running(binary) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for _ in range(10):
            sock.sendall(b"GET /page HTTP/1.1\r\nHost: front\r\n\r\n")
            assert len(_reply(sock)) > 200
