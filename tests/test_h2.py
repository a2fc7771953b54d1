"""HTTP/2: recorded calls read, streams told apart, replies shaped, scripts made."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hpack import Decoder, Encoder

from ditto.artifacts.plan import Framing
from ditto.artifacts.prints import path_print
from ditto.artifacts.syscalls import NUMBERS
from ditto.host.exchanges import plan_of
from ditto.host.requests_h2 import Asked, asked_of, begin, frame
from ditto.host.spoken import Stream
from ditto.model.classes import match_of, reply_shapes
from ditto.model.network import fit_send
from ditto.streams import h2
from ditto.streams.cycles import Cycle, follow
from ditto.streams.events import Descriptors, Event, KnownDescriptor
from ditto.streams.evidence import requests_of
from ditto.streams.multiplexed import leave_together
from ditto.streams.protocol import recognise
from h2_parts import GET, LIST, grpc_fields, request
from runtime_build import PRINT_KEY

ROOT = Path(__file__).parent.parent
# What a client of Debian's python3-grpcio sent: the first call, cut off as a recording does, and two later ones.
FIRST = (
    h2.PREFACE
    + b"\0\0\x24\4\0\0\0\0\0\0\2\0\0\0\0\0\3\0\0\0\0\0\4\0\x3f\xff\xff\0\5\0\x3f\xff\xff\0\6\0\0\x20\0\xfe\3\0\0\0\1"
    b"\0\0\4\x08\0\0\0\0\0\0\x3f\0\1"
    b"\0\0\xe6\1\4\0\0\0\1@\5:path\x14/catalogue.Items/Get@\n:authority\x0f127.0.0.1:28301\x83\x86"
    b"@\x0ccontent-type\x10application/grpc@\2te\x08trailers"
    b"@\x14grpc-accept-encoding\x17identity, deflate, gzip@\x0cgrpc-timeout\x0620100m@\nuser-"
)
LATER = (
    b"\0\0\x08\6\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x09\1\4\0\0\0\5\xc4\xc3\x83\x86\xc2\xc1\xc0\xbf\xbe\0\0\4\x08\0\0\0\0\5\0\0\0\5"
    b"\0\0\x08\0\1\0\0\0\5\0\0\0\0\3\n\1\x0e"
)
OTHER = (
    b"\0\0\x27\1\4\0\0\0\7@\5:path\x17/catalogue.Items/Search\xc4\x83\x86\xc3\xc2\xc1\xc0\xbf\0\0\4\x08\0\0\0\0\0\0\0\1\x20"
    b"\0\0\x09\1\4\0\0\0\x09\xbe\xc4\x83\x86\xc3\xc2\xc1\xc0\xbf\0\0\0\0\1\0\0\0\x09"
)


def test_frames_are_told_from_other_protocols() -> None:
    assert h2.looks_like_request(FIRST) and h2.looks_like_request(LATER)
    reply = b"\0\0\3\1\4\0\0\0\3\x88\xc0\xbf"
    assert recognise([FIRST[:64], b"\0\0\x09\1\4\0\0\0\5\xc4\xc3"], [reply, b"\0\0\x18\4\0\0\0\0\0"]) == "h2"
    for other in (
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x07\0\0\x03\x03BEGIN",
        b"\0\0\0\x54\0\3\0\0user",
        b"\0" * 8,
    ):
        assert not h2.plausible_frame(other)
    assert not h2.plausible_frame(b"\0\0\5\4\0\0\0\0\0")  # settings that are no whole number of them


def test_a_first_head_that_was_cut_off_leaves_later_ones_known() -> None:
    """Two fields were entered behind what was recorded; the next head's indexes tell that it was two."""
    side = h2.Side(True)
    (first,) = side.feed(FIRST[:256], 408)
    assert first[:4] == (1, b"POST /catalogue.Items/Get", True, 24 + 45 + 13)
    (later,) = side.feed(LATER, len(LATER))
    assert (later.stream, later.key, later.grpc) == (5, b"POST /catalogue.Items/Get", True)


