"""DNS and datagrams: recognised in a recording, refused where nothing is known of them, and answered by a clone."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ditto.streams import dns, protocol
from ditto.streams.cycles import follow
from ditto.streams.datagrams import mostly
from ditto.streams.evidence import requests_of
from runtime_build import STATIC, build_clone, receive, running
from test_sharing import EPOLL, Threads

DOMAIN_SOCKET = 6
NAME = b"\4host\7example\0"


def question(number: int = 7, name: bytes = NAME, kind: int = 1, flags: int = 0x100) -> bytes:
    return struct.pack(">6H", number, flags, 1, 0, 0, 0) + name + struct.pack(">2H", kind, 1)


def answer(number: int = 7, code: int = 0, records: int = 1) -> bytes:
    head = struct.pack(">6H", number, 0x8180 | code, 1, records, 0, 0) + question(number)[12:]
    return head + records * (b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 300, 4) + b"\x7f\0\0\1")


def test_each_datagram_is_a_request() -> None:
    record = Threads()
    record.call(11, "socket", DOMAIN_SOCKET, 2, 2)
    record.call(11, "bind", 0, DOMAIN_SOCKET, payload=struct.pack("<H", 2) + struct.pack(">H", 5353) + bytes(12))
    for turn in range(10):
        record.call(11, "epoll_wait", 1, EPOLL, 0, 64, 0xFFFFFFFF)
        for number in range(3):
            asked, sent = question(number), answer(number, records=turn % 2)
            record.call(11, "recvfrom", len(asked), DOMAIN_SOCKET, 0, 4096, payload=asked)
            record.call(11, "sendto", len(sent), DOMAIN_SOCKET, payload=sent[:64])
        record.call(11, "recvfrom", -11, DOMAIN_SOCKET, 0, 4096)
    work = follow(record.threads)
    found = requests_of(work)
    assert (found.codec, found.total) == ("dns", 30)
    cycles = found.classes[b"question"]
    assert mostly(cycle.connection for cycle in cycles)
    assert [len(cycle.events) for cycle in cycles] == [2] * 30
    assert Counter(cycle.sent for cycle in cycles) == {len(answer(records=0)): 15, len(answer()): 15}
    assert sum(len(wake.loose) for wake in work.threads[11].wakes) >= 10


def test_shapes_of_answers() -> None:
    assert dns.is_question(question()) and not dns.is_question(answer())
    assert dns.is_answer(answer()) and not dns.is_answer(question())
    assert dns.answer_shape(answer()[:40], len(answer())) == (0, 1, 0, 16)
    assert dns.answer_shape(answer(code=3, records=0), len(answer(records=0))) == (3, 0, 0, 0)
    assert protocol.recognise([question()] * 9 + [b"?"], [answer()] * 9) == "dns"
    assert protocol.recognise([b"\0\x20" + question()] * 9, [answer()] * 9) == "opaque"


def parsed(message: bytes) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Number, response code, count of questions, and (type, length of data) of all records; fails on what is none."""
    number, flags, *counts = struct.unpack_from(">6H", message)
    assert flags & 0x8000
    at = 12
    for _ in range(counts[0]):
        while message[at]:
            at += message[at] + 1
        at += 5
    records = []
    for _ in range(sum(counts[1:])):
        assert message[at : at + 2] == b"\xc0\x0c"
        kind, _, _, length = struct.unpack_from(">2HIH", message, at + 2)
        records.append((kind, length))
        at += 12 + length
    assert at == len(message)
    return number, flags & 15, counts[0], records


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clone(tmp_path_factory.mktemp("dns") / "dns", "dns")


def test_answers_over_datagrams(binary: Path) -> None:
    with running(binary) as clone, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", clone.port))
        seen = Counter()
        for number in range(400):
            sock.send(question(number))
            got = parsed(sock.recv(4096))
            assert got[0] == number and got[2] == 1
            seen[(got[1], tuple(got[3]))] += 1
        assert set(seen) == {(0, ((1, 4),)), (3, ((16, 288),))}
        assert 15 < seen[(3, ((16, 288),))] < 80
        sock.send(b"\1\2")  # no message
        sock.send(answer())  # an answer is not answered
        sock.send(question(1, name=b"\x40" + bytes(64)))
        assert parsed(sock.recv(4096)) == (1, 1, 0, [])
        sock.send(question(2, flags=0x2800))
        assert parsed(sock.recv(4096)) == (2, 4, 0, [])
        sock.send(bytes(65000))
        sock.send(question(3))
        while parsed(sock.recv(4096))[0] != 3:
            pass


def test_answers_over_connections(tmp_path: Path) -> None:
    clone_binary = build_clone(tmp_path / "stream", "dns", "-DTEST_STREAM")
    with running(clone_binary) as clone, clone.connect() as sock:
        wire = b"".join(struct.pack(">H", len(question(n))) + question(n) for n in range(50))
        for at in range(0, len(wire), 7):
            sock.sendall(wire[at : at + 7])
        for number in range(50):
            (length,) = struct.unpack(">H", receive(sock, 2))
            assert parsed(receive(sock, length))[0] == number


def test_a_port_in_use_is_named(binary: Path) -> None:
    with running(binary) as clone:
        command = [str(binary), "--port", str(clone.port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
        assert done.returncode == 1 and "Address already in use" in done.stderr
        assert subprocess.run([*command, "--check"], check=False, timeout=10).returncode == 0
    assert subprocess.run([*command, "--check"], check=False, timeout=10).returncode == 1


@pytest.mark.skipif(not shutil.which("dnsperf"), reason="needs dnsperf")
def test_dnsperf(tmp_path: Path) -> None:
    clone_binary = build_clone(tmp_path / "dns", "dns", mode=STATIC)
    asked = tmp_path / "questions"
    asked.write_text("".join(f"host{i}.example. A\n" for i in range(100)))
    with running(clone_binary) as clone:
        command = ["dnsperf", "-s", "127.0.0.1", "-p", str(clone.port), "-d", str(asked)]
        command += ["-n", "200", "-c", "2", "-q", "10"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert re.search(r"Queries completed: +20000 \(100\.00%\)", done.stdout), done.stdout
    assert "NXDOMAIN" in done.stdout and "NOERROR" in done.stdout
