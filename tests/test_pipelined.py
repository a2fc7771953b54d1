"""Requests that are sent together: told apart in recordings, modelled on both sides, sent together by clones."""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path

import pytest

from call_parts import REPLY, Backend, answer, build, call, calling, downstream, get, running
from ditto.artifacts.profile import CallClass, CallPart, ClassMatch, ReplyShape
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.synthetic import sample_requests
from ditto.model.classes import keys_asked, reply_shapes
from ditto.model.downstream import _classes
from ditto.streams.calls import Call
from ditto.streams.cycles import Cycle, Wake
from ditto.streams.events import Event, Obj
from ditto.streams.evidence import Requests
from ditto.streams.pipelined import reply_parts, request_parts, split
from ditto.streams.wire import mixed
from profile_parts import fixed

PUSH = b"*3\r\n$5\r\nLPUSH\r\n$7\r\ncart:12\r\n$3\r\n123\r\n"
TRIM = b"*4\r\n$5\r\nLTRIM\r\n$7\r\ncart:12\r\n$1\r\n0\r\n$1\r\n2\r\n"
EXPIRE = b"*3\r\n$6\r\nEXPIRE\r\n$7\r\ncart:12\r\n$4\r\n3600\r\n"
ALL = PUSH + TRIM + EXPIRE
REPLIES = b":3\r\n+OK\r\n:1\r\n"
CLIENT, STORE = Obj("connection", 1), Obj("downstream", 2)


def event(name: str, obj: Obj, data: bytes) -> Event:
    made = Event(10, 11, NUMBERS[name], len(data), (5, 0, len(data), 0, 0, 0), 0, 0)
    made.obj, made.payload, made.more = obj, data[:64], data[64:256]
    return made


def cycle(request: bytes = ALL, reply: bytes = REPLIES) -> Cycle:
    events = [event("read", CLIENT, request), event("write", CLIENT, reply)]
    wake = Wake(11, None, 0)
    made = Cycle(CLIENT, 11, wake, events[0], events, [wake, wake])
    made.received_bytes, made.sent, made.complete = len(request), len(reply), True
    events[0].gap = 900.0
    return made


def test_requests_are_told_apart_only_where_all_of_them_were_recorded() -> None:
    assert request_parts(ALL, len(ALL)) == [
        (0, len(PUSH)), (len(PUSH), len(TRIM)), (len(PUSH) + len(TRIM), len(EXPIRE)),
    ]  # fmt: skip
    assert request_parts(ALL[:64], len(ALL)) == [(0, len(ALL))]
    assert request_parts(b"GET / HTTP/1.1\r\n\r\n", 18) == [(0, 18)]
    assert reply_parts(REPLIES, len(REPLIES), 3) == [(0, 4), (4, 5), (9, 4)]
    assert reply_parts(REPLIES, len(REPLIES), 2) == [(0, len(REPLIES))]
    nested = b"*2\r\n$1\r\na\r\n*1\r\n:5\r\n$-1\r\n"
    assert reply_parts(nested, len(nested), 2) == [(0, len(nested) - 5), (len(nested) - 5, 5)]


def test_work_on_requests_that_came_together_is_divided() -> None:
    parts = sorted(split([cycle()]), key=lambda part: -part.received_bytes)
    assert {part.receive.payload: (part.received_bytes, part.sent, part.receive.gap) for part in parts} == {
        PUSH: (len(PUSH), 4, 300.0), TRIM: (len(TRIM), 5, 300.0), EXPIRE: (len(EXPIRE), 4, 300.0),
    }  # fmt: skip
    assert all(part.complete and len(part.events) == 2 for part in parts)
    alone = cycle(PUSH, b":3\r\n")
    assert split([alone]) == [alone] and alone.receive.payload == PUSH


def test_values_of_requests_for_several_keys_are_counted_by_keys() -> None:
    keys = [b"key:%04d" % number for number in range(10)]
    request = b"get " + b" ".join(keys) + b"\r\n"
    cycles = []
    for hits in (0, 2, 4, 6):
        reply = b"".join(b"VALUE %s 0 300\r\n%s\r\n" % (key, b"v" * 300) for key in keys[:hits]) + b"END\r\n"
        cycles.append(recorded_in_part(request, reply))
    assert keys_asked(request[:64], len(request)) == pytest.approx(10) and keys_asked(b"get k\r\n", 7) == 1
    shapes = {shape.kind: shape for shape in reply_shapes("memcached", cycles)}
    assert shapes["value"].probability == pytest.approx(0.3, rel=0.01) and shapes["value"].size.values == [300]
    assert shapes["miss"].probability == pytest.approx(0.7, rel=0.01)
    alone = [recorded_in_part(b"get k\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n") for _ in range(3)]
    assert [(shape.kind, shape.probability) for shape in reply_shapes("memcached", alone)] == [("value", 1.0)]


def recorded_in_part(request: bytes, reply: bytes) -> Cycle:
    made = cycle(request, reply)
    for one in made.events:
        one.more = b""
    return made


