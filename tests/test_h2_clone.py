"""Clones that answer over HTTP/2, to real clients and to scripts."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hpack import Decoder, Encoder

from ditto.artifacts.plan import Framing, LoadPlan
from ditto.host.loadgen import LoadMeasured, Offered, drive
from ditto.host.requests_h2 import Asked, acknowledge, begin, filler_request, frame, script_of
from ditto.streams import h2
from h2_parts import GET, LIST, grpc_fields, request
from runtime_build import Clone, build_clone, receive, receive_all, running
from strace_parts import whole_calls

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    with running(build_clone(tmp_path_factory.mktemp("h2") / "clone", "h2")) as clone:
        yield clone


Said = tuple[int, int, int, bytes]


def frames(data: bytes) -> list[Said]:
    """Type, flags, stream and content of each frame; nothing may be left over."""
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        assert at + 9 + size <= len(data)
        number = int.from_bytes(data[at + 5 : at + 9], "big")
        found.append((data[at + 3], data[at + 4], number, data[at + 9 : at + 9 + size]))
        at += 9 + size
    return found


def talk(clone: Clone, pieces: list[bytes], pause: float = 0.0) -> list[Said]:
    with clone.connect() as sock:
        for piece in pieces:
            sock.sendall(piece)
            if pause:
                time.sleep(pause)
        sock.shutdown(socket.SHUT_WR)
        return frames(receive_all(sock))


def test_split_at_every_byte(clone: Clone) -> None:
    encoder = Encoder()
    data = begin() + acknowledge() + request(encoder, 1) + frame(h2.PING, 0, 0, b"12345678") + request(encoder, 3, LIST)
    whole = talk(clone, [data])
    kinds = [(kind, flags, stream, len(content)) for kind, flags, stream, content in whole]
    assert kinds[:3] == [(4, 0, 0, 12), (8, 0, 0, 4), (4, 1, 0, 0)]
    assert (6, 1, 0, b"12345678") in whole
    assert [k for k in kinds if k[2] == 3][1:] == [(0, 0, 3, 600)] * 5 + [(1, 5, 3, 1)]
    for at in range(1, len(data), 2):
        assert talk(clone, [data[:at], data[at:]], 0.0005) == whole, at
    assert talk(clone, [bytes([byte]) for byte in data], 0.0002) == whole


def test_frames_are_received_by_their_heads_where_the_originals_are(tmp_path: Path) -> None:
    encoder, log = Encoder(), tmp_path / "calls"
    built = build_clone(tmp_path / "clone", "h2", "-DTEST_RECV=.nr=SYS_read,.bytes=8192,.head=9")
    asked = [request(encoder, 1), request(encoder, 3, LIST)]
    with running(built) as clone:
        watch = ["strace", "-f", "-qq", "-e", "trace=read", "-o", str(log), "-p", str(clone.process.pid)]
        with subprocess.Popen(watch) as traced:
            time.sleep(1.0)
            # What comes with the preface is taken with it.
            said = talk(clone, [begin() + acknowledge(), b"".join(asked)], 0.2)
            traced.terminate()
    assert {stream for _, _, stream, _ in said} == {0, 1, 3}
    sizes = [int(n) for n in re.findall(r"read\(\d+, .*, (\d+)\)", whole_calls(log))]
    frames_of = [len(content) for one in asked for _, _, _, content in frames(one)]
    expected = [size for length in frames_of for size in (9, *([length] if length else []))]
    assert "".join(f"{size}," for size in expected) in "".join(f"{size}," for size in sizes)


def test_replies_are_of_the_class_and_are_messages(clone: Clone) -> None:
    encoder, decoder = Encoder(), Decoder()
    said = talk(clone, [begin() + request(encoder, 1) + request(encoder, 3) + request(encoder, 5, b"/no/such")])
    heads = {}
    for kind, flags, stream, content in said:
        if kind == h2.HEADERS:
            heads[stream, flags & 1] = dict(decoder.decode(content))
    assert heads[3, 0][":status"] == "200" and heads[3, 0]["content-type"] == "application/grpc"
    assert heads[1, 1]["grpc-status"] == heads[3, 1]["grpc-status"] == "0"
    assert heads[5, 1]["grpc-status"] == "5"
    (message,) = [content for kind, _, stream, content in said if kind == h2.DATA and stream == 3]
    assert message[:9] == b"\0\0\0\0\xc8\xfa\x7f\xc4\1" and len(message) == 205
    assert [len(content) for kind, flags, stream, content in said if (kind, flags, stream) == (1, 4, 3)] == [3]


def test_windows_hold_data_back_until_they_are_opened(clone: Clone) -> None:
    small = h2.PREFACE + frame(h2.SETTINGS, 0, 0, b"\0\4" + (1000).to_bytes(4, "big"))
    ask = Encoder().encode([(":method", "GET"), (":scheme", "http"), (":path", "/chunked")])
    with clone.connect() as sock:
        sock.sendall(small + frame(h2.HEADERS, 5, 1, ask) + frame(h2.PING, 0, 0, b"whatnext"))
        data = b""
        while b"whatnext" not in data:
            data += sock.recv(65536)
        assert sum(len(content) for kind, _, _, content in frames(data) if kind == h2.DATA) == 1000
        sock.sendall(frame(h2.WINDOW_UPDATE, 0, 1, (1 << 20).to_bytes(4, "big")))  # now the connection's is the smaller
        got = 1000
        while got < 65535:
            got += sum(len(c) for k, _, _, c in frames(whole_frames(sock)) if k == h2.DATA)
        assert got == 65535
        sock.sendall(frame(h2.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")))
        ended = False
        while not ended:
            said = frames(whole_frames(sock))
            got += sum(len(c) for k, _, _, c in said if k == h2.DATA)
            ended = any(k == h2.DATA and flags & 1 for k, flags, _, _ in said)
        assert got == 300_000


def whole_frames(sock: socket.socket) -> bytes:
    """One frame."""
    head = receive(sock, 9)
    return head + receive(sock, int.from_bytes(head[:3], "big"))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1),
        (h2.PREFACE + frame(h2.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
        (h2.PREFACE + frame(h2.HEADERS, 5, 1, b"\xbe"), 9),  # a field that was never entered
        (h2.PREFACE + frame(h2.HEADERS, 5, 2, b"\x82\x84\x86"), 1),
        (h2.PREFACE + frame(h2.PING, 0, 0, b"short"), 6),
        (h2.PREFACE + frame(h2.SETTINGS, 0, 0, b"12345"), 6),
        (h2.PREFACE + frame(h2.WINDOW_UPDATE, 0, 0, bytes(4)), 1),
        (h2.PREFACE + frame(h2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), 3),
        (h2.PREFACE + frame(h2.DATA, 0, 7, b"x"), 1),
        (h2.PREFACE + b"\xff\xff\xff\0\0\0\0\0\1", 6),
        (h2.PREFACE + frame(h2.HEADERS, 1, 1, b"\x82") + frame(h2.PING, 0, 0, bytes(8)), 1),
    ],
)
def test_nonsense_gets_a_goodbye(clone: Clone, said: bytes, error: int) -> None:
    kind, _, _, content = talk(clone, [said])[-1]
    assert kind == h2.GOAWAY and int.from_bytes(content[4:], "big") == error


def test_what_is_too_much_is_refused_and_no_more(clone: Clone) -> None:
    encoder = Encoder()
    opened = b"".join(frame(h2.HEADERS, 4, 2 * i + 1, encoder.encode(list(grpc_fields(GET)))) for i in range(130))
    said = talk(clone, [begin() + opened + frame(h2.DATA, 1, 1, b"\0" * 5)])
    refused = [stream for kind, _, stream, _ in said if kind == h2.RST_STREAM]
    assert refused == [257, 259]
    assert [stream for kind, flags, stream, _ in said if kind == h2.HEADERS and flags & 1] == [1]


CLIENT = """
import sys, grpc
with grpc.insecure_channel("127.0.0.1:" + sys.argv[1]) as channel:
    get = channel.unary_unary("/test.Service/Get")
    flying = [get.future(b"x" * (i * 997 % 40000), timeout=10) for i in range(200)]
    assert {len(one.result()) for one in flying} == {200}
    assert [len(m) for m in channel.unary_stream("/test.Service/List")(b"", timeout=10)] == [595] * 5
    try:
        channel.unary_unary("/test.Service/Other")(b"z" * 3_900_000, timeout=10)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
    else:
        raise SystemExit("no error")
