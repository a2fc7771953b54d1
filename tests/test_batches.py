"""What an event loop does once for all requests of a wake-up: found in recordings, and done by clones."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from ditto.artifacts.profile import ClassMatch, Op, OpKind, ReplyShape, RequestClass
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.batches import batch_program, find_batch, with_batch
from ditto.model.classes import Placement
from ditto.streams.cycles import Cycle, Wake
from ditto.streams.events import Event, Obj
from profile_parts import fixed
from runtime_build import STATIC, build_clone, receive, running

LOG = Obj("file", 1, path=b"/a/log")
STORES, READS = b"SET", b"GET"
BYTES = 40
PLACEMENT = Placement(lambda name, op: 0, lambda slot: 8)
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


class Loop:
    """A loop's wake-ups: receives of all requests, the log, then the replies."""

    def __init__(self) -> None:
        self.wakes: list[Wake] = []
        self.classes: dict[bytes, list[Cycle]] = defaultdict(list)
        self._now = 0

    def call(self, name: str, ret: int, obj: Obj) -> Event:
        self._now += 1
        event = Event(1, 1, NUMBERS[name], ret, (5, 0, 0, 0, 0, 0), self._now, self._now)
        event.obj, event.index = obj, self._now
        return event

    def wake_up(self, keys: Sequence[bytes], each: bool = False) -> None:
        """One wake-up with requests of these classes; ``each``: the log is written for each as it comes."""
        wake = Wake(1, self.call("epoll_wait", len(keys), Obj("epoll", 2)), len(self.wakes))
        due = 0
        for key in keys:
            connection = Obj("connection", 3)
            cycle = Cycle(connection, 1, wake, self.call("read", 30, connection))
            cycle.add(cycle.receive, wake)
            wake.received.append(cycle)
            self.classes[key].append(cycle)
            due += BYTES * (key == STORES)
            if each and due:
                cycle.add(self.call("write", due, LOG), wake)
                due = 0
        if due:
            for name, ret in (("write", due), ("fdatasync", 0)):
                wake.received[-1].add(self.call(name, ret, LOG), wake)
        for cycle in wake.received:
            cycle.add(self.call("write", 5, cycle.connection), wake)
        self.wakes.append(wake)


def mixed(each: bool) -> Loop:
    loop, rng = Loop(), random.Random(4)
    for _ in range(300):
        loop.wake_up([rng.choice([STORES, READS, READS]) for _ in range(rng.randrange(1, 6))], each)
    return loop


def test_what_is_written_once_a_wake_up_is_asked_for_by_those_that_bring_it_about() -> None:
    loop = mixed(each=False)
    batch = find_batch(loop.wakes, loop.classes)
    assert batch is not None
    assert [(nr, obj) for (nr, obj), _ in batch.kinds] == [(NUMBERS["write"], LOG), (NUMBERS["fdatasync"], LOG)]
    assert batch.asks == {STORES: 1.0, READS: 0.0}
    assert abs(batch.bytes[STORES] - BYTES) < 0.5


def test_what_each_request_writes_is_no_batch() -> None:
    loop = mixed(each=True)
    assert find_batch(loop.wakes, loop.classes) is None


def test_single_requests_tell_nothing() -> None:
    loop = Loop()
    for _ in range(200):
        loop.wake_up([STORES])
    assert find_batch(loop.wakes, loop.classes) is None


def test_a_class_asks_in_place_of_writing_by_chance() -> None:
    loop = mixed(each=False)
    batch = find_batch(loop.wakes, loop.classes)
    assert batch is not None
    program = batch_program(batch, PLACEMENT)
    assert [(op.kind, op.b, op.size) for op in program] == [(OpKind.FILE_WRITE, 8, None), (OpKind.FILE_SYNC, 8, None)]
    fitted = RequestClass(
        probability=1.0,
        match=ClassMatch(verb="SET"),
        request_bytes=fixed(30),
        replies=[ReplyShape(probability=1.0, kind="simple", size=fixed(2))],
        program=[
            Op(kind=OpKind.FILE_WRITE, nr=NUMBERS["write"], b=8, probability=0.3, size=fixed(90)),
            Op(kind=OpKind.FILE_SYNC, nr=NUMBERS["fdatasync"], b=8, probability=0.3),
            Op(kind=OpKind.REPLY, nr=NUMBERS["write"], deferred=True),
        ],
    )
    stores = with_batch(fitted, STORES, batch, program).program
    assert [(op.kind, op.probability) for op in stores] == [(OpKind.BATCH, 1.0), (OpKind.REPLY, 1.0)]
    assert stores[0].size == fixed(BYTES)
    assert [op.kind for op in with_batch(fitted, READS, batch, program).program] == [OpKind.REPLY]


@needs_strace
def test_a_clone_writes_once_for_all_that_came_together(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "batch", mode=STATIC)
    log = tmp_path / "log"
    store, ask = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n", b"*1\r\n$4\r\nPING\r\n"
    calls = "trace=write,fdatasync,flock,fadvise64,sendto"
    prefix = ("strace", "-f", "-qq", "-e", calls, "-s", "8", "-o", str(log))
    with running(binary, prefix=prefix, check=False) as clone:
        socks = [clone.connect() for _ in range(6)]
        for sock in socks:
            sock.sendall(ask)
            receive(sock, 5)
        found = subprocess.run(["pgrep", "-P", str(clone.process.pid)], check=True, capture_output=True, text=True)
        served = int(found.stdout.split()[0])
        for together in (1, 6):
            subprocess.run(["kill", f"-{int(signal.SIGSTOP)}", str(served)], check=True)
            time.sleep(0.2)
            for sock in socks[:together]:
                sock.sendall(store)
            subprocess.run(["kill", f"-{int(signal.SIGCONT)}", str(served)], check=True)
            for sock in socks[:together]:
                assert receive(sock, 5) == b"+OK\r\n"
        for sock in socks:
            sock.close()
    lines = [line for line in log.read_text().splitlines() if not line.endswith("---")]
    names = [match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line))]
    sizes = [int(match[1]) for line in lines if (match := re.search(r" write\(\d+,.* = (\d+)", line))]
    once = ["write", "flock", "fadvise64", "fdatasync"]
    assert sizes[-2:] == [45, 6 * 45]
    assert names[-15:] == [*once, "sendto", *once, *["sendto"] * 6]
