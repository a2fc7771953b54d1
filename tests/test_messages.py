"""Requests that pass between the threads of a process: recognised, fitted, and cloned; ticks of timerfds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import test_shapes
from ditto.artifacts.profile import Op, OpKind, Role, Timer
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.messages import ANSWERS, BRINGS, ONCE, with_inboxes, with_messages
from ditto.model.timers import find_timer
from ditto.streams.events import KnownDescriptor
from ditto.streams.evidence import class_works, op_gaps, requests_of
from ditto.streams.messages import ANSWERED, FURTHER, PASSED, RETURNED, Messages, join_messages, worker_cycles
from ditto.streams.programs import build
from profile_parts import service_profile
from runtime_build import STATIC, build_clone, exchange, receive, running
from strace_parts import whole_calls
from test_sharing import EPOLL, LISTENER, PID, REQUEST, Threads

PIPE, EVENTFD, TIMER = 20, 21, 22
SHAPES = {
    "read": (),
    "once": ("-DTEST_ONCE",),
    "woken": ("-DTEST_WOKEN", "-DTEST_ONCE"),
    "answered": ("-DTEST_ANSWERED",),
    "parts": ("-DTEST_ANSWERED", "-DTEST_PARTS"),
}
REPLY = b"HTTP/1.1 200 OK\r\n"


class Passing(Threads):
    """A loop (11) and two workers (21, 22) with a pipe to these and an eventfd back."""

    def __init__(self) -> None:
        super().__init__()
        known = [(LISTENER, "listener"), (EPOLL, "epoll"), (PIPE, "pipe"), (EVENTFD, "eventfd"), (TIMER, "timerfd")]
        self.table = type(self.table)([KnownDescriptor(PID, fd, kind, identity=kind) for fd, kind in known])
        for fd in (7, 8):
            self.call(11, "accept4", fd, LISTENER)

    def gap(self, tid: int, amount: float) -> None:
        self.threads[tid][-1].gap = amount

    def wait(self, events: int, timeout: int = 0xFFFFFFFF) -> None:
        self.call(11, "epoll_wait", events, EPOLL, 0, 64, timeout)

    def taken(self, fd: int) -> None:
        self.call(11, "read", len(REQUEST), fd, payload=REQUEST)

    def end(self) -> None:
        for fd in (7, 8):
            self.call(11, "read", 0, fd)

    def returned(self) -> None:
        self.wait(1)
        self.call(11, "read", 8, EVENTFD, 0, 8)
        self.gap(11, 70)


def through_a_pipe(rounds: int = 20) -> Passing:
    record = Passing()
    for turn in range(rounds):
        record.wait(2)
        for fd in (7, 8):
            record.taken(fd)
            record.call(11, "write", 16, PIPE, 0, 16)
        for tid in (21, 22):
            record.call(tid, "read", 16, PIPE, 0, 16)
            record.gap(tid, 5000)
            record.call(tid, "getppid", 1)
            record.gap(tid, 20)
            if turn % 2 == 0 or tid == 21:
                record.call(tid, "write", 8, EVENTFD, 0, 8)
        record.returned()
        for fd in (8, 7):
            record.call(11, "write", 100, fd, payload=REPLY)
            record.gap(11, 30)
    record.end()
    return record


def test_requests_that_pass_through_a_pipe_and_come_back() -> None:
    record = through_a_pipe()
    work = record.work()
    join_messages(work)
    found = work.messages
    assert found is not None and found.workers == {21, 22} and not found.woken
    assert (found.jobs, found.returned, found.once) == (40, 30, True)
    works = class_works(requests_of(work))
    (only,) = works.values()
    assert [(name.kind, op.count) for name, op in only.ordered() if name.kind != "receive"] == [
        ("notify", 40), ("await", 40), ("reply", 40),
    ]  # fmt: skip
    gaps = op_gaps(works, work)
    amounts = {name.kind: amount for name, amount in next(iter(gaps.inside.values())).items()}
    assert amounts["await"] == pytest.approx(50)  # what follows the read, and the reply to the other request
    assert {name.kind: amount for name, amount in gaps.worker.items()}["receive"] == 5000
    assert len(worker_cycles(work)) == 40


def test_connections_that_are_handed_over_are_no_messages() -> None:
    record = Passing()
    for turn in range(20):
        record.wait(1)
        record.taken(7)
        record.call(11, "write", 100, 7, payload=REPLY)
        if turn == 5:
            record.call(11, "write", 8, EVENTFD, 0, 8)
            record.call(21, "read", 8, EVENTFD, 0, 8)
    work = record.work()
    join_messages(work)
    assert work.messages is None


def test_who_serves_ends_the_wait_of_who_waits_for_events() -> None:
    """After each request its thread asks for the connection anew, and tells the one that waits for all of them."""
    record = Passing()
    for turn in range(20):
        fd = 7 + turn % 2
        record.wait(2)
        record.call(11, "read", 1, PIPE, 0, 8192)
        record.call(11, "epoll_ctl", 0, EPOLL, 3, fd, payload=bytes(4))
        record.call(21 + turn % 3 % 2, "read", len(REQUEST), fd, payload=REQUEST)
        record.call(21 + turn % 3 % 2, "epoll_ctl", 0, EPOLL, 3, fd, payload=b"\1\0\0\0")
        record.call(21 + turn % 3 % 2, "write", 1, PIPE, 0, 1)
        record.call(21 + turn % 3 % 2, "write", 100, fd, payload=REPLY)
    record.threads[11] = record.threads[11][2:]  # the connections are older than the window
    work = record.work()
    join_messages(work)
    assert work.messages is None and work.told is not None and work.told.found == 20
    (only,) = class_works(requests_of(work)).values()
    kinds = [name.kind for name, _ in only.ordered()]
    assert [kind for kind in kinds if kind != "epoll_mod"] == ["receive", "notify", "reply"]
    cls = service_profile().services[0].classes[0]
    program = [Op(kind=OpKind.NOTIFY, nr=1, a=FURTHER[1], c=1), Op(kind=OpKind.REPLY, nr=1)]
    roles = [Role(kind="shared", count=2), Role(kind="dispatch", count=1)]
    evidence = SimpleNamespace(work=work)
    seen = [SimpleNamespace(threads=[21, 22]), SimpleNamespace(threads=[11])]
    roles = with_inboxes(evidence, seen, roles)  # type: ignore[arg-type]
    assert roles[0].inbox is None and roles[1].inbox is not None
    assert (roles[1].inbox.nr, roles[1].inbox.read_nr, roles[1].inbox.bytes) == (NUMBERS["pipe2"], 0, 8192)
    (made,) = with_messages(evidence, [cls.model_copy(update={"program": program})], roles)  # type: ignore[arg-type]
    assert [(op.kind, op.a, op.b, op.c) for op in made.program] == [(OpKind.NOTIFY, 1, 0, 1), (OpKind.REPLY, 0, 0, 0)]


def tasks(seen: int, rounds: int = 20) -> Passing:
    """A loop of tasks: a request is passed on in the round after it came; its worker is woken where it waits."""
    record = Passing()
    for turn in range(rounds):
        record.wait(1)
        record.taken(7)
        record.wait(0, timeout=0)
        record.call(11, "getppid", 1)
        if turn < seen:
            record.call(11, "futex", 1, 0x7000, 129, 1)
            record.call(21, "futex", 0, 0x7000, 128)
        record.call(21, "getuid", 0)
        record.call(21, "write", 8, EVENTFD, 0, 8)
        record.returned()
        record.wait(0, timeout=0)
        record.call(11, "write", 100, 7, payload=REPLY)
    record.end()
    return record


def test_workers_that_answer_the_client() -> None:
    record = Passing()
    for turn in range(20):
        record.wait(1)
        record.taken(7)
        record.gap(11, 300)
        record.call(11, "write", 16, PIPE, 0, 16)
        record.call(21 + turn % 2, "read", 16, PIPE, 0, 16)
        record.gap(21 + turn % 2, 5000)
        record.call(21 + turn % 2, "write", 100, 7, payload=REPLY)
    record.end()
    work = record.work()
    join_messages(work)
    found = work.messages
    assert found is not None and (found.jobs, found.answered, found.returned) == (20, 20, 0)
    works = class_works(requests_of(work))
    gaps = op_gaps(works, work)
    assert {name.kind: amount for name, amount in next(iter(gaps.inside.values())).items()}["receive"] == 300
    (kinds,) = {tuple((name.kind, name.slot) for name, _ in only.ordered()) for only in works.values()}
    assert kinds == (("receive", None), ("notify", PASSED), ("reply", None))
    (burst,) = {tuple(name.slot for name in build(b"", worker_cycles(work)).ops)}
    assert burst == (None, ANSWERED)
    cls = service_profile().services[0].classes[0]
    program = [Op(kind=OpKind.NOTIFY, nr=1, c=16), Op(kind=OpKind.REPLY, nr=1)]
    back = Timer(period_ms=1, program=[Op(kind=OpKind.NOTIFY, nr=1, a=ANSWERED[1])])
    roles = [Role(kind="loop", count=1), Role(kind="worker", count=2, timers=[back])]
    evidence = SimpleNamespace(work=work)
    seen = [SimpleNamespace(threads=[11]), SimpleNamespace(threads=[21, 22])]
    roles = with_inboxes(evidence, seen, roles)  # type: ignore[arg-type]
    assert [op.kind for op in roles[1].timers[0].program] == [OpKind.REPLY]
    (made,) = with_messages(evidence, [cls.model_copy(update={"program": program})], roles)  # type: ignore[arg-type]
    assert [(op.kind, op.a, op.b) for op in made.program] == [
        (OpKind.NOTIFY, 1, BRINGS | ANSWERS), (OpKind.AWAIT, 0, 0), (OpKind.REPLY, 0, 0),
    ]  # fmt: skip


def test_workers_that_answer_in_parts_and_end_the_wait_of_who_passed_the_request() -> None:
    record = Passing()
    for _ in range(20):
        record.wait(1)
        record.taken(7)
        record.call(11, "futex", 1, 0x7000, 129, 1)
        record.call(21, "futex", 0, 0x7000, 128)
        record.call(21, "write", 17, 7, payload=REPLY)
        record.call(21, "write", 83, 7, payload=b"x" * 83)
        record.call(21, "write", 1, PIPE, 0, 1)
        record.wait(1)
        record.call(11, "read", 1, PIPE, 0, 8192)
    record.end()
    work = record.work()
    join_messages(work)
    found = work.messages
    assert found is not None and found.woken and (found.jobs, found.answered, found.returned) == (20, 40, 20)
    slots = [[name.slot for name in build(b"", [cycle]).ops] for cycle in worker_cycles(work)]
    assert slots == [[ANSWERED, ANSWERED, RETURNED]] * 20
    told = [Op(kind=OpKind.NOTIFY, nr=1, a=a[1], c=c) for a, c in ((ANSWERED, 17), (ANSWERED, 83), (RETURNED, 1))]
    roles = [Role(kind="loop", count=1), Role(kind="worker", count=1, timers=[Timer(period_ms=1, program=told)])]
    seen = [SimpleNamespace(threads=[11]), SimpleNamespace(threads=[21])]
    roles = with_inboxes(SimpleNamespace(work=work), seen, roles)  # type: ignore[arg-type]
    assert roles[0].inbox is not None and roles[0].inbox.bytes == 8192
    assert [(op.kind, op.a, op.c) for op in roles[1].timers[0].program] == [
        (OpKind.REPLY, 1, 0), (OpKind.REPLY, 0, 0), (OpKind.NOTIFY, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("seen", [20, 14])
def test_requests_that_wake_a_worker(seen: int) -> None:
    work = tasks(seen).work()
    join_messages(work)
    found = work.messages
    assert found is not None and found.woken and found.workers == {21}
    assert found.jobs == 20 and found.seldom is (seen < 20)
    (only,) = class_works(requests_of(work)).values()
    counts = {(name.kind, name.occurrence): op.count for name, op in only.ordered()}
    assert counts["notify", 0] == seen and counts["await", 0] == 20 and counts["misc", 0] == seen
    assert counts["yield", 0] + counts.get(("yield", 1), 0) == 20 + seen
    kinds = [name.kind for name, _ in only.ordered()]
    assert kinds.index("yield") < kinds.index("notify") < kinds.index("await") < kinds.index("reply")
    assert [[e.nr for e in cycle.events] for cycle in worker_cycles(work)] == [
        [NUMBERS["getuid"], NUMBERS["write"]]
    ] * 20


def test_a_request_passes_as_often_as_it_comes_back() -> None:
    cls = service_profile().services[0].classes[0]
    kinds = [(OpKind.YIELD, 0.7), (OpKind.NOTIFY, 0.7), (OpKind.AWAIT, 1.0), (OpKind.REPLY, 1.0), (OpKind.NOTIFY, 0.01)]
    cls = cls.model_copy(update={"program": [Op(kind=kind, nr=202, probability=share) for kind, share in kinds]})
    inbox = {"nr": 290, "read_nr": 0, "bytes": 8}
    roles = [
        Role(kind="loop", count=1, inbox=inbox),
        Role(kind="worker", count=2, timers=[Timer(period_ms=1, program=[])]),
    ]
    for seldom, share, flags in ((True, 1.0, BRINGS | ONCE), (False, 0.7, BRINGS)):
        messages = Messages({21}, True, seldom=seldom)
        evidence = SimpleNamespace(work=SimpleNamespace(messages=messages))
        (made,) = with_messages(evidence, [cls], roles)  # type: ignore[arg-type]
        assert [(op.kind, op.probability) for op in made.program] == [
            (OpKind.YIELD, share), (OpKind.NOTIFY, share), (OpKind.AWAIT, 1.0), (OpKind.REPLY, 1.0),
        ]  # fmt: skip
        assert (made.program[1].a, made.program[1].b) == (1, flags)
        (none,) = with_messages(evidence, [cls], roles[:1])  # type: ignore[arg-type]
        assert OpKind.NOTIFY not in {op.kind for op in none.program}


def test_a_timer_that_is_told_of_by_a_descriptor() -> None:
    for fd, found in ((TIMER, True), (None, False)):
        record = Passing()
        for turn in range(40):
            record.wait(1)
            record.taken(7)
            record.call(11, "write", 100, 7, payload=REPLY)
            if turn % 5 == 0:
                record.now += 10_000_000
                record.wait(1)
                if fd is not None:
                    record.call(11, "read", 8, fd, 0, 8)
                record.call(11, "getuid", 0)
                record.now += 10_000_000
        work = record.work()
        timer = find_timer([work.threads[11]], {b"GET": work.threads[11].cycles}, record.now)
        assert timer is not None and timer.descriptor is found


@pytest.fixture(scope="module", params=SHAPES)
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield build_clone(tmp_path_factory.mktemp("messages") / request.param, "messages", *SHAPES[request.param])


def test_requests_that_pass_are_all_answered(binary: Path) -> None:
    """Under the address sanitizer: alone, pipelined, from clients that leave while another thread has the request."""
    answers: list[int] = []

    def client(number: int) -> None:
        for turn in range(12):
            depth = 1 + (number + turn) % 3
            with clone.connect() as sock:
                for _ in range(5):
                    sock.sendall(REQUEST * depth)
                    answers.append(len(receive(sock, 812 * depth)) // depth)
                if turn % 2:
                    sock.sendall(REQUEST)

    with running(binary) as clone:
        clients = [threading.Thread(target=client, args=(number,)) for number in range(5)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(timeout=60)
        assert len(exchange(clone, [REQUEST[:9], REQUEST[9:]], pause=0.05)) == 812
    assert answers == [812] * (5 * 12 * 5)


def test_nobody_waits_for_the_answer_to_a_request_that_was_answered(tmp_path: Path) -> None:
    """A worker that is told once more, after the reply, has nothing to send, and would tell nobody that it is done."""
    found: list[int] = []

    def client() -> None:
        with clone.connect() as sock:
            for _ in range(300):
                sock.sendall(REQUEST)
                found.append(len(receive(sock, 812)))

    with running(build_clone(tmp_path / "clone", "messages", *SHAPES["answered"], "-DTEST_AGAIN")) as clone:
        clients = [threading.Thread(target=client) for _ in range(8)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(timeout=60)
    assert found == [812] * 2400


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_threads_that_pass_requests(tmp_path: Path, shape: str) -> None:
    log = tmp_path / "calls"
    clone_binary = build_clone(tmp_path / shape, "messages", *SHAPES[shape], mode=STATIC)
    with running(clone_binary, prefix=("strace", "-f", "-qq", "-o", str(log)), check=False) as clone:
        with clone.connect() as sock:
            for _ in range(50):
                sock.sendall(REQUEST)
                assert len(receive(sock, 812)) == 812
            time.sleep(0.3)
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    text = whole_calls(log)
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", text, re.M))
    assert calls["getppid"] == 50
    told = calls["write"] - text.count('write(1, "listening')
    assert told == (100 if shape in ("read", "once", "parts") else 50)  # none is left out
    assert calls["getuid"] >= 25 and len(re.findall(r"read\(\d+, .*8\) += 8", text)) >= 25  # ticks of 10 ms
    assert len(re.findall(r"64, 0[) ]", text)) == (50 if "-DTEST_ONCE" in SHAPES[shape] else 0)
    assert calls["sendto"] == (100 if shape == "parts" else 50)
    if shape in ("answered", "parts"):
        answering = set(re.findall(r"^(\d+) +sendto\(", text, re.M))
        assert not answering & set(re.findall(r"^(\d+) +epoll_wait\(", text, re.M))
    if shape == "woken":
        assert 25 <= len(re.findall(r"FUTEX_WAKE_PRIVATE, 1\) += 1", text)) <= 50


SERVER = """
import ctypes, os, select, socket, struct, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=64)
jobs, done = os.pipe(), socket.socketpair()
libc = ctypes.CDLL(None)
timer = libc.timerfd_create(1, 0x800)
libc.timerfd_settime(timer, 0, struct.pack("qqqq", 0, 20_000_000, 0, 20_000_000), None)
def work():
    while job := os.read(jobs[0], 4):
        os.getppid()
        done[0].send(job)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
