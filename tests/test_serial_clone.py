"""Servers whose threads or processes serve one connection at a time: what their clones do."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from ditto.artifacts.profile import Op, OpKind, Process, Profile, ReplyShape, Role
from ditto.artifacts.syscalls import NUMBERS, name_of
from ditto.generate.clone import generate, write_clone
from ditto.model.classes import exclusive_replies
from ditto.paths import runtime_sources
from ditto.streams.events import MISC
from profile_parts import fixed, service_profile
from serial_parts import REQUEST
from strace_parts import traced_clone, whole_calls


def serial_profile(**role: object) -> Profile:
    """The small profile served by three processes below a master that only sleeps."""
    profile = service_profile()
    service = profile.services[0]
    values: dict[str, object] = {
        "kind": "accept_serve", "count": 1, "wait": "poll", "wait_nr": 7, "listens": True, "receive_first": True,
        "on_accept": [Op(kind=OpKind.FCNTL, nr=72, a=4, b=2050)], "on_close": [Op(kind=OpKind.CLOSE, nr=3)], **role,
    }  # fmt: skip
    changes = {
        "roles": [Role(kind="idle", count=1, wait_nr=34), Role.model_validate(values)],
        "processes": [Process(roles=[0]), Process(parent=0, count=3, roles=[1])],
        "listener": service.listener.model_copy(update={"nonblocking": False, "accept_flags": 0}),
    }
    return profile.model_copy(update={"services": [service.model_copy(update=changes)]})


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_replies_leave_by_the_calls_that_they_left_by(tmp_path: Path) -> None:
    """Of one kind of request some replies by a write, and others by a writev."""
    ways = exclusive_replies([Op(kind=OpKind.REPLY, nr=nr, probability=0.5) for nr in (1, 20)])
    profile = serial_profile()
    service = profile.services[0]
    classes = [service.classes[0].model_copy(update={"program": ways}), *service.classes[1:]]
    profile = profile.model_copy(update={"services": [service.model_copy(update={"classes": classes})]})
    with (
        traced_clone(profile, tmp_path / "clone", tmp_path / "log") as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
    ):
        for _ in range(100):
            sock.sendall(REQUEST)
            assert sock.recv(4096)[:1] == b"$"
    calls = Counter(re.findall(r"^\d+ +(writev?)\(\d+, .*\$", whole_calls(tmp_path / "log"), re.MULTILINE))
    assert calls.total() == 100 and min(calls.values()) > 20 and len(calls) == 2


@pytest.mark.parametrize(("wait", "call"), [("poll", "poll"), ("select", "pselect6")])
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_clone_makes_the_calls_of_such_a_worker(tmp_path: Path, wait: str, call: str) -> None:
    folder, log = tmp_path / "clone", tmp_path / "log"
    before = [Op(kind=OpKind.MISC, nr=NUMBERS[name]) for name in ("getppid", "connect")]
    profile = serial_profile(before_accept=before, wait=wait, wait_nr=NUMBERS[call])
    with traced_clone(profile, folder, log) as port:
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                for _ in range(10):
                    time.sleep(0.02)  # so that the receive finds nothing first
                    sock.sendall(REQUEST)
                    assert sock.recv(4096)[:1] == b"$"
        time.sleep(0.5)
    lines = whole_calls(log).splitlines()
    accepted = {line.split()[0] for line in lines if re.search(r"accept4.*= \d+$", line)}
    calls: Counter[str] = Counter()
    for pid in accepted:
        mine = [line for line in lines if line.split()[0] == pid]
        begin = next(i for i, line in enumerate(mine) if "accept4" in line)
        calls += Counter(m[1] for line in mine[begin:] if (m := re.match(r"\d+ +(\w+)\(", line)) is not None)
    assert 1 <= len(accepted) <= 3
    assert calls["write"] == 60
    assert 54 <= calls[call] <= 66, calls
    assert calls["read"] - calls[call] in range(60, 73), calls  # after each wait again, and one end a connection
    refused = calls.pop("socket")  # made, refused and closed by one operation
    assert calls.pop("connect") == refused >= 6 and re.search(r"connect\(.*ENOENT", "".join(lines))
    assert calls["fcntl"] == calls["close"] - refused == 6
    assert 6 <= calls["getppid"] <= 12 and 6 <= calls["accept4"] <= 12
    assert calls.pop("mmap", 0) <= 3 * len(accepted)  # memory of a first connection
    assert not set(calls) - {"write", call, "read", "fcntl", "close", "getppid", "accept4", "rt_sigreturn"}, calls


@pytest.mark.parametrize(("once", "least", "most"), [(True, 20, 21), (False, 38, 41)])
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_rest_of_a_request_is_waited_for_as_the_original_does(
    tmp_path: Path, once: bool, least: int, most: int
) -> None:
    folder, log = tmp_path / "clone", tmp_path / "log"
    profile = serial_profile(
        receive_first=False, on_accept=[], waits_once=once, each_wake=[Op(kind=OpKind.MISC, nr=NUMBERS["getpid"])]
    )
    with (
        traced_clone(profile, folder, log) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20):
            sock.sendall(REQUEST[:6])
            time.sleep(0.02)
            sock.sendall(REQUEST[6:])
            assert sock.recv(4096)[:1] == b"$"
    calls = whole_calls(log)
    polls = re.findall(r"^\d+ +poll\(.*POLLIN", calls, re.MULTILINE)
    assert least <= len(polls) <= most
    assert least <= len(re.findall(r"^\d+ +getpid\(", calls, re.MULTILINE)) <= most + 3  # and at a process' start


def workers_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("wait", ["select", "epoll"])
def test_a_listener_that_is_waited_for(tmp_path: Path, wait: str) -> None:
    folder = tmp_path / "clone"
    profile = serial_profile(listen_wait=wait, accept_first=False, wait="blocking", receive_first=False)
    service = profile.services[0]
    listener = service.listener.model_copy(update={"nonblocking": True})
    profile = profile.model_copy(update={"services": [service.model_copy(update={"listener": listener})]})
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    with subprocess.Popen([str(folder / "build" / "clone"), "--port", "0"], stdout=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None
        port = int(clone.stdout.readline().split()[-1])
        try:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                    sock.sendall(REQUEST)
                    assert sock.recv(4096)[:1] == b"$"
            before = sum(map(cpu_ticks, workers_of(clone.pid)))
            time.sleep(0.7)
            spent = sum(map(cpu_ticks, workers_of(clone.pid))) - before
            assert spent < 3, "they spin while there is no connection"
        finally:
            clone.terminate()


def test_a_reply_that_ends_with_the_connection(tmp_path: Path) -> None:
    profile = serial_profile(wait="blocking", receive_first=False)
    service = profile.services[0]
    shape = ReplyShape(probability=1.0, kind="http_close", status=200, head_bytes=120, size=fixed(300))
    first = service.classes[0]
    cls = first.model_copy(
        update={
            "match": first.match.model_copy(update={"verb": "GET"}),
            "replies": [shape],
            "closes": 1.0,
            "probability": 1.0,
            "program": [Op(kind=OpKind.REPLY, nr=1)],
        }
    )
    changes = {
        "codec": "http1",
        "classes": [cls],
        "blocks": [b.model_copy(update={"request_class": 0}) for b in service.blocks],
    }
    profile = profile.model_copy(update={"services": [service.model_copy(update=changes)]})
    folder = tmp_path / "clone"
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    with subprocess.Popen([str(folder / "build" / "clone"), "--port", "0"], stdout=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None
        port = int(clone.stdout.readline().split()[-1])
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                data = b""
                with contextlib.suppress(ConnectionResetError):
                    while piece := sock.recv(4096):
                        data += piece
        finally:
            clone.terminate()
    head, _, body = data.partition(b"\r\n\r\n")
    assert len(head) + 4 == 120 and len(body) == 300
    assert b"content-length" not in head.lower() and b"Connection: close" in head


def test_the_runtime_makes_every_call_that_is_no_more_than_a_call() -> None:
    made = set(re.findall(r"case SYS_(\w+):", (runtime_sources() / "misc.c").read_text()))
    assert {name_of(nr) for nr in MISC} <= made
