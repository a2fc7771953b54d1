"""Small servers of several shapes, recorded under load and modelled: threads and processes of every origin."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.observation import Observation
from ditto.artifacts.plan import Framing, LoadPlan, Script, Step, opaque_of
from ditto.artifacts.profile import OpKind, Profile
from ditto.generate.clone import generate, write_clone
from ditto.host import snapshot
from ditto.host.process import ProcessId, memory
from ditto.host.progress import SilentProgress
from ditto.model.handover import Handover, find_handover
from ditto.model.service import fit
from ditto.observe.native_phase import NativeOptions, record_native
from ditto.paths import runtime_sources
from ditto.streams.evidence import load_evidence
from serial_parts import REQUEST, Recorder

pytestmark = pytest.mark.slow
CONNECTIONS = 4

SERVER = """
import os, signal, socket, socketserver, sys, threading
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        if shape == "forks":
            os.setsid()
        while self.request.recv(4096):
            answer(self.request)
def plain(sock):
    sock.sendall(b"$100\\r\\n" + b"v" * 100 + b"\\r\\n")
shape, port = sys.argv[1], int(sys.argv[2])
answer = plain
if shape in ("threads", "forks"):
    base = socketserver.ForkingTCPServer if shape == "forks" else socketserver.ThreadingTCPServer
    base.allow_reuse_address = base.daemon_threads = True
    base.request_queue_size = 64
    base(("127.0.0.1", port), Handler).serve_forever()
listener = socket.create_server(("127.0.0.1", port), backlog=64)
if shape == "pool":
    import queue, select
    ready, events, socks = queue.SimpleQueue(), select.epoll(), {}
    def work():
        while True:
            sock = ready.get()
            if sock.recv(4096):
                answer(sock)
                events.register(sock, select.EPOLLIN)
            else:
                sock.close()
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    events.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in events.poll():
            if fd == listener.fileno():
                sock, _ = listener.accept()
                socks[sock.fileno()] = sock
                events.register(sock, select.EPOLLIN)
            else:
                events.unregister(fd)
                ready.put(socks[fd])
for _ in range(6):
    if os.fork() == 0:
        while True:
            sock, _ = listener.accept()
            while sock.recv(4096):
                answer(sock)
            sock.close()
signal.pause()
"""

CLIENT = """
import socket, sys
port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
import time
request = b"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n"
def receive(sock, size):
    while size:
        size -= len(sock.recv(size))
socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
until = time.monotonic() + seconds
done = 0
while time.monotonic() < until:
    for sock in socks:
        sock.sendall(request)
    for sock in socks:
        receive(sock, 108)
        done += 1
print(done, "requests")
"""

APP = """
name = "shape"
[service]
command = ["{python}", "server.py", "{shape}", "{{port}}"]
port = 7000
ready = {{ seconds = 0.5 }}
[load]
command = ["{python}", "client.py", "{{port}}", "4", "2"]
connections = 4
"""


def modelled(folder: Path, shape: str) -> Profile:
    """The profile of a server, from a native run alone."""
    (folder / "server.py").write_text(SERVER)
    (folder / "client.py").write_text(CLIENT)
    (folder / "app.toml").write_text(APP.format(python=sys.executable, shape=shape))
    out = folder / "observation"
    out.mkdir()
    native, notes = record_native(load_app(folder / "app.toml"), out, NativeOptions(seconds=1.0), SilentProgress())
    observation = Observation(
        app="shape", made_at=datetime.now(UTC).isoformat(), machine={}, native=native, lens=None, notes=notes
    )
    observation.save(out)
    return fit(load_evidence(out, observation), "0.1.0", 1).profile


def running(profile: Profile, folder: Path) -> Iterator[tuple[int, int]]:
    """A clone of it: process and port."""
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    with subprocess.Popen([str(folder / "build" / "clone"), "--port", "0"], stdout=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None
        port = int(clone.stdout.readline().split()[-1])
        try:
            yield clone.pid, port
        finally:
            clone.terminate()


def below(pid: int) -> list[int]:
    """A process and those below it."""
    pending, pids = [pid], []
    while pending:
        pids.append(pending.pop())
        found = subprocess.run(["pgrep", "-P", str(pids[-1])], capture_output=True, text=True, check=False)
        pending += map(int, found.stdout.split())
    return pids


def tree(pid: int) -> tuple[int, int]:
    """Processes and threads below and including a process."""
    pids = below(pid)
    return len(pids), sum(len(os.listdir(f"/proc/{one}/task")) for one in pids)


def leaders(pid: int) -> int:
    """Children that have a session of their own."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return sum(os.getsid(child) == child for child in map(int, found.stdout.split()))