def test_a_head_received_behind_its_frames_own_head_is_told_by_the_call_in_which_it_began() -> None:
    """Go's server receives 9 bytes, and then as many as these tell."""
    encoder, calls = Encoder(), Calls()
    calls.call(1, "accept4", 7, 3)
    calls.moved(1, "read", h2.PREFACE + b"\0\0\0\4\0\0\0\0\0")
    for number, path in enumerate(["/one", "/two", "/one"]):
        block = encoder.encode([(":method", "GET"), (":path", path), (":authority", "a"), ("x", f"y{number}")])
        stream = (2 * number + 1).to_bytes(4, "big")
        calls.moved(1, "read", len(block).to_bytes(3, "big") + b"\1\5" + stream)
        calls.moved(1, "read", block)
        calls.moved(1, "write", *reply(2 * number + 1, 200))
    h2.annotate(calls.threads[1])
    told = [[begun.key for begun in event.said or ()] for event in calls.threads[1] if event.nr == NUMBERS["read"]]
    assert told == [[], [b"GET /one"], [], [b"GET /two"], [], [b"GET /one"], []]


@pytest.mark.parametrize("seen", [180, 200, 230, 256, 4096])
def test_heads_of_any_encoder_cut_anywhere(seen: int) -> None:
    """With Huffman's code and a table that changes; a head whose path was not seen has no key, never a wrong one."""
    encoder, side, generator = Encoder(), h2.Side(True), random.Random(seen)
    found: Counter[bool] = Counter()
    for number in range(60):
        path = f"/shop.Cart/{generator.choice(['Add', 'Remove', 'List'])}"
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "shop.example:8080")]
        fields += [("content-type", "application/grpc+proto"), ("user-agent", "grpc-go/1.60"), ("te", "trailers")]
        if number % 7 == 3:
            fields += [(f"x-trace-{number}", "v" * generator.randrange(1, 60))]
        data = frame(h2.HEADERS, 4, 2 * number + 1, encoder.encode(fields)) + frame(
            h2.DATA, 1, 2 * number + 1, b"\0" * 5
        )
        data = (begin() if not number else b"") + data
        begun = side.feed(data[:seen], len(data))
        for one in begun:
            assert one.key in (b"", b"POST " + path.encode())
            found[one.key != b""] += 1
    assert found[True] > (40 if seen < 4096 else 59)


class Calls:
    """Calls of a process with a connection of HTTP/2."""

    def __init__(self) -> None:
        self.table = Descriptors([KnownDescriptor(10, 3, "listener")])
        self.threads: dict[int, list[Event]] = {}
        self.now = 0

    def call(self, tid: int, name: str, ret: int, *args: int, payload: bytes = b"") -> None:
        self.now += 1000
        event = Event(10, tid, NUMBERS[name], ret, (*args, 0, 0, 0, 0, 0, 0)[:6], self.now - 500, self.now)
        event.payload, event.more, event.index = payload[:64], payload[64:256], self.now
        self.table.apply(event)
        self.threads.setdefault(tid, []).append(event)

    def moved(self, tid: int, name: str, data: bytes, length: int = 0) -> None:
        self.call(tid, name, length or len(data), 7, payload=data)


def reply(stream: int, size: int, first: bool = False) -> tuple[bytes, int]:
    """What was recorded of a reply, its first vector, and its whole length."""
    number = stream.to_bytes(4, "big")
    if first:
        return b"\0\0\x4e\1\4" + number + b"\x88@\x0c", 9 + 78 + 9 + size + 24
    return b"\0\0\3\1\4" + number + b"\x88\xc0\xbf" + size.to_bytes(
        3, "big"
    ) + b"\0\0" + number + b"\0\0", 12 + 9 + size + 10


def multiplexed() -> Calls:
    """Two threads: one receives, both answer, later requests first; pings and windows between them."""
    calls = Calls()
    calls.call(1, "accept4", 7, 3)
    calls.moved(1, "sendmsg", b"\0\0\x18\4\0\0\0\0\0\0\4\0\x3f\xff\xff", 46)
    calls.call(1, "epoll_wait", 1, 4)
    calls.moved(1, "recvmsg", FIRST, 408)
    calls.moved(1, "sendmsg", b"\0\0\0\4\1\0\0\0\0\0\0\x08\6\0\0\0\0\0", 39)
    calls.moved(1, "sendmsg", *reply(1, 500, first=True))
    for round_number in range(40):
        del round_number
        calls.call(1, "epoll_wait", 1, 4)
        calls.moved(1, "recvmsg", b"\0\0\x08\6\0\0\0\0\0" + bytes(8))
        calls.moved(1, "sendmsg", b"\0\0\x08\6\1\0\0\0\0" + bytes(8))
    calls.call(1, "epoll_wait", 1, 4)
    calls.moved(1, "recvmsg", LATER)
    calls.moved(1, "recvmsg", OTHER)
    calls.moved(2, "sendmsg", *reply(9, 2000))
    calls.moved(2, "sendmsg", *reply(7, 3000))
    calls.moved(1, "sendmsg", *reply(5, 200))
    calls.moved(1, "recvmsg", b"\0\0\4\x08\0\0\0\0\0\0\0\1\0")
    calls.call(1, "recvmsg", 0, 7)
    calls.call(1, "close", 0, 7)
    return calls


