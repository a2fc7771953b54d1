"""What runtimes of other languages do: answers in a later round, threads that help, numbers that are given anew."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from ditto.artifacts.observation import FileSeen
from ditto.artifacts.profile import Dist, FileGroup, Op, OpKind, ReplyShape, RequestClass
from ditto.artifacts.program import FILE_SLOTS, FIRST_OPEN_SLOT
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.snapshot import makes_code
from ditto.model.classes import HELPERS
from ditto.model.files import FileCatalog, of_a_file
from ditto.streams.cycles import follow
from ditto.streams.events import Event, Obj
from ditto.streams.helpers import find_helpers
from ditto.streams.programs import RESUME, OpName, OpWork, build
from ditto.streams.settled import resumes_late, usual_rounds
from profile_parts import fixed
from runtime_build import STATIC, build_clone, receive, running
from strace_parts import whole_calls
from test_sharing import EPOLL, LISTENER, REQUEST, Threads

WAKE, WAIT, WORD = 129, 128, 0x7000


def gap(event: Event, amount: float) -> None:
    event.gap = amount


def rounds_of_tasks(record: Threads, late: bool, rounds: int = 10, further: int = 0) -> None:
    """Three connections: a loop receives from each and answers in the next round (or in the same).

    With ``further`` rounds between, each connection is watched again in the first of them.
    """
    for fd in (7, 8, 9):
        record.call(11, "accept4", fd, LISTENER)
    for _ in range(rounds):
        record.call(11, "epoll_wait", 3, EPOLL, 0, 64, 0)
        for fd in (7, 8, 9):
            record.call(11, "recvfrom", len(REQUEST), fd, payload=REQUEST)
            gap(record.threads[11][-1], 50)
        for number in range(further):
            record.call(11, "epoll_wait", 0, EPOLL, 0, 64, 0)
            for fd in (7, 8, 9) if number == 0 else ():
                record.call(11, "epoll_ctl", 0, EPOLL, 1, fd, payload=b"\1\0\0\0")
        if late:
            record.call(11, "epoll_wait", 0, EPOLL, 0, 64, 0)
            gap(record.threads[11][-1], 1000)
        for fd in (7, 8, 9):
            record.call(11, "sendto", 100, fd, payload=b"HTTP/1.1 200 OK\r\n")
            gap(record.threads[11][-1], 1000 if fd != 9 else 20)


def test_work_on_a_late_answer_is_its_own() -> None:
    record = Threads()
    rounds_of_tasks(record, late=True)
    work = follow(record.threads)
    assert resumes_late(work)
    cycles = [cycle for cycle in work.threads[11].cycles if cycle.complete]
    ops = build(b"GET /", cycles).ops
    amounts = {name.kind: (op.gap_inside + op.gap_before_wait) / op.count for name, op in ops.items()}
    assert amounts[RESUME] == 1000
    assert amounts["reply"] < 20 and amounts["receive"] == 50
    waits = [wake.wait for wake in work.threads[11].wakes if wake.wait is not None]
    assert max(wait.gap for wait in waits) == 0


@pytest.mark.parametrize(("further", "rounds"), [(0, 1), (1, 2), (4, 5)])
def test_answers_that_are_several_rounds_late(further: int, rounds: int) -> None:
    """One for each task on the way to the answer (Tornado)."""
    record = Threads()
    rounds_of_tasks(record, late=True, further=further)
    work = follow(record.threads)
    assert resumes_late(work)
    assert usual_rounds([cycle for cycle in work.threads[11].cycles if cycle.complete]) == rounds


def test_answers_of_the_same_round_are_not_late() -> None:
    record = Threads()
    rounds_of_tasks(record, late=False)
    work = follow(record.threads)
    assert not resumes_late(work)
    assert all(cycle.resumed_after is None for cycle in work.threads[11].cycles)


def test_a_number_given_anew_before_its_close_returned() -> None:
    record = Threads()
    record.call(11, "openat", 20, 0, 0, 0, payload=b"/first\0")
    record.call(12, "openat", 20, 0, 0, 0, payload=b"/second\0")
    record.call(11, "close", 0, 20, lasts=1500)  # began before the second was opened
    record.call(12, "read", 10, 20)
    closed, read = record.threads[11][-1], record.threads[12][-1]
    assert closed.obj is not None and closed.obj.path == b"/first"
    assert read.obj is not None and read.obj.path == b"/second"


def test_a_number_given_anew_and_closed_again_before_its_close_returned() -> None:
    record = Threads()
    record.call(11, "openat", 20, 0, 0, 0, payload=b"/first\0")
    record.call(12, "openat", 20, 0, 0, 0, payload=b"/second\0")
    record.call(12, "close", 0, 20)
    record.call(11, "close", 0, 20, lasts=2500)  # began before the second was opened
    paths = [record.threads[tid][-1].obj.path for tid in (11, 12)]  # type: ignore[union-attr]
    assert paths == [b"/first", b"/second"]


def helping(woken: int, ret: int = 1) -> Threads:
    record = Threads()
    record.call(11, "accept4", 7, LISTENER)
    for turn in range(100):
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(11, "recvfrom", len(REQUEST), 7, payload=REQUEST)
        if turn < woken:
            record.call(11, "futex", ret, WORD + 4 * (turn % 2), WAKE, 1)
            record.call(21 + turn % 2, "futex", 0, WORD, WAIT)
        record.call(11, "sendto", 100, 7, payload=b"HTTP/1.1 200 OK\r\n")
    return record


def test_helpers_are_told_by_who_wakes_them() -> None:
    record = helping(woken=50)
    work = follow(record.threads)
    assert find_helpers(work) == {21, 22}
    ops = build(b"GET /", [cycle for cycle in work.threads[11].cycles if cycle.complete]).ops
    assert [op.count for name, op in ops.items() if name.kind == "helper_wake"] == [50]
    assert not [name for name in ops if name.kind == "futex_wake"]


@pytest.mark.parametrize(("woken", "ret"), [(1, 1), (50, 0)])
def test_threads_woken_hardly_ever_or_by_nobody_are_none(woken: int, ret: int) -> None:
    assert find_helpers(follow(helping(woken, ret).threads)) == set()


def test_a_file_of_few_requests_is_no_part_of_a_group() -> None:
    sizes = {"/cache/a": 5000, "/cache/b": 7000, "/temp/1": 0}
    catalog = FileCatalog.of([FileSeen(path=path, size=size) for path, size in sizes.items()], [])
    opened = OpWork(
        count=2001, sizes=Counter({0: 2001}), paths=Counter({b"/cache/a": 1500, b"/cache/b": 500, b"/temp/1": 1})
    )
    name = OpName("file_open", NUMBERS["openat"], ("t", 0), 0)
    group = catalog.groups[catalog.group_of(name, opened)]
    assert group.count == 2 and group.size == Dist(values=[5000, 7000], weights=[1, 1])


def test_a_file_read_here_and_written_there_is_open_for_both() -> None:
    """A database's log is read when it is recovered, and written by others; only those who use it have it open."""
    flags = {b"/log": (0, 2), b"/table": (0, 0), b"/errors": (0o2001, 0o2001)}
    objects = [Obj("file", at, path=path, flags=own[at]) for at in (0, 1) for path, own in flags.items()]
    catalog = FileCatalog.of([], objects)
    slots = {path: catalog.slot_of(("p", path)) for path in flags}
    assert {opened.slot: opened.flags for opened in catalog.opens} == dict(
        zip(slots.values(), (2, 0, 0o2001), strict=True)
    )
    writer = [[Op(kind=OpKind.FILE_WRITE, b=slots[b"/log"]), Op(kind=OpKind.REPLY, b=slots[b"/table"])]]
    assert [opened.slot for opened in catalog.opens_for(writer)] == [slots[b"/log"]]


