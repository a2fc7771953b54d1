"""Processes that requests start and that end by themselves: found, fitted, and run by a clone."""

from __future__ import annotations

import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ditto.artifacts.profile import FileGroup, Op, OpKind, Role, Timer
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.children import MOST_RUNS, with_children
from ditto.model.classes import Placement, fit_program
from ditto.model.timers import find_timer
from ditto.streams.evidence import class_works, requests_of
from profile_parts import fixed, service_profile
from serial_parts import LISTENER, REQUEST, Recorder
from strace_parts import traced_clone, whole_calls

PID, CHILD = 10, 70


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


PLACEMENT = Placement(group_of=lambda name, op: 0, slot_of=lambda slot: int(str(slot[1])) if slot else 0)


def saving(record: Recorder, writes: int = 300, executes: bool = False, synced: int = 100) -> None:
    """A request for which a copy of the process writes a file, while the next are served."""
    record.call(PID, "epoll_wait", 1, 4)
    record.call(PID, "read", len(REQUEST), 7, payload=REQUEST)
    record.call(PID, "clone", CHILD)
    record.table.fork(PID, CHILD)
    record.call(PID, "write", 5, 7, payload=b"+OK\r\n")
    if executes:
        record.call(CHILD, "execve", 0)
    record.call(CHILD, "openat", 9, 0xFFFFFF9C, 0, 0o1101, payload=b"temp\0")
    for number in range(writes):
        record.call(CHILD, "write", 4096, 9)
        if number % synced == synced - 1:
            record.call(CHILD, "sync_file_range", 0, 9)
    record.call(CHILD, "fsync", 0, 9)
    record.call(CHILD, "close", 0, 9)
    record.call(CHILD, "exit_group", 0)
    for _ in range(3):
        record.call(PID, "epoll_wait", 1, 4)
        record.call(PID, "read", len(REQUEST), 7, payload=REQUEST)
        record.call(PID, "write", 5, 7, payload=b"+OK\r\n")
    record.call(PID, "epoll_wait", 1, 4)
    record.call(PID, "read", 0, 7)


def recorded(**how: int) -> Recorder:
    record = Recorder((PID,))
    record.call(PID, "epoll_wait", 1, 4)
    record.call(PID, "accept4", 7, LISTENER)
    saving(record, **how)  # type: ignore[arg-type]
    return record


def fitted(record: Recorder) -> tuple[list[Op], list[Role]]:
    work = record.work()
    (seen,) = class_works(requests_of(work)).values()
    program = fit_program(seen, {}, lambda name, amount: [], PLACEMENT, deferred=False)
    cls = service_profile().services[0].classes[0].model_copy(update={"program": program})
    (named,), roles = with_children([cls], [seen], work, 3, PLACEMENT)
    return named.program, roles


def test_what_a_copy_of_the_process_does_for_a_request_is_runs_of_equal_calls() -> None:
    program, (role,) = fitted(recorded())
    assert [(op.kind, op.a, op.probability) for op in program] == [("fork", 3, 0.25), ("reply", 0, 1.0)]
    runs = [(timer.program[0].kind.value, timer.program[0].nr, timer.times) for timer in role.timers]
    part = [("file_write", NUMBERS["write"], 100), ("file_sync", NUMBERS["sync_file_range"], 1)]
    ends = [("file_sync", NUMBERS["fsync"], 1), ("file_close", NUMBERS["close"], 1)]
    assert runs == [("file_open", NUMBERS["openat"], 1), *part * 3, *ends]
    size = role.timers[1].program[0].size
    assert size is not None and size.values == [4096]


def test_where_there_are_more_runs_equal_calls_are_taken_together() -> None:
    _, (role,) = fitted(recorded(writes=300, synced=2))
    assert len(role.timers) <= MOST_RUNS
    kinds = [(timer.program[0].kind.value, timer.times) for timer in role.timers]
    assert kinds == [("file_open", 1), ("file_write", 300), ("file_sync", 150), ("file_sync", 1), ("file_close", 1)]


def test_a_process_that_executes_another_program_is_no_such_copy() -> None:
    program, roles = fitted(recorded(executes=True))
    assert [op.kind for op in program] == ["reply"] and not roles


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_writes_what_the_copy_of_its_original_wrote(tmp_path: Path) -> None:
    profile = service_profile()
    service = profile.services[0]

    def times(kind: OpKind, call: str, count: int = 1, **more: object) -> Timer:
        return Timer(period_ms=1.0, times=count, program=[Op(kind=kind, nr=NUMBERS[call], **more)])

    child = Role(
        kind="child",
        count=1,
        wait="blocking",
        timers=[
            times(OpKind.FILE_OPEN, "openat", a=len(service.files), c=0o1101),
            times(OpKind.FILE_WRITE, "write", 50, size=fixed(4096)),
            times(OpKind.FILE_SYNC, "sync_file_range"),
            times(OpKind.FILE_CLOSE, "close"),
        ],
    )
    fork = Op(kind=OpKind.FORK, nr=NUMBERS["clone"], a=len(service.roles))
    first = service.classes[0].model_copy(update={"program": [fork, *service.classes[0].program]})
    changed = service.model_copy(
        update={
            "classes": [first, service.classes[1]],
            "roles": [*service.roles, child],
            "files": [*service.files, FileGroup(kind="regular", size=fixed(0))],
        }
    )
    folder, log = tmp_path / "clone", tmp_path / "log"
    changed_profile = profile.model_copy(update={"services": [changed]})
    with (
        traced_clone(changed_profile, folder, log) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
    ):
        for number in range(2):
            sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
            assert sock.recv(4096)[:1] == b"$"
            until(lambda: log.read_text().count("exit_group(0)") > number)  # noqa: B023
    lines = whole_calls(log).splitlines()
    ended = [line.split()[0] for line in lines if "exit_group(0)" in line]
    assert len(set(ended)) == 3  # the last is the clone itself
    for pid in ended[:2]:
        own = [line for line in lines if line.startswith(pid + " ")]
        assert len([line for line in own if re.search(r"write\(\d+, .* = 4096$", line)]) == 50
        assert len([line for line in own if "sync_file_range(" in line and line.endswith("= 0")]) == 1


def test_a_process_that_a_request_starts_is_no_part_of_a_timer() -> None:
    record = Recorder((PID,))
    record.call(PID, "epoll_wait", 1, 4)
    record.call(PID, "accept4", 7, LISTENER)
    for number in range(8):
        record.now += 100_000_000
        record.call(PID, "epoll_wait", 0, 4)
        record.call(PID, "getpid", PID)
        if number == 4:
            saving(record, writes=2)
    work = record.work()
    thread = work.threads[PID]
    timer = find_timer([thread], {b"GET": [*thread.cycles, *thread.cycles[1:] * 40]}, record.now)
    assert timer is not None and len(timer.bursts) >= 8
    assert not any(event.nr == NUMBERS["clone"] for burst in timer.bursts for event in burst)
