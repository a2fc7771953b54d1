"""Clones generated from a profile, driven over the network: what a profile tells about connections holds."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto.artifacts.profile import Dist, Op, OpKind, Profile, Timer
from ditto.artifacts.syscalls import NUMBERS
from ditto.generate.clone import generate, write_clone
from ditto.model.handover import closing_ops
from ditto.paths import runtime_sources
from profile_parts import service_profile

GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"


def changed(role: dict[str, object] | None = None, cls: dict[str, object] | None = None) -> Profile:
    """The small profile with its role and its classes changed."""
    profile = service_profile()
    service = profile.services[0]
    roles = [r.model_copy(update=role or {}) for r in service.roles]
    classes = [c.model_copy(update=cls or {}) for c in service.classes]
    return profile.model_copy(update={"services": [service.model_copy(update={"roles": roles, "classes": classes})]})


@contextlib.contextmanager
def running(profile: Profile, folder: Path) -> Iterator[int]:
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen([str(folder / "build" / "clone"), "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def ask(port: int, wait: float = 0.0) -> tuple[bytes, bool]:
    """One request; the reply, and whether the server closed the connection after it."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
        time.sleep(wait)
        sock.sendall(GET)
        data = sock.recv(4096)
        sock.settimeout(0.3)
        try:
            return data, sock.recv(4096) == b""
        except TimeoutError:
            return data, False


def test_connections_close_after_the_reply_where_the_originals_do(tmp_path: Path) -> None:
    with running(changed(cls={"closes": 1.0}), tmp_path / "closing") as port:
        assert [ask(port)[1] for _ in range(5)] == [True] * 5
    with running(changed(), tmp_path / "keeping") as port:
        assert [ask(port)[1] for _ in range(3)] == [False] * 3


def test_what_a_client_still_says_is_dropped_at_a_close_that_nobody_waits_for(tmp_path: Path) -> None:
    """As lighttpd closes; with connections whose calls block, a loop that waited for one would answer no other."""
    seen = [Op(kind=OpKind.SHUTDOWN, nr=48, a=1), Op(kind=OpKind.DRAIN, nr=45, a=4096), Op(kind=OpKind.DRAIN, nr=0)]
    seen += [Op(kind=OpKind.EPOLL_ADD, nr=233, a=1), Op(kind=OpKind.CLOSE, nr=3)]
    closing = closing_ops(seen)
    assert [(op.kind, op.nr) for op in closing] == [(OpKind.SHUTDOWN, 48), (OpKind.DRAIN, 45), (OpKind.CLOSE, 3)]
    service = changed(role={"on_close": closing}, cls={"closes": 1.0}).services[0]
    listener = service.listener.model_copy(update={"accept_flags": 0})
    profile = service_profile().model_copy(update={"services": [service.model_copy(update={"listener": listener})]})
    with running(profile, tmp_path / "clone") as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(GET)
        assert silent.recv(4096)
        assert [ask(port)[1] for _ in range(3)] == [True] * 3


def test_options_of_the_listener_that_are_more_than_a_number_are_set(tmp_path: Path) -> None:
    """A connection of a listener that lingers for no time is reset where it is closed."""
    service = changed(cls={"closes": 1.0}).services[0]
    lingers = Op(kind=OpKind.SETSOCKOPT, nr=54, a=socket.SOL_SOCKET, b=socket.SO_LINGER, c=1)
    listener = service.listener.model_copy(update={"sockopts": [lingers]})
    profile = service_profile().model_copy(update={"services": [service.model_copy(update={"listener": listener})]})
    with running(profile, tmp_path / "clone") as port, pytest.raises(ConnectionResetError):
        ask(port)


def test_a_request_that_came_with_the_connection_is_answered(tmp_path: Path) -> None:
    """The original receives right after it accepts; with edge-triggered events nobody reports the data again."""
    accept = [
        Op(kind=OpKind.RECV_AGAIN, nr=0),
        Op(kind=OpKind.EPOLL_ADD, nr=233, a=-2147483647),  # EPOLLIN | EPOLLET
    ]
    with running(changed(role={"on_accept": accept}), tmp_path / "clone") as port:
        for number in range(20):
            data, closed = ask(port, 0.05 * (number % 2))
            assert data[:1] == b"$" and not closed


