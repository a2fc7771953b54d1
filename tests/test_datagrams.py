"""Servers of datagrams: threads that block in the receive, protocols without a codec, and load in datagrams."""

from __future__ import annotations

import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.observation import Observation, ProcessSeen, ThreadSeen
from ditto.artifacts.plan import Framing, LoadPlan, Script, Step, StepFlags, load_plan, opaque_of
from ditto.artifacts.profile import ClassMatch, Dist, Listener, OpKind, Profile, ReplyShape, RequestClass
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import AppError, UnsupportedShapeError
from ditto.generate.clone import generate, write_clone
from ditto.host.exchanges import plan_of_datagrams
from ditto.host.loadgen import Offered, drive
from ditto.host.progress import SilentProgress
from ditto.host.spoken import Stream as Spoken
from ditto.host.synthetic import synthetic_plan
from ditto.host.tap import Tap
from ditto.model.network import fit_receive, fit_send
from ditto.model.roles import find_roles
from ditto.model.service import fit
from ditto.model.shape import parts_left_out, require_known_shape, require_requests
from ditto.observe.native_phase import NativeOptions, record_native
from ditto.paths import runtime_sources
from ditto.streams import dns
from ditto.streams.cycles import follow
from ditto.streams.events import Stream
from ditto.streams.evidence import Evidence, load_evidence, requests_of
from profile_parts import service_profile
from runtime_build import build_clone, running
from strace_parts import whole_calls
from test_sharing import PID, Threads

SOCKET, RECVFROM = 5, 45


def received(threads: int, answered_by: int = 0) -> Threads:
    """Threads that block in the receive of one socket and answer, or leave that to another thread."""
    record = Threads()
    record.call(11, "socket", SOCKET, 2, 2)
    record.call(11, "bind", 0, SOCKET, payload=struct.pack("<H", 2) + struct.pack(">H", 5353) + bytes(12))
    for turn in range(12):
        tid = 11 + turn % threads
        record.call(tid, "recvfrom", 20, SOCKET, 0, 2048, payload=b"?" * 20)
        record.call(answered_by or tid, "sendto", 30, SOCKET, payload=b"!" * 30)
    return record


def evidence_of(record: Threads) -> Evidence:
    work = follow(record.threads)
    stream = Stream(record.threads, [], {}, {}, set(), (0, 1), record.table)
    return Evidence(Observation.model_construct(app="echo"), stream, work, requests_of(work))


def test_threads_that_block_in_the_receive_are_one_role_with_those_that_nothing_came_for() -> None:
    evidence = evidence_of(received(2))
    require_known_shape(evidence)
    assert evidence.datagrams and evidence.requests.total == 12
    seen = [ThreadSeen(tid=tid, name="t", syscall=RECVFROM if tid < 14 else 202) for tid in (11, 12, 13, 14)]
    process = ProcessSeen.model_construct(pid=PID, ppid=1, threads=seen)
    roles = find_roles(evidence.stream, evidence.work, [process]).roles
    assert sorted((role.kind, role.wait_name, len(role.threads)) for role in roles) == [
        ("idle", "blocking", 1),
        ("loop", "blocking", 3),
    ]


def test_datagrams_that_others_answer_are_refused() -> None:
    with pytest.raises(UnsupportedShapeError, match="12 datagrams are sent by threads that received none"):
        require_known_shape(evidence_of(received(2, answered_by=20)))


