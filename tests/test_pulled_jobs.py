"""Jobs through a queue: who fetches them with a command that waits is seen, fitted and cloned."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from call_parts import CONNECT_BLOCKING, Backend, answer, build, call, calling, downstream, running
from ditto.artifacts.observation import ProcessSeen, ThreadSeen
from ditto.artifacts.profile import CallClass, ClassMatch, Op, OpKind, Profile, ReplyShape, RequestClass, Role, Send
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.roles import find_roles
from ditto.streams.cycles import follow
from ditto.streams.evidence import requests_of
from ditto.streams.pulls import pulls, with_pulls
from profile_parts import fixed, service_profile
from serial_parts import Recorder, worker
from test_calls_followed import BACKEND, receive, send

PID = 10
QUEUE = b"\x02\x00\x1f\x91\x7f\x00\x00\x01" + bytes(8)
FETCH = b"*3\r\n$5\r\nBRPOP\r\n$4\r\njobs\r\n$1\r\n0\r\n"
PUSH = b"*3\r\n$5\r\nLPUSH\r\n$4\r\njobs\r\n$3\r\none\r\n"
TAKEN = b"*2\r\n$4\r\njobs\r\n$3\r\none\r\n"


def fetching(jobs: int) -> Recorder:
    """Fetches jobs, one after the other, and tells another service of each."""
    record = Recorder((PID,))
    for fd, place in ((30, QUEUE), (31, BACKEND)):
        record.call(PID, "socket", fd, 2, 1)
        record.call(PID, "connect", 0, fd, 0, 16, payload=place)
    for _ in range(jobs):
        send(record, 30, FETCH)
        receive(record, 30, TAKEN)
        send(record, 31, b"SET")
        receive(record, 31, b"+OK\r\n")
    send(record, 30, FETCH)
    return record


def test_each_job_is_a_request() -> None:
    record = fetching(5)
    work = follow(with_pulls(record.threads))
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.complete]
    assert pulls(cycles) and len(cycles) == 5
    assert all([c.sends[0].payload for c in cycle.calls] == [FETCH, b"SET"] for cycle in cycles)
    requests = requests_of(work)
    assert requests.codec == "opaque" and requests.total == 5 and len(requests.classes) == 1
    process = ProcessSeen(pid=PID, ppid=1, name="", threads=[ThreadSeen(tid=PID, name="", syscall=NUMBERS["recvfrom"])])
    roles = find_roles(record.stream(), work, [process]).roles
    assert [(role.kind, role.accepts) for role in roles] == [("pull", False)]


def test_who_is_asked_fetches_no_jobs() -> None:
    """A server that takes elements for its clients serves these."""
    record = Recorder((PID,))
    worker(record, PID)
    assert with_pulls(record.threads) is record.threads
    assert not pulls(record.work().threads[PID].cycles)


def store() -> Profile:
    """A store with a class that brings elements and one that waits for them."""
    profile = service_profile()
    shapes = {"LPUSH": ReplyShape(probability=1.0, kind="integer", size=fixed(1)),
              "BRPOP": ReplyShape(probability=1.0, kind="array", count=fixed(2), size=fixed(4))}  # fmt: skip
    classes = [
        RequestClass(
            probability=0.5, match=ClassMatch(verb=verb), request_bytes=fixed(40), replies=[shape],
            program=[Op(kind=OpKind.REPLY, nr=1)],
        )
        for verb, shape in shapes.items()
    ]  # fmt: skip
    roles = [role.model_copy(update={"on_wake_block": None, "timers": []}) for role in profile.services[0].roles]
    changes = {"classes": classes, "blocks": [], "roles": roles, "files": [], "send": Send(nr=1)}
    service = profile.services[0].model_copy(update=changes)
    return Profile.model_validate(profile.model_copy(update={"services": [service]}).model_dump())


def fetcher() -> Profile:
    """Fetches from its first downstream and tells the second."""
    fetch = CallClass(
        probability=1.0, match=ClassMatch(verb="BRPOP"), request_bytes=fixed(40),
        replies=[ReplyShape(probability=1.0, kind="array", count=fixed(2), size=fixed(4))],
    )  # fmt: skip
    queue = downstream("resp2", blocking=True, connect=CONNECT_BLOCKING, classes=[fetch])
    told = downstream(blocking=True, connect=CONNECT_BLOCKING)
    program = [call(), answer(), call(1, 1), answer(1)]
    return calling([queue, told], program, Role(kind="pull", count=1, wait="blocking", wait_nr=0), codec="opaque")


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(store(), tmp_path_factory.mktemp("store") / "clone")


def waiting(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.sendall(FETCH)
    return sock


def test_the_store_answers_once_something_was_brought(queue: Path) -> None:
    with running(queue) as (_, port), waiting(port) as first, waiting(port) as second:
        first.settimeout(0.2)
        with pytest.raises(TimeoutError):
            first.recv(100)
        first.settimeout(10)
        gone = waiting(port)
        time.sleep(0.1)
        gone.close()
        with socket.create_connection(("127.0.0.1", port), timeout=10) as pushing:
            pushing.sendall(PUSH)
            assert pushing.recv(100).startswith(b":") and first.recv(100).startswith(b"*2\r\n")
            pushing.sendall(PUSH + PUSH)
            assert second.recv(100).startswith(b"*2\r\n")
            second.sendall(FETCH)  # what was brought for the one that has gone
            assert second.recv(100).startswith(b"*2\r\n")
            second.settimeout(0.2)
            second.sendall(FETCH)
            with pytest.raises(TimeoutError):
                second.recv(100)


def test_a_clone_fetches_each_job_once(queue: Path, tmp_path: Path) -> None:
    binary = build(fetcher(), tmp_path / "clone")
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(Backend(reply))
        _, at = stack.enter_context(running(queue))
        places = [word for n, p in enumerate((at, backend.port)) for word in ("--downstream", f"{n}=127.0.0.1:{p}")]
        _, own = stack.enter_context(running(binary, *places))
        for _ in range(600):  # more than wait to be accepted at a time: who looks whether it is up is turned away
            with socket.create_connection(("127.0.0.1", own), timeout=10) as looking:
                assert looking.recv(1) == b""
        with socket.create_connection(("127.0.0.1", at), timeout=10) as pushing:
            for _ in range(20):
                pushing.sendall(PUSH)
                assert pushing.recv(100).startswith(b":")
        deadline = time.monotonic() + 10
        while len(backend.requests) < 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        assert len(backend.requests) == 20
