"""Servers whose threads or processes serve one connection at a time: recognised and fitted, from recordings."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from ditto.artifacts.observation import DescriptorSeen, ProcessSeen, ThreadSeen
from ditto.artifacts.profile import Op, OpKind, Process, Role
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.framing import framing_of
from ditto.model.classes import Placement, fit_program
from ditto.model.handover import Handover, kept_open, lasting, set_up_before
from ditto.model.network import fit_send
from ditto.model.roles import RoleSeen, find_roles, leads_session
from ditto.model.serial import waits_once
from ditto.model.wakes import each_wake
from ditto.streams.evidence import class_works, requests_of
from ditto.streams.lives import setup_work
from ditto.streams.serial import bursts_before_accepts, serial_waits
from serial_parts import LISTENER, REQUEST, Recorder, worker


def test_an_option_that_a_connection_gets_with_a_later_request_is_part_of_its_set_up() -> None:
    record = Recorder((10,))
    for fd, requests in ((7, 1), (8, 5), (9, 5)):  # the first is a probe's
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "accept4", fd, LISTENER)
        for number in range(requests):
            record.call(10, "epoll_wait", 1, 4)
            record.call(10, "read", len(REQUEST), fd, payload=REQUEST)
            record.call(10, "setsockopt", 0, fd, 6, 3, 1)  # with each request
            record.call(10, "write", 5, fd, payload=b"$-1\r\n")
            if number == 1:
                record.call(10, "setsockopt", 0, fd, 6, 1, 1)
        record.call(10, "read", 0, fd)
        record.call(10, "close", 0, fd)
    work = record.work()
    setup = setup_work(work, True)
    assert [(name.kind, op.count, len(setup.cycles)) for name, op in setup.ordered()] == [("setsockopt", 2, 2)]
    (found,) = class_works(requests_of(work)).values()
    assert {name.kind: op.count for name, op in found.ordered() if name.kind == "setsockopt"} == {"setsockopt": 11}


@pytest.mark.parametrize(("access", "a"), [(0, 2), (3, 0)])
def test_a_mapping_without_access_is_not_touched(access: int, a: int) -> None:
    """As the stack is of a thread that an acceptor starts."""
    record = Recorder((10,))
    for fd in (7, 8, 9):
        record.call(10, "accept4", fd, LISTENER)
        record.call(10, "mmap", 0x10000000, 0, 1 << 23, access, 0x20022, 0xFFFFFFFF)
    placement = Placement(lambda name, op: 0, lambda slot: 0)
    (op,) = fit_program(setup_work(record.work(), True), {}, lambda name, amount: [], placement, deferred=False)
    assert op.size is not None and (op.kind, op.a, op.size.values) == (OpKind.MMAP, a, [1 << 23])


def test_connections_older_than_the_recording_are_set_up_as_they_were_found() -> None:
    def evidence(nodelay: tuple[bool, ...], accept: object) -> Any:
        seen = [DescriptorSeen(pid=1, fd=fd, kind="connection", nodelay=on) for fd, on in enumerate(nodelay)]
        native = SimpleNamespace(descriptors=[*seen, DescriptorSeen(pid=1, fd=9, kind="file")])
        lives = {1: SimpleNamespace(accept=accept)}
        return SimpleNamespace(observation=SimpleNamespace(native=native), work=SimpleNamespace(lives=lives))

    role = Role(kind="loop", count=1, listens=True)
    (op,) = set_up_before(evidence((True, True, False), None), role).on_accept
    assert (op.kind, op.a, op.b, op.c) == (OpKind.SETSOCKOPT, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert set_up_before(evidence((True, False), None), role) == role
    assert set_up_before(evidence((True, True), object()), role) == role


def loop(record: Recorder, pid: int, wait: str, descriptors: int) -> None:
    """An event loop that has one connection at a time, but waits for its listener all the while."""
    arguments = (descriptors, 1) if wait == "select" else (1, descriptors)
    for _ in range(3):
        record.call(pid, wait, 1, *arguments)
        record.call(pid, "accept4", 7, LISTENER)
        for _ in range(4):
            record.call(pid, wait, 1, *arguments)
            record.call(pid, "read", 20, 7, 0, 8000, payload=REQUEST)
            record.call(pid, "write", 5, 7, 0, 5)
        record.call(pid, "read", 0, 7, 0, 8000)
        record.call(pid, "close", 0, 7)


def test_a_worker_that_serves_one_connection_at_a_time() -> None:
    record = Recorder((10,))
    worker(record, 10)
    waits = serial_waits(record.work().threads[10])
    assert waits is not None
    assert waits.on_connection == {NUMBERS["poll"]: 12} and not waits.on_listener
    assert (waits.refused_receives, waits.refused_accepts) == (12, 0)


@pytest.mark.parametrize(("waited", "once"), [(False, True), (True, False)])
def test_a_worker_that_waits_for_the_rest_of_a_request_in_the_receive(waited: bool, once: bool) -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for _ in range(5):
        record.call(10, "poll", 1, 0, 1, 1000)
        record.call(10, "read", 10, 7, 0, 8000, payload=REQUEST)
        if waited:
            record.call(10, "poll", 1, 0, 1, 1000)
        record.call(10, "read", 10, 7, 0, 8000)
        record.call(10, "write", 5, 7, 0, 5)
        record.call(10, "write", 5, 7, 0, 5)
    record.call(10, "close", 0, 7)
    work = record.work()
    role = RoleSeen("accept_serve", NUMBERS["poll"], 0, True, True, [10], list(work.threads.values()))
    assert waits_once(role) is once


def test_a_single_poll_is_not_how_a_thread_waits_for_its_requests() -> None:
    """A database's client polls its new connection, and reads files before it goes on: once in a thread's life."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for number in range(40):
        if number == 3:
            record.call(10, "poll", 1, 0, 1, 1000)
            record.call(10, "openat", -2, 0)
        record.call(10, "recvfrom", 20, 7, 0, 8000, payload=REQUEST)
        record.call(10, "sendto", 5, 7, 0, 5)
    waits = serial_waits(record.work().threads[10])
    assert waits is not None and not waits.on_connection


