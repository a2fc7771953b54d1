"""Threads that are born for one connection: their own calls, and how they are seen though they are soon gone."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.observation import Observation, ProcessSeen, ThreadSeen
from ditto.artifacts.profile import Op, OpKind, Process, Receive, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.progress import SilentProgress
from ditto.model.handover import find_handover
from ditto.model.network import fit_listener, relisten
from ditto.model.roles import RoleSeen, find_roles
from ditto.model.service import fit
from ditto.model.shape import parts_left_out
from ditto.model.timers import TimerSeen, find_timer
from ditto.observe import native_phase
from ditto.observe.native_phase import NativeOptions, record_native
from ditto.streams.cycles import Work, follow
from ditto.streams.events import Descriptors, Event, KnownDescriptor, Stream
from ditto.streams.evidence import Evidence, load_evidence, requests_of
from ditto.streams.lives import closing_work, setup_work
from profile_parts import fixed, service_profile
from strace_parts import traced_clone, whole_calls

PID, LISTENER, CONNECTION = 10, 3, 5


class Recorder:
    """Calls of the threads of one process as a recording would tell them."""

    def __init__(self) -> None:
        self.table = Descriptors([KnownDescriptor(PID, LISTENER, "listener", port=80, identity="l")])
        self.threads: dict[int, list[Event]] = {}
        self.now = 0

    def call(self, tid: int, name: str, ret: int = 0, *args: int, payload: bytes = b"") -> None:
        self.now += 1000
        event = Event(PID, tid, NUMBERS[name], ret, (*args, 0, 0, 0, 0, 0, 0)[:6], self.now - 500, self.now)
        event.payload = payload
        event.index = self.now
        self.table.apply(event)
        self.threads.setdefault(tid, []).append(event)

    def connection(self, tid: int) -> None:
        """One that the main thread accepts and a new thread serves."""
        self.call(PID, "poll", 1, 0, 1, 500)
        self.call(PID, "accept4", CONNECTION, LISTENER)
        self.call(PID, "getsockname", 0, CONNECTION)
        self.call(PID, "rt_sigprocmask")
        self.call(PID, "clone3", tid)
        self.call(PID, "rt_sigprocmask")
        for name in ("rseq", "set_robust_list", "rt_sigprocmask", "gettid"):
            self.call(tid, name)
        self.call(tid, "futex", 0, 1 << 20, 128)
        self.call(tid, "mmap", 1 << 41, 0, 4096, 3, 0x22)
        self.call(tid, "recvfrom", 20, CONNECTION, 0, 4096, payload=b"GET / HTTP/1.0\r\n\r\n..")
        self.call(tid, "sendto", 19, CONNECTION, 0, 19, payload=b"HTTP/1.0 200 OK\r\n\r\n")
        self.call(tid, "close", 0, CONNECTION)
        for name in ("munmap", "rt_sigprocmask", "madvise", "exit"):
            self.call(tid, name)


def recorded() -> Recorder:
    record = Recorder()
    for tid in range(20, 24):
        record.connection(tid)
    return record


def test_what_such_a_thread_does_for_nobody_belongs_to_its_connection() -> None:
    work = follow(recorded().threads)
    accepts, adopts, closes = setup_work(work, True), setup_work(work, False), closing_work(work)
    assert [name.nr for name, _ in accepts.ordered()] == [NUMBERS["getsockname"]]
    assert [name.nr for name, _ in adopts.ordered()] == [NUMBERS["gettid"], NUMBERS["mmap"]]
    assert [name.nr for name, _ in closes.ordered()] == [NUMBERS["close"], NUMBERS["munmap"]]
    left = {event.nr for wake in work.threads[20].wakes for event in wake.loose}
    assert not left & {NUMBERS["gettid"], NUMBERS["mmap"], NUMBERS["munmap"]}


def test_threads_that_were_gone_when_threads_were_listed_serve_all_the_same() -> None:
    record = recorded()
    work = follow(record.threads)
    stream = Stream(
        record.threads, [], {}, dict.fromkeys(range(20, 24), (PID, PID)), set(), (0, record.now), record.table
    )
    main = ProcessSeen(pid=PID, ppid=1, name="s", threads=[ThreadSeen(tid=PID, name="s", syscall=NUMBERS["poll"])])
    roles = find_roles(stream, work, [main])
    assert [(role.kind, role.accepts, role.serves) for role in roles.roles] == [
        ("loop", True, False), ("serve", False, True),
    ]  # fmt: skip
    evidence = Evidence(None, stream, work, requests_of(work))  # type: ignore[arg-type]
    assert find_handover(evidence, roles, roles.roles[0]).how == "spawn_thread"


@pytest.mark.parametrize(("born_ns", "how"), [(500, "pool"), (1 << 40, "spawn_thread")])
def test_threads_that_are_woken_without_a_descriptor(born_ns: int, how: str) -> None:
    """A pool where they were there before the first accept; else more may be started."""
    record = Recorder()
    for number in range(2):
        record.call(PID, "select", 1, LISTENER + 1, 1)
        record.call(PID, "accept4", CONNECTION + number, LISTENER)
        for _ in range(3):
            record.call(20 + number, "recvfrom", 18, CONNECTION + number, 0, 4096, payload=b"GET / HTTP/1.1\r\n\r\n")
            record.call(20 + number, "sendto", 19, CONNECTION + number, 0, 19, payload=b"HTTP/1.1 200 OK\r\n\r\n")
    work = follow(record.threads)
    births, born = dict.fromkeys((20, 21), (PID, PID)), dict.fromkeys((20, 21), born_ns)
    stream = Stream(record.threads, [], {}, births, set(), (0, record.now), record.table, born_ns=born)
    threads = [ThreadSeen(tid=tid, name="s", syscall=NUMBERS["recvfrom"]) for tid in (PID, 20, 21)]
    roles = find_roles(stream, work, [ProcessSeen(pid=PID, ppid=1, name="s", threads=threads)])
    assert [role.kind for role in roles.roles] == ["loop", "serve"]
    evidence = Evidence(None, stream, work, requests_of(work))  # type: ignore[arg-type]
    assert find_handover(evidence, roles, roles.roles[0]).how == how


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_pool_serves_without_making_threads_and_reads_the_rest_of_a_request_at_once(tmp_path: Path) -> None:
    profile = service_profile()
    service = profile.services[0]
    acceptor = Role(kind="accept_serve", count=1, wait="blocking", listens=True, handover="pool", hand_to=1)
    server = Role(kind="serve", count=2, wait="blocking", on_close=[Op(kind=OpKind.CLOSE, nr=NUMBERS["close"])])
    changed = service.model_copy(
        update={
            "roles": [acceptor, server],
            "processes": [Process(roles=[0, 1])],
            "receive": Receive(nr=NUMBERS["read"], bytes=64, rest=4096),
            "listener": service.listener.model_copy(update={"nonblocking": False}),
        }
    )
    folder, log = tmp_path / "clone", tmp_path / "log"
    request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500\r\n" + b"v" * 500 + b"\r\n"
    with traced_clone(profile.model_copy(update={"services": [changed]}), folder, log) as port:
        socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
        for sock in socks[:2]:
            sock.sendall(request)
            assert sock.recv(4096)[:1] == b"+"
        socks[2].sendall(request)
        socks[0].close()  # a thread is free
        assert socks[2].recv(4096)[:1] == b"+"
    lines = whole_calls(log).splitlines()
    assert len([line for line in lines if "clone3(" in line or "clone(" in line]) == 2
    assert len([line for line in lines if re.search(r", 64\) += 64$", line)]) == 3
    assert len([line for line in lines if re.search(r", 4097\) += 46\d$", line)]) == 3


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_threads_are_kept_for_connections_to_come_and_made_where_none_is_free(tmp_path: Path) -> None:
    profile = service_profile()
    service = profile.services[0]
    acceptor = Role(kind="accept_serve", count=1, wait="blocking", listens=True, handover="cached", hand_to=1)
    server = Role(kind="serve", count=1, wait="blocking", on_close=[Op(kind=OpKind.CLOSE, nr=NUMBERS["close"])])
    changed = service.model_copy(
        update={
            "roles": [acceptor, server],
            "processes": [Process(roles=[0, 1])],
            "listener": service.listener.model_copy(update={"nonblocking": False}),
        }
    )
    folder, log = tmp_path / "clone", tmp_path / "log"
    with traced_clone(profile.model_copy(update={"services": [changed]}), folder, log) as port:
        for together in (1, 1, 3, 2, 3, 1):
            socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(together)]
            for sock in socks:
                sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
                assert sock.recv(4096)
                sock.close()
            time.sleep(0.2)  # until its thread is back
    lines = whole_calls(log).splitlines()
    assert len([line for line in lines if "clone3(" in line or "clone(" in line]) == 3
    # Of eight handed to a thread that was there, none should have been woken with the lock held; one may meet another.
    assert sum("FUTEX_WAIT_PRIVATE, 2" in line for line in lines) < 4


def test_threads_that_serve_several_connections_are_kept() -> None:
    record = Recorder()
    for fd in range(30, 42):
        record.call(PID, "accept4", fd, LISTENER)
        server = 20 + fd % 2
        record.call(server, "read", 14, fd, payload=b"*1\r\n$4\r\nPING\r\n")
        record.call(server, "write", 5, fd, payload=b"$-1\r\n")
        record.call(server, "read", 0, fd)
        record.call(server, "close", 0, fd)
    work = follow(record.threads)
    stream = SimpleNamespace(births={20: (PID, PID), 21: (PID, PID)}, born_ns={}, outside=[], threads=record.threads)
    roles = SimpleNamespace(roles=[SimpleNamespace(kind="serve", threads=[20, 21])], role_of=lambda tid: 0)
    acceptor = SimpleNamespace(accepts=True, threads=[PID], kind="loop")
    evidence = SimpleNamespace(work=work, stream=stream)
    assert find_handover(evidence, roles, acceptor).how == "cached"  # type: ignore[arg-type]
    for life in list(work.lives.values())[2:]:
        life.server = 0
    assert find_handover(evidence, roles, acceptor).how == "spawn_thread"  # type: ignore[arg-type]


SERVER = """
import socket, sys, threading
def serve(c):
    while data := c.recv(100): c.sendall(data)
    c.close()
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, sys
cs = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(2)]
for _ in range(200):
    for c in cs: c.sendall(b"hello world"); c.recv(100)
