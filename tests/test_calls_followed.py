"""Recorded calls to other services are given to the requests that they were made for, and fitted."""

from __future__ import annotations

import random
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from ditto.artifacts.profile import Op, OpKind, ReplyShape, RequestClass
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import UnsupportedShapeError
from ditto.model.classes import Placement, fit_program
from ditto.model.delays import fit_delays
from ditto.model.downstream import _further, calls_outside, calls_overlapping
from ditto.model.links import numbered_alike
from ditto.model.settled_calls import settled_calls
from ditto.model.shape import require_known_shape
from ditto.model.waits import longest_rest, most_events, watched_last
from ditto.streams import programs, protocol
from ditto.streams.arguments import arguments, forbids_blocking
from ditto.streams.cycles import Work
from ditto.streams.events import Descriptors, Event, KnownDescriptor
from ditto.streams.evidence import Requests, one_after_the_other, requests_of
from ditto.streams.lives import connect_work
from ditto.streams.peer_waits import find_waits_of_calls, most_polled
from ditto.streams.serial import serial_waits
from profile_parts import fixed
from serial_parts import LISTENER, REQUEST, Recorder

PID = 10
BACKEND = b"\x02\x00\x1f\x90\x7f\x00\x00\x01" + bytes(8)
REPLY = b"+OK\r\n"


def connect(record: Recorder, fd: int, blocking: bool = False) -> None:
    record.call(PID, "socket", fd, 2, 1)
    record.call(PID, "setsockopt", 0, fd, 6, 1, 0, 4)
    record.call(PID, "connect", 0 if blocking else -115, fd, 0, 16, payload=BACKEND)
    if not blocking:
        record.call(PID, "epoll_ctl", 0, 5, 1, fd)


def wait(record: Recorder) -> None:
    record.call(PID, "epoll_wait", 1, 5, 0, 200, 1000)
    record.call(PID, "getpid", PID)


def receive(record: Recorder, fd: int, payload: bytes) -> None:
    record.call(PID, "recvfrom", len(payload), fd, 0, 8000, payload=payload)


def send(record: Recorder, fd: int, payload: bytes) -> None:
    record.call(PID, "sendto", len(payload), fd, 0, len(payload), 0x4040, payload=payload)


def batched(connections: int = 3, rounds: int = 4) -> Work:
    """A proxy that receives from all its clients, then calls for all, then answers all."""
    record = Recorder((PID,))
    clients = range(20, 20 + connections)
    wait(record)
    for fd in clients:
        record.call(PID, "accept4", fd, LISTENER)
    for turn in range(rounds + 1):
        wait(record)
        for fd in clients:
            receive(record, fd, REQUEST)
        if turn == rounds:
            break
        if turn == 0:
            for fd in clients:
                connect(record, 100 + fd)
            wait(record)
        for fd in clients:
            send(record, 100 + fd, REQUEST)
        wait(record)
        for fd in clients:
            receive(record, 100 + fd, REPLY)
        for fd in clients:
            send(record, fd, REPLY)
    return record.work()


def test_a_batch_of_requests_is_matched_in_order() -> None:
    work = batched()
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.complete]
    assert len(cycles) == 12
    partners = {}
    for cycle in cycles:
        assert len(cycle.calls) == 1 and cycle.sent == len(REPLY) and cycle.outstanding == 0
        names = [event.nr for event in cycle.events if event.nr not in (NUMBERS["getpid"], NUMBERS["accept4"])]
        order = ["recvfrom", "sendto", "recvfrom", "sendto"]
        assert names == [NUMBERS[name] for name in order]
        partners.setdefault(cycle.connection, set()).add(cycle.calls[0].peer)
        assert cycle.calls[0].waited and cycle.calls[0].answer_bytes == len(REPLY)
    assert all(len(peers) == 1 for peers in partners.values())
    assert len({peer for peers in partners.values() for peer in peers}) == 3
    assert calls_outside(work) == calls_overlapping(work) == 0