@pytest.mark.parametrize(("wait", "descriptors"), [("poll", 2), ("epoll_wait", 64), ("select", 8)])
def test_a_loop_with_one_connection_is_none(wait: str, descriptors: int) -> None:
    record = Recorder((10,))
    loop(record, 10, wait, descriptors)
    assert serial_waits(record.work().threads[10]) is None


def test_one_of_several_that_select_a_single_connection_serves_one_at_a_time() -> None:
    record = Recorder((10, 11))
    for pid in (10, 11):
        loop(record, pid, "select", 8)
    waits = serial_waits(record.work().threads[10])
    assert waits is not None
    assert (waits.on_connection, waits.on_listener) == ({NUMBERS["select"]: 12}, {NUMBERS["select"]: 3})


def test_what_a_thread_calls_for_a_connection_before_its_receive_belongs_to_it() -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for _ in range(5):
        record.call(10, "select", 1, 8, 1)
        record.call(10, "getpeername", 0, 7)
        record.call(10, "alarm", 0)
        record.call(10, "read", 20, 7, 0, 8000, payload=REQUEST)
        record.call(10, "write", 5, 7, payload=b"$-1\r\n")
    work = record.work()
    (found,) = class_works(requests_of(work)).values()
    counts = {name.nr: op.count for name, op in found.ordered()}
    assert (counts[NUMBERS["getpeername"]], counts[NUMBERS["alarm"]]) == (4, 4)
    assert [name.nr for name, _ in setup_work(work, True).ordered()] == [NUMBERS["getpeername"], NUMBERS["alarm"]]


def test_two_connections_at_once_are_not_served_one_by_one() -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    record.call(10, "accept4", 8, LISTENER)
    record.call(10, "read", 20, 8, 0, 8000, payload=REQUEST)
    assert serial_waits(record.work().threads[10]) is None


def child(record: Recorder, pid: int, watched: tuple[int, ...]) -> None:
    """Born with connection 7; receives first, and waits with an event queue of its own."""
    record.table.fork(9, pid)
    record.call(pid, "epoll_create1", 5)
    for descriptor in watched:
        record.call(pid, "epoll_ctl", 0, 5, 1, descriptor)
    for _ in range(5):
        record.call(pid, "recvfrom", -11, 7, 0, 8192)
        record.call(pid, "epoll_wait", 1, 5, 0, 1)
        record.call(pid, "recvfrom", 20, 7, 0, 8192, payload=REQUEST)
        record.call(pid, "sendto", 5, 7, 0, 5)