def test_what_was_not_recorded_of_requests_that_came_together_goes_on_as_it_began() -> None:
    get, put = b"*2\r\n$3\r\nGET\r\n$3\r\nk:1\r\n", b"*3\r\n$3\r\nSET\r\n$3\r\nk:1\r\n$200\r\n" + b"v" * 200 + b"\r\n"
    parts = split([recorded_in_part(get * 16, b"$3\r\nabc\r\n" * 16)])
    assert [(part.received_bytes, part.sent, part.together) for part in parts] == [(len(get), 9, 16 * (not n))
                                                                                  for n in range(16)]  # fmt: skip
    assert {(part.receive.payload, part.receive.gap) for part in parts} == {(get, 900.0 / 16)}
    parts = split([recorded_in_part(put * 5, b"+OK\r\n" * 5)])
    assert [part.received_bytes for part in parts] == [len(put)] * 5
    assert {part.receive.payload for part in parts} == {put[:64]}
    whole = recorded_in_part(put * 20, b"+OK\r\n" * 20)  # of one whose length was not recorded nothing is known
    whole.receive.payload = put[:20]
    assert split([whole]) == [whole] and whole.together == 1
    replies = split([recorded_in_part(get * 8, b"$100\r\n" + b"v" * 100 + b"\r\n" + b"$-1\r\n" * 7)])
    assert sum(part.sent for part in replies) == 143 and replies[0].sent == 108
    requests = Requests("resp2", {b"GET": parts[:1] + replies, b"SET": parts[1:]}, 13)
    assert (requests.together(b"GET"), requests.together(b"SET")) == ((5 + 8) / 2, 1.0)


def test_calls_that_are_sent_together_are_one_class() -> None:
    made = []
    for request, reply in ((ALL, REPLIES), (ALL, REPLIES), (PUSH, b":3\r\n")):
        one = Call(STORE, cycle(), 0, Wake(11, None, 0), [event("write", STORE, request)])
        one.answers.append(event("read", STORE, reply))
        made.append(one)
    classes, numbers = _classes("resp2", 7, made, False)
    assert numbers == {b"LPUSH LTRIM EXPIRE": 0, b"LPUSH": 1}
    assert [part.match.verb for part in classes[0].more] == ["LTRIM", "EXPIRE"] and not classes[1].more
    assert classes[0].match.verb == "LPUSH" and classes[0].request_bytes.values == [len(PUSH)]
    kinds = [classes[0].replies[0].kind, *(part.replies[0].kind for part in classes[0].more)]
    assert kinds == ["integer", "simple", "integer"]
    assert [part.request_bytes.values for part in classes[0].more] == [[len(TRIM)], [len(EXPIRE)]]


def together() -> CallClass:
    integer = ReplyShape(probability=1.0, kind="integer", size=fixed(1))
    return CallClass(
        probability=1.0, match=ClassMatch(verb="LPUSH"), request_bytes=fixed(len(PUSH)), replies=[integer],
        more=[
            CallPart(match=ClassMatch(verb="LTRIM"), request_bytes=fixed(len(TRIM)),
                     replies=[ReplyShape(probability=1.0, kind="simple", size=fixed(2))]),
            CallPart(match=ClassMatch(verb="EXPIRE"), request_bytes=fixed(len(EXPIRE)), replies=[integer]),
        ],
    )  # fmt: skip


def test_a_clone_sends_them_together_and_waits_for_all_replies(tmp_path: Path) -> None:
    profile = calling([downstream("resp2", classes=[together()])], [call(), answer(), REPLY])
    binary = build(profile, tmp_path / "clone")
    end = sample_requests("resp2", 0, together().more, [[len(TRIM)], [len(EXPIRE)]])[1][0].request[-8:]
    with (
        Backend(REPLIES, end=end) as backend,
        running(binary, "--downstream", f"0=127.0.0.1:{backend.port}") as (_, port),
        socket.create_connection(("127.0.0.1", port)) as sock,
    ):
        for _ in range(5):
            get(sock)
        assert backend.connections == 1  # a reply too many or too few would have ended it
    assert len(backend.requests) == 5
    seen = Counter(len(request_parts(request, len(request))) for request in backend.requests)
    assert seen == {3: 5} and {len(request) for request in backend.requests} == {len(ALL)}
    with running(binary) as (_, port), socket.create_connection(("127.0.0.1", port)) as sock:
        for _ in range(5):
            get(sock)  # what stands in for the service answers all three too


def test_requests_of_several_kinds_in_one_receive_are_recorded_further() -> None:
    def classes(requests: bytes, replies: bytes, times: int) -> dict[bytes, list[Cycle]]:
        found: dict[bytes, list[Cycle]] = {}
        for one in split([cycle(requests, replies) for _ in range(times)]):
            found.setdefault(one.receive.payload[:12], []).append(one)
        return found

    assert mixed(classes(ALL, REPLIES, 3))
    assert not mixed(classes(PUSH * 5, b":1\r\n" * 5, 3))
    assert not mixed(classes(PUSH, b":1\r\n", 3))
    assert not mixed({})