def test_calls_made_in_another_order_than_requests_came() -> None:
    """The replies tell which call was whose."""
    record = Recorder((PID,))
    wait(record)
    for fd in (20, 21, 22):
        record.call(PID, "accept4", fd, LISTENER)
    for turn in range(5):
        wait(record)
        for fd in (20, 21, 22):
            receive(record, fd, REQUEST)
        for fd in (22, 20, 21):
            if not turn:
                connect(record, 100 + fd)
            send(record, 100 + fd, REQUEST)
        for fd in (21, 22, 20):
            wait(record)
            receive(record, 100 + fd, REPLY)
            send(record, fd, REPLY)
    work = record.work()
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.complete]
    assert len(cycles) == 12
    assert all(len(cycle.calls) == 1 and not cycle.outstanding for cycle in cycles)
    pairs = {(cycle.connection.serial, cycle.calls[0].peer.serial) for cycle in cycles}
    assert len(pairs) == 3
    order = [[event.nr for event in cycle.events if event.obj is not None] for cycle in cycles]
    names = ["recvfrom", "sendto", "recvfrom", "sendto"]
    assert all([nr for nr in found if nr != NUMBERS["epoll_ctl"]] == [NUMBERS[n] for n in names] for found in order)


def test_a_task_that_goes_on_a_round_later_calls_for_its_request() -> None:
    """The connection was another request's before, and nothing was received in the round."""
    record = Recorder((PID,))
    wait(record)
    record.call(PID, "accept4", 20, LISTENER)
    for fd in (30, 31):
        connect(record, fd)
    for _ in range(4):
        wait(record)
        receive(record, 20, REQUEST)
        send(record, 30, REQUEST)
        for fd, following in ((30, 31), (31, 20)):
            wait(record)
            receive(record, fd, REPLY)
            wait(record)
            send(record, following, REQUEST if following == 31 else REPLY)
    work = record.work()
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.sent]
    assert len(cycles) == 4 and all([call.link for call in cycle.calls] == [0, 1] for cycle in cycles)
    assert calls_outside(work) == 0


def test_what_comes_before_an_answer_of_a_later_round_is_for_that_request() -> None:
    """Two rounds later, and nothing was waited for in between: each answer begins with a call of its own."""
    record = Recorder((PID,))
    wait(record)
    for fd in (20, 21):
        record.call(PID, "accept4", fd, LISTENER)
    for _ in range(4):
        wait(record)
        for fd in (20, 21):
            receive(record, fd, REQUEST)
        for _ in range(2):
            record.call(PID, "epoll_wait", 0, 4, 0, 64, 0)
        for fd in (20, 21):
            record.call(PID, "getpid", PID)
            send(record, fd, REPLY)
    cycles = [cycle for cycle in record.work().threads[PID].cycles if cycle.sent]
    assert len(cycles) == 8 and all(cycle.resumed_after is not None for cycle in cycles)
    names = [NUMBERS[name] for name in ("recvfrom", "getpid", "sendto")]
    assert all([event.nr for event in cycle.events] == names for cycle in cycles)
    order = [name.kind for name, _ in programs.build(b"x", cycles).ordered()]
    assert order == ["receive", "resume", "misc", "reply"]


def test_what_is_done_to_a_kept_connection_ahead_of_a_call_is_for_that_call() -> None:
    record = Recorder((PID,))
    wait(record)
    for fd in (20, 21):
        record.call(PID, "accept4", fd, LISTENER)
    for turn in range(9):
        wait(record)
        receive(record, 20 + turn % 2, REQUEST)
        if turn == 0:
            connect(record, 30)
        else:
            record.call(PID, "getsockopt", 0, 30, 1, 4)
        send(record, 30, REQUEST)
        wait(record)
        receive(record, 30, REPLY)
        receive(record, 30, REPLY * 3)
        send(record, 20 + turn % 2, REPLY)
    work = record.work()
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.complete]
    found = programs.build(b"GET", cycles)
    names = {name.kind: op.count for name, op in found.ops.items() if name.slot == ("d", 0)}
    assert names == {"call": 7, "answer": 7, "getsockopt": 6}
    program = fit_program(
        found, {}, lambda name, amount: [], Placement(lambda n, o: 0, lambda s: 0, lambda o: (0, fixed(0))), False
    )
    kinds = [(op.kind.value, op.probability) for op in program if op.link == 0]
    assert kinds == [("call", 1.0), ("getsockopt", 6 / 7), ("answer", 1.0)]
    calls = [call for cycle in cycles for call in cycle.calls]
    assert [(one.nr, one.bytes) for one in _further(calls)] == []  # as the first
    for call in calls:
        call.answers[1].nr, call.answers[1].iov, call.answers[1].iovcnt = NUMBERS["readv"], (4096, 4096), 4
    assert [(one.nr, one.bytes) for one in _further(calls)] == [(NUMBERS["readv"], 16384)]


