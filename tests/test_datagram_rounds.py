"""Servers of datagrams that receive several times in a wake-up, and answer after the last."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from ditto.artifacts.syscalls import NUMBERS
from ditto.model.network import fit_receive, fit_send
from ditto.model.rounds import Rounds, datagram_rounds
from ditto.streams.cycles import follow
from runtime_build import STATIC, build_clone, running
from test_datagrams import SOCKET, received
from test_sharing import EPOLL, Threads

IN, MOD = 1, 3


def rounds_of(record: Threads, turns: int) -> Threads:
    """Rounds of two receives, of which one in three finds nothing; their answers leave after the last."""
    for turn in range(turns):
        counts = (20,) if turn % 3 == 0 else (20, 15)
        record.call(11, "epoll_wait", 1, EPOLL)
        for count in counts:
            record.call(11, "recvmmsg", count, SOCKET, 0, 20, 0, 0, 40, payload=b"?" * 40)
        if turn % 3 == 0:
            record.call(11, "recvmmsg", -11, SOCKET, 0, 20, 0, 0, 0)
        for count in counts:
            record.call(11, "sendmmsg", count, SOCKET, 0, count, 0, 0, 50 + count, payload=b"!" * 50)
        record.call(11, "epoll_ctl", 0, EPOLL, MOD, SOCKET, payload=struct.pack("<I", IN))
    return record


def test_late_answers_go_to_the_datagrams_in_their_order() -> None:
    work = follow(rounds_of(received(1), 30).threads)
    cycles = [cycle for cycle in work.threads[11].cycles if cycle.receive.nr == NUMBERS["recvmmsg"]]
    assert [cycle.sent for cycle in cycles[:55]] == [70] * 20 + [70] * 20 + [65] * 15
    assert all(sum(event.nr == NUMBERS["sendmmsg"] for event in cycle.events) == 1 for cycle in cycles)
    rounds = datagram_rounds(work)
    assert rounds == Rounds(until_empty=True, enough=35, answers_last=True, rewatches=True)
    assert (fit_receive(cycles, rounds).enough, fit_send(cycles, True, None).call_bytes) == (35, 0)


def test_servers_that_answer_at_once_leave_nothing_for_later() -> None:
    record = Threads()
    record.call(11, "socket", SOCKET, 2, 2)
    record.call(11, "bind", 0, SOCKET, payload=struct.pack("<H", 2) + struct.pack(">H", 5353) + bytes(12))
    for _ in range(20):  # one of three has no answer
        record.call(11, "epoll_wait", 1, EPOLL)
        record.call(11, "recvmmsg", 3, SOCKET, 0, 16, 0, 0, 40, payload=b"?" * 40)
        record.call(11, "sendmmsg", 2, SOCKET, 0, 2, 0, 0, 50, payload=b"!" * 50)
    work = follow(record.threads)
    assert [cycle.sent for cycle in work.threads[11].cycles] == [50, 50, 0] * 20
    assert datagram_rounds(work) == Rounds()


@pytest.mark.parametrize("answered", [True, False])
def test_datagrams_received_one_by_one_before_any_is_answered(answered: bool) -> None:
    """One in five rounds has an answer too few: the next round's are not shifted by it."""
    record = Threads()
    record.call(11, "socket", SOCKET, 2, 2)
    record.call(11, "bind", 0, SOCKET, payload=struct.pack("<H", 2) + struct.pack(">H", 5353) + bytes(12))
    for turn in range(20):
        record.call(11, "epoll_wait", 1, EPOLL)
        for _ in range(3):
            record.call(11, "recvfrom", 40, SOCKET, 0, 512, payload=b"?" * 40)
        record.call(11, "recvfrom", -11, SOCKET, 0, 512)
        for size in (51, 52, 53)[: 3 - (turn % 5 == 4)] if answered else (150,):
            record.call(11, "sendto", size, SOCKET, payload=b"!")
    sent = [cycle.sent for cycle in follow(record.threads).threads[11].cycles]
    if answered:
        assert sent == ([51, 52, 53] * 4 + [51, 52, 0]) * 4
    else:  # most have none, and the one that is sent may be the last's
        assert sent == [0, 0, 150] * 20


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_clone_answers_after_its_last_receive(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "dns", "-DTEST_LAST", mode=STATIC)
    log = tmp_path / "log"
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"\1a\0" + struct.pack(">2H", 1, 1)
    calls = "trace=epoll_wait,epoll_ctl,recvmmsg,sendmmsg,sendto"
    with (
        running(binary, prefix=("strace", "-f", "-qq", "-e", calls, "-s", "4", "-o", str(log)), check=False) as clone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(("127.0.0.1", clone.port))
        sock.settimeout(10)
        sock.send(query)
        assert sock.recv(4096)
        found = subprocess.run(["pgrep", "-P", str(clone.process.pid)], check=True, capture_output=True, text=True)
        served = found.stdout.split()[0]
        subprocess.run(["kill", f"-{int(signal.SIGSTOP)}", served], check=True)
        time.sleep(0.2)
        for _ in range(12):
            sock.send(query)
        subprocess.run(["kill", f"-{int(signal.SIGCONT)}", served], check=True)
        assert all(sock.recv(4096) for _ in range(12))
    lines = [line for line in log.read_text().splitlines() if not line.endswith("---")]
    made = [match[1] for line in lines if (match := re.match(r"\d+ +(?:<\.\.\. )?(\w+)", line))]
    first = max(at for at, line in enumerate(lines) if "recvmmsg(" in line and "EAGAIN" not in line) - 1
    assert made[first : first + 5] == ["recvmmsg", "recvmmsg", "sendmmsg", "sendmmsg", "epoll_ctl"]
    moved = [int(match[1]) for line in lines if (match := re.search(r"mmsg\(.* = (\d+)$", line))]
    assert moved[-4:] == [8, 4, 8, 4]
