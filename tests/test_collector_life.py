"""Collectors beside running services: what they leave behind, what they agree with, what is open in a process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from ditto.artifacts.records import Kind, Mode, load_recording
from ditto.errors import MissingCapabilityError, RecordingError
from ditto.host.snapshot import connections_to, descriptors, tree
from ditto.observe.native_run import CallCounter, NativeRecorder

Which = Literal["ebpf", "ptrace"]
COLLECTORS = [pytest.param("ebpf", marks=pytest.mark.ebpf), pytest.param("ptrace")]
READ, WRITE, EPOLL_WAIT = 0, 1, 232

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None,
    reason="redis-server and redis-benchmark are not installed",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: alive(port))
        yield server, port
    finally:
        server.kill()
        server.wait()


def alive(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16) == b"+PONG\r\n"
    except OSError:
        return False


def runs(pid: int) -> bool:
    """Whether a process still runs; an orphan that has ended may be left for this one to reap."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_until(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def load(port: int, requests: int) -> None:
    subprocess.run(
        ["redis-benchmark", "-p", str(port), "-t", "set", "-n", str(requests), "-c", "5", "-d", "100", "-q"],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=120,
    )


def start(recorder: NativeRecorder, pids: list[int], out: Path, which: Which, mode: Mode = Mode.ALL) -> None:
    try:
        recorder.start(pids, out, which, mode=mode)
    except MissingCapabilityError as error:
        pytest.skip(str(error))


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


CONTROLLER = """
import sys, time
from pathlib import Path
from ditto.observe.native_run import NativeRecorder
recorder = NativeRecorder()
recorder.start([int(sys.argv[1])], Path(sys.argv[2]), sys.argv[3])
print("recording", flush=True)
time.sleep(600)
"""


@needs_redis
@pytest.mark.parametrize("which", COLLECTORS)
@pytest.mark.parametrize("victim", ["controller", "collector"])
def test_sigkill_leaves_the_app_and_nothing_else(
    which: Which, victim: str, redis: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    server, port = redis
    with NativeRecorder() as probe:
        start(probe, [server.pid], tmp_path / "probe.rec", which)
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(server.pid), str(tmp_path / "killed.rec"), which],
        stdout=subprocess.PIPE,
    )
    try:
        assert controller.stdout is not None
        assert controller.stdout.readline() == b"recording\n"
        collectors = children(controller.pid)
        load(port, 500)
        os.kill(controller.pid if victim == "controller" else next(iter(collectors)), signal.SIGKILL)
        if victim == "controller":
            controller.wait(timeout=10)
            wait_until(lambda: not any(runs(pid) for pid in collectors))
            assert len(load_recording(tmp_path / "killed.rec").records) > 500
        assert server.poll() is None
        wait_until(lambda: "TracerPid:\t0" in Path(f"/proc/{server.pid}/status").read_text())
        assert alive(port)
        load(port, 500)
    finally:
        controller.kill()
        controller.wait()
        controller.stdout.close() if controller.stdout else None