def test_what_is_done_ahead_of_several_calls_is_for_each_of_them() -> None:
    record = Recorder((PID,))
    wait(record)
    fds = (20, 21, 22)
    for fd in fds:
        record.call(PID, "accept4", fd, LISTENER)
    for turn in range(6):
        wait(record)
        for fd in fds:
            receive(record, fd, REQUEST)
        for fd in fds:
            if turn == 0:
                connect(record, 100 + fd)
            else:
                record.call(PID, "epoll_ctl", 0, 5, 2, 100 + fd)
        for fd in fds:
            send(record, 100 + fd, REQUEST)
        wait(record)
        for fd in fds:
            receive(record, 100 + fd, REPLY)
            send(record, fd, REPLY)
    cycles = [cycle for cycle in record.work().threads[PID].cycles if cycle.complete]
    assert len(cycles) == 15 and all(len(cycle.links) == 1 for cycle in cycles)
    names = {name.kind: op.count for name, op in programs.build(b"GET", cycles).ops.items() if name.slot == ("d", 0)}
    assert names == {"call": 15, "answer": 15, "epoll_del": 12}


def test_a_proxys_first_send_holds_head_and_data() -> None:
    begun = b"HTTP/1.1 200 OK\r\n" + b"x" * 47
    seen = [protocol.reply_shape("http1", begun, total, first, vector) for total, first, vector in (
        (44149, 8192, 242), (11322, 11322, 242), (5242, 242, 0), (5242, 242, 100), (5000, 5000, 0),
    )]  # fmt: skip
    assert [(shape.head_bytes, shape.size) for shape in seen] == [
        (242, 43907), (242, 11080), (242, 5000), (100, 5142), (160, 4840),
    ]  # fmt: skip
    event = SimpleNamespace(iovcnt=3, iov=(242, 3854, 4096), ret=8192, payload=begun)
    assert not programs.ends_head(event)  # type: ignore[arg-type]
    event.iovcnt, event.iov = 0, ()
    assert programs.ends_head(event)  # type: ignore[arg-type]


def test_a_session_of_a_database_begins_with_its_connection() -> None:
    """Also where that is made for a request."""
    record = Recorder((PID,))
    record.call(PID, "accept4", 20, LISTENER)
    for turn in range(3):
        receive(record, 20, REQUEST)
        if turn == 0:
            connect(record, 30, blocking=True)
            for said, answer in ((b"\0\0\0\x08\x04\xd2\x16\x2f", b"N"), (b"\0\0\0\x0c\0\3\0\0user", b"R\0\0\0\x08")):
                send(record, 30, said)
                receive(record, 30, answer)
        send(record, 30, b"Q\0\0\0\x0dSELECT 1\0")
        receive(record, 30, b"C\0\0\0\x0dSELECT 1\0")
        send(record, 20, REPLY)
    work = record.work()
    assert [len(cycle.calls) for cycle in work.threads[PID].cycles] == [1, 1, 1]
    (life,) = work.peers.values()
    assert life.loose == 0 and [NUMBERS["sendto"], NUMBERS["recvfrom"]] * 2 == [e.nr for e in life.setup][-4:]


def test_the_operations_of_a_call() -> None:
    work = batched()
    cycles = [cycle for cycle in work.threads[PID].cycles if cycle.complete]
    ops = [(name.kind, name.slot) for name, _ in programs.build(b"GET", cycles).ordered()]
    assert [op for op in ops if op[0] in ("call", "answer", "reply")] == [
        ("call", ("d", 0)),
        ("answer", ("d", 0)),
        ("reply", None),
    ]
    made = connect_work(work.peers.values())
    assert [name.kind for name, _ in made.ordered()] == ["socket", "setsockopt", "connect", "epoll_add"]
    assert len(made.cycles) == 3


