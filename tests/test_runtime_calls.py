"""The runtime issues exactly the calls its tables tell; its processes, threads and files; real clients."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from ditto.artifacts.prints import path_print
from runtime_build import (
    CODEC_SOURCES,
    DRIVERS,
    PRINT_KEY,
    RUNTIME,
    STATIC,
    Clone,
    build_clone,
    compile_c,
    receive,
    running,
    runtime_sources,
)  # fmt: skip

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
CONNECTIONS = 20
ROUNDS = 50


def traced(binary: Path, log: Path, request: bytes, reply_bytes: int | None) -> tuple[Counter[str], list[str]]:
    """Calls made while 20 connections make 50 requests each, one at a time on each."""
    prefix = ("strace", "-f", "-qq", "-s", "16", "-o", str(log))
    with running(binary, prefix=prefix, check=False) as clone:
        socks = [clone.connect() for _ in range(CONNECTIONS)]
        for sock in socks:  # the first round also adopts the connection
            _ask(sock, request, reply_bytes)
        before = len(log.read_text().splitlines())
        for _ in range(ROUNDS):
            for sock in socks:
                _ask(sock, request, reply_bytes)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:  # strace writes a little later
            after = log.read_text().splitlines()
            time.sleep(0.05)
            if len(after) == len(log.read_text().splitlines()):
                break
        lines = after[before:]
        for sock in socks:
            sock.close()
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
        clone.process.wait(timeout=10)
    names = Counter(
        match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line)) is not None
    )  # an interrupted call is counted where it begins
    return names, lines


def _ask(sock: socket.socket, request: bytes, reply_bytes: int | None) -> None:
    sock.sendall(request)
    if reply_bytes is None:
        data = b""
        while not data.endswith(b"END\r\n"):
            data += sock.recv(65536)
    else:
        assert len(receive(sock, reply_bytes)) == reply_bytes


@needs_strace
def test_calls_of_a_single_loop(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    calls, lines = traced(binary, tmp_path / "log", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n", 5)
    requests = CONNECTIONS * ROUNDS
    ticks = calls.pop("getpid", 0)  # the timer: open, read, close, getpid
    assert calls.pop("openat", 0) == ticks and calls.pop("close", 0) == ticks
    assert calls.pop("futex", 0) <= 3  # the idle threads, where one began late
    assert calls["read"] == requests + ticks
    assert calls["write"] == requests
    assert requests <= calls["epoll_wait"] <= requests + ticks + 1
    assert set(calls) == {"read", "write", "epoll_wait"}, calls
    assert all("16384) " in line for line in lines if re.match(r"\d+ +read\(\d+, \"\*3", line))


@needs_strace
def test_calls_with_a_file_sent(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "http", "-DTEST_WORKERS=1", mode=STATIC)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    calls, lines = traced(binary, tmp_path / "log", request, 238 + 612)
    requests = CONNECTIONS * ROUNDS
    for name in ("recvfrom", "openat", "newfstatat", "writev", "sendfile", "write", "close", "setsockopt"):
        assert abs(calls.pop(name) - requests) <= 1, name
    waits = calls.pop("epoll_wait")
    assert requests - 1 <= waits <= requests + 1
    assert not calls, calls
    order = [match[1] for line in lines if (match := re.match(r"\d+ +(\w+)\(", line))]
    start = order.index("recvfrom")
    assert order[start : start + 9] == [
        "recvfrom", "openat", "newfstatat", "writev", "sendfile", "write", "close", "setsockopt", "epoll_wait",
    ]  # fmt: skip


@needs_strace
def test_calls_of_worker_threads(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "memcached", mode=STATIC)
    calls, lines = traced(binary, tmp_path / "log", b"get key\r\n", None)
    requests = CONNECTIONS * ROUNDS
    calls.pop("clock_nanosleep", None), calls.pop("getpid", None)  # the periodic thread
    assert abs(calls.pop("read") - 2 * requests) <= 1  # the second finds nothing
    assert calls.pop("sendmsg") == requests
    assert requests - 4 <= calls.pop("epoll_wait") <= requests + 4
    assert not calls, calls
    hits = [line for line in lines if "sendmsg(" in line and '"VALUE key' in line]
    assert hits and all("msg_iovlen=3" in line for line in hits)


@needs_strace
def test_pipelined_replies_leave_together(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n" * 16
    calls, _ = traced(binary, tmp_path / "log", request, 5 * 16)
    assert calls["write"] == CONNECTIONS * ROUNDS
    direct = build_clone(
        tmp_path / "direct", "resp", "-DTEST_REPLY_FLAGS=0", "-DTEST_SEND=.nr=SYS_write,.iovs=1", mode=STATIC
    )
    calls, _ = traced(direct, tmp_path / "log2", request, 5 * 16)
    assert calls["write"] == CONNECTIONS * ROUNDS * 16


@needs_strace
def test_a_reader_that_pauses_is_waited_for_once(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    log = tmp_path / "log"
    with running(binary, prefix=("strace", "-f", "-qq", "-o", str(log)), check=False) as clone:
        with clone.connect() as sock:
            sock.sendall(b"HUGE\r\n" * 8)  # more than the kernel takes
            time.sleep(0.5)
            assert len(receive(sock, 8 * 3_000_012)) == 8 * 3_000_012
            sock.sendall(b"PING\r\n")
            assert receive(sock, 7) == b"+PONG\r\n"
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)
        clone.process.wait(timeout=10)
    text = log.read_text()
    changes = re.findall(r"epoll_ctl\(\d+, EPOLL_CTL_MOD, \d+, \{events=([A-Z|]+)", text)
    assert changes == ["EPOLLIN|EPOLLOUT", "EPOLLIN"]


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_end_takes_every_process(tmp_path: Path, number: signal.Signals) -> None:
    binary = build_clone(tmp_path / "clone", "http", mode=STATIC)
    place = tmp_path / "tmp"
    place.mkdir()
    with running(binary, check=False, env={**os.environ, "TMPDIR": str(place)}) as clone:
        deadline = time.monotonic() + 10
        while len(workers := children_of(clone.process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)  # it tells its port before it forks
        assert len(workers) == 2
        (data,) = place.iterdir()
        assert len([path for path in data.rglob("*") if path.is_file()]) == 4
        clone.process.send_signal(number)
        clone.process.wait(timeout=10)
        deadline = time.monotonic() + 10
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(map(alive, workers))
        if number != signal.SIGKILL:
            assert clone.process.returncode == 0
            assert not list(place.iterdir())


def test_a_data_directory_that_was_given_stays(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "http", mode=STATIC)
    with running(binary, "--data", str(tmp_path / "data")):
        pass
    assert (tmp_path / "data" / "g0" / "d" / "d" / "f2").stat().st_size == 612


def test_threads_and_timers_of_the_tables(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "memcached", mode=STATIC)
    with running(binary) as clone:
        threads = 0
        deadline = time.monotonic() + 10
        while threads != 6 and time.monotonic() < deadline:  # acceptor, four workers, periodic
            threads = len(os.listdir(f"/proc/{clone.process.pid}/task"))
        assert threads == 6
        piped = build_clone(tmp_path / "piped", "memcached", "-DTEST_NOTIFY=SYS_pipe2", mode=STATIC)
        with running(piped) as other, contextlib.ExitStack() as stack:
            for _ in range(50):
                sock = stack.enter_context(other.connect())
                sock.sendall(b"version\r\n")
                assert receive(sock, 15) == b"VERSION 1.0.0\r\n"


def test_out_of_descriptors_does_not_spin(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    prefix = ("sh", "-c", 'ulimit -n 24; exec "$0" "$@"')
    with running(binary, prefix=prefix) as clone, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(clone.connect()) for _ in range(60)]
        time.sleep(0.2)
        before = _cpu_ticks(clone)
        time.sleep(1.0)
        assert _cpu_ticks(clone) - before < 20  # of 100
        served = 0
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.sendall(b"PING\r\n")
                served += receive(sock, 7) == b"+PONG\r\n"
        assert 8 < served < 24


def _cpu_ticks(clone: Clone) -> int:
    fields = Path(f"/proc/{clone.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize(
    "options", [["--port"], ["--port", "x"], ["--port", "70000"], [], ["--port", "0", "--host", "nowhere"], ["--what"]]
)
def test_bad_options_are_named(tmp_path: Path, options: list[str]) -> None:
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    done = subprocess.run([str(binary), *options], capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 2 and done.stderr.startswith("clone: ")
    with running(binary) as clone:
        options = ["--port", str(clone.port)]
        done = subprocess.run([str(binary), *options], capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 1 and "in use" in done.stderr


def test_path_prints_agree_with_the_runtime(tmp_path: Path) -> None:
    source = tmp_path / "prints.c"
    source.write_text(
        '#include "codec.h"\n#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n'
        "const struct ditto_service ditto_service;\n"
        "int main(int argc, char **argv) { (void)argc;"
        ' printf("%u\\n", ditto_path_print((uint32_t)strtoul(argv[1], 0, 10), argv[2], strlen(argv[2]))); }\n'
    )
    sources = [path for pattern in CODEC_SOURCES for path in sorted(RUNTIME.glob(pattern))]
    binary = compile_c(tmp_path / "prints", [source, *sources], STATIC)
    rng = random.Random(5)
    for length in (0, 1, 5, 40, 200):
        for _ in range(8):
            key = rng.getrandbits(32)
            path = bytes(rng.choice(range(33, 127)) for _ in range(length))
            done = subprocess.run([binary, str(key), path], capture_output=True, text=True, check=True)
            assert int(done.stdout) == path_print(key, path)
    assert 0 <= path_print(PRINT_KEY, b"/\xff") < 4096


@pytest.mark.parametrize("level", ["-O0", "-O3"])
def test_compiles_without_warnings(tmp_path: Path, level: str) -> None:
    sources = [*runtime_sources(), DRIVERS / "body_standin.c", DRIVERS / "tables_resp.c"]
    compile_c(tmp_path / "clone", sources, (level, "-static"))


def test_the_makefile_fragment_needs_only_make_and_cc(tmp_path: Path) -> None:
    shutil.copytree(RUNTIME, tmp_path / "runtime")
    for name in ("tables_resp.c",):
        shutil.copy(DRIVERS / name, tmp_path / "tables.c")
    if not (RUNTIME / "body.c").exists():
        shutil.copy(DRIVERS / "body_standin.c", tmp_path)
    (tmp_path / "Makefile").write_text("include runtime/runtime.mk\n")
    done = subprocess.run(
        ["make", "-j2"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    with running(tmp_path / "build" / "clone") as clone, clone.connect() as sock:
        sock.sendall(b"PING\r\n")
        assert receive(sock, 7) == b"+PONG\r\n"


def client(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("pipeline", ["1", "16"])
def test_redis_benchmark(tmp_path: Path, pipeline: str) -> None:
    with running(build_clone(tmp_path / "clone", "resp", mode=STATIC)) as clone:
        for connections in ("1", "20") if pipeline == "16" else ("20",):
            output = client(
                ["redis-benchmark", "-p", str(clone.port), "-q", "-n", "100000", "-c", connections, "-P", pipeline,
                 "-r", "1000", "-d", "100", "-t", "get,set,lrange_100"]
            )  # fmt: skip
            assert output.count("requests per second") >= 3
            assert "rror" not in output and "WARNING" not in output, output


def test_memaslap(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "clone", "memcached", mode=STATIC)) as clone:
        tool = "memaslap" if shutil.which("memaslap") else "memcaslap"
        output = client([tool, "-s", f"127.0.0.1:{clone.port}", "-T", "2", "-c", "16", "-x", "100000"])
        assert "Ops: 100000" in output
        assert not re.search(r"(?i)error|verify", output), output


def test_what_is_stored_takes_little_more_memory_than_it_is(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "clone", "memcached", mode=STATIC)) as clone, contextlib.ExitStack() as kept:
        before = _resident(clone)
        for sock in [kept.enter_context(clone.connect()) for _ in range(20)]:
            sock.sendall(b"get x\r\n")
            assert sock.recv(4096)
        assert _resident(clone) - before < 950_000  # what they use of their buffers
        empty, count = _resident(clone), 34_000
        for number in range(count):
            sock.sendall(b"set key:%d 0 0 1024%s\r\n" % (number, b"" if number % 100 == 99 else b" noreply"))
            sock.sendall(bytes(1024) + b"\r\n")
            if number % 100 == 99:
                assert sock.recv(4096) == b"STORED\r\n"
        assert 1024 * count < _resident(clone) - empty < 1.22 * 1024 * count


def _resident(clone: Clone) -> int:
    return int(Path(f"/proc/{clone.process.pid}/statm").read_text().split()[1]) * 4096


def test_wrk(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "clone", "http", mode=STATIC)) as clone:
        output = client(["wrk", "-t2", "-c20", "-d3s", f"http://127.0.0.1:{clone.port}/"])
        requests = re.search(r"(\d+) requests in", output)
        assert requests and int(requests[1]) > 10000
        assert "Socket errors" not in output and "Non-2xx" not in output, output


def test_requests_touch_memory_that_is_not_there(tmp_path: Path) -> None:
    flag = (
        f"-DTEST_FRESH_PAGES={3 << 15}"  # one and a half for each of 1000 requests: the pages that there are six times
    )
    with running(build_clone(tmp_path / "clone", "resp", flag, mode=STATIC)) as clone, clone.connect() as sock:
        _ask(sock, b"PING\r\n", 7)
        faults, resident = _minor_faults(clone), _resident(clone)
        for _ in range(1000):
            _ask(sock, b"PING\r\n", 7)
        assert 1500 <= _minor_faults(clone) - faults < 1600
        assert _resident(clone) - resident < 1_200_000


def _minor_faults(clone: Clone) -> int:
    return int(Path(f"/proc/{clone.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[7])


@pytest.mark.parametrize("wait", ["EPOLL", "POLL", "SELECT"])
@pytest.mark.parametrize("half_closed", [False, True])
def test_waiting_for_a_slow_reader_does_not_spin(tmp_path: Path, wait: str, half_closed: bool) -> None:
    flags = (f"-DTEST_WAIT=DITTO_WAIT_{wait}", "-DTEST_EVENTS=(EPOLLIN|EPOLLRDHUP)")
    with running(build_clone(tmp_path / "clone", "resp", *flags, mode=STATIC)) as clone, clone.connect() as sock:
        sock.sendall(b"HUGE\r\n" * 8)
        time.sleep(0.2)
        sock.sendall(b"PING\r\n")  # arrives while replies wait
        if half_closed:
            sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        before = _cpu_ticks(clone)
        time.sleep(0.5)
        assert _cpu_ticks(clone) - before < 10  # of 50
        size = 8 * 3_000_012 + 7
        assert receive(sock, size)[-7:] == b"+PONG\r\n"
