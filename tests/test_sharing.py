"""Threads that share their connections: recognised, fitted, refused where nobody is seen to wait, and cloned."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ditto.artifacts.observation import Observation
from ditto.artifacts.profile import Op, OpKind
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import UnsupportedShapeError
from ditto.model.classes import Placement, fit_program
from ditto.model.handover import Handover, find_handover
from ditto.model.pool import without_own_calls
from ditto.model.service import _before_waits
from ditto.model.shape import require_known_shape
from ditto.model.wakes import each_dispatch
from ditto.streams.cycles import Work, follow
from ditto.streams.events import OPENS, Descriptors, Event, KnownDescriptor, Stream, is_wait
from ditto.streams.evidence import Evidence, class_works, requests_of
from ditto.streams.peer_waits import find_waits_of_calls
from ditto.streams.sharing import Sharing, find_sharing
from profile_parts import service_profile
from runtime_build import STATIC, build_clone, exchange, receive, running
from strace_parts import whole_calls

PID, LISTENER, EPOLL = 10, 3, 4
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SHAPES = {
    "polls": (),
    "once": ("-DTEST_ONCE",),
    "dispatch": ("-DTEST_DISPATCH",),
    "mutes": ("-DTEST_DISPATCH", "-DTEST_MUTES"),
    "level": ("-DTEST_DISPATCH", "-DTEST_LEVEL"),
    "lingers": ("-DTEST_DISPATCH", "-DTEST_LINGERS"),
    "told": ("-DTEST_DISPATCH", "-DTEST_MUTES", "-DTEST_TOLD"),
    "crowd": ("-DTEST_CROWD=EPOLLONESHOT",),
    "edge": ("-DTEST_CROWD=EPOLLET", "-DTEST_ACCEPTS"),
}


class Threads:
    """Calls of the threads of one process."""

    def __init__(self) -> None:
        self.table = Descriptors([KnownDescriptor(PID, LISTENER, "listener"), KnownDescriptor(PID, EPOLL, "epoll")])
        self.threads: dict[int, list[Event]] = {}
        self.now = 0

    def call(self, tid: int, name: str, ret: int, *args: int, payload: bytes = b"", lasts: int = 500) -> None:
        self.now += 1000
        event = Event(PID, tid, NUMBERS[name], ret, (*args, 0, 0, 0, 0, 0, 0)[:6], self.now - lasts, self.now)
        event.payload, event.index = payload, self.now
        self.table.apply(event)
        self.threads.setdefault(tid, []).append(event)

    def serve(self, tid: int, fd: int) -> None:
        self.call(tid, "read", len(REQUEST), fd, payload=REQUEST)
        self.call(tid, "write", 100, fd, payload=b"HTTP/1.1 200 OK\r\n")

    def work(self) -> Work:
        return follow(self.threads)


def sharing_of(record: Threads) -> Sharing:
    work = record.work()
    return find_sharing(work, [cycle for thread in work.threads.values() for cycle in thread.cycles])


def accept(record: Threads, tid: int) -> None:
    for fd in (7, 8, 9):
        record.call(tid, "accept4", fd, LISTENER)


def test_a_connection_that_was_given_away_once_is_its_threads_own() -> None:
    record = Threads()
    accept(record, 1)
    for fd in (7, 8, 9):
        record.serve(1, fd)
        for _ in range(40):
            record.serve(fd, fd)
    assert not sharing_of(record).shared
    for _ in range(4):
        record.serve(1, 7)
    assert sharing_of(record).passed == 1


@pytest.mark.parametrize(
    ("kind", "to", "how"),
    [("accept_serve", "serve", "spawn_thread"), ("loop", "serve", "spawn_thread"), ("loop", "loop", "queue")],
)
def test_a_pool_that_is_given_connections_without_a_descriptor(kind: str, to: str, how: str) -> None:
    record = Threads()
    accept(record, 1)
    for fd in (7, 8, 9):
        record.serve(fd, fd)
    acceptor = SimpleNamespace(accepts=True, threads=[1], kind=kind)
    roles = SimpleNamespace(roles=[SimpleNamespace(kind=to, threads=[7, 8, 9])], role_of=lambda tid: 0)
    stream = SimpleNamespace(births={}, born_ns={}, outside=[], threads={})
    evidence = SimpleNamespace(work=record.work(), stream=stream)
    told = NUMBERS["eventfd2"] if how == "queue" else 0  # an event loop's wait ends by a descriptor alone
    assert find_handover(evidence, roles, acceptor) == Handover(0, how, told)  # type: ignore[arg-type]


def test_threads_that_wait_themselves() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        tid = 11 + turn % 2
        record.call(tid, "epoll_pwait", 0, EPOLL, 0, 64, 0)
        record.call(tid, "epoll_pwait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.serve(tid, 7 + turn % 3)
        record.call(tid, "futex", 0, 0x1000, 128)
    found = sharing_of(record)
    assert found.shared and found.complete
    pool = found.pools[PID]
    assert (pool.servers, pool.dispatchers, pool.polls_first) == ({11, 12}, set(), 0.5)


@pytest.mark.parametrize(("idle", "found"), [(0, True), (12, False)])
def test_what_a_dispatcher_does_before_each_wait(idle: int, found: bool) -> None:
    record = Threads()
    record.call(11, "openat", 6, 0, 0, 2, payload=b"/sign\0")
    for turn in range(12 + idle):
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        if turn % 4 == 0:
            record.call(11, "accept4", 7 + turn // 4, LISTENER)
        if turn < 12:
            record.call(11, "fchmod", 0, 6, 1)
            record.call(11, "futex", 0, 0x1000, 128)
            record.call(11, "getppid", 1)
    record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
    role = SimpleNamespace(work=list(record.work().threads.values()))
    ops = each_dispatch(role, Placement(lambda name, op: 0, lambda slot: 5))  # type: ignore[arg-type]
    wanted = [(OpKind.FILE_FSTAT, NUMBERS["fchmod"], 5, 1.0), (OpKind.MISC, NUMBERS["getppid"], 0, 1.0)]
    assert [(op.kind, op.nr, op.b, op.probability) for op in ops] == (wanted if found else [])
    fit = SimpleNamespace(roles=SimpleNamespace(roles=[SimpleNamespace(kind="dispatch", serves=False, work=role.work)]))
    skipped = _before_waits(fit)  # type: ignore[arg-type]
    calls = Counter(event.nr for event in record.threads[11] if id(event) in skipped)  # no request's
    assert calls == (Counter({NUMBERS["fchmod"]: 12, NUMBERS["getppid"]: 12}) if found else Counter())


def test_a_dispatcher_is_told_from_those_who_serve() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        fd = 7 + turn % 3
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(11, "epoll_ctl", 0, EPOLL, 2, fd)
        record.call(12 + turn % 2, "futex", 0, 0x1000, 128)
        record.serve(12 + turn % 2, fd)
        record.call(12 + turn % 2, "epoll_ctl", 0, EPOLL, 1, fd, payload=b"\1\0\0\0")
    pool = sharing_of(record).pools[PID]
    assert pool.servers == {12, 13} and pool.dispatchers == {11}
    assert (pool.unwatched, pool.muted) == (pytest.approx(1.0), 0.0)


@pytest.mark.parametrize(("between", "own"), [("futex", 3), ("epoll_wait", 0)])
def test_files_belong_to_the_request_that_is_answered_next(between: str, own: int) -> None:
    """By another thread than the one that received it, as where tasks pass on; not if it waits once more."""
    record = Threads()
    accept(record, 11)
    for turn in range(8):
        fd = 7 + turn % 3
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(11, "read", len(REQUEST), fd, payload=REQUEST)
        record.call(12, "epoll_wait", 1, EPOLL, 0, 64, 0)
        record.call(12, "openat", 20, 0xFFFFFF9C, payload=b"/f\0")
        record.call(12, "newfstatat", 0, 20)
        record.call(12, "read", 100, 20)
        record.call(12, "close", 0, 20)
        record.call(12, between, 1, EPOLL, 129, 64, 0)
        record.call(12, "write", 100, fd, payload=b"HTTP/1.1 200 OK\r\n")
    work = record.work()
    cycles = [cycle for thread in work.threads.values() for cycle in thread.cycles if cycle.sent]
    of_files = [sum(e.obj is not None and e.obj.kind == "file" for e in cycle.events) for cycle in cycles]
    assert of_files == [own] * 8
    left = sum(e.nr in OPENS for thread in work.threads.values() for wake in thread.wakes for e in wake.loose)
    assert left == (0 if own else 8)


def test_a_dispatcher_that_leaves_connections_for_no_events() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        fd = 7 + turn % 3
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(11, "epoll_ctl", 0, EPOLL, 3, fd, payload=bytes(4))
        record.call(11, "futex", 1, 0x1000, 129)
        record.call(12 + turn % 2, "futex", 0, 0x1000, 128)
        record.serve(12 + turn % 2, fd)
        record.call(12 + turn % 2, "epoll_ctl", 0, EPOLL, 3, fd, payload=b"\1\0\0\0")
    pool = sharing_of(record).pools[PID]
    assert (pool.unwatched, pool.muted, pool.dispatcher_wakes) == (0.0, pytest.approx(1.0), pytest.approx(1.0))


@pytest.mark.parametrize("lingers", [True, False])
def test_servers_that_poll_the_connection_that_they_have(lingers: bool) -> None:
    """Before each receive, and two of three times for the next request before they let go; and before each send."""
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        tid, fd = 12 + turn % 2, 7 + turn % 3
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(11, "epoll_ctl", 0, EPOLL, 2, fd)
        for _ in range(3 if lingers else 1):
            record.call(tid, "ppoll", 1, 0x1000, 1)
            record.call(tid, "futex", 0, 0x1000, 128)
            record.call(tid, "read", len(REQUEST), fd, payload=REQUEST)
            record.call(tid, "ppoll", 1, 0x1000, 1)
            record.call(tid, "write", 100, fd, payload=b"HTTP/1.1 200 OK\r\n")
        record.call(tid, "epoll_ctl", 0, EPOLL, 1, fd, payload=b"\1\0\0\0")
    find_waits_of_calls(record.threads)
    pool = sharing_of(record).pools[PID]
    assert pool.asks == NUMBERS["ppoll"] and pool.lingers == pytest.approx(2 / 3 if lingers else 0.0)
    work = class_works(requests_of(record.work()))
    (found,) = work.values()
    ops = fit_program(found, {}, lambda name, amount: [], Placement(lambda name, op: 0, lambda slot: 0), deferred=False)
    assert [(op.kind, op.nr) for op in ops[:2]] == [(OpKind.POLL, NUMBERS["ppoll"]), (OpKind.REPLY, NUMBERS["write"])]


@pytest.mark.parametrize(("before", "waits"), [(100, 0), (99, 1), (-11, 1)])
def test_a_poll_for_room_is_a_wait(before: int, waits: int) -> None:
    record = Threads()
    record.call(12, "accept4", 7, LISTENER)
    record.call(12, "read", len(REQUEST), 7, payload=REQUEST)
    record.call(12, "write", before, 7, 0x1000, 100, payload=b"HTTP/1.1 200 OK\r\n")
    record.call(12, "poll", 1, 0x1000, 1)
    record.call(12, "write", 100, 7, 0x1000, 100)
    find_waits_of_calls(record.threads)
    assert sum(map(is_wait, record.threads[12])) == waits


@pytest.mark.parametrize(("flags", "unwatched"), [(b"\1\0\0\0", 1.0), (b"\1\0\0\x80", 0.0)])
def test_who_only_accepts_leaves_what_is_reported_again_to_nobody(flags: bytes, unwatched: float) -> None:
    """The servers wait by themselves, each for its connection, and one for all that were left (Puma)."""
    record = Threads()
    accept(record, 11)
    record.call(11, "select", 1, 6)
    record.call(11, "futex", 1, 0x1000, 129)
    record.call(11, "futex", 1, 0x1000, 129)
    for turn in range(12):
        fd, tid = 7 + turn % 3, 12 + turn % 2
        record.call(tid, "epoll_ctl", 0, EPOLL, 1, fd, payload=flags)
        record.call(tid, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(tid, "futex", 0, 0x1000, 128)
        record.serve(tid, fd)
    pool = sharing_of(record).pools[PID]
    assert (pool.dispatchers, pool.unwatched) == ({11}, unwatched)
    assert not unwatched or pool.dispatcher_wakes == 1.0  # those that it made were for connections, not for requests


@pytest.mark.parametrize("opens", [False, True])
def test_connections_to_ports_that_are_opened_for_them_are_refused(opens: bool) -> None:
    """Data of FTP, which is accepted while the connection that asked for it is served."""
    record = Threads()
    record.call(11, "accept4", 7, LISTENER)
    for _ in range(10):
        record.serve(11, 7)
        if opens:
            record.call(11, "socket", 8, 2, 1)
            record.call(11, "listen", 0, 8, 1)
            record.call(11, "accept4", 9, 8)
            record.call(11, "write", 100, 9, payload=b"data")
            record.call(11, "close", 0, 9)
            record.call(11, "close", 0, 8)
    work = record.work()
    stream = Stream(record.threads, [], {}, {}, set(), (0, record.now), record.table)
    evidence = Evidence(Observation.model_construct(app="ftp"), stream, work, requests_of(work))
    if not opens:
        require_known_shape(evidence)
        return
    with pytest.raises(UnsupportedShapeError, match="ftp: 10 of 11 connections come to ports that it opens for them"):
        require_known_shape(evidence)


def test_where_nobody_waits_the_shape_is_not_known() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        record.serve(11 + turn % 2, 7 + turn % 3)
    found = sharing_of(record)
    assert found.shared and not found.complete


@pytest.mark.parametrize("acceptor", [11, 10])
def test_threads_that_all_wait_at_once(acceptor: int) -> None:
    record = Threads()
    accept(record, acceptor)
    for turn in range(12):
        record.call(11 + turn % 2, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.serve(11 + turn % 2, 7 + turn % 3)
    found = sharing_of(record)
    assert found.shared and found.complete
    pool = found.pools[PID]
    assert pool.crowd and pool.servers == {11, 12} and not pool.dispatchers
    assert pool.acceptors == ({10} if acceptor == 10 else set())


def test_threads_that_wait_for_events_of_their_own_but_share_are_not_known() -> None:
    record = Threads()
    record.table = Descriptors([*(KnownDescriptor(PID, fd, "epoll") for fd in (4, 5)),
                                KnownDescriptor(PID, LISTENER, "listener")])  # fmt: skip
    accept(record, 11)
    for turn in range(12):
        record.call(11 + turn % 2, "epoll_wait", 1, EPOLL + turn % 2, 0, 64, 0xFFFFFFFF)
        record.serve(11 + turn % 2, 7 + turn % 3)
    found = sharing_of(record)
    assert found.shared and not found.complete


def test_connections_that_stay_are_not_shared() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        record.call(11 + turn % 3, "epoll_wait", 1, EPOLL, 0, 64, 0)
        record.serve(11 + turn % 3, 7 + turn % 3)
    assert not sharing_of(record).shared


@pytest.fixture(scope="module", params=SHAPES)
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield build_clone(tmp_path_factory.mktemp("shared") / request.param, "shared", *SHAPES[request.param])


def test_every_request_is_answered_whoever_serves(binary: Path) -> None:
    """Under the address sanitizer: connections that come, send alone or pipelined, and go, from several threads."""
    answers: list[int] = []

    def client(number: int) -> None:
        for turn in range(15):
            depth = 1 + (number + turn) % 4
            with clone.connect() as sock:
                for _ in range(6):
                    sock.sendall(REQUEST * depth)
                    answers.append(len(receive(sock, 812 * depth)) // depth)
                if turn % 3 == 0:
                    sock.sendall(REQUEST)  # leaves before the answer

    with running(binary) as clone:
        clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(timeout=60)
        assert len(exchange(clone, [REQUEST[:9], REQUEST[9:]], pause=0.05)) == 812
    assert answers == [812] * (6 * 15 * 6)


def test_a_reply_that_the_peer_takes_slowly(tmp_path: Path) -> None:
    for shape, flags in SHAPES.items():
        large = build_clone(tmp_path / shape, "shared", "-DTEST_BYTES=3000000", *flags)
        with running(large) as clone, clone.connect() as sock, clone.connect() as other:
            sock.sendall(REQUEST)
            other.sendall(REQUEST)
            assert len(receive(sock, 3000200)) == len(receive(other, 3000200)) == 3000200


@pytest.mark.skipif(not shutil.which("wrk") or not shutil.which("strace"), reason="needs wrk and strace")
@pytest.mark.parametrize("shape", SHAPES)
def test_calls_of_threads_that_share(tmp_path: Path, shape: str) -> None:
    """One read that finds the request and one that finds nothing; all threads wait, park and wake by nothing else."""
    clone_binary = build_clone(tmp_path / shape, "shared", *SHAPES[shape], mode=STATIC)
    log = tmp_path / "calls"
    with running(clone_binary, prefix=("strace", "-f", "-qq", "-o", str(log)), check=False) as clone:
        url = f"http://127.0.0.1:{clone.port}/"
        done = subprocess.run(["wrk", "-t1", "-c8", "-d1s", url], capture_output=True, text=True, check=True)
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    assert "Socket errors" not in done.stdout
    calls = Counter(re.findall(r"^\d+ +(\w+)\(", whole_calls(log), re.M))
    told = requests if shape == "told" else 0  # read as many at once as there are
    assert calls["write"] == pytest.approx(requests + told, rel=0.02)
    assert requests * 0.98 + told * 0.01 <= calls["read"] <= requests * 2.1 + told * 1.01
    waits = "epoll_pwait" if shape in ("polls", "once") else "epoll_wait"
    assert calls[waits] > 0 and (calls["futex"] > 0) is (shape not in ("crowd", "edge"))
    if shape == "once":  # asked for again after each report, which may bring several requests
        assert 0 < calls["epoll_ctl"] <= requests * 1.05
    if shape in ("mutes", "told"):  # by the dispatcher with each report, and by who serves, as its program says or not
        assert 0.2 * requests < calls["epoll_ctl"] <= 2.05 * requests
    if shape == "lingers":
        assert calls["poll"] == pytest.approx(requests, rel=0.05)
        assert 0.3 * requests < calls["epoll_ctl"] < 0.7 * requests  # of one in four, taken out and put back
    if shape == "crowd":
        assert calls["epoll_ctl"] == pytest.approx(requests, rel=0.05)
    busy = {name for name, count in calls.items() if count > 0.01 * requests}
    assert busy <= {"read", "write", waits, "futex", "epoll_ctl", *(["poll"] if shape == "lingers" else [])}
    if shape == "polls":
        assert "epoll_ctl" not in busy


def test_calls_that_strayed_to_another_request_are_put_right() -> None:
    record = Threads()
    accept(record, 11)
    for turn in range(12):
        record.call(11 + turn % 2, "epoll_pwait", 1, EPOLL, 0, 64, 0)
        record.serve(11 + turn % 2, 7 + turn % 3)
        record.call(11 + turn % 2, "futex", 0, 0x1000, 128)
    cls = service_profile().services[0].classes[0]
    made = [(OpKind.GETPEERNAME, 0.97), (OpKind.FUTEX_WAKE, 1.0), (OpKind.GETSOCKNAME, 0.03), (OpKind.SLEEP, 0.5)]
    program = [Op(kind=kind, probability=probability) for kind, probability in made]
    kept = without_own_calls(cls.model_copy(update={"program": program}), sharing_of(record)).program
    assert [(op.kind, op.probability) for op in kept] == [(OpKind.GETPEERNAME, 1.0), (OpKind.SLEEP, 0.5)]