def test_a_timer_that_follows_the_requests_runs_without_a_clock(tmp_path: Path) -> None:
    role = service_profile().services[0].roles[0]
    timer = role.timers[0].model_copy(update={"requests": 3, "period_ms": 1e6})
    with running(changed(role={"timers": [timer]}), tmp_path / "clone") as port:
        assert all(ask(port)[0][:1] == b"$" for _ in range(10))


def test_a_periodic_thread_that_follows_the_load_sleeps_longer_without_one(tmp_path: Path) -> None:
    profile = changed()
    (role, *_), nr = profile.services[0].roles, NUMBERS["clock_nanosleep"]
    timer = Timer(period_ms=10, requests=2, program=[Op(kind=OpKind.COMPUTE, block=0)])
    periodic = role.model_copy(update={"kind": "periodic", "wait_nr": nr, "listens": False, "timers": [timer]})
    process = profile.services[0].processes[0].model_copy(update={"roles": [0, 1]})
    service = profile.services[0].model_copy(update={"roles": [role, periodic], "processes": [process]})
    write_clone(generate(profile.model_copy(update={"services": [service]}), runtime_sources()), tmp_path / "clone")
    subprocess.run(["make", "-s", "-C", str(tmp_path / "clone"), "CFLAGS=-O1"], check=True, timeout=120)
    binary = str(tmp_path / "clone" / "build" / "clone")
    with subprocess.Popen([binary, "--port", "0"], stdout=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None
        port = int(clone.stdout.readline().split()[-1])
        time.sleep(0.7)
        began, before = time.monotonic(), sleeps_of_the_second(clone.pid)
        time.sleep(0.5)
        idle = (sleeps_of_the_second(clone.pid) - before) / (time.monotonic() - began)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            for number in range(1200):
                sock.sendall(GET)
                assert sock.recv(4096)
                time.sleep(0.001)
                if number == 600:
                    began, before = time.monotonic(), sleeps_of_the_second(clone.pid)
            busy = (sleeps_of_the_second(clone.pid) - before) / (time.monotonic() - began)
        clone.terminate()
    assert 3 * idle < busy < 110


def sleeps_of_the_second(pid: int) -> int:
    """How often the one thread of a process that is not its first has waited."""
    (other,) = (path for path in Path(f"/proc/{pid}/task").iterdir() if path.name != str(pid))
    (line,) = (words for words in (other / "status").read_text().splitlines() if words.startswith("voluntary"))
    return int(line.split()[1])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_mappings_of_several_sizes_are_never_unmapped_where_the_original_keeps_them(tmp_path: Path) -> None:
    sizes = Dist(values=[8192, 65536, 1 << 20], weights=[1.0, 1.0, 1.0])
    program = [Op(kind=OpKind.MMAP, nr=9, size=sizes), Op(kind=OpKind.REPLY, nr=1)]
    write_clone(generate(changed(cls={"program": program}), runtime_sources()), tmp_path / "clone")
    subprocess.run(["make", "-s", "-C", str(tmp_path / "clone"), "CFLAGS=-O1"], check=True, timeout=120)
    calls = tmp_path / "calls"
    binary = str(tmp_path / "clone" / "build" / "clone")
    with subprocess.Popen([binary, "--port", "0"], stdout=subprocess.PIPE, text=True) as clone:
        assert clone.stdout is not None
        port = int(clone.stdout.readline().split()[-1])
        words = ["strace", "-f", "-e", "trace=mmap,munmap", "-o", str(calls), "-p", str(clone.pid)]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as strace:
            time.sleep(0.5)
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                for _ in range(300):
                    sock.sendall(GET)
                    assert sock.recv(4096)
            strace.terminate()
        clone.terminate()
    made = calls.read_text()
    assert made.count("mmap(") >= 300 and "munmap(" not in made