def test_a_process_that_waits_with_an_event_queue_of_its_own() -> None:
    record = Recorder((9,))
    record.call(9, "accept", 7, LISTENER)
    child(record, 10, (7,))
    waits = serial_waits(record.work().threads[10])
    assert waits is not None
    assert (waits.on_connection, waits.refused_receives) == ({NUMBERS["epoll_wait"]: 5}, 5)


@pytest.mark.parametrize("watched", [(LISTENER, 7), (7, 8)])
def test_a_queue_with_more_than_the_connection_is_a_loops(watched: tuple[int, ...]) -> None:
    record = Recorder((9,))
    record.call(9, "accept", 7, LISTENER)
    record.call(9, "accept", 8, LISTENER)
    child(record, 10, watched)
    assert serial_waits(record.work().threads[10]) is None


def test_background_processes_of_different_periods_are_of_different_roles() -> None:
    record = Recorder((9, 10, 11, 12))
    worker(record, 9)
    for pid, pause in ((10, 200_000_000), (11, 200_000_000), (12, 20_000_000)):
        for _ in range(6):
            record.now += pause
            record.call(pid, "epoll_wait", 0, 4, 0, 1, 200)
    processes = [ProcessSeen(pid=9, ppid=1, name="m", threads=[ThreadSeen(tid=9, name="m", syscall=0)])]
    processes += [
        ProcessSeen(pid=pid, ppid=9, name="b", threads=[ThreadSeen(tid=pid, name="b", syscall=232)])
        for pid in (10, 11, 12)
    ]
    seen = find_roles(record.stream(), record.work(), processes)
    assert [(role.kind, role.wait_nr, len(role.threads)) for role in seen.roles[1:]] == [
        ("periodic", NUMBERS["epoll_wait"], 2), ("periodic", NUMBERS["epoll_wait"], 1),
    ]  # fmt: skip
    assert [len(process.pids) for process in seen.processes] == [1, 2, 1]


def test_processes_that_lead_a_session_are_told_by_most_of_them() -> None:
    def seen(pid: int, session: int) -> ProcessSeen:
        return ProcessSeen(pid=pid, ppid=9, name="b", threads=[], session=session)

    role = RoleSeen("serve", 1, 0, False, True, threads=[10, 11, 12])
    assert leads_session(role, [seen(9, 9), seen(10, 10), seen(11, 11), seen(12, 9)])
    assert not leads_session(role, [seen(9, 9), seen(10, 10), seen(11, 9), seen(12, 9)])
    assert not leads_session(role, [seen(9, 9)])