def by_class() -> dict[bytes, list[Cycle]]:
    requests = requests_of(follow(multiplexed().threads))
    assert requests.codec == "h2" and requests.total == 4
    return requests.classes


def test_streams_under_way_together_keep_their_own_replies() -> None:
    classes = by_class()
    assert {key: len(found) for key, found in classes.items()} == {
        b"POST /catalogue.Items/Get": 2,
        b"POST /catalogue.Items/Search": 2,
    }
    sent = {key: [cycle.sent for cycle in found] for key, found in classes.items()}
    assert sent[b"POST /catalogue.Items/Get"] == [620, 231]
    assert sent[b"POST /catalogue.Items/Search"] == [3031, 2031]
    received = [cycle.received_bytes for cycle in classes[b"POST /catalogue.Items/Search"]]
    assert sum(received) == len(OTHER) and min(received) == 27
    assert [len([e for e in c.events if e.nr == NUMBERS["sendmsg"]]) for found in classes.values() for c in found] == [
        1
    ] * 4


def test_reply_shapes_hold_sizes_of_head_data_and_trailers() -> None:
    shapes = reply_shapes("h2", by_class()[b"POST /catalogue.Items/Search"])
    assert [(s.kind, s.status, s.head_bytes) for s in shapes] == [("grpc", 0, 12)]
    assert shapes[0].size is not None and shapes[0].size.values == [2000, 3000]
    assert shapes[0].second is not None and shapes[0].second.values == [10]
    assert h2.reply_shape(b"\0\0\x20\1\5\0\0\0\1\x88", 41, True) == (2, 41, 0, 0)  # trailers alone: it failed
    assert h2.reply_shape(b"\0\0\x20\1\4\0\0\0\1\x8d", 41 + 9 + 300, False) == (404, 41, 300, 0)
    assert h2.reply_shape(reply(1, 500, first=True)[0], 620, True) == (0, 87, 514, 10)  # its trailers were longer
    before = b"\0\0\0\4\1\0\0\0\0" + b"\0\0\4\x08\0\0\0\0\0\0\0\1\0"  # of the connection, each no part of the reply
    head = before + b"\0\0\x20\1\4\0\0\0\1\x8d"
    assert h2.reply_shape(head, len(before) + 41 + 9 + 300, False) == (404, 41, 300, 0)
    long = 41 + 3 * 9 + 16384 * 2 + 100
    assert h2.reply_shape(b"\0\0\x20\1\4\0\0\0\1\x88", long, False) == (200, 41, 16384 * 2 + 100, 0)


def heads_first(sizes: list[int], told: bool = True, end: bytes = b"") -> Calls:
    """Rounds of requests in one receive, answered in one send: all heads, then the data; each path has its own size."""
    calls, asks, answers = Calls(), Encoder(), Encoder()
    calls.call(1, "accept4", 7, 3)
    first = begin()
    for number in range(5):
        streams = [(2 * (number * len(sizes) + place) + 1, size) for place, size in enumerate(sizes)]
        asked, heads, data = first, b"", b""
        for stream, size in streams:
            path = f"/of{size}"
            fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x")]
            asked += frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, asks.encode(fields))
            answer = [(":status", "200" if size else "301"), ("server", "some")]
            answer += [("content-length", str(size))] if told and size else []
            flags = h2.END_HEADERS | (0 if size else h2.END_STREAM)
            heads += frame(h2.HEADERS, flags, stream, answers.encode(answer))
            data += frame(h2.DATA, h2.END_STREAM, stream, bytes(size)) if size else b""
        calls.call(1, "epoll_wait", 1, 4)
        calls.moved(1, "read", asked)
        whole = (b"\0\0\0\4\1\0\0\0\0" if first else b"") + heads + data
        calls.moved(1, "writev", whole[:256], len(whole))
        first = b""
    if end:
        calls.moved(1, "read", end)
    calls.call(1, "close", 0, 7)
    return calls


