"""The codecs of the runtime, over real sockets, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime_build import Clone, build_clone, build_fuzzer, exchange, receive, receive_all, running

VARIANTS = {
    "resp": ("resp",),
    "resp-edge": ("resp", "-DTEST_EVENTS=(EPOLLIN|EPOLLRDHUP|EPOLLET)"),
    "resp-poll": ("resp", "-DTEST_WAIT=DITTO_WAIT_POLL"),
    "resp-select": ("resp", "-DTEST_WAIT=DITTO_WAIT_SELECT"),
    "resp-direct": (
        "resp", "-DTEST_REPLY_FLAGS=0", "-DTEST_SEND=.nr=SYS_writev,.iovs=3,.iov_bytes=100,.calls_per_wake=2",
    ),
    "resp-pieces": ("resp", "-DTEST_SEND=.nr=SYS_writev,.iovs=3,.iov_bytes=4096,.call_bytes=10000,.calls_per_wake=1"),
    "resp-small": (
        "resp", "-DTEST_RECV=.nr=SYS_readv,.bytes=7,.until_again=1", "-DTEST_SEND=.nr=SYS_sendto,.call_bytes=1000",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("codecs")
    built = {name: build_clone(folder / name, *spec) for name, spec in VARIANTS.items()}
    for name in ("http", "memcached", "opaque"):
        built[name] = build_clone(folder / name, name)
    return built


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def resp(request: pytest.FixtureRequest, binaries: dict[str, Path]) -> Iterator[Clone]:
    # Left alone, the sanitizer gives memory back when it likes and keeps 256 MB of what was freed, and a test looks at
    # how much there is.
    env = {**os.environ, "ASAN_OPTIONS": "allocator_release_to_os_interval_ms=-1:quarantine_size_mb=2"}
    with running(binaries[request.param], env=env) as clone:
        yield clone


@pytest.fixture(scope="module")
def http(binaries: dict[str, Path]) -> Iterator[Clone]:
    with running(binaries["http"]) as clone:
        yield clone


@pytest.fixture(scope="module")
def memcached(binaries: dict[str, Path]) -> Iterator[Clone]:
    with running(binaries["memcached"]) as clone:
        yield clone


def split_everywhere(clone: Clone, data: bytes, expected: re.Pattern[bytes]) -> None:
    """Cut in two at every byte, and once into single bytes: always the same shape of reply."""
    for at in range(1, len(data)):
        with clone.connect() as sock:
            sock.sendall(data[:at])
            time.sleep(0.0005)
            sock.sendall(data[at:])
            sock.shutdown(socket.SHUT_WR)
            assert expected.fullmatch(receive_all(sock)), at
    assert expected.fullmatch(exchange(clone, [bytes([byte]) for byte in data], 0.0002))


def bulk(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


BULK = rb"(\$-1\r\n|\$100\r\nx{100}\r\n)"
ARRAY = rb"\*5\r\n(\$100\r\nx{100}\r\n){5}"


def test_resp_split_at_every_byte(resp: Clone) -> None:
    data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\0x\r\n*2\r\n$3\r\ngEt\r\n$1\r\nk\r\nPING\r\nECHO 'a b'\r\n"
    data += b"*4\r\n$6\r\nLRANGE\r\n$1\r\nk\r\n$1\r\n0\r\n$2\r\n99\r\n"
    pattern = rb"\+OK\r\n" + BULK + rb"\+PONG\r\n\$3\r\na b\r\n" + ARRAY
    split_everywhere(resp, data, re.compile(pattern, re.S))


def test_resp_replies_longer_than_any_piece(resp: Clone) -> None:
    """More of them than the kernel takes at once, and what follows them."""
    with resp.connect() as sock:
        sock.sendall(b"LRANGE a 0 1\r\n" * 60 + b"HUGE\r\n" + b"LRANGE a 0 1\r\n" * 60 + b"PING\r\n")
        sock.shutdown(socket.SHUT_WR)
        time.sleep(0.05)
        reply = receive_all(sock)
    item = b"*5\r\n" + (b"$100\r\n" + b"x" * 100 + b"\r\n") * 5
    assert reply == item * 60 + b"$3000000\r\n" + b"x" * 3_000_000 + b"\r\n" + item * 60 + b"+PONG\r\n"


def test_resp_pipelines_of_any_length(resp: Clone) -> None:
    rng = random.Random(1)
    for count in (1, 2, 16, 63, 500, 9000):
        kinds = rng.choices(["s", "g", "l", "u"], k=count)
        words = {
            "s": b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n", "g": b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            "l": b"LRANGE a 0 1\r\n", "u": b"NOSUCH\r\n",
        }  # fmt: skip
        answers = {"s": rb"\+OK\r\n", "g": BULK, "l": ARRAY, "u": rb"-ERR unknown command\r\n"}
        with resp.connect() as sock:
            sock.sendall(b"".join(words[kind] for kind in kinds) if count < 1000 else words["s"] * count)
            sock.shutdown(socket.SHUT_WR)
            reply = receive_all(sock)
        if count < 1000:
            at = 0
            for kind in kinds:
                match = re.compile(answers[kind], re.S).match(reply, at)
                assert match, (count, kind, reply[at : at + 80])
                at = match.end()
            assert at == len(reply)
        else:
            assert reply == b"+OK\r\n" * count


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*99999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$99999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
        (b"SET 'a\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"a" * 70000, b"-ERR Protocol error: too big inline request\r\n"),
        (b"*-1\r\n*0\r\n\r\nPING\r\n", b"+PONG\r\n"),
        (b"QUIT\r\nPING\r\n", b"+OK\r\n"),
        (b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\na\r\nSELECT 1\r\n", b"+OK\r\n+OK\r\n"),
        (b"NOSUCH 3\r\n", b"-ERR unknown command\r\n"),
        (b"ZRANGE z 0 1\r\n", b"*2\r\n" + b"*2\r\n$3\r\n111\r\n$2\r\n11\r\n" * 2),
        (b"HGETALL h\r\n", b"*4\r\n" + b"$5\r\n11111\r\n" * 4),
        (
            b"MULTI\r\nset k v\r\nGET k\r\nEXEC\r\nLPOP k\r\n",
            b"+OK\r\n" + b"+QUEUED\r\n" * 2 + b"*2\r\n:1\r\n:1\r\n$-1\r\n",
        ),
        (b"MULTI\r\nPING\r\nDISCARD\r\nPING\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n+OK\r\n+PONG\r\n$-1\r\n"),
        (b"SUBSCRIBE one\r\n", b"*3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n"),
        (b"*2\r\n$3\r\nGET\r\n", b""),
        (b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n", b"$2\r\nhi\r\n"),
    ],
)  # fmt: skip
def test_resp_errors_and_public_commands(resp: Clone, data: bytes, reply: bytes) -> None:
    assert exchange(resp, [data]) == reply


def test_resp_version_3_is_spoken_to_those_who_ask_for_it(resp: Clone) -> None:
    hello = bulk(b"HELLO", b"3")
    greeting = exchange(resp, [hello])
    assert greeting.startswith(b"%7\r\n$6\r\nserver\r\n") and b"$5\r\nproto\r\n:3\r\n" in greeting
    rest = [bulk(b"LPOP", b"k"), bulk(b"ZRANGE", b"z", b"0", b"1"), bulk(b"HGETALL", b"h"), b"SUBSCRIBE one\r\n"]
    assert exchange(resp, [hello, *rest])[len(greeting) :] == (
        b"_\r\n*2\r\n" + b"*2\r\n$3\r\n111\r\n,11\r\n" * 2 + b"%2\r\n" + b"$5\r\n11111\r\n" * 4
        + b">3\r\n$9\r\nsubscribe\r\n$3\r\none\r\n:1\r\n"
    )  # fmt: skip
    back = exchange(resp, [hello, bulk(b"HELLO", b"2"), bulk(b"LPOP", b"k")])
    assert back[len(greeting) :].startswith(b"*14\r\n") and back.endswith(b"$-1\r\n")


def test_resp_what_is_published_reaches_those_who_hear_its_channel(resp: Clone) -> None:
    message = b"*3\r\n$7\r\nmessage\r\n$3\r\none\r\n$3\r\nabc\r\n"
    # A message that came in pieces is answered with filler.
    heard = re.escape(message).replace(b"abc", b"(abc|111)")
    published = bulk(b"PUBLISH", b"one", b"abc")
    with resp.connect() as first, resp.connect() as second, resp.connect() as teller:
        for sock, hello in ((first, b""), (second, bulk(b"HELLO", b"3"))):
            sock.sendall(hello + bulk(b"SUBSCRIBE", b"one"))
            while not sock.recv(4096).endswith(b":1\r\n"):
                pass
        teller.sendall((published + bulk(b"PUBLISH", b"other", b"abc")) * 20)
        assert receive(teller, 160) == b":1\r\n" * 40
        assert re.fullmatch(b"(%b){20}" % heard, receive(first, 20 * len(message)))
        assert re.fullmatch(b"(%b){20}" % heard, receive(second, 20 * len(message)).replace(b">3", b"*3"))
        second.close()
        teller.sendall(published + bulk(b"MULTI") + published)
        assert re.fullmatch(heard, receive(first, len(message)))
        first.sendall(b"PING\r\n")
        assert receive(first, 7) == b"+PONG\r\n"


def test_resp_elements_within_an_array_follow_a_cursor_or_a_key(resp: Clone) -> None:
    members = b"*2\r\n" + b"$5\r\n11111\r\n" * 2
    said = {exchange(resp, [bulk(b"SSCAN", b"set", b"0")]) for _ in range(40)}
    assert said == {b"*2\r\n$1\r\n0\r\n" + members, b"*2\r\n$4\r\n1024\r\n" + members}
    asked, entry = bulk(b"XREAD", b"STREAMS", b"s", b"0"), b"*2\r\n$1\r\n1\r\n*2\r\n$1\r\n1\r\n$3\r\n111\r\n"
    assert exchange(resp, [asked]) == b"*1\r\n*2\r\n$3\r\nkey\r\n*2\r\n" + entry * 2
    assert exchange(resp, [bulk(b"HELLO", b"3"), asked]).endswith(b"%1\r\n$3\r\nkey\r\n*2\r\n" + entry * 2)


def test_resp_large_payloads_pass_through(resp: Clone) -> None:
    value = random.Random(2).randbytes(3_000_000)
    data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\nPING\r\n" % (len(value), value)
    assert exchange(resp, [data]) == b"+OK\r\n+PONG\r\n"


def test_a_client_that_never_reads_costs_only_itself(resp: Clone) -> None:
    with resp.connect() as greedy, resp.connect() as other:
        greedy.setblocking(False)
        sent = 0
        try:
            for _ in range(200):  # 600 MB of replies are asked for
                sent += greedy.send(b"HUGE\r\n")
        except BlockingIOError:
            pass
        for _ in range(20):
            other.sendall(b"PING\r\n")
            assert receive(other, 7) == b"+PONG\r\n"
        status = Path(f"/proc/{resp.process.pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])  # type: ignore[index]
        assert resident < 400_000, status
        # and when it reads after all, everything comes
        greedy.setblocking(True)
        greedy.shutdown(socket.SHUT_WR)
        total = 0
        while piece := greedy.recv(1 << 20):
            total += len(piece)
        assert total == sent // 6 * 3_000_012


def test_dropped_connections_leave_the_server_well(resp: Clone) -> None:
    rng = random.Random(3)
    for _ in range(200):
        sock = resp.connect()
        sock.sendall(rng.choice([b"HUGE\r\n" * 3, b"*2\r\n$3\r\nGE", b"GET a\r\n" * 50, b""]))
        if rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        sock.close()
    assert exchange(resp, [b"PING\r\n"]) == b"+PONG\r\n"


def http_replies(data: bytes, heads: list[bool]) -> list[tuple[int, int, bytes]]:
    """(status, bytes of the head, body) of each reply; heads: which of them answer HEAD."""
    replies = []
    at = 0
    for is_head in heads:
        end = data.index(b"\r\n\r\n", at) + 4
        head = data[at:end]
        status = int(head.split()[1])
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        body = b""
        if re.search(rb"(?i)transfer-encoding: chunked", head):
            stop = end
            while True:
                line = data.index(b"\r\n", stop)
                size = int(data[stop:line], 16)
                body += data[line + 2 : line + 2 + size]
                stop = line + 2 + size + 2
                if size == 0:
                    break
            replies.append((status, len(head), body))
            at = stop
            continue
        if length and not is_head:
            body = data[end : end + int(length[1])]
            assert len(body) == int(length[1])
        replies.append((status, len(head), body))
        at = end + len(body)
    assert at == len(data)
    return replies


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_http_split_at_every_byte(http: Clone) -> None:
    data = (
        GET
        + b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\n0\r\nT: 1\r\n\r\n"
        + GET
    )
    head = rb"HTTP/1\.1 \d+ [A-Za-z ]+\r\n([-A-Za-z]+: [^\r]*\r\n)+\r\n"
    split_everywhere(http, data, re.compile(head + rb"x{612}" + head + rb"x{40}" + head + rb"x{612}"))


def test_http_heads_have_their_size(http: Clone) -> None:
    assert http_replies(exchange(http, [GET]), [False]) == [(200, 238, b"x" * 612)]
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    assert http_replies(exchange(http, [post]), [False]) == [(201, 150, b"x" * 40)]
    chunked = b"GET /chunked?q HTTP/1.1\r\nHost: a\r\n\r\n"
    assert http_replies(exchange(http, [chunked]), [False]) == [(200, 200, b"x" * 612)]
    unchanged = b"GET http://a/unchanged HTTP/1.1\r\nHost: a\r\n\r\n"
    assert http_replies(exchange(http, [unchanged]), [False]) == [(304, 100, b"")]


def test_http_a_file_is_sent_with_the_replies_that_it_goes_with_and_behind_a_head(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "mixed", "http", "-DTEST_MIXED", "-DTEST_WORKERS=1")) as clone:
        replies = http_replies(exchange(clone, [GET] * 60), [False] * 60)
    assert set(replies) == {(200, 238, b"x" * 612), (201, 150, b"x" * 40)}
    with running(build_clone(tmp_path / "headless", "http", "-DTEST_HEAD=0", "-DTEST_WORKERS=1")) as clone:
        assert http_replies(exchange(clone, [GET] * 3), [False] * 3) == [(200, 238, b"x" * 612)] * 3


@pytest.mark.parametrize(
    ("status", "header"), [(206, b"Range: bytes=0-39"), (304, b"If-None-Match: a"), (304, b"if-modified-since: today")]
)
def test_http_parts_and_unchanged_pages_go_to_those_who_ask_for_them(
    tmp_path: Path, status: int, header: bytes
) -> None:
    """Drawn by chance, every second client had got a part of a page, and who asked for one the whole."""
    asks = GET[:-2] + header + b"\r\n\r\n"
    flags = ("-DTEST_MIXED", f"-DTEST_OTHER={status}", "-DTEST_WORKERS=1")
    with running(build_clone(tmp_path / "asked", "http", *flags)) as clone:
        replies = http_replies(exchange(clone, [(GET + asks) * 30]), [False] * 60)
    assert {reply[0] for reply in replies[::2]} == {200} and {reply[0] for reply in replies[1::2]} == {status}
    assert all(reply == (200, 238, b"x" * 612) for reply in replies[::2])


def test_http_pipelines_head_and_bodies(http: Clone) -> None:
    head = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + b"z" * 3000
    data = (GET + head + post) * 40
    replies = http_replies(exchange(http, [data]), [False, True, False] * 40)
    assert [status for status, _, _ in replies] == [200, 200, 201] * 40


def test_http_continue_comes_before_the_body(http: Clone) -> None:
    with http.connect() as sock:
        sock.sendall(b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert receive(sock, 25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert sock.recv(9) == b"HTTP/1.1 "
        assert sock.recv(3) == b"201"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400), (b"GET /\r\n\r\n", 400), (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505), (b"BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 501),
        (b"GET /" + b"a" * 9000, 414), (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 6000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200), (b"DELETE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    ],
)  # fmt: skip
def test_http_errors_close(http: Clone, data: bytes, status: int) -> None:
    with http.connect() as sock:
        sock.sendall(data)
        reply = receive_all(sock)  # the server ends the connection
    assert reply.startswith(b"HTTP/1.1 %d " % status)
    assert [found for found, _, _ in http_replies(reply, [False])] == [status]


VALUE = rb"(VALUE %b 0 1024\r\nx{1024}\r\n)?"


def test_memcached_split_at_every_byte(memcached: Clone) -> None:
    data = b"set k 0 0 5\r\nab\r\nc\r\nget \xff\x01 key2\r\nincr k 5\r\nset k 0 0 1 noreply\r\nz\r\nbogus\r\n"
    pattern = rb"STORED\r\n" + VALUE % rb"\xff\x01" + VALUE % b"key2" + rb"END\r\n1111\r\nERROR\r\n"
    split_everywhere(memcached, data, re.compile(pattern, re.S))


def test_memcached_hits_and_misses_have_their_share(memcached: Clone) -> None:
    reply = exchange(memcached, [b"get " + b" ".join(b"k%d" % i for i in range(2000)) + b"\r\n"])
    hits = re.findall(rb"VALUE (k\d+) 0 1024\r\n", reply)
    assert len(set(hits)) == len(hits)
    assert 1500 < len(hits) < 1700  # four in five
    assert reply.endswith(b"END\r\n")


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"get\r\n", rb"ERROR\r\n"), (b"get " + b"k" * 251 + b"\r\n", rb"CLIENT_ERROR bad command line format\r\n"),
        (b"set k 0 0 x\r\n", rb"CLIENT_ERROR bad command line format\r\n"),
        (b"set k 0 0 2\r\nabcd", rb"CLIENT_ERROR bad data chunk\r\n"),
        (b"incr k abc\r\n", rb"CLIENT_ERROR invalid numeric delta argument\r\n"),
        (b"touch k 5\r\ndelete k\r\ndelete k noreply\r\nmn\r\n", rb"NOT_FOUND\r\nNOT_FOUND\r\nMN\r\n"),
        (b"version\r\n", rb"VERSION 1\.0\.0\r\n"),
        (b"stats\r\n", rb"(STAT [^\r]+\r\n)+END\r\n"), (b"verbosity 1\r\nflush_all noreply\r\n", rb"OK\r\n"),
        (b"cas k 0 0 1 5\r\na\r\ngat 10 k\r\n", rb"NOT_FOUND\r\nEND\r\n"), (b"quit\r\nversion\r\n", rb""),
        (b"mn\r\n", rb"MN\r\n"), (b"\x80\x0a\0\0\0\0\0\0\0\0\0\0", rb"ERROR\r\n"),
        (b"x" * 3000, rb"CLIENT_ERROR line too long\r\n"), (b"gets k\r\n", rb"(VALUE k 0 1024 1\r\nx+\r\n)?END\r\n"),
        (b"set k 0 0 1073741999\r\n", rb""),
    ],
)  # fmt: skip
def test_memcached_commands_and_errors(memcached: Clone, data: bytes, reply: bytes) -> None:
    assert re.fullmatch(reply, exchange(memcached, [data]), re.S)


@pytest.mark.parametrize("handover", ["DITTO_HAND_KEEP", "DITTO_HAND_SPAWN_THREAD", "DITTO_HAND_SPAWN_PROCESS"])
def test_opaque_over_blocking_roles(tmp_path: Path, handover: str) -> None:
    small = (12).to_bytes(4, "big") + b"\xff\xff\0\xd7" + b"abcd"
    large = (200).to_bytes(4, "big") + b"\xff\xff\0\xd7" + bytes(192)
    tiny = b"\xde" + bytes(5)  # shorter than the header, as its reply is
    binary = build_clone(tmp_path / "clone", "opaque", f"-DTEST_HANDOVER={handover}")
    with running(binary) as clone:
        data = (small + large) * 3
        for at in (1, 3, 7, 8, 11, 12, 13, 100):
            reply = exchange(clone, [data[:at], data[at:]], 0.001)
            assert len(reply) == 3 * (20 + 5000)
            assert reply[:8] == (20).to_bytes(4, "big") + b"\0\0\0\xd7"
        for cut in (1, 2, 6, 8):
            reply = exchange(clone, [(tiny + small)[:cut], (tiny + small)[cut:], tiny], 0.001)
            assert (len(reply), reply[:4], reply[24:]) == (28, b"\xdcxxx", b"\xdcxxx")
        assert exchange(clone, [b"\xdemsgpk"]) == b"xxxx"  # another protocol, though it begins so
        assert exchange(clone, [b"any other protocol"]) == b"x" * 20
        assert exchange(clone, [b"y" * 500]) == b"x" * 5000
        with clone.connect() as idle, clone.connect() as busy:  # an idle connection keeps no other waiting
            busy.sendall(small)
            assert len(receive(busy, 20)) == 20
            idle.sendall(small)
            assert len(receive(idle, 20)) == 20


@pytest.mark.parametrize("tables", ["opaque", "http", "resp", "memcached", "dns", "pgsql", "mysql", "fastcgi", "h2"])
def test_fuzz_briefly(tmp_path: Path, tables: str) -> None:
    import subprocess

    fuzzer = build_fuzzer(tmp_path / "fuzz", tables)
    done = subprocess.run(
        [str(fuzzer), "--runs", "60000", "--seconds", "20", "--seed", "4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[1]) > 1000


def _filled(store: Callable[[int, int], bytes], clone: Clone, keys: int) -> None:
    """Store keys 0 .. keys-1, key i with a value of i % 500 + 1 bytes."""
    with clone.connect() as sock:
        for first in range(0, keys, 100):
            batch = range(first, min(keys, first + 100))
            sock.sendall(b"".join(store(i, i % 500 + 1) for i in batch))
            for _ in batch:
                while not sock.recv(1).endswith(b"\n"):
                    pass


def test_a_filled_resp_store_hits_and_misses_by_its_history(resp: Clone) -> None:
    _filled(lambda i, size: bulk(b"SET", b"key:%d" % i, b"v" * size), resp, 3000)
    for i in (0, 7, 499, 2999):
        size = i % 500 + 1
        got = exchange(resp, [bulk(b"GET", b"key:%d" % i)])
        # A value that came in pieces, as with small receive buffers, is answered with filler.
        assert got in {b"$%d\r\n" % size + letter * size + b"\r\n" for letter in (b"v", b"x")}
    assert exchange(resp, [bulk(b"GET", b"key:3000")]) == b"$-1\r\n"
    assert exchange(resp, [bulk(b"DEL", b"key:7"), bulk(b"GET", b"key:7")]).endswith(b"$-1\r\n")
    assert exchange(resp, [b"SET key:7 abc\r\n", b"GET key:7\r\n"], 0.05).endswith(b"$3\r\nabc\r\n")


def test_values_pushed_to_a_key_take_memory_until_they_are_popped(resp: Clone) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{resp.process.pid}/statm").read_text().split()[1]) * 4096

    def send(request: bytes, times: int) -> None:
        with resp.connect() as sock:
            for _ in range(times):
                sock.sendall(request)
                while not sock.recv(1 << 16).endswith(b"\r\n"):
                    pass

    push, size = bulk(b"LPUSH", b"list", b"v" * 20_000), 1000 * 20_000
    before = resident()
    send(push, 1000)
    full = resident()
    assert size < full - before < 1.6 * size
    send(bulk(b"RPOP", b"list"), 400)
    send(push, 400)
    assert resident() - full < size / 10
    send(bulk(b"DEL", b"list"), 1)
    send(push, 1000)
    assert resident() - full < size / 10


def test_a_filled_memcached_store_hits_and_misses_by_its_history(memcached: Clone) -> None:
    _filled(lambda i, size: b"set key%d 0 0 %d\r\n" % (i, size) + b"v" * size + b"\r\n", memcached, 3000)
    one = b"VALUE key41 0 42\r\n" + b"v" * 42 + b"\r\n"
    assert exchange(memcached, [b"get key41\r\n"]) == one + b"END\r\n"
    assert exchange(memcached, [b"get key3000\r\n"]) == b"END\r\n"
    assert exchange(memcached, [b"get key3000 key41 nokey\r\n"]) == one + b"END\r\n"
    assert exchange(memcached, [b"delete key41\r\nget key41\r\n"]).endswith(b"END\r\n")


def test_memcached_changes_that_depend_on_a_key_are_answered_and_made_by_its_history(memcached: Clone) -> None:
    _filled(lambda i, size: b"set key%d 0 0 %d\r\n" % (i, size) + b"v" * size + b"\r\n", memcached, 3000)
    asked = b"".join(
        b"add key%d 0 0 2\r\nab\r\ntouch key%d 9\r\ndelete key%d\r\ntouch key%d 9\r\ndelete key%d\r\n"
        b"append key%d 0 0 2\r\nab\r\nadd key%d 0 0 2\r\nab\r\nappend key%d 0 0 3\r\nabc\r\n" % ((i,) * 8)
        for i in range(50, 70)
    )
    said = b"NOT_STORED TOUCHED DELETED NOT_FOUND NOT_FOUND NOT_STORED STORED STORED".split()
    assert exchange(memcached, [asked]).split() == said * 20
    assert exchange(memcached, [b"get key60\r\n"]).startswith(b"VALUE key60 0 5\r\n")


def test_memcached_meta_commands_are_answered_in_their_words(memcached: Clone) -> None:
    _filled(lambda i, size: b"set key%d 0 0 %d\r\n" % (i, size) + b"v" * size + b"\r\n", memcached, 3000)
    value = b"v" * 42 + b"\r\n"
    for asked, said in {
        b"mg key41 v\r\n": b"VA 42\r\n" + value,
        b"mg key41 s v t f k Oab\r\n": b"VA 42 s42 t-1 f0 kkey41 Oab\r\n" + value,
        b"mg key41\r\n": b"HD\r\n",
        b"mg nokey v k t\r\nmg nokey v q\r\nmn\r\n": b"EN knokey\r\nMN\r\n",
        b"ms meta 3 T90 Ox\r\nabc\r\nmg meta v\r\n": b"HD Ox\r\nVA 3\r\nabc\r\n",
        b"ms meta 3 q\r\nabc\r\nmn\r\n": b"MN\r\n",
        b"md meta\r\nmd meta\r\nmd meta q\r\nmn\r\n": b"HD\r\nNF\r\nMN\r\n",
        b"ma key41 N0 J5 v\r\nma nokey v\r\n": b"VA 4\r\n1111\r\nNF\r\n",
    }.items():
        assert exchange(memcached, [asked]) == said, asked


def test_resp_values_are_taken_from_a_key_as_long_as_it_has_some(tmp_path: Path) -> None:
    with running(build_clone(tmp_path / "sets", "resp", "-DTEST_SETS")) as clone:
        # Keys that run empty in the original hold what was put there, however little that is.
        early = exchange(clone, [bulk(b"RPUSH", b"early", b"e" * 40) + bulk(b"LPOP", b"early") * 9])
        assert early.endswith(b"$40\r\n" + b"e" * 40 + b"\r\n" + b"$-1\r\n" * 8)
        _filled(lambda i, size: bulk(b"SET", b"key:%d" % i, b"v" * size), clone, 3000)
        # Two of the five are the same, and one is removed.
        added = b"".join(bulk(b"SADD", b"set", b"%c" % letter * 30) for letter in b"abacd")
        removed = bulk(b"SREM", b"set", b"c" * 30)
        popped = exchange(clone, [added + removed + bulk(b"SPOP", b"set") * 5]).split(b"\r\n")[6:-1]
        assert sorted(popped[1:6:2]) == [b"a" * 30, b"b" * 30, b"d" * 30] and popped[6:] == [b"$-1"] * 2
        # What is dropped as a whole can be added again.
        again = bulk(b"SADD", b"set", b"a" * 30) + bulk(b"DEL", b"set")
        assert exchange(clone, [again * 3 + bulk(b"SPOP", b"set")]).endswith(b"$-1\r\n")
        scored = b"".join(bulk(b"ZADD", b"scores", b"1", b"m%d" % (n % 3)) for n in range(6))
        lowest = b"*2" + b"\r\n$5\r\n11111" * 2 + b"\r\n"
        assert exchange(clone, [scored + bulk(b"ZPOPMIN", b"scores") * 4]).endswith(lowest * 3 + b"*0\r\n")
        pushed = bulk(b"RPUSH", b"list", b"e" * 40) * 2 + bulk(b"LPOP", b"list") * 3
        assert exchange(clone, [pushed]).endswith((b"$40\r\n" + b"e" * 40 + b"\r\n") * 2 + b"$-1\r\n")
        assert exchange(clone, [bulk(b"GETDEL", b"key:41") * 2]) == b"$42\r\n" + b"v" * 42 + b"\r\n$-1\r\n"
        # Of keys that nothing was put into as far as is known, there are other ways.
        assert exchange(clone, [bulk(b"LPOP", b"other") * 200]).count(b"$100\r\n") > 100


def test_values_that_change_their_size_come_back_whole(memcached: Clone) -> None:
    _filled(lambda i, size: b"set key%d 0 0 %d\r\n" % (i, size) + b"v" * size + b"\r\n", memcached, 3000)
    generator = random.Random(5)
    sizes = {}
    with memcached.connect() as sock:
        for number in range(600):
            key, size = generator.randrange(40), generator.choice((0, 3, 50, 700, 3000, 9000))
            letter = b"%c" % (97 + number % 26)
            sizes[key] = (size, letter)
            sock.sendall(b"set key%d 0 0 %d noreply\r\n" % (key, size) + letter * size + b"\r\n")
        for key, (size, letter) in sizes.items():
            sock.sendall(b"get key%d\r\n" % key)
            wanted = b"VALUE key%d 0 %d\r\n" % (key, size) + letter * size + b"\r\nEND\r\n"
            got = receive(sock, len(wanted))
            # A value that came in pieces is answered with filler.
            assert got in (wanted, wanted.replace(letter * size, b"x" * size)) and len(got) == len(wanted)


def test_a_large_value_reaches_a_slow_reader_whole(memcached: Clone) -> None:
    """The payload is lent to the first send and copied when that does not take all of it."""
    _filled(lambda i, size: b"set key%d 0 0 %d\r\n" % (i, size) + b"v" * size + b"\r\n", memcached, 3000)
    size = 8_000_000
    one = b"VALUE big 0 %d\r\n" % size
    with memcached.connect() as sock:
        sock.sendall(b"set big 0 0 %d\r\n" % size + b"y" * size + b"\r\n")
        assert receive(sock, 8) == b"STORED\r\n"
        sock.sendall(b"get big\r\nget key41\r\nget big\r\n")
        time.sleep(0.3)
        small = b"VALUE key41 0 42\r\n" + b"v" * 42 + b"\r\nEND\r\n"
        got = receive(sock, 2 * (len(one) + size + 7) + len(small))
    assert got.startswith(one) and got.count(b"END\r\n") == 3
    assert got.count(b"x") + got.count(b"y") == 2 * size + 1  # and the one in key41
    assert small in got