@pytest.mark.parametrize(("family", "ret", "kept"), [(1, -2, ["misc"]), (1, -111, ["misc"]), (2, -111, [])])
def test_a_log_that_nobody_keeps(family: int, ret: int, kept: list[str]) -> None:
    """syslog(3) makes a socket for each line where no daemon has one; the three calls are one operation."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for _ in range(5):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", len(REQUEST), 7, payload=REQUEST)
        record.call(10, "socket", 8, family, 0x80002)
        record.call(10, "connect", ret, 8)
        record.call(10, "close", 0, 8)
        record.call(10, "write", 5, 7, payload=b"$-1\r\n")
    record.call(10, "read", 0, 7)
    (found,) = class_works(requests_of(record.work())).values()
    others = [(name.kind, op.count) for name, op in found.ordered() if name.kind not in ("receive", "reply")]
    assert others == [(kind, 5) for kind in kept]
    assert sorted(found.unsupported) == ([] if kept else sorted(NUMBERS[n] for n in ("socket", "connect", "close")))


def test_what_is_done_before_each_accept() -> None:
    record = Recorder((10,))
    worker(record, 10)
    bursts = list(bursts_before_accepts(record.work().threads[10]))
    assert [[event.nr for event in burst] for burst in bursts] == [[NUMBERS["getppid"]]] * 3


def test_a_process_forked_for_a_connection_may_select_others_beside_it() -> None:
    """As one does that relays to a program of its own; one that accepts connections is a loop all the same."""
    record = Recorder((10, 11, 12))
    for pid in (11, 12):
        record.call(10, "accept4", 7, LISTENER)
        record.table._tables[pid] = dict(record.table._tables[10])
        for _ in range(4):
            record.call(pid, "select", 1, 12)
            record.call(pid, "read", 20, 7, 0, 8000, payload=REQUEST)
            record.call(pid, "select", 1, 6)
            record.call(pid, "write", 5, 7, 0, 5)
        record.call(10, "close", 0, 7)
    threads = record.work().threads
    waits = serial_waits(threads[11])
    assert waits is not None and waits.on_connection[NUMBERS["select"]] == 3
    threads[11].accepts.append(threads[10].accepts[0])
    assert serial_waits(threads[11]) is None


def test_a_thread_for_a_connection_brings_its_own_stack() -> None:
    stack = Op(kind=OpKind.MMAP, nr=NUMBERS["mmap"], probability=0.9)
    guard = Op(kind=OpKind.MISC, nr=NUMBERS["mprotect"], probability=0.9)
    other = Op(kind=OpKind.MMAP, nr=NUMBERS["mmap"])
    assert kept_open([other, stack, guard], Handover(1, "spawn_thread")) == [other]
    assert kept_open([other, guard], Handover(1, "spawn_thread")) == [other, guard]
    assert kept_open([stack, guard], Handover(1, "queue")) == [stack, guard]


def test_what_a_process_starts_for_its_connection_ends_with_it() -> None:
    roles = [Role(kind="loop", count=1, handover="spawn_process", hand_to=1, listens=True)]
    roles += [Role(kind="serve", count=1), Role(kind="serve", count=1), Role(kind="idle", count=1)]
    parents = (-1, 0, 1, 0)
    seen = [Process(roles=[number], parent=parent) for number, parent in enumerate(parents)]
    assert [process.roles for process in lasting(seen, roles)] == [[0], [3]]


def test_workers_without_a_connection_are_what_their_busy_siblings_are() -> None:
    record = Recorder((9, 10, 11, 12))
    worker(record, 10)
    worker(record, 11)
    record.call(12, "accept4", -11, LISTENER)
    for _ in range(3):
        record.call(9, "pselect6", 0, 0)  # no descriptors: it sleeps
        record.call(9, "wait4", 0)
    processes = [ProcessSeen(pid=9, ppid=1, name="m", threads=[ThreadSeen(tid=9, name="m", syscall=270)])]
    processes += [
        ProcessSeen(pid=pid, ppid=9, name="w", threads=[ThreadSeen(tid=pid, name="w", syscall=288)])
        for pid in (10, 11, 12)
    ]
    seen = find_roles(record.stream(), record.work(), processes)
    assert [(role.kind, len(role.threads)) for role in seen.roles] == [("periodic", 1), ("accept_serve", 3)]
    assert [len(process.pids) for process in seen.processes] == [1, 3]
    assert seen.roles[1].wait_name == "poll"


@pytest.mark.parametrize(
    ("head", "framing"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc", "length"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "chunked"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nContent-Length: none", "close"),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "length"),
        (b"+OK\r\n", ""),
    ],
)
def test_what_ends_a_reply(head: bytes, framing: str) -> None:
    assert framing_of(head) == framing


@pytest.mark.parametrize(
    ("replies", "limit", "parts"),
    [
        (((6, 102),), 0, [6]),
        (((6, 9, 150),), 0, [6, 9]),
        (((100, 100, 30),), 100, []),
        (((6, 102), (6, 6, 150)), 54, []),
        (((5000,), (5000,), (100, 104, 300)), 0, []),  # parts of what leaves whole otherwise
    ],
)
def test_replies_sent_in_several_calls_take_as_many(
    replies: tuple[tuple[int, ...], ...], limit: int, parts: list[int]
) -> None:
    """A small first part, as behind TCP_CORK, is no limit of the calls."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for number in range(20):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", len(REQUEST), 7, payload=REQUEST)
        for size in replies[number % len(replies)]:
            record.call(10, "write", size, 7)
    record.call(10, "read", 0, 7)
    (cycles,) = requests_of(record.work()).classes.values()
    send = fit_send(cycles, False, None)
    assert (send.call_bytes, send.parts) == (limit, parts)


