"""Connections that pass from process to process (SCM_RIGHTS): recorded, followed, modelled, and passed by the clone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest

import test_shapes
from ditto.artifacts.observation import ProcessSeen, ThreadSeen
from ditto.artifacts.profile import OpKind
from ditto.artifacts.records import RECORD, Kind, Mode, load_recording
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import MissingCapabilityError
from ditto.model.handover import Handover, find_handover
from ditto.model.roles import find_roles
from ditto.model.shape import served_before_passed
from ditto.observe.native_run import NativeRecorder
from ditto.streams.events import Obj
from ditto.streams.lives import setup_work
from ditto.streams.passing import Passing
from ditto.streams.serial import serial_waits
from serial_parts import LISTENER, REQUEST, Recorder

MASTER, WORKERS, EPOLL, PAIR, INODE = 10, (20, 21), 4, 5, 900
REPLY = b"$100\r\n" + b"v" * 100 + b"\r\n"

PASSER = """
import os, socket, sys
left, right = socket.socketpair()
sys.stdin.readline()
left.sendmsg([b"none"])
right.recv(4)  # before there is a child that could take it
if os.fork() == 0:
    _, fds, _, _ = socket.recv_fds(right, 16, 2)
    os._exit(0)
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
sock, _ = listener.accept()
print(os.fstat(sock.fileno()).st_ino, sock.fileno(), flush=True)
socket.send_fds(left, [b"c"], [sock.fileno()])
sys.stdin.readline()
"""

SERVER = """
import os, socket, sys
def work(pair):
    while True:
        _, fds, _, _ = socket.recv_fds(pair, 1, 1)
        with socket.socket(fileno=fds[0]) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while sock.recv(4096):
                sock.sendall(b"$100\\r\\n" + b"v" * 100 + b"\\r\\n")
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=64)
pairs = []
for _ in range(5):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        work(theirs)
    pairs.append(ours)
turn = 0
while True:
    sock, _ = listener.accept()
    socket.send_fds(pairs[turn % 5], [b"c"], [sock.fileno()])
    sock.close()
    turn += 1