def test_a_poll_before_a_receive_is_part_of_the_call() -> None:
    record = Recorder((PID,))
    for _ in range(3):
        record.call(PID, "accept4", 20, LISTENER)
        receive(record, 20, REQUEST)
        connect(record, 30, blocking=True)
        send(record, 30, b"PI")
        send(record, 30, b"NG")
        record.call(PID, "poll", 1, 0, 1, 5000)
        receive(record, 30, REPLY)
        receive(record, 30, REPLY)
        record.call(PID, "recvfrom", 0, 30, 0, 8000)
        record.call(PID, "close", 0, 30)
        send(record, 20, REPLY)
        record.call(PID, "recvfrom", 0, 20, 0, 8000)
        record.call(PID, "close", 0, 20)
    find_waits_of_calls(record.threads)
    work = record.work()
    cycles = work.threads[PID].cycles
    assert [len(cycle.calls) for cycle in cycles] == [1, 1, 1]
    kinds = [name.kind for name, _ in programs.build(b"GET", cycles).ordered()]
    assert kinds == ["receive", "call", "call_more", "poll", "answer", "recv_again", "close", "reply"]
    call = cycles[0].calls[0]
    assert call.sent_bytes == 4 and call.answer_bytes == 2 * len(REPLY) and call.ended and not call.waited
    assert all(life.created and life.closed for life in work.peers.values())


@pytest.mark.parametrize("polled", [2, 5])
def test_a_thread_that_polls_its_client_beside_its_own_connection_serves_one_at_a_time(polled: int) -> None:
    record = Recorder(())
    record.table = Descriptors([KnownDescriptor(PID, 20, "connection", identity="client")])
    receive(record, 20, REQUEST)
    connect(record, 30, blocking=True)
    for _ in range(3):
        send(record, 30, REQUEST)
        record.call(PID, "poll", 1, 0, polled, -1)
        receive(record, 30, REPLY)
        send(record, 20, REPLY)
        record.call(PID, "poll", 1, 0, polled, -1)
        receive(record, 20, REQUEST)
    find_waits_of_calls(record.threads)
    work = record.work()
    waits = serial_waits(work.threads[PID])
    if polled > most_polled(1):  # there are others
        assert waits is None
        return
    assert waits is not None and waits.on_connection == {NUMBERS["poll"]: 3}
    kinds = [name.kind for name, _ in programs.build(b"GET", work.threads[PID].cycles[1:3]).ordered()]
    assert kinds == ["receive", "call", "poll", "answer", "reply"]


@pytest.mark.parametrize(("events", "order"), [((1, 0), [2, 0, 1]), ((0, 1), [0, 1, 2]), ((1, 5), [0, 1, 2])])
def test_a_connection_is_not_left_unwatched(events: tuple[int, int], order: list[int]) -> None:
    first, last = (Op(kind=OpKind.EPOLL_MOD, nr=NUMBERS["epoll_ctl"], a=a) for a in events)
    program = [first, Op(kind=OpKind.REPLY, nr=1), last]
    assert watched_last(program) == [program[at] for at in order]


@pytest.mark.parametrize("datagram", [True, False])
def test_datagram_sockets_are_no_services(datagram: bool) -> None:
    record = Recorder((PID,))
    record.call(PID, "socket", 9, 2, 2 if datagram else 1)
    record.call(PID, "connect", 0, 9, 0, 16, payload=BACKEND)
    send(record, 9, b"x")
    assert len(record.work().peers) == (0 if datagram else 1)


def test_messages_for_no_request_and_shared_connections_are_counted() -> None:
    record = Recorder((PID,))
    connect(record, 30)
    for _ in range(5):
        wait(record)
        send(record, 30, b"metric")
    assert calls_outside(record.work()) == 5

    record = Recorder((PID,))
    connect(record, 30)
    for fd in (20, 21):
        record.call(PID, "accept4", fd, LISTENER)
    for _ in range(4):
        for fd in (20, 21):
            wait(record)
            receive(record, fd, REQUEST)
            send(record, 30, REQUEST)
        wait(record)
        receive(record, 30, REPLY + REPLY)
        send(record, 20, REPLY)
        send(record, 21, REPLY)
    assert calls_overlapping(record.work()) >= 3