@pytest.mark.parametrize(
    ("shape", "kinds", "handover", "idle", "busy"),
    [
        ("threads", {"serve"}, "spawn_thread", (1, 1), (1, 1 + CONNECTIONS)),
        ("forks", {"serve"}, "spawn_process", (1, 1), (1 + CONNECTIONS, 1 + CONNECTIONS)),
        ("preforked", {"accept_serve"}, "keep", (7, 7), (7, 7)),
        ("pool", {"dispatch", "shared"}, "keep", (1, 5), (1, 5)),
    ],
)
def test_a_clone_has_the_processes_and_threads_of_its_original(
    tmp_path: Path, shape: str, kinds: set[str], handover: str, idle: tuple[int, int], busy: tuple[int, int]
) -> None:
    profile = modelled(tmp_path, shape)
    more = profile.services[0].resident_bytes + (64 << 20)  # which no child has again
    profile = profile.model_copy(update={"knobs": profile.knobs.model_copy(update={"resident_bytes": 64 << 20})})
    roles = profile.services[0].roles
    assert kinds <= {role.kind for role in roles}
    assert handover in {role.handover for role in roles if role.listens}
    for pid, port in running(profile, tmp_path / "clone"):
        time.sleep(0.3)
        assert tree(pid) == idle
        socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(CONNECTIONS)]
        for _ in range(50):
            for sock in socks:
                sock.sendall(REQUEST)
            for sock in socks:
                assert sock.recv(4096)[:1] == b"$"
        assert tree(pid) == busy
        assert memory([ProcessId(one, 0) for one in below(pid)]).rss_bytes < 1.3 * more
        of_files = sum(process.file_bytes for process in snapshot.tree([pid]))
        assert of_files == pytest.approx(profile.services[0].file_bytes, rel=0.3)
        assert leaders(pid) == (CONNECTIONS if shape == "forks" else 0)  # sessions share CPUs evenly
        for sock in socks:
            sock.close()
        time.sleep(0.5)
        assert tree(pid) == idle


@pytest.mark.parametrize("parent_first", [True, False])
def test_a_process_that_leaves_its_connections_to_children(parent_first: bool) -> None:
    record = Recorder((10,))
    births = {}
    for child in (11, 12, 13):
        record.call(10, "accept4", 7, 3)
        record.call(10, "clone", child)
        record.table.fork(10, child)
        births[child] = (child, 10)
        if parent_first:
            record.call(10, "close", 0, 7)
        for at in range(3):
            record.call(child, "read", 20, 7, 0, 4096, payload=REQUEST)
            if not parent_first and at == 0:
                record.call(10, "close", 0, 7)
            record.call(child, "write", 5, 7, 0, 5)
        record.call(child, "read", 0, 7, 0, 4096)
        record.call(child, "close", 0, 7)
    work = record.work()
    assert [len(work.threads[child].cycles) for child in births] == [3, 3, 3]
    assert all(cycle.sent == 5 and not cycle.closed for t in work.threads.values() for cycle in t.cycles)
    acceptor = SimpleNamespace(accepts=True, threads=[10])
    roles = SimpleNamespace(roles=[SimpleNamespace(kind="serve")], role_of=lambda tid: 0)
    evidence = SimpleNamespace(work=work, stream=SimpleNamespace(births=births, born_ns={}))
    assert find_handover(evidence, roles, acceptor) == Handover(0, "spawn_process")  # type: ignore[arg-type]


LATE_SERVER = """
import select, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=64)
events, socks, replies = select.epoll(), {}, {}
events.register(listener, select.EPOLLIN)
while True:
    for fd, _ in events.poll():
        if fd == listener.fileno():
            sock, _ = listener.accept()
            socks[sock.fileno()] = sock
            events.register(sock, select.EPOLLIN)
        elif fd in replies:
            reply = replies.pop(fd)
            if len(reply) > 100:
                socks[fd].sendmsg([reply])
            else:
                socks[fd].send(reply)
            events.modify(fd, select.EPOLLIN)
        elif data := socks[fd].recv(4096):
            replies[fd] = b"o" * (200 if data.startswith(b"take") else 10)
            events.modify(fd, select.EPOLLOUT)
        else:
            events.unregister(fd)
            socks.pop(fd).close()
"""

LATE_CLIENT = """
import socket, sys, time
socks = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(4)]
until = time.monotonic() + float(sys.argv[3])
done = 0
while time.monotonic() < until:
    words = [(b"take", b"putt")[(done + k) % 3 > 0] for k in range(4)]
    for sock, word in zip(socks, words):
        sock.sendall(word + b" something\\r\\n")
    for sock, word in zip(socks, words):
        assert len(sock.recv(4096)) == (200 if word == b"take" else 10)
    done += 4
print(done, "requests")
"""


def test_a_server_that_replies_once_it_is_told_that_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of an unknown protocol of lines are told apart by their first word though they are of one size."""
    monkeypatch.setattr(sys.modules[__name__], "SERVER", LATE_SERVER)
    monkeypatch.setattr(sys.modules[__name__], "CLIENT", LATE_CLIENT)
    profile = modelled(tmp_path, "late")
    service = profile.services[0]
    assert service.codec == "opaque" and len(service.classes) == 2
    assert len({cls.match.path_print for cls in service.classes} - {-1}) == 2
    for cls in service.classes:
        kinds = [op.kind for op in cls.program if op.kind is not OpKind.COMPUTE]
        assert kinds == [OpKind.EPOLL_MOD, OpKind.WRITABLE, OpKind.REPLY, OpKind.EPOLL_MOD]
    assert "take" not in profile.model_dump_json()
    for pid, port in running(profile, tmp_path / "clone"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            began = _cpu_ticks(pid)
            for word, size in [(b"take", 200), (b"putt", 10)] * 40:
                sock.sendall(word + b" something\r\n")
                assert sock.recv(4096) == b"x" * size
            framed = opaque_of(LoadPlan(Framing.BYTES, (Script((Step(b"take something\r\n", 200),)),)))
            sock.close()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.sendall(framed.scripts[0].steps[0].request)
            assert len(sock.recv(4096)) == 200
            time.sleep(1.0)
        assert _cpu_ticks(pid) - began < 30  # it waits between requests


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
