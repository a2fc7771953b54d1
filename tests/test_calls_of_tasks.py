"""Calls of tasks that go on in whichever thread is free: whose they are, and what tells it best."""

from __future__ import annotations

from pathlib import Path

import pytest

from app_parts import write_app
from ditto.artifacts.records import load_recording
from ditto.host.progress import SilentProgress
from ditto.observe.alone_phase import record_alone
from ditto.observe.native_phase import NativeOptions
from ditto.streams.alone import by_themselves, given_rounds
from ditto.streams.cycles import Cycle, Work, follow
from ditto.streams.events import from_recording
from ditto.streams.evidence import FEW_ALONE, FEW_SHARED, Requests, class_works, plainer, requests_of
from ditto.streams.wire import entangled
from test_sharing import LISTENER, PID, REQUEST, Threads

BACKEND = b"\x02\x00\x1f\x90\x7f\x00\x00\x01" + bytes(8)
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def connect(record: Threads, tid: int, fd: int) -> None:
    record.call(tid, "socket", fd, 2, 1)
    record.call(tid, "connect", -115, fd, 0, 16, payload=BACKEND)


def receive(record: Threads, tid: int, fd: int, payload: bytes = REQUEST) -> None:
    record.call(tid, "read", len(payload), fd, payload=payload)


def send(record: Threads, tid: int, fd: int, payload: bytes = REPLY) -> None:
    record.call(tid, "write", len(payload), fd, payload=payload)


def request(record: Threads, receiver: int, caller: int, client: int, backends: tuple[int, ...]) -> None:
    """One request: received by one thread, which makes the first call; another makes the others and answers."""
    receive(record, receiver, client)
    for number, backend in enumerate(backends):
        send(record, caller if number else receiver, backend, REQUEST)
    for backend in backends:
        receive(record, caller, backend, REPLY)
    send(record, caller, client)