def test_a_database_has_more_files_open_than_a_server_of_pages() -> None:
    """Those beyond the slots share the last, whose size is that of the one before: a database has one for each file."""
    sizes = {f"/base/{number}": 8192 * (number + 1) for number in range(60)}
    catalog = FileCatalog.of([FileSeen(path=path, size=size) for path, size in sizes.items()], [])
    slots = [catalog.slot_of(("p", path.encode())) for path in sizes]
    own = slots[: FILE_SLOTS - FIRST_OPEN_SLOT]
    assert own == list(range(FIRST_OPEN_SLOT, FILE_SLOTS)) and set(slots[len(own) :]) == {FILE_SLOTS - 1}
    opened = {one.slot: catalog.groups[one.group].size for one in catalog.opens}
    assert opened[FIRST_OPEN_SLOT + 20] == Dist(values=[8192 * 21], weights=[1])


def test_a_file_sent_in_part() -> None:
    def sending(sent: int) -> Dist | None:
        cls = RequestClass(
            probability=1.0,
            match={"verb": "GET"},
            request_bytes=fixed(40),
            replies=[ReplyShape(probability=1.0, kind="http", status=200, head_bytes=700, size=fixed(sent))],
            program=[Op(kind=OpKind.FILE_OPEN, a=0, b=0), Op(kind=OpKind.SENDFILE, a=0)],
        )
        made = of_a_file(cls, [FileGroup(kind="regular", size=fixed(5000))])
        return made.program[1].size

    assert sending(5000) is None
    assert sending(4488) == fixed(4488)


