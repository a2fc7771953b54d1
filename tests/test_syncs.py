"""Logs that requests write and sync for each other: found as such, and shared by the threads of a clone."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from ditto.artifacts.profile import Op, OpKind
from ditto.artifacts.syscalls import NUMBERS
from ditto.generate.writer import Tables
from ditto.model.syncs import Syncs
from runtime_build import STATIC, build_clone, receive, running
from strace_parts import whole_calls
from test_sharing import LISTENER, REQUEST, Threads

ANSWER = b"HTTP/1.1 200 OK\r\n"
SMALL = (12).to_bytes(4, "big") + b"\xff\xff\0\xd7" + b"abcd"
WAIT = 128


def commits(found: int, waits: bool = True, begins: int = 1500) -> Threads:
    """Of 60 requests on two connections ``found`` leave their sync to the other's.

    That one ``begins`` so long before it ends.
    They wait for a futex until that one is done, or do not ``wait``.
    """
    record = Threads()
    for tid, fd in ((11, 7), (12, 8)):
        record.call(tid, "accept4", fd, LISTENER)
    for turn in range(30):
        record.call(12, "recvfrom", len(REQUEST), 8, payload=REQUEST)
        record.call(11, "recvfrom", len(REQUEST), 7, payload=REQUEST)
        record.call(11, "pwrite64", 8192, 20)
        record.now += 2000
        record.call(11, "fdatasync", 0, 20, lasts=begins)
        if turn >= found:
            record.call(12, "pwrite64", 8192, 20)
            record.call(12, "fdatasync", 0, 20)
        elif waits:
            record.call(12, "futex", 0, 0x1000, WAIT, lasts=3000)
        for tid, fd in ((11, 7), (12, 8)):
            record.call(tid, "sendto", 100, fd, payload=ANSWER)
    return record


@pytest.mark.parametrize(
    ("record", "share"),
    [
        (commits(20), 20 / 60),
        (commits(0), 0.0),
        (commits(5), 0.0),  # too few to tell
        (commits(20, waits=False), 0.0),
        (commits(20, begins=6000), 0.0),  # before the request came: not for it
    ],
)
def test_requests_that_wait_for_the_sync_of_another(record: Threads, share: float) -> None:
    work = record.work()
    cycles = [cycle for thread in work.threads.values() for cycle in thread.cycles]
    assert len(cycles) == 60
    assert Syncs(work).awaited(cycles) == pytest.approx(share)


def test_all_ask_where_some_await_the_sync_of_another() -> None:
    writer = Tables()
    drawn = [
        Op(kind=kind, nr=NUMBERS[name], b=slot, probability=share, start=start)
        for slot, share, start in ((8, 0.6, 0.0), (9, 0.2, 0.6))
        for kind, name in ((OpKind.FILE_WRITE, "pwrite64"), (OpKind.FILE_SYNC, "fdatasync"))
    ]
    writer.ops([*drawn, Op(kind=OpKind.REPLY)], 0.2)
    rows = [line for line in writer.lines if line.startswith("\t{")]
    assert ["DITTO_LOG" in row for row in rows] == [True] * 4 + [False]
    chances = [int(row.split(",")[3].strip().removesuffix("u")) / 2**32 for row in rows]
    starts = [int(row.rstrip("},").split(",")[-2].strip().removesuffix("u")) / 2**32 for row in rows]
    assert chances == pytest.approx([0.75, 0.75, 0.25, 0.25, 1.0]) and starts == pytest.approx([0, 0, 0.75, 0.75, 0])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_log_is_synced_for_all_that_have_asked(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "log", "log", mode=STATIC)
    alone, shared = (syncs(binary, tmp_path / f"{clients}", clients) for clients in (1, 12))
    assert alone - 240 in (0, 1)  # one more where the file is made
    assert shared < 0.8 * 240


def syncs(binary: Path, log: Path, clients: int) -> int:
    """Syncs that a clone makes for 240 requests of so many connections at a time; all are answered."""
    answered: list[int] = []
    prefix = ("strace", "-f", "-qq", "-e", "trace=fdatasync", "-o", str(log))
    with running(binary, prefix=prefix, check=False) as clone:

        def run() -> None:
            with clone.connect() as sock:
                for _ in range(240 // clients):
                    sock.sendall(SMALL)
                    answered.append(len(receive(sock, 20)))

        threads = [threading.Thread(target=run) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    assert answered == [20] * 240
    return whole_calls(log).count("fdatasync(")