def test_calls_of_the_wrong_request_are_put_right() -> None:
    def op(kind: str, link: int, probability: float) -> Op:
        return Op(kind=OpKind(kind), link=link, probability=probability)

    usual = [op("call", 0, 0.98), op("answer", 0, 0.97), op("close", 0, 0.5)]
    stray = [op("call", 1, 0.02), op("answer", 1, 0.01), op("close", 1, 0.01), op("call", 0, 0.004)]
    reply = Op(kind=OpKind.REPLY)
    kept = settled_calls([*usual, reply, *stray])
    assert [(o.kind.value, o.link, o.probability) for o in kept] == [
        ("call", 0, 1.0),
        ("answer", 0, 1.0),
        ("close", 0, 0.5),
        ("reply", None, 1.0),
    ]
    sometimes = [op("call", 0, 1.0), op("answer", 0, 1.0), op("call", 1, 0.3), op("answer", 1, 0.3), reply]
    found = settled_calls(sometimes)
    assert [(o.kind.value, o.link, o.probability) for o in found[2:4]] == [("call", 1, 0.3), ("answer", 1, 1.0)]
    assert settled_calls([reply]) == [reply]
    waited = settled_calls([op("call", 0, 0.5), op("poll", 0, 0.4).model_copy(update={"b": -1}), op("answer", 0, 0.5)])
    assert [o.probability for o in waited] == [0.5, 0.8, 1.0]  # of the calls that are made


def test_a_fitted_program_awaits_every_call() -> None:
    """Also where some replies were not seen."""
    cycles = [cycle for cycle in batched().threads[PID].cycles if cycle.complete]
    work = programs.build(b"GET", cycles)
    for name, seen in work.ops.items():
        seen.count -= name.kind == "answer"
    placement = Placement(lambda name, seen: 0, lambda slot: 0, lambda seen: (0, fixed(0)))
    program = fit_program(work, {}, lambda name, amount: [], placement, deferred=False)
    kinds = [(op.kind, op.probability) for op in program if op.link == 0 or op.kind is OpKind.REPLY]
    assert kinds == [(OpKind.CALL, 1.0), (OpKind.ANSWER, 1.0), (OpKind.REPLY, 1.0)]


@pytest.mark.parametrize(("queue_ns", "service_ns"), [(0, 5_000_000), (40_000, 60_000)])
def test_what_a_reply_takes_without_a_queue(queue_ns: int, service_ns: int) -> None:
    """A service that serves side by side takes its time whatever waits; one that does not is asked by one at a time."""
    calls = [
        SimpleNamespace(delay_ns=service_ns + queue_ns * (i % 20), beside=i % 20, delay_least_ns=0) for i in range(400)
    ]
    found = fit_delays(calls)  # type: ignore[arg-type]
    assert found is not None and found.mean == pytest.approx(service_ns / 1000, rel=0.1)


def test_replies_that_were_there_when_they_were_looked_for_count_as_well() -> None:
    """A caller that looks after some time waits for the long ones only: their mean is not that of all."""
    generator = random.Random(5)
    calls = []
    for _ in range(20_000):
        took, looked = 50_000 + int(generator.expovariate(1 / 300_000)), generator.randrange(1_000_000)
        calls.append(
            SimpleNamespace(
                delay_ns=took if took > looked else -1, beside=3, delay_least_ns=looked, delay_most_ns=max(took, looked)
            )
        )
    waited = [call.delay_ns for call in calls if call.delay_ns >= 0]
    assert sum(waited) / len(waited) > 450_000
    found = fit_delays(calls)  # type: ignore[arg-type]
    assert found is not None and found.mean == pytest.approx(350, rel=0.05)


@pytest.mark.parametrize(("connections", "certain"), [(3, False), (1, True)])
def test_requests_that_threads_have_one_after_the_other_need_no_others_to_tell_their_calls(
    connections: int, certain: bool
) -> None:
    work = batched(connections, rounds=6)
    cycles = [cycle for thread in work.threads.values() for cycle in thread.cycles]
    assert one_after_the_other(Requests("resp2", {b"GET": cycles}, len(cycles))) is certain