def test_code_of_no_file_is_seen() -> None:
    assert HELPERS < 0  # no role has that number
    shared = "import mmap, time; m = mmap.mmap(-1, 4096, prot=7); print(flush=True); time.sleep(60)"
    private = shared.replace("prot=7", "prot=7, flags=34")
    plain = shared.replace("prot=7", "prot=3")
    for code, expected in ((shared, True), (private, True), (plain, False)):
        with subprocess.Popen(["/usr/bin/python3", "-S", "-c", code], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                assert makes_code([process.pid]) == expected
            finally:
                process.kill()
    assert not makes_code([2**22 + 1])
    assert os.getpid() > 0


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clone(tmp_path_factory.mktemp("late") / "late", "late")


def test_late_answers_all_come(binary: Path) -> None:
    """Under the address sanitizer: pipelined, and from clients that leave before they are answered."""
    answers: list[int] = []

    def client(number: int) -> None:
        for turn in range(20):
            with clone.connect() as sock:
                for depth in (1, 3):
                    sock.sendall(REQUEST * depth)
                    answers.append(len(receive(sock, 812 * depth)) // depth)
                if (number + turn) % 2:
                    sock.sendall(REQUEST * 2)

    with running(binary) as clone:
        clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(timeout=60)
    assert answers == [812] * 160


def test_what_is_received_after_a_late_answer_is_answered(tmp_path: Path) -> None:
    """The connection is not watched meanwhile, so that nobody else will receive it."""
    mode = (*STATIC, "-DTEST_ROUNDS=255", "-DTEST_AGAIN")
    with running(build_clone(tmp_path / "late", "late", mode=mode)) as clone, clone.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for turn in range(200):
            sock.sendall(REQUEST)
            until = time.perf_counter() + turn * 2e-6
            while time.perf_counter() < until:
                pass
            sock.sendall(REQUEST)
            assert len(receive(sock, 2 * 812)) == 2 * 812


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("rounds", [1, 3])
def test_calls_of_a_loop_that_answers_late(tmp_path: Path, rounds: int) -> None:
    log = tmp_path / "calls"
    clone_binary = build_clone(tmp_path / "late", "late", mode=(*STATIC, f"-DTEST_ROUNDS={rounds}"))
    with running(clone_binary, prefix=("strace", "-f", "-qq", "-o", str(log)), check=False) as clone:
        with clone.connect() as sock:
            for _ in range(30):
                sock.sendall(REQUEST)
                assert len(receive(sock, 812)) == 812
            time.sleep(0.3)
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    lines = whole_calls(log).splitlines()
    loop = next(line.split()[0] for line in lines if "recvfrom(" in line)
    calls = [line.split(None, 1)[1] for line in lines if line.startswith(f"{loop} ")]
    began = next(i for i, call in enumerate(calls) if call.startswith("recvfrom("))
    names = [match[1] for call in calls[began:] if (match := re.match(r"(\w+)\(", call))]
    text = " ".join(names)
    waits = " ".join(["epoll_wait"] * rounds)
    assert text.count(f"recvfrom futex {waits} sendto sendto epoll_wait") == 30, text[:300]
    assert sum(bool(re.search(r", 64, 0\)\s+= 0", call)) for call in calls[began:]) == 30 * rounds
    assert 25 <= sum("getppid(" in line for line in lines) <= 30  # the helpers', where two wakes were not one