events, socks = select.epoll(), {}
for fd in (listener.fileno(), done[1].fileno(), timer):
    events.register(fd, select.EPOLLIN)
while True:
    for fd, _ in events.poll():
        if fd == listener.fileno():
            sock, _ = listener.accept()
            socks[sock.fileno()] = sock
            events.register(sock, select.EPOLLIN)
        elif fd == timer:
            os.read(timer, 8)
            os.stat("/")
        elif fd == done[1].fileno():
            for (job,) in struct.iter_unpack("i", done[1].recv(4096)):
                socks[job].send(b"$100\\r\\n" + b"v" * 100 + b"\\r\\n")
        elif socks[fd].recv(4096):
            os.write(jobs[1], struct.pack("i", fd))
        else:
            socks.pop(fd).close()
"""


@pytest.mark.slow
def test_a_server_whose_loop_passes_requests_to_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_shapes, "SERVER", SERVER)
    profile = test_shapes.modelled(tmp_path, "passing")
    service = profile.services[0]
    loop, worker = service.roles
    assert (loop.kind, worker.kind, worker.count) == ("loop", "worker", 3)
    assert loop.inbox is not None and (loop.inbox.nr, loop.inbox.read_nr) == (
        NUMBERS["socketpair"],
        NUMBERS["recvfrom"],
    )
    assert worker.inbox is not None and (worker.inbox.each, worker.inbox.own) == (4, False)
    assert loop.timers[0].descriptor and loop.timers[0].period_ms == pytest.approx(20, rel=0.3)
    kinds = [op.kind for op in service.classes[0].program if op.probability > 0.5 and op.kind is not OpKind.COMPUTE]
    assert [kind for kind in kinds if kind is not OpKind.FUTEX_WAKE] == [OpKind.NOTIFY, OpKind.AWAIT, OpKind.REPLY]
    log = tmp_path / "calls"
    for pid, port in test_shapes.running(profile, tmp_path / "clone"):
        with subprocess.Popen(["strace", "-f", "-qq", "-o", str(log), "-p", str(pid)]) as strace:
            time.sleep(0.5)
            client = [sys.executable, str(tmp_path / "client.py"), str(port), "3", "0.5"]
            requests = int(subprocess.run(client, capture_output=True, check=True).stdout.split()[0])
            time.sleep(0.2)
            strace.terminate()
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", whole_calls(log), re.M))
    assert calls["getppid"] == calls["write"] == requests
    assert calls["sendto"] == 2 * requests
    assert requests < calls["recvfrom"] <= 2 * requests + 10