def test_a_clone_answers_datagrams_of_an_unknown_protocol(tmp_path: Path) -> None:
    """Under the sanitizers: by size, by class in a header, and without one where there is no room."""
    binary = build_clone(tmp_path / "clone", "opaque", "-DTEST_DATAGRAMS")
    plan = LoadPlan(Framing.DATAGRAM, (Script((Step(b"a" * 5, 20), Step(b"b" * 60, 20), Step(b"c" * 500, 5000))),))
    steps = opaque_of(plan).scripts[0].steps
    assert [len(step.request) for step in steps] == [5, 60, 500] and steps[0].request == bytes(5)
    with running(binary) as clone, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.connect(("127.0.0.1", clone.port))
        headed = struct.pack(">IHBB", 9000, 0, 0, 0xD7)  # its length is not the datagram's
        asked = [(b"x" * 5, 20), (b"x" * 1200, 5000), (steps[0].request, 20), (steps[2].request, 5000), (headed, 20)]
        for request, size in asked * 20:
            sock.send(request)
            assert sock.recv(8192) == b"x" * size
        quiet = struct.pack(">IHBB", 60, 0, 1, 0xD7)
        sock.send(quiet)
        sock.send(b"x")
        assert len(sock.recv(8192)) == 20
        sock.setblocking(False)
        time.sleep(0.05)
        with pytest.raises(BlockingIOError):
            sock.recv(8192)
    path = tmp_path / "plan"
    opaque_of(plan).save(path)
    with running(binary) as clone:
        result = drive(path, clone.port, Offered(connections=4, requests=3000))
    assert (result.sent, result.received, result.broken) == (3000, 3000, 0)
    assert result.bytes == pytest.approx(1000 * (20 + 20 + 5000), rel=0.02)


@contextmanager
def answering(answer: Callable[[bytes, int], list[bytes]]) -> Iterator[int]:
    """A server on a port: ``answer`` gets a datagram and its number, and gives what is sent back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            number = 0
            while (found := sock.recvfrom(65536))[0] != b"end":
                for reply in answer(found[0], number):
                    sock.sendto(reply, found[1])
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
                ending.sendto(b"end", sock.getsockname())
            thread.join()


def saved(folder: Path, framing: Framing, *steps: Step) -> Path:
    LoadPlan(framing, (Script(steps),)).save(folder / "plan")
    return folder / "plan"


def test_a_datagram_without_a_reply_is_given_up_and_its_late_reply_is_nobodys(tmp_path: Path) -> None:
    plan = saved(tmp_path, Framing.DATAGRAM, Step(b"ask", 5))
    with answering(lambda asked, number: [] if number == 7 else [b"reply"]) as port:
        began = time.monotonic()
        result = drive(plan, port, Offered(connections=2, requests=40))
    assert (result.sent, result.received, result.broken, result.bytes) == (40, 39, 1, 39 * 5)
    assert 0.9 < time.monotonic() - began < 5


def test_answers_of_dns_are_told_by_their_number(tmp_path: Path) -> None:
    question = struct.pack(">6H", 77, 0x100, 1, 0, 0, 0) + b"\1a\0" + struct.pack(">2H", 1, 1)
    failed = struct.pack(">6H", 77, 0x8182, 1, 0, 0, 0) + question[12:]

    def answer(asked: bytes, _: int) -> list[bytes]:
        return [b"\0\1" + failed[2:], b"\0", failed]

    with answering(answer) as port:
        result = drive(saved(tmp_path, Framing.DNS, Step(question)), port, Offered(connections=2, requests=30))
    assert (result.received, result.failed, result.broken) == (30, 30, 0)


def test_nobody_has_the_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(AppError, match="no connection"):
        drive(saved(tmp_path, Framing.DATAGRAM, Step(b"x", 1)), port, Offered(seconds=0.1, warmup=0))


def test_the_relay_keeps_datagrams_of_each_client() -> None:
    with answering(lambda asked, _: [asked * 2] if asked[:1] == b"q" else []) as port, Tap(port) as tap:
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for number, sock in enumerate(socks):
            sock.settimeout(10)
            sock.connect(("127.0.0.1", tap.port))
            for at in range(3):
                sock.send(b"q" * (number + at + 1))
                assert len(sock.recv(100)) == 2 * (number + at + 1)
            sock.send(b"noted")
            sock.close()
        time.sleep(0.2)
        assert not tap.streams
        assert [s.turns for s in tap.datagrams] == [
            [(b"q" * n, 2 * n) for n in sizes] + [(b"noted", 0)] for sizes in ((1, 2, 3), (2, 3, 4))
        ]


def test_a_plan_of_datagrams() -> None:
    """Clients of one datagram each are joined; a kind that is hardly answered needs no reply, others were lost."""
    one_each = [Spoken([(b"get %03d" % n, 9 if n % 10 else 0)]) for n in range(200)]
    plan = plan_of_datagrams([*one_each, Spoken([(b"log x" * 9, 0)] * 50)])
    assert plan.framing is Framing.DATAGRAM and len(plan.scripts) == 64 and plan.requests == 250
    steps = [step for script in plan.scripts for step in script.steps]
    assert Counter(step.flags for step in steps) == {StepFlags.NONE: 200, StepFlags.NOREPLY: 50}
    asked = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"\1a\0" + struct.pack(">2H", 1, 1)
    assert plan_of_datagrams([Spoken([(asked, 40)], head=b"\0\7\x81\x80\0\1" + bytes(30))]).framing is Framing.DNS


@pytest.mark.parametrize(("codec", "framing"), [("opaque", Framing.DATAGRAM), ("dns", Framing.DNS)])
def test_requests_of_a_profile_in_datagrams(codec: str, framing: Framing, tmp_path: Path) -> None:
    def kind(size: int) -> RequestClass:
        return RequestClass(
            probability=0.5,
            match=ClassMatch(),
            request_bytes=Dist(values=[size], weights=[1.0]),
            replies=[ReplyShape(probability=1.0, kind="opaque")],
            program=[],
        )

    sizes = (4, 300) if codec == "opaque" else (30, 200)
    update = {"codec": codec, "listener": Listener(datagrams=True), "classes": [kind(size) for size in sizes]}
    plan = synthetic_plan(service_profile().services[0].model_copy(update=update), requests=400)
    plan.save(tmp_path / "plan")
    assert load_plan(tmp_path / "plan").framing is framing
    made = [step.request for script in plan.scripts for step in script.steps]
    assert {len(request) for request in made} == set(sizes) and len(made) == 400
    assert codec == "opaque" or all(dns.is_question(request) and request.endswith(b"\0\0\1\0\1") for request in made)


SERVER = """
import socket, sys, threading
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
def serve():
    while True:
        asked, peer = sock.recvfrom(2048)
        sock.sendto((b"s" * 24) if len(asked) < 100 else (b"l" * 700), peer)