def test_replies_whose_heads_come_first_have_the_sizes_that_these_tell() -> None:
    work = follow(heads_first([800, 3000, 0, 20000]).threads)
    classes = requests_of(work).classes
    shapes = {key: reply_shapes("h2", cycles) for key, cycles in classes.items()}
    assert {key: [(s.status, s.size and s.size.values) for s in found] for key, found in shapes.items()} == {
        b"GET /of800": [(200, [800])],
        b"GET /of3000": [(200, [3000])],
        b"GET /of0": [(301, [0])],
        b"GET /of20000": [(200, [20000])],
    }
    cycles = [cycle for found in classes.values() for cycle in found]
    assert all(cycle.sent for cycle in cycles) and leave_together(cycles)
    # In a send for each, as in the recording of two threads, they do not leave together.
    assert not leave_together([cycle for found in by_class().values() for cycle in found])


def test_a_server_that_closes_after_its_client_said_goodbye_does_not_close_first() -> None:
    said = frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)) + frame(h2.GOAWAY, 0, 0, bytes(8))
    for last, closed in ((said, False), (said[:13], True)):
        calls = heads_first([800], end=last)
        (cycles,) = requests_of(follow(calls.threads)).classes.values()
        assert [cycle.closed for cycle in cycles] == [False] * 4 + [closed]


def test_data_in_sends_of_its_own_belongs_to_the_stream_that_its_frame_names() -> None:
    """A server that sends head, data and end of each reply by themselves, those of several streams mixed."""
    calls, asks, answers = Calls(), Encoder(), Encoder()
    calls.call(1, "accept4", 7, 3)
    for number in range(6):
        streams = {4 * number + 1: 500, 4 * number + 3: 3000}
        calls.call(1, "poll", 1, 0)
        for stream, size in streams.items():
            fields = [(":method", "GET"), (":scheme", "http"), (":path", f"/of{size}"), (":authority", "x")]
            asked = frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream, asks.encode(fields))
            calls.moved(1, "recvfrom", asked if stream > 1 else begin() + asked)
            head = frame(h2.HEADERS, h2.END_HEADERS, stream, answers.encode([(":status", "200")]))
            calls.moved(1, "sendto", head if stream > 1 else frame(h2.SETTINGS, 1, 0, b"") + head)
        for flags in (0, h2.END_STREAM):
            for stream, size in streams.items():
                data = frame(h2.DATA, flags, stream, b"" if flags else bytes(size))
                calls.moved(1, "sendto", data[:256], len(data))
    calls.call(1, "close", 0, 7)
    classes = requests_of(follow(calls.threads)).classes
    sizes = {key: [s.size and s.size.values for s in reply_shapes("h2", found)] for key, found in classes.items()}
    assert sizes == {b"GET /of500": [[500]], b"GET /of3000": [[3000]]}
    cycles = [cycle for found in classes.values() for cycle in found]
    assert {len([e for e in c.events if e.nr == NUMBERS["sendto"]]) for c in cycles} == {3}
    assert fit_send(cycles, False, None).parts


def test_data_behind_several_heads_that_tell_no_size_is_shared_by_them() -> None:
    classes = requests_of(follow(heads_first([1000, 0, 2000], told=False).threads)).classes
    sizes = {key: [s.size and s.size.values for s in reply_shapes("h2", found)] for key, found in classes.items()}
    assert sizes == {b"GET /of1000": [[1500]], b"GET /of0": [[0]], b"GET /of2000": [[1500]]}


def test_classes_are_matched_by_a_print_of_the_end_of_the_path() -> None:
    long = b"POST /" + b"a" * 80 + b"/End"
    key = h2.head_key([(b":method", b"POST"), (b":path", long[5:] + b"?q=1")])[0]
    assert key == b"POST " + long[-60:]
    match = match_of("h2", PRINT_KEY, key, Counter([10]))
    assert (match.verb, match.path_print) == ("POST", path_print(PRINT_KEY, long[-60:]))
    wanted = re.compile(r"MOST_PATH (\d+)")
    sizes = {
        int(found[1])
        for name in ("runtime/h2.h", "lens/h2.c")
        if (found := wanted.search((ROOT / "native" / name).read_text()))
    }
    assert sizes == {h2.MOST_PATH}


