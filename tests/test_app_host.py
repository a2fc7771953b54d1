"""What is read of processes, ports and the machine."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ditto.artifacts.app import Ready
from ditto.artifacts.machine import MachineFacts
from ditto.errors import AppError
from ditto.host import ports, process
from ditto.host.machine import read_facts
from ditto.host.ready import wait_ready


def test_cpu_of_ended_threads_and_children_is_counted() -> None:
    code = """
import os, sys, threading, time
def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end: pass
t = threading.Thread(target=burn, args=(0.2,)); t.start(); t.join()
if os.fork() == 0:
    burn(0.2); os._exit(0)
os.wait()
print("done", flush=True); sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        known = process.identify(child.pid)
        assert known is not None
        used = process.cpu_times([known])
        assert process.memory([known]).rss_bytes > process.memory([known]).pss_bytes > 0
    assert used.run_s >= 0.4
    assert used.user_s + used.system_s == pytest.approx(used.run_s, abs=0.05)
    assert not process.is_alive(known)
    assert process.cpu_times([known]).run_s == 0


def test_a_reused_number_is_another_process() -> None:
    me = process.identify(os.getpid())
    assert me is not None
    assert process.is_alive(me)
    assert not process.is_alive(process.ProcessId(me.pid, me.start_ticks + 1))


def test_ports_are_free_when_handed_out_and_never_twice() -> None:
    found = [ports.find_free() for _ in range(20)]
    assert len(set(found)) == 20
    assert all(20000 <= port <= 29999 and ports.is_free(port) for port in found)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_refused(address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not ports.is_free(port)
        with pytest.raises(AppError, match=f"port {port}, wanted by the test, is in use"):
            ports.require_free(port, "the test")


def test_a_port_of_a_closed_connection_is_free() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        client = threading.Thread(target=lambda: socket.create_connection(("127.0.0.1", port)).recv(1))
        client.start()
        server.accept()[0].close()  # the server's side closes first: TIME_WAIT stays with its port
        client.join()
    time.sleep(0.05)
    assert ports.is_free(port)


def test_facts_of_this_machine() -> None:
    facts = read_facts()
    assert facts == MachineFacts.model_validate_json(facts.model_dump_json())
    assert facts.cpus == len(os.sched_getaffinity(0))
    assert facts.kernel == os.uname().release
    assert facts.memory_bytes > 1 << 27
    assert facts.differences(facts) == []
    assert facts.differences(facts.model_copy(update={"kernel": "other", "mhz": 1.0})) == ["kernel"]
    assert all(name and text for name, text in facts.rows())


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True),
        (b"HTTP/1.1 503 Busy\r\n\r\n", False),
        (b"\0\0\x0c\4\0\0\0\0\0" + bytes(12), True),  # settings of HTTP/2, from a server that speaks nothing else
        (b"+PONG\r\n", False),
    ],
)
def test_what_answers_a_request_over_http_is_ready(tmp_path: Path, answer: bytes, ready: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as asked:
                        asked.recv(4096)
                        asked.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        where = ("127.0.0.1", listener.getsockname()[1], tmp_path / "log", lambda: None, 0.1, "app")
        if ready:
            wait_ready(Ready(http="/"), *where)
        else:
            with pytest.raises(AppError, match="does not answer with a status below 500"):
                wait_ready(Ready(http="/"), *where)
        listener.shutdown(socket.SHUT_RDWR)