for _ in range(2):
    threading.Thread(target=serve, daemon=True).start()
serve()
"""
CLIENT = """
import socket, sys, time
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
for sock in socks:
    sock.connect(("127.0.0.1", int(sys.argv[1])))
until, done = time.monotonic() + 2.0, 0
while time.monotonic() < until:
    for number, sock in enumerate(socks):
        sock.send(b"secretword" * (20 if number == 3 else 4))
    for number, sock in enumerate(socks):
        assert len(sock.recv(2048)) == (700 if number == 3 else 24)
    done += 4
print(done, "requests")
"""
APP = f"""
name = "noted"
[service]
command = ["{sys.executable}", "server.py", "{{port}}"]
port = 7000
ready = {{ seconds = 0.5 }}
[load]
command = ["{sys.executable}", "client.py", "{{port}}"]
connections = 4
"""


def fitted(folder: Path) -> Profile:
    """The profile of the app in a folder, from one recording."""
    out = folder / "observation"
    out.mkdir()
    native, notes = record_native(load_app(folder / "app.toml"), out, NativeOptions(seconds=1.0), SilentProgress())
    observation = Observation(
        app="noted", made_at=datetime.now(UTC).isoformat(), machine={}, native=native, lens=None, notes=notes
    )
    observation.save(out)
    return fit(load_evidence(out, observation), "0.1.0", 1).profile


@pytest.mark.slow
def test_threads_that_block_in_one_socket_are_cloned(tmp_path: Path) -> None:
    for name, text in (("server.py", SERVER), ("client.py", CLIENT), ("app.toml", APP)):
        (tmp_path / name).write_text(text)
    profile = fitted(tmp_path)
    service = profile.services[0]
    assert service.codec == "opaque" and service.listener.datagrams
    assert [(role.kind, role.wait, role.count, role.listens) for role in service.roles] == [
        ("loop", "blocking", 3, True)
    ]
    for cls in service.classes:
        assert sum(op.kind is OpKind.REPLY for op in cls.program) == 1
    assert "secretword" not in profile.model_dump_json()
    folder, plan = tmp_path / "clone", tmp_path / "plan"
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    synthetic_plan(service).save(plan)
    with running(folder / "build" / "clone") as clone:
        result = drive(plan, clone.port, Offered(connections=4, requests=4000))
        tasks = list(Path(f"/proc/{clone.process.pid}/task").iterdir())
    assert len(tasks) == 3
    assert (result.received, result.broken) == (4000, 0)
    assert result.bytes / 4000 == pytest.approx(0.75 * 24 + 0.25 * 700, rel=0.1)


def test_what_cannot_be_seen_is_named() -> None:
    """A ring of the kernel's, and none."""
    rings = Threads()
    for _ in range(10):
        rings.call(11, "io_uring_enter", 1, 9, 1, 1)
    for record, message in ((rings, "io_uring"), (Threads(), "no request was seen")):
        with pytest.raises(UnsupportedShapeError, match=message):
            require_requests(evidence_of(record))
    served = received(1)
    served.call(11, "io_uring_setup", 9, 64)
    require_requests(evidence_of(served))  # a ring that is there and not used