def test_recorded_requests_become_scripts_that_any_connection_can_send() -> None:
    encoder, said = Encoder(), begin()
    asked = [Asked(grpc_fields(path), b"\0\0\0\0\2\n\0") for path in (GET, LIST, GET, GET, LIST)]
    for number, one in enumerate(asked):
        block = encoder.encode(list(one.fields))
        said += frame(h2.HEADERS, 0, 2 * number + 1, block[:3]) + frame(h2.CONTINUATION, 4, 2 * number + 1, block[3:])
        said += frame(h2.DATA, h2.PADDED, 2 * number + 1, b"\2" + one.data + b"\0\0") + frame(
            h2.DATA, 1, 2 * number + 1, b""
        )
    said += frame(h2.HEADERS, 4, 99, encoder.encode([(":method", "GET"), (":path", "/open")]))  # never ended
    assert asked_of(said) == asked
    plan = plan_of([Stream([(said, 10)])], 1.0)
    assert plan.framing is Framing.H2
    (script,) = plan.scripts
    assert len(script.steps) == script.opening + 5 and script.opening == 3
    # Twice over what follows the opening: each is what was asked, and short since its fields are in the table.
    decoder = Decoder()
    seen = []
    for step in (*script.steps, *script.steps[script.opening :]):
        at = len(h2.PREFACE) if step.request.startswith(h2.PREFACE) else 0
        while at < len(step.request):
            size = int.from_bytes(step.request[at : at + 3], "big")
            if step.request[at + 3] == h2.HEADERS:
                block = step.request[at + 9 : at + 9 + size]
                seen.append(tuple((bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)))
            at += 9 + size
    order = [GET, LIST, GET, *[GET, LIST, GET, GET, LIST] * 2]
    assert seen == [grpc_fields(path) for path in order]
    assert max(len(step.request) for step in script.steps[script.opening :]) < 40


# --- the clone -----------------------------------------------------------------------------------------------


def test_calls_on_streams_under_way_together_get_their_own_answers() -> None:
    """A service that calls another over one connection: two requests of its clients, called for in one send."""
    calls = Calls()
    calls.call(1, "accept4", 7, 3)
    calls.call(1, "accept4", 8, 3)
    calls.call(1, "socket", 9, 2, 1)
    calls.call(1, "connect", 0, 9, payload=b"\2\0\x1f\x90\x7f\0\0\1" + bytes(8))
    calls.call(1, "sendmsg", len(begin()), 9, payload=begin())
    for round_number in range(6):
        stream = 4 * round_number + 1
        first, second = (request(Encoder(), number, path) for number, path in ((stream, GET), (stream + 2, LIST)))
        calls.call(1, "epoll_wait", 2, 4)
        calls.call(1, "read", 40, 7, payload=b"GET /a HTTP/1.1\r\n\r\n".ljust(40))
        calls.call(1, "sendmsg", len(first), 9, payload=first)
        calls.call(1, "read", 40, 8, payload=b"GET /b HTTP/1.1\r\n\r\n".ljust(40))
        calls.call(1, "sendmsg", len(second), 9, payload=second)
        calls.call(1, "epoll_wait", 1, 4)
        calls.call(1, "recvmsg", 17, 9, payload=frame(h2.PING, 0, 0, bytes(8)))
        calls.call(1, "sendmsg", 17, 9, payload=frame(h2.PING, 1, 0, bytes(8)))
        for number, size, fd in ((stream + 2, 700, 8), (stream, 300, 7)):
            data, length = reply(number, size)
            calls.call(1, "recvmsg", length, 9, payload=data)
            calls.call(1, "write", 90, fd, payload=b"HTTP/1.1 200 OK\r\n")
    found = [call for cycle in requests_of(follow(calls.threads)).classes[b"GET /a"] for call in cycle.calls]
    found += [call for cycle in requests_of(follow(calls.threads)).classes[b"GET /b"] for call in cycle.calls]
    seen = Counter((h2.begun(call.sends[0]).key, call.answer_bytes) for call in found)
    assert set(seen) == {(b"POST " + GET, 331), (b"POST " + LIST, 731)} and min(seen.values()) >= 5