print("ok")
"""


@pytest.mark.skipif(not Path("/usr/lib/python3/dist-packages/grpc").is_dir(), reason="python3-grpcio is not installed")
def test_a_real_client_of_grpc_is_served(clone: Clone) -> None:
    command = ["/usr/bin/python3", "-c", CLIENT, str(clone.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.skipif(shutil.which("h2load") is None, reason="nghttp2-client is not installed")
def test_h2load_has_no_error(clone: Clone) -> None:
    url = f"http://127.0.0.1:{clone.port}"
    for path, more in (("/a", ("-n", "2000")), ("/chunked", ("-n", "60", "-w", "14", "-W", "15"))):
        command = ["h2load", *more, "-c", "4", "-m", "10", url + path]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert re.search(r"(\d+) succeeded, 0 failed, 0 errored", done.stdout), done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_reads_pages(clone: Clone) -> None:
    for path, size in (("/a", 612), ("/chunked", 300_000)):
        command = ["curl", "-s", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"]
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{clone.port}{path}"], capture_output=True, text=True, check=False
        )
        assert done.stdout == f"200 {size}"


def loaded(folder: Path, clone: Clone, asked: list[Asked], offered: Offered) -> LoadMeasured:
    LoadPlan(Framing.H2, (script_of(asked),)).save(folder / "plan")
    return drive(folder / "plan", clone.port, offered)


def test_the_load_generator_drives_it(tmp_path: Path, clone: Clone) -> None:
    asked = [Asked(grpc_fields(path), b"\0\0\0\0\2\n\0") for path in (GET, LIST, b"/x") * 5]
    result = loaded(tmp_path, clone, asked, Offered(connections=3, requests=600))
    assert (result.received, result.failed, result.broken, result.unanswered) == (600, 0, 0, 0)
    pages = [filler_request("GET", b"/chunked", False, 60)]  # more data than a window at first takes
    result = loaded(tmp_path, clone, pages, Offered(connections=2, requests=60))
    assert (result.received, result.broken) == (60, 0) and result.bytes > 60 * 300_000
    missing = [filler_request("BREW", b"/pot", False, 60)]
    result = loaded(tmp_path, clone, missing, Offered(connections=2, requests=20))
    assert (result.received, result.broken) == (20, 0)


def test_requests_of_filler_are_messages_of_the_wanted_size() -> None:
    for size in (30, 60, 200, 300, 20_000):
        asked = filler_request("POST", b"/x", True, size)
        assert int.from_bytes(asked.data[1:5], "big") == len(asked.data) - 5
        script = script_of([asked])
        assert abs(len(script.steps[-1].request) - max(size, 33)) < 6 + 9 * (size // 16384)