def one_at_a_time(requests: int = 12) -> Threads:
    record = Threads()
    for client in (20, 21):
        record.call(1, "accept4", client, LISTENER)
    for fd in (30, 31):
        connect(record, 1, fd)
    for turn in range(requests):
        receiver = 1 + turn % 3
        request(record, receiver, 1 + (receiver + turn // 3) % 3, 20 + turn % 2, (30, 31))
    for client in (20, 21):
        receive(record, 1, client)
    return record


def cycles_of(work: Work) -> list[Cycle]:
    found = [cycle for thread in work.threads.values() for cycle in thread.cycles if cycle.complete]
    return sorted(found, key=lambda cycle: cycle.receive.index)


def test_a_call_from_another_thread_is_that_of_the_only_request_under_way() -> None:
    work = one_at_a_time().work()
    cycles = cycles_of(work)
    assert len(cycles) == 12
    # The first threads to call have served nothing yet, and may call for nobody.
    assert [len(cycle.calls) for cycle in cycles[3:]] == [2] * 9
    assert all(not cycle.outstanding and cycle.sent == len(REPLY) for cycle in cycles[3:])


def test_a_thread_that_serves_nobody_calls_for_no_request() -> None:
    record = one_at_a_time(6)
    connect(record, 9, 40)
    receive(record, 1, 20)
    send(record, 9, 40, REQUEST)
    receive(record, 9, 40, REPLY)
    send(record, 1, 20)
    receive(record, 1, 20)
    work = record.work()
    assert [life.loose for life in work.peers.values()][-1] == 1
    assert not cycles_of(work)[-1].calls


def test_requests_that_others_met_are_not_alone() -> None:
    record = one_at_a_time(9)
    receive(record, 1, 20)
    receive(record, 2, 21)  # before the one before was answered
    send(record, 1, 30, REQUEST)
    send(record, 2, 31, REQUEST)
    receive(record, 3, 31, REPLY)
    receive(record, 3, 30, REPLY)
    send(record, 1, 20)
    send(record, 2, 21)
    receive(record, 2, 20)
    receive(record, 3, 21)
    send(record, 2, 30, REQUEST)  # the last one: its reply never came
    requests = requests_of(record.work())
    alone = by_themselves(requests.classes)
    assert requests.total - sum(map(len, alone.values())) == 2
    assert all(len(cycle.calls) <= 2 for found in alone.values() for cycle in found)


def test_requests_that_came_alone_tell_more_where_tasks_change_their_thread() -> None:
    requests = requests_of(one_at_a_time(FEW_ALONE + 2).work())
    (whole,) = class_works(requests).values()
    (key,) = requests.classes
    few = class_works(type(requests)(requests.codec, {key: requests.classes[key][-FEW_SHARED:]}, FEW_SHARED))[key]
    assert plainer(whole, few, shared=True) is few
    assert plainer(whole, few) is whole
    assert plainer(whole, None, shared=True) is whole


def test_a_request_that_seems_to_be_sent_in_parts_is_looked_at_alone() -> None:
    """Another request's, on the same connection and before the reply, looks like a further part of the first."""
    record = Threads()
    for client in (20, 21):
        record.call(1, "accept4", client, LISTENER)
    connect(record, 1, 30)
    for _ in range(FEW_ALONE + 2):
        receive(record, 1, 20)
        send(record, 1, 30, REQUEST)
        receive(record, 1, 21)
        send(record, 1, 30, REQUEST)
        for client in (20, 21):
            receive(record, 1, 30, REPLY)
            send(record, 1, client)
    receive(record, 1, 20)
    loaded = requests_of(record.work())
    alone = requests_of(one_at_a_time(FEW_ALONE + 4).work())
    ((key, work),) = class_works(loaded).items()
    assert "call_more" in {name.kind for name in work.ops}
    lone = class_works(alone)[key]
    assert plainer(work, lone) is lone


@pytest.mark.parametrize("collector", [pytest.param("ebpf", marks=pytest.mark.ebpf), "ptrace"])
def test_one_request_at_a_time_is_recorded(tmp_path: Path, collector: str) -> None:
    spec, notes = write_app(tmp_path), []
    spec = spec.model_copy(update={"load": spec.load.model_copy(update={"connections": 4})})
    assert record_alone(spec, tmp_path, NativeOptions(collector), notes, SilentProgress()) == "alone.rec"
    assert all(note.startswith("recorded with") for note in notes)
    requests = requests_of(follow(from_recording(load_recording(tmp_path / "alone.rec")).threads))
    assert requests.total >= 10
    assert sum(map(len, by_themselves(requests.classes).values())) == requests.total


def test_a_client_that_gives_up_one_request_at_a_time_is_told_of(tmp_path: Path) -> None:
    notes: list[str] = []
    options = NativeOptions("ptrace")
    assert record_alone(write_app(tmp_path, client="fail"), tmp_path, options, notes, SilentProgress()) == ""
    assert "one request at a time" in notes[-1] and not (tmp_path / "alone.rec").exists()
    spec = write_app(tmp_path)
    load = spec.load.model_copy(update={"command": ("true",)})
    assert record_alone(spec.model_copy(update={"load": load}), tmp_path, options, notes, SilentProgress()) == ""
    assert "{port}" in notes[-1]


def in_rounds(record: Threads, clients: tuple[int, ...], backends: tuple[int, ...]) -> None:
    """Requests to a loop of tasks, together: each begins in the round after the one that receives, and calls later."""
    record.call(1, "epoll_wait", len(clients), 3, 0, 64, -1 & 0xFFFFFFFF)
    for client in clients:
        receive(record, 1, client)
    record.call(1, "epoll_wait", 0, 3, 0, 64, 0)
    for _ in clients:
        record.call(1, "getrandom", 16)
        record.call(1, "getpid", PID)
    record.call(1, "epoll_wait", 0, 3, 0, 64, 0)
    for backend in backends:
        record.call(1, "getrandom", 8)
        send(record, 1, backend, REQUEST)
    record.call(1, "epoll_wait", len(backends), 3, 0, 64, -1 & 0xFFFFFFFF)
    for backend in backends:
        receive(record, 1, backend, REPLY)
    record.call(1, "epoll_wait", 0, 3, 0, 64, 0)
    for client in clients:
        send(record, 1, client)


def rounds_of_tasks(together: int, requests: int) -> Work:
    record = Threads()
    clients, backends = tuple(range(20, 24)), tuple(range(30, 34))
    for client in clients:
        record.call(1, "accept4", client, LISTENER)
    for backend in backends:
        connect(record, 1, backend)
    for _ in range(requests):
        in_rounds(record, clients[:together], backends[:together])
    receive(record, 1, 20)
    return record.work()


def test_what_tasks_call_in_their_rounds_is_told_by_requests_that_came_alone() -> None:
    """Under load the calls without a descriptor that a task begins with are nobody's, or another request's."""
    work = rounds_of_tasks(1, FEW_ALONE + 2)
    requests = requests_of(work)
    kept = by_themselves(requests.classes)
    given_rounds(work, (cycle for found in kept.values() for cycle in found))
    ((key, alone),) = class_works(Requests(requests.codec, kept, requests.total)).items()
    count = len(alone.cycles)
    found = [name.kind for name, op in alone.ordered() if op.count == count]
    assert found == [
        "receive", "yield", "misc", "misc", "yield", "misc", "call", "answer", "yield", "reply",
    ]  # fmt: skip
    loaded = class_works(requests_of(rounds_of_tasks(3, 40)))[key]
    assert sum(op.count for name, op in loaded.ops.items() if name.kind == "misc") < 2.5 * len(loaded.cycles)
    assert plainer(loaded, alone) is alone
    few = class_works(Requests(requests.codec, {key: kept[key][:FEW_SHARED]}, FEW_SHARED))[key]
    assert plainer(loaded, few) is few, "a rare kind of request came alone a few times only"


def test_loops_whose_calls_are_not_told_apart_are_looked_at_alone() -> None:
    record = Threads()
    clients, backends = tuple(range(20, 26)), tuple(range(30, 36))
    for client in clients:
        record.call(1, "accept4", client, LISTENER)
    for backend in backends:
        connect(record, 1, backend)
    for turn in range(40):
        # Each makes two calls; the second ones leave as the replies to the first come, in any order.
        for client in clients:
            receive(record, 1, client)
        for number in range(12):
            backend = backends[(turn * 5 + number * 7) % 6]
            send(record, 1, backend, REQUEST)
            receive(record, 1, backend, REPLY)
        for client in clients[:: 1 if turn % 2 else -1]:
            send(record, 1, client)
    receive(record, 1, 20)
    assert entangled(requests_of(record.work()))
    assert not entangled(requests_of(rounds_of_tasks(1, 40)))
    assert not entangled(requests_of(rounds_of_tasks(3, 40)))