"""


@pytest.mark.parametrize("collector", [pytest.param("ebpf", marks=pytest.mark.ebpf), pytest.param("ptrace")])
@pytest.mark.parametrize("mode", [Mode.ALL, Mode.STRUCTURE])
def test_a_descriptor_that_passes_is_recorded_on_both_sides(
    tmp_path: Path, collector: Literal["ebpf", "ptrace"], mode: Mode
) -> None:
    command = [sys.executable, "-c", PASSER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        with NativeRecorder() as recorder:
            try:
                recorder.start([process.pid], tmp_path / "rec", collector, 8, mode, 0)
            except MissingCapabilityError as error:
                process.kill()
                pytest.skip(str(error))
            process.stdin.write("go\n")
            process.stdin.flush()
            inode, fd = map(int, process.stdout.readline().split())
            process.stdin.write("end\n")
            process.stdin.flush()
            assert process.wait(20) == 0
    records = load_recording(tmp_path / "rec").records
    calls = records[
        (records["kind"] == Kind.SYSCALL) & np.isin(records["nr"], (NUMBERS["sendmsg"], NUMBERS["recvmsg"]))
    ]
    sent = calls[calls["nr"] == NUMBERS["sendmsg"]]
    plain = [[0, 0, 0]] if mode is Mode.ALL else []  # what passes nothing is no part of a server's structure
    assert sent["args"][:, 3:].tolist() == [*plain, [1, fd, inode]]
    (taken,) = calls[calls["nr"] == NUMBERS["recvmsg"]]
    assert (taken["args"][3], taken["args"][5], taken["ret"]) == (1, inode, 1)


def passing(serial: bool, late: bool) -> Recorder:
    """A process that accepts for two others; ``late``: it closes its copy only after the first request."""
    record = Recorder((MASTER,))
    pairs = {pid: record.table._new("socket") for pid in WORKERS}
    for number, pid in enumerate(WORKERS):
        record.table._tables[MASTER][PAIR + number] = pairs[pid]
        record.table._tables[pid] = {PAIR: pairs[pid]}
    for turn in range(6):
        pid, number = WORKERS[turn % 2], turn % 2
        record.call(MASTER, "accept4", 7, LISTENER)
        record.call(MASTER, "sendmsg", 1, PAIR + number, 0, 0, 1, 7, INODE + turn)
        if not late:
            record.call(MASTER, "close", 0, 7)
        if not serial:
            record.call(pid, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        record.call(pid, "recvmsg", 1, PAIR, 0, 0x40000000, 1, 9, INODE + turn)
        record.call(pid, "setsockopt", 0, 9, 6, 1)
        for at in range(3):
            if not serial:
                record.call(pid, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
            record.call(pid, "read", len(REQUEST), 9, 0, 4096, payload=REQUEST)
            if late and not at:
                record.call(MASTER, "close", 0, 7)
            record.call(pid, "write", len(REPLY), 9, 0, len(REPLY), payload=REPLY)
        record.call(pid, "read", 0, 9, 0, 4096)
        record.call(pid, "close", 0, 9)
    return record


def test_a_process_that_served_a_connection_first_ends_nothing_by_closing_its_copy() -> None:
    """As one does that lets clients log in and hands them on to others."""
    record = Recorder((MASTER,))
    record.call(MASTER, "accept4", 7, LISTENER)
    record.call(MASTER, "read", len(REQUEST), 7, 0, 4096, payload=REQUEST)
    connection = record.table._tables[MASTER][7]
    record.table._tables[20] = {9: connection}
    record.call(MASTER, "close", 0, 7)
    record.call(20, "fcntl", 0, 9, 4, 2050)
    for _ in range(3):
        record.call(20, "write", len(REPLY), 9, 0, len(REPLY), payload=REPLY)
        record.call(20, "read", len(REQUEST), 9, 0, 4096, payload=REQUEST)
    record.call(20, "write", len(REPLY), 9, 0, len(REPLY), payload=REPLY)
    record.call(20, "close", 0, 9)
    work = record.work()
    work.lives[connection].setup[0].nr, work.lives[connection].setup[0].args = NUMBERS["sendmsg"], (5, 0, 0, 1, 7, 900)
    assert served_before_passed(work) == 1.0
    assert [cycle.sent for cycle in work.threads[20].cycles] == [len(REPLY)] * 3
    assert len(work.lives[connection].closing) == 1


@pytest.mark.parametrize("serial", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_connections_that_pass_are_followed(serial: bool, late: bool) -> None:
    record = passing(serial, late)
    work = record.work()
    assert [len(work.threads[pid].cycles) for pid in WORKERS] == [9, 9]
    assert {life.acceptor for life in work.lives.values()} == {MASTER}
    assert [(name.kind, op.count) for name, op in setup_work(work, True).ordered()] == [("close", 6)]
    assert [(name.kind, op.count) for name, op in setup_work(work, False).ordered()] == [("setsockopt", 6)]
    assert all((serial_waits(work.threads[pid]) is not None) == serial for pid in WORKERS)
    seen = [
        ProcessSeen(pid=pid, ppid=MASTER if pid != MASTER else 1, name="", rss_bytes=0,
                    threads=[ThreadSeen(tid=pid, name="", syscall=NUMBERS[call])])
        for pid, call in ((MASTER, "accept4"), *((pid, "recvmsg") for pid in (*WORKERS, 22)))
    ]  # fmt: skip
    roles = find_roles(record.stream(), work, seen)
    if serial:  # one that was given nothing is as those that were
        assert [(role.kind, role.threads) for role in roles.roles] == [("accept_serve", [10]), ("serve", [20, 21, 22])]
    evidence = SimpleNamespace(work=work, stream=SimpleNamespace(births={}, born_ns={}))
    assert find_handover(evidence, roles, roles.roles[0]) == Handover(1, "pass")  # type: ignore[arg-type]


def test_what_is_received_before_its_send_returns_is_the_same() -> None:
    records = np.zeros(1, RECORD)
    records[0]["kind"], records[0]["nr"] = Kind.SYSCALL, NUMBERS["sendmsg"]
    records[0]["t_ns"], records[0]["wall_ns"], records[0]["pid"] = 500, 400, MASTER
    records[0]["args"] = (PAIR, 0, 0, 1, 7, INODE)
    connection = Obj("connection", 1)
    under_way, tables = Passing(), {MASTER: {7: connection}}
    under_way.expect(records)
    taken = SimpleNamespace(nr=NUMBERS["recvmsg"], args=(PAIR, 0, 0, 1, 9, INODE))
    under_way.until(99, tables)
    assert under_way.sent_or_taken(taken, {}) is None  # type: ignore[arg-type]
    under_way.until(100, tables)
    assert under_way.sent_or_taken(taken, {}) is connection  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_clone_passes_its_connections_as_its_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_shapes, "SERVER", SERVER)
    profile = test_shapes.modelled(tmp_path, "passes")
    service = profile.services[0]
    accepting, serving = service.roles
    assert (accepting.handover, accepting.hand_to, serving.kind, serving.count) == ("pass", 1, "serve", 1)
    assert serving.passage is not None and (serving.passage.bytes, serving.passage.own) == (1, True)
    assert any(op.kind is OpKind.SETSOCKOPT for op in serving.on_adopt)
    assert not any(op.kind is OpKind.CLOSE for op in accepting.on_accept)
    assert [process.count for process in service.processes] == [1, 5]
    loop = serving.model_copy(update={"kind": "loop", "wait": "epoll", "wait_nr": NUMBERS["epoll_wait"]})
    looping = service.model_copy(update={"roles": [accepting, loop]})
    for number, made in enumerate((profile, profile.model_copy(update={"services": [looping]}))):
        for pid, port in test_shapes.running(made, tmp_path / f"clone{number}"):
            time.sleep(0.2)
            assert test_shapes.tree(pid) == (6, 6)
            for _ in range(2):
                socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(5)]
                for _ in range(20):
                    for sock in socks:
                        sock.sendall(REQUEST)
                    for sock in socks:
                        assert sock.recv(4096)[:1] == b"$"
                for sock in socks:
                    sock.close()