def test_a_kept_connection_has_the_same_number_whatever_the_request() -> None:
    """One class calls a cache, and a database where that has nothing; another the database first, then the cache."""

    def calling(*services: int) -> RequestClass:
        links = {service: number for number, service in enumerate(dict.fromkeys(services))}
        program = [
            op
            for service in services
            for op in (
                Op(kind=OpKind.CALL, a=service, link=links[service]),
                Op(kind=OpKind.ANSWER, link=links[service]),
            )
        ]
        return RequestClass(
            probability=0.5,
            match={"verb": "GET"},
            request_bytes=fixed(10),
            replies=[ReplyShape(probability=1.0, kind="simple", size=fixed(2))],
            program=[*program, Op(kind=OpKind.SETSOCKOPT, link=5)],
        )

    made = numbered_alike([calling(0, 1, 0), calling(1, 0), calling(1)])
    assert [[op.link for op in cls.program] for cls in made] == [
        [0, 0, 1, 1, 0, 0, 5], [1, 1, 0, 0, 5], [1, 1, 5],
    ]  # fmt: skip
    twice = calling(0)  # two connections to one service at a time
    twice = twice.model_copy(update={"program": [*twice.program[:2], Op(kind=OpKind.CALL, a=0, link=1)]})
    assert [[op.link for op in cls.program] for cls in numbered_alike([calling(1), twice])] == [[0, 0, 5], [1, 1, 2]]
    many = [calling(*range(at, at + 5)) for at in (0, 5)]
    assert numbered_alike(many) == many, "more than a connection may keep"


@pytest.mark.parametrize(("timeouts", "rest"), [((0, 0), -1), ((0, 50), 50), ((-1, 0), -1)])
def test_a_thread_that_only_looks_rests_for_ever(timeouts: tuple[int, ...], rest: int) -> None:
    record = Recorder((PID,))
    for timeout in timeouts:
        record.call(PID, "epoll_wait", 0, 5, 0, 100, timeout)
    looks = [event for event in record.threads[PID] if event.nr == NUMBERS["epoll_wait"]]
    assert len(looks) == 2 and longest_rest(looks) == rest


@pytest.mark.parametrize(("room", "events"), [(512, 512), (65536, 65535), (1 << 20, 65535)])
def test_how_many_events_a_wait_takes(room: int, events: int) -> None:
    record = Recorder((PID,))
    record.call(PID, "epoll_wait", 1, 5, 0, room, 0)
    assert most_events(record.threads[PID]) == events


@pytest.mark.parametrize(("payload", "value"), [(b"\1\0\0\0", 1), (b"\0\0\0\0", 0), (b"", 1)])
def test_whether_calls_may_block_is_behind_the_address(payload: bytes, value: int) -> None:
    """With 0 for what could not be seen, a proxy's connections to its backend blocked its loop."""
    event = Event(1, 1, NUMBERS["ioctl"], 0, [5, 0x5421, 0x7FFD12345678, 0, 0, 0], 1, 2)
    event.payload = payload
    assert arguments(event, "ioctl") == (0x5421, value, 0)
    assert forbids_blocking(event) == bool(value)
    event.args = [5, 0x5451, 0, 0, 0, 0]
    assert arguments(event, "ioctl") == (0x5451, 0, 0) and not forbids_blocking(event)


@pytest.mark.parametrize(("port", "refused"), [(8080, True), (80, False)])
def test_a_service_that_calls_itself_is_refused(port: int, refused: bool) -> None:
    """As a server does whose gateway is a client of its own port."""
    work = batched()
    observation = SimpleNamespace(app="gate", native=SimpleNamespace(port=port))
    sharing = SimpleNamespace(shared=False)
    evidence: Any = SimpleNamespace(
        work=work, requests=requests_of(work), observation=observation, datagrams=False, sharing=sharing,
        stream=SimpleNamespace(threads={}, window_ns=(0, 1), descriptors=SimpleNamespace(objects=[])),
    )  # fmt: skip
    with pytest.raises(UnsupportedShapeError, match="own, to the port") if refused else nullcontext():
        require_known_shape(evidence)