"""
APP = """
name = "short"
[service]
command = ["{python}", "server.py", "{{port}}"]
port = 7000
[load]
command = ["{python}", "client.py", "{{port}}"]
connections = 2
"""


def test_a_recording_that_is_large_sooner_ends_sooner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "app.toml").write_text(APP.format(python=sys.executable))
    monkeypatch.setattr(native_phase, "MOST_BYTES", 0)
    native, _ = record_native(load_app(tmp_path / "app.toml"), tmp_path, NativeOptions(seconds=20.0), SilentProgress())
    assert native.seconds < 10


def test_a_load_that_ends_early_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "app.toml").write_text(APP.format(python=sys.executable))
    out = tmp_path / "observation"
    out.mkdir()
    native, notes = record_native(load_app(tmp_path / "app.toml"), out, NativeOptions(seconds=1.5), SilentProgress())
    observation = Observation(
        app="short", made_at=datetime.now(UTC).isoformat(), machine={}, native=native, lens=None, notes=notes
    )
    observation.save(out)
    evidence = load_evidence(out, observation)
    assert evidence.requests.total >= 3 * 400
    roles = fit(evidence, "0.1.0", 1).profile.services[0].roles
    assert [(role.kind, role.handover) for role in roles] == [("accept_serve", "spawn_thread"), ("serve", "keep")]


def accepting_loops(record: Recorder, waits_between: bool) -> Work:
    """A loop that accepts eight connections, and after every fourth takes the listener out of its set and back."""
    record.call(PID, "epoll_create1", 4)
    record.call(PID, "epoll_ctl", 0, 4, 1, LISTENER, payload=b"\x01\0\0\0")
    for number in range(8):
        if waits_between or not number:
            record.call(PID, "epoll_wait", 1, 4)
        record.call(PID, "accept4", CONNECTION + number, LISTENER)
        if number % 4 == 3:
            record.call(PID, "epoll_ctl", 0, 4, 2, LISTENER)
            record.call(PID, "epoll_ctl", 0, 4, 1, LISTENER, payload=b"\x01\0\0\0")
    record.call(PID, "accept4", -11, LISTENER)
    return follow(record.threads)


@pytest.mark.parametrize(("waits_between", "until_again"), [(True, False), (False, True)])
def test_how_a_loop_accepts(waits_between: bool, until_again: bool) -> None:
    record = Recorder()
    work = accepting_loops(record, waits_between)
    stream = Stream(record.threads, [], {}, {}, set(), (0, record.now), record.table)
    assert fit_listener(stream, work, 80, False, False).accept_until_again is until_again
    role = RoleSeen("loop", 0, NUMBERS["epoll_wait"], True, True, [PID], [work.threads[PID]])
    assert relisten(role) == 3  # eight connections, and added three times


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_lists_a_directory_and_moves_behind_the_others_that_accept(tmp_path: Path) -> None:
    profile = service_profile()
    service = profile.services[0]
    listing = [
        Op(kind=OpKind.FILE_OPEN, nr=NUMBERS["openat"], c=os.O_DIRECTORY),
        Op(kind=OpKind.FILE_READ, nr=NUMBERS["getdents64"], size=fixed(400)),
        Op(kind=OpKind.FILE_CLOSE, nr=NUMBERS["close"]),
    ]
    first = service.classes[0].model_copy(update={"program": [*listing, *service.classes[0].program]})
    role = service.roles[0].model_copy(update={"relisten": 3, "timers": []})
    changed = service.model_copy(update={"classes": [first, service.classes[1]], "roles": [role]})
    folder, log = tmp_path / "clone", tmp_path / "log"
    with traced_clone(profile.model_copy(update={"services": [changed]}), folder, log) as port:
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
                assert sock.recv(4096)[:1] == b"$"
    lines = whole_calls(log).splitlines()
    assert len([line for line in lines if re.search(r"getdents64\(.* = [1-9]\d*$", line)]) == 6
    assert len([line for line in lines if "EPOLL_CTL_DEL" in line]) == 2


@pytest.mark.parametrize(("family", "said"), [(b"\1\0", True), (b"\2\0\x1f\x90", False)])
def test_clients_that_come_over_a_unix_socket(family: bytes, said: bool) -> None:
    record = Recorder()
    record.call(PID, "accept4", CONNECTION, LISTENER, payload=family)
    record.call(PID, "read", 14, CONNECTION, 0, 4096, payload=b"*1\r\n$4\r\nPING\r\n")
    record.call(PID, "write", 7, CONNECTION, 0, 7, payload=b"+PONG\r\n")
    work = follow(record.threads)
    stream = Stream(record.threads, [], {}, {}, set(), (0, record.now), record.table)
    evidence = Evidence(None, stream, work, requests_of(work))  # type: ignore[arg-type]
    assert any("load.clone_command" in note for note in parts_left_out(evidence)) is said


@pytest.mark.parametrize(("window", "found"), [(8_000_000_000, False), (1_000_000_000, True)])
def test_what_is_done_at_regular_times_is_a_timer_where_it_lasts(window: int, found: bool) -> None:
    """The first handshakes of a few connections come one after the other as well."""
    record = Recorder()
    for _ in range(6):
        record.now += 100_000_000
        record.call(PID, "epoll_wait", 1, 4)
        record.call(PID, "getpid", PID)
        record.call(PID, "epoll_wait", 1, 4)
    work = follow(record.threads)
    assert (find_timer([work.threads[PID]], {}, window) is not None) is found


@pytest.mark.parametrize(
    ("begun", "said"),
    [
        (b"\x17\3\3\0\x40", "the protocol, which is TLS, has"),
        (b"\x40\3\3\0\x17", "the protocol has"),
        (b"*1\r\n$4\r\nPING\r\n", ""),
    ],
)
def test_a_clone_that_its_client_cannot_drive_is_told_of(begun: bytes, said: str) -> None:
    record = Recorder()
    record.call(PID, "accept4", CONNECTION, LISTENER)
    for _ in range(5):
        record.call(PID, "read", 64, CONNECTION, 0, 4096, payload=begun)
        record.call(PID, "write", 7, CONNECTION, 0, 7, payload=b"+PONG\r\n")
    work = follow(record.threads)
    stream = Stream(record.threads, [], {}, {}, set(), (0, record.now), record.table)
    notes = parts_left_out(Evidence(None, stream, work, requests_of(work)))  # type: ignore[arg-type]
    assert [note for note in notes if "has no codec" in note] == [
        note for note in notes if said and note.startswith(said)
    ]
    assert bool(said) is any("has no codec" in note for note in notes)


@pytest.mark.parametrize(("strays", "allocates"), [(0, True), (1, True), (8, False)])
def test_memory_is_asked_for_by_requests_though_another_call_strays_in(strays: int, allocates: bool) -> None:
    other = Event(PID, PID, NUMBERS["getrandom"], 8, (0, 8, 0), 0, 1)
    asks = [[Event(PID, PID, NUMBERS["mmap"], 4096, (0, 4096, 3), n, n + 1)] for n in range(40)]
    assert TimerSeen(2e7, asks + [[other]] * strays).allocates is allocates