@pytest.mark.parametrize(("first", "calls"), [(65536, 1), (30, 0)])
def test_only_long_replies_stop_for_others_to_have_their_turn(first: int, calls: int) -> None:
    """Where a few bytes are sent ahead, the rest was not known before: no wait for the client to take them."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for _ in range(20):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", len(REQUEST), 7, payload=REQUEST)
        record.call(10, "write", first, 7)
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "write", first // 2, 7)
    record.call(10, "read", 0, 7)
    (cycles,) = requests_of(record.work()).classes.values()
    send = fit_send(cycles, False, None)
    assert (send.calls_per_wake, send.arm, bool(send.call_bytes)) == (calls, not calls, first > 4096)


@pytest.mark.parametrize(("relayed", "calls"), [(False, 1), (True, 0)])
def test_a_reply_that_comes_from_elsewhere_piece_by_piece_stops_for_nobody(relayed: bool, calls: int) -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    record.call(10, "socket", 9, 2, 1)
    record.call(10, "connect", 0, 9)
    for _ in range(20):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", len(REQUEST), 7, payload=REQUEST)
        record.call(10, "write", len(REQUEST), 9, payload=REQUEST)
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", 65536, 9)
        record.call(10, "write", 65536, 7)
        record.call(10, "epoll_wait", 1, 4)
        if relayed:
            record.call(10, "read", 32768, 9)
        record.call(10, "write", 32768, 7)
    record.call(10, "read", 0, 7)
    (cycles,) = requests_of(record.work(), "resp2").classes.values()
    send = fit_send(cycles, False, None)
    assert (send.calls_per_wake, send.arm, send.call_bytes) == (calls, False, 65536)


def test_sends_without_copying_are_sends_and_what_is_told_of_them_no_end() -> None:
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for _ in range(5):
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "read", len(REQUEST), 7, payload=REQUEST)
        record.call(10, "sendto", 5000, 7, 0, 5000, 0x4004000)
        record.call(10, "epoll_wait", 1, 4)
        record.call(10, "recvmsg", 0, 7, 0, 0x2000)
    record.call(10, "read", 0, 7)
    (cycles,) = requests_of(record.work()).classes.values()
    assert [cycle.sent for cycle in cycles] == [5000] * 5
    assert fit_send(cycles, False, None).flags == 0x4000  # whoever does not ask would be told again and again


def test_calls_between_the_wait_for_a_request_and_its_receive() -> None:
    """As of an interpreter that gives memory back first.  Those before accepts have a program of their own."""
    record = Recorder((10, 11))
    for pid in (10, 11):
        for _ in range(2):
            record.call(pid, "pselect6", 1, 4)
            record.call(pid, "getppid", 1)
            record.call(pid, "accept4", 7, LISTENER)
            for _ in range(9):
                record.call(pid, "pselect6", 1, 8)
                record.call(pid, "brk", 0x1000, 0x1000)
                record.call(pid, "read", 20, 7, 0, 8000, payload=REQUEST)
                record.call(pid, "write", 5, 7, 0, 5)
            record.call(pid, "read", 0, 7, 0, 8000)
            record.call(pid, "close", 0, 7)
    work = record.work()
    role = RoleSeen("accept_serve", 0, NUMBERS["pselect6"], True, True, [10, 11], list(work.threads.values()))
    (op,) = each_wake(role, Placement(lambda name, op: 0, lambda slot: 0), set(), served_alone=True)
    assert (op.nr, op.probability) == (NUMBERS["brk"], 1.0)
    before = [event.nr for event in next(bursts_before_accepts(work.threads[10], {NUMBERS["brk"]}))]
    assert before == [NUMBERS["getppid"]]
    nearly = list(bursts_before_accepts(work.threads[10]))
    assert [event.nr for event in nearly[1]].count(NUMBERS["brk"]) == 9  # unless they are told apart
    again = list(bursts_before_accepts(work.threads[10], {NUMBERS["brk"]}))
    assert [event.nr for event in again[1]] == [NUMBERS["getppid"]]
