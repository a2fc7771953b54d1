"""Real servers under the lens, driven by a handful of requests."""

from __future__ import annotations

import contextlib
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto.artifacts.lens import LensProcess
from ditto.host.lens import Codec, LensRun
from ditto.paths import lens_directory
from ditto.streams.lens_read import LensReader

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(
        not (lens_directory() / "lens-amd64-linux").is_file(), reason="the lens is not built: make -C native/lens"
    ),
]


def needs(program: str) -> pytest.MarkDecorator:
    found = shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin")
    return pytest.mark.skipif(found is None, reason=f"{program} is not installed")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def server(run: LensRun, command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(run.command(command), env=run.env(), stdout=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        run.control.close()


def talk(port: int, requests: list[bytes]) -> list[bytes]:
    """Send each on one connection and read some answer before the next."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), 30) as s:
        s.settimeout(30)
        for request in requests:
            s.sendall(request)
            answers.append(s.recv(65536))
    return answers


def observe(folder: Path, codec: Codec, command: list[str], port: int, requests: list[bytes]) -> list[LensProcess]:
    run = LensRun.create(folder / "lens", codec)
    with server(run, command, port):
        run.control.warm()
        assert all(talk(port, requests))
        run.control.count()
        assert all(talk(port, requests))
        return run.stop()


def per_class(process: LensProcess) -> dict[bytes, tuple[int, int]]:
    """Class name -> (segments after a receive, instructions in all its segments)."""
    out: dict[bytes, tuple[int, int]] = {}
    for i, key in enumerate(process.keys):
        visits, instructions = out.get(process.classes[key.class_id], (0, 0))
        received = key.prev_nr in (0, 45, 47)  # read, recvfrom, recvmsg
        out[process.classes[key.class_id]] = (
            visits + (int(process.visits[i]) if received else 0), instructions + int(process.instructions[i])
        )  # fmt: skip
    return out


@needs("redis-server")
def test_redis(tmp_path: Path) -> None:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    requests = [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n", b"*2\r\n$3\r\nget\r\n$1\r\na\r\n"] * 20
    processes = observe(tmp_path, "resp", command, port, requests)
    (process,) = processes
    classes = per_class(process)
    assert classes[b"SET"][0] >= 20 and classes[b"GET"][0] >= 20
    assert 40_000 < classes[b"GET"][1] < 2_000_000
    summary = LensReader(process).summary()
    assert sum(summary.mix.values()) == summary.instructions == process.instructions.sum()
    assert abs(summary.calls - summary.returns) < 0.02 * summary.calls
    assert process.dropped.accesses == process.dropped.events == process.dropped.classes == 0


@needs("memcached")
def test_memcached(tmp_path: Path) -> None:
    port = free_port()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    command = ["memcached", "-p", str(port), "-l", "127.0.0.1", "-t", "4", "-U", "0", "-u", "root", "-c",
               str(limit - 12)]  # fmt: skip
    requests = [b"set k 0 0 3\r\nabc\r\n", b"get k\r\n"] * 20
    (process,) = observe(tmp_path, "memcached", command, port, requests)
    classes = per_class(process)
    assert classes[b"set"][0] >= 20 and classes[b"get"][0] >= 20
    assert len(process.threads) >= 5
    busy = {key.tid for key in process.keys if process.classes[key.class_id] == b"get"}
    assert busy and 1 not in busy  # a worker answers, not the main thread


@needs("nginx")
@pytest.mark.parametrize("user", ["user root;", ""])
def test_nginx(tmp_path: Path, user: str) -> None:
    """As root, and with workers that change their user: these can neither walk to the folder nor open root's pipes."""
    port = free_port()
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "a.txt").write_text("hello" * 100)
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; worker_processes 2; {user} pid {tmp_path}/pid; error_log {tmp_path}/error.log;
        events {{ worker_connections 64; }}
        http {{ access_log off; client_body_temp_path {tmp_path}/t1; proxy_temp_path {tmp_path}/t2;
          fastcgi_temp_path {tmp_path}/t3; uwsgi_temp_path {tmp_path}/t4; scgi_temp_path {tmp_path}/t5;
          server {{ listen 127.0.0.1:{port}; root {tmp_path}/html; }} }}
    """)
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin") or "nginx"
    command = [nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
    requests = [b"GET /a.txt?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /none HTTP/1.1\r\nHost: a\r\n\r\n"] * 10
    processes = observe(tmp_path, "http1", command, port, requests)
    assert len(processes) == 3  # the master and two workers, each in a file of its own
    found = [per_class(process) for process in processes]
    assert sum(classes.get(b"GET /a.txt", (0, 0))[0] for classes in found) >= 10
    assert sum(classes.get(b"GET /none", (0, 0))[0] for classes in found) >= 10