@needs_redis
@pytest.mark.parametrize("which", COLLECTORS)
def test_a_killed_collector_is_an_error(
    which: Which, redis: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    server, port = redis
    recorder = NativeRecorder()
    before = children(os.getpid())
    start(recorder, [server.pid], tmp_path / "x.rec", which)
    for pid in children(os.getpid()) - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(RecordingError):
        recorder.stop()
    assert children(os.getpid()) == before
    assert alive(port)


@needs_redis
@pytest.mark.parametrize("which", COLLECTORS)
def test_stop_reaps_and_a_failing_block_too(
    which: Which, redis: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    server, _ = redis
    before = children(os.getpid())
    with pytest.raises(ZeroDivisionError), NativeRecorder() as recorder:
        start(recorder, [server.pid], tmp_path / "x.rec", which)
        raise ZeroDivisionError
    assert children(os.getpid()) == before


@needs_redis
@pytest.mark.ebpf
def test_redis_calls_agree_with_strace_and_counter(redis: tuple[subprocess.Popen[bytes], int], tmp_path: Path) -> None:
    """One load, three observers at once: recorder, counter in the kernel, strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    server, port = redis
    summary = tmp_path / "strace.txt"
    strace = subprocess.Popen(
        ["strace", "-f", "-c", "-U", "name,calls", "-o", str(summary), "-p", str(server.pid)],
        stderr=subprocess.DEVNULL,
    )
    with NativeRecorder() as recorder, CallCounter() as counter:
        wait_until(lambda: "TracerPid:\t0" not in Path(f"/proc/{server.pid}/status").read_text())
        start(recorder, [server.pid], tmp_path / "redis.rec", "ebpf")
        counter.start([server.pid])
        load(port, 4001)
        time.sleep(0.3)
        counts = counter.read()
        status = recorder.stop()
        strace.send_signal(signal.SIGINT)
        strace.wait(timeout=20)
    assert status.lost == 0
    rows = load_recording(tmp_path / "redis.rec").records
    rows = rows[rows["kind"] == Kind.SYSCALL]
    writes = rows[(rows["nr"] == WRITE) & (rows["ret"] == 5)]
    assert len(writes) == 4001
    assert {row.tobytes()[:5] for row in writes["payload"]} == {b"+OK\r\n"}
    theirs = {}
    for line in summary.read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit():
            theirs[words[0]] = int(words[1])
    kernel: Counter[int] = Counter()
    for row in counts:
        kernel[row.nr] += row.count
    # Redis' own timer may fire (waits, and a read of /proc) between one observer's first look and another's.
    for name, nr, slack in (("write", WRITE, 0), ("read", READ, 20), ("epoll_wait", EPOLL_WAIT, 40)):
        ours = int(np.count_nonzero(rows["nr"] == nr))
        assert abs(ours - theirs[name]) <= slack, name
        assert abs(ours - kernel[nr]) <= slack, name


@needs_redis
def test_descriptors_of_a_running_service(redis: tuple[subprocess.Popen[bytes], int]) -> None:
    server, port = redis
    assert connections_to(port) == 0
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(16) == b"+PONG\r\n"
        found = descriptors([server.pid])
        assert connections_to(port) == 1
    by_kind = Counter(entry.kind for entry in found)
    assert by_kind["epoll"] == 1 and by_kind["connection"] == 1 and by_kind["pipe"] >= 2
    assert {entry.port for entry in found if entry.kind == "listener"} == {port}
    connection = next(entry for entry in found if entry.kind == "connection")
    assert connection.flags & os.O_NONBLOCK and connection.nodelay
    seen = tree([server.pid])
    assert [process.pid for process in seen] == [server.pid] and seen[0].ppid == os.getpid()
    assert seen[0].threads[0].tid == server.pid and len(seen[0].threads) > 1


def test_descriptors_of_every_kind(tmp_path: Path) -> None:
    named = tmp_path / "with space"
    with (
        named.open("w+b") as file,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as link,
    ):
        file.write(b"x" * 1009)
        file.flush()
        udp.bind(("::1", 0))
        accepted, _ = server.accept()
        with accepted:
            found = {entry.fd: entry for entry in descriptors([os.getpid()])}
            entry = found[file.fileno()]
            assert (entry.kind, entry.size, entry.path) == ("file", 1009, str(named))
            assert (found[udp.fileno()].kind, found[udp.fileno()].port) == ("datagram", udp.getsockname()[1])
            assert (found[server.fileno()].kind, found[accepted.fileno()].kind) == ("listener", "connection")
            assert not found[accepted.fileno()].nodelay
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert {entry.fd for entry in descriptors([os.getpid()]) if entry.nodelay} == {accepted.fileno()}
            assert (found[link.fileno()].kind, found[link.fileno()].port) == ("downstream", server.getsockname()[1])
    assert descriptors([2**22 + 1]) == [] and tree([2**22 + 1]) == []