def test_datagrams_that_come_and_leave_together() -> None:
    record = received(1)
    for turn in range(10):
        record.call(11, "recvmmsg", 3, SOCKET, 0, 16, 0x10000, 0, 40, payload=b"?" * 40)
        record.threads[11][-1].gap = 900
        record.call(11, "getpid", 1)
        if turn % 2:
            record.call(11, "sendmmsg", 3, SOCKET, 0, 3, 0, 0, 50, payload=b"!" * 50)
        else:
            for size in (51, 52, 53):
                record.call(11, "sendto", size, SOCKET, payload=b"!" * size)
    record.call(11, "recvmmsg", -11, SOCKET, 0, 16, 0x10000, 0, 0)
    evidence = evidence_of(record)
    require_requests(evidence)
    cycles = [cycle for cycle in evidence.work.threads[11].cycles if cycle.receive.nr == NUMBERS["recvmmsg"]]
    assert [cycle.sent for cycle in cycles] == [51, 52, 53, 50, 50, 50] * 5
    assert {(cycle.received_bytes, cycle.receive.gap) for cycle in cycles} == {(40, 300)}
    found = fit_receive(cycles)
    assert (found.nr, found.batch, found.flags) == (NUMBERS["recvmmsg"], 16, 0x10000)
    assert fit_send([cycle for cycle in cycles if cycle.sent == 50], True, None).nr == NUMBERS["sendmmsg"]


BATCHES = """
#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
int main(int n, char **words)
{
	static char in[8][2048], out[24] = "ssssssssssssssssssssss";
	struct sockaddr_in own = {AF_INET, htons(atoi(words[1])), {htonl(INADDR_LOOPBACK)}, {0}}, from[8];
	struct iovec taken[8], given = {out, 24};
	struct mmsghdr came[8], leave[8];
	int sock = socket(AF_INET, SOCK_DGRAM, 0);
	bind(sock, (void *)&own, sizeof(own));
	for (;;) {
		for (int i = 0; i < 8; i++) {
			taken[i] = (struct iovec){in[i], 2048};
			came[i].msg_hdr = (struct msghdr){&from[i], sizeof(own), &taken[i], 1, NULL, 0, 0};
			leave[i].msg_hdr = (struct msghdr){&from[i], sizeof(own), &given, 1, NULL, 0, 0};
		}
		n = recvmmsg(sock, came, 8, MSG_WAITFORONE, NULL);
		if (n > 0)
			sendmmsg(sock, leave, n, 0);
	}
}
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_server_of_datagrams_that_come_together(tmp_path: Path) -> None:
    app = APP.replace(f'"{sys.executable}", "server.py"', '"./server"', 1)
    client = CLIENT.replace("700 if number == 3 else 24", "24")
    for name, text in (("server.c", BATCHES), ("client.py", client), ("app.toml", app)):
        (tmp_path / name).write_text(text)
    subprocess.run(["cc", "-O1", "-o", tmp_path / "server", tmp_path / "server.c"], check=True)
    profile = fitted(tmp_path)
    receive, send = profile.services[0].receive, profile.services[0].send
    assert (receive.nr, receive.batch, send.nr) == (NUMBERS["recvmmsg"], 8, NUMBERS["sendmmsg"])
    folder, log = tmp_path / "clone", tmp_path / "calls"
    write_clone(generate(profile, runtime_sources()), folder)
    subprocess.run(["make", "-s", "-C", str(folder), "CFLAGS=-O1"], check=True, capture_output=True, timeout=120)
    strace = ("strace", "-f", "-qq", "-o", str(log))
    with (
        running(folder / "build" / "clone", prefix=strace, check=False) as clone,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        sock.connect(("127.0.0.1", clone.port))
        sock.settimeout(10)
        for _ in range(40):
            for _ in range(5):
                sock.send(b"secretword" * 4)
            assert [len(sock.recv(2048)) for _ in range(5)] == [24] * 5
        subprocess.run(["pkill", "-TERM", "-P", str(clone.process.pid)], check=False)  # the clone; strace follows
    text = whole_calls(log)
    moved = {name: sum(map(int, re.findall(rf"{name}\(.* = (\d+)$", text, re.M))) for name in ("recvmmsg", "sendmmsg")}
    assert moved == {"recvmmsg": 200, "sendmmsg": 200}
    assert "sendto(" not in text and text.count("sendmmsg(") <= text.count("recvmmsg(")


def test_messages_between_threads_are_told_of() -> None:
    record = received(1)
    record.call(11, "eventfd2", 9, 0)
    assert all("has no codec" in note for note in parts_left_out(evidence_of(record)))
    for _ in range(6):
        record.call(11, "write", 8, 9)
        record.call(12, "read", 8, 9)
    assert "0.50 messages a request pass between its threads" in parts_left_out(evidence_of(record))[0]


@pytest.mark.skipif(not shutil.which("dnsperf"), reason="needs dnsperf")
def test_a_client_of_dns_is_recorded_and_replayed(tmp_path: Path) -> None:
    binary = build_clone(tmp_path / "clone", "dns")
    asked = tmp_path / "questions"
    asked.write_text("".join(f"host{i}.example. A\n" for i in range(50)))
    with running(binary) as clone, Tap(clone.port) as tap:
        command = [
            "dnsperf",
            "-s",
            "127.0.0.1",
            "-p",
            str(tap.port),
            "-d",
            str(asked),
            "-n",
            "10",
            "-c",
            "2",
            "-q",
            "8",
        ]
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        plan = plan_of_datagrams(tap.datagrams)
        plan.save(tmp_path / "plan")
        result = drive(tmp_path / "plan", clone.port, Offered(connections=2, requests=1000))
    assert plan.framing is Framing.DNS and plan.requests == 500
    assert all(step.flags is StepFlags.NONE and step.reply > 12 for s in plan.scripts for step in s.steps)
    assert (result.received, result.broken, result.failed) == (1000, 0, 0)
