"""Request classes: what the lens takes from the first bytes a socket receives."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hpack import Encoder

from ditto.artifacts.lens import LensProcess, load_lens
from ditto.artifacts.plan import opaque_request
from ditto.host.lens import Codec, lens_command, lens_env
from ditto.host.requests_h2 import acknowledge, begin, frame
from ditto.paths import lens_directory
from ditto.streams import fastcgi, h2, pgsql
from ditto.streams.sql import statement_key

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(
        not (lens_directory() / "lens-amd64-linux").is_file(), reason="the lens is not built: make -C native/lens"
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

# Each argument goes through a socket pair and is received in one read; getppid follows; "-" waits (poll of nothing).
# "%" begins bytes as hexadecimal digits, ">" such bytes that are sent as a reply.
ECHO = """
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int pair[2]; char buf[4096], out[4096];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-")) { poll(0, 0, 0); continue; }
        int n = strlen(argv[i]);
        char *p = argv[i];
        if (*p == '%' || *p == '>') {
            for (n = 0; p[2 * n + 1]; n++) sscanf(p + 2 * n + 1, "%2hhx", (unsigned char *)&out[n]);
            p = out;
        }
        if (argv[i][0] == '>') {
            if (write(pair[1], p, n) < 0 || read(pair[0], buf, sizeof buf) < 0) return 1;
            continue;
        }
        if (write(pair[0], p, n) < 0) return 1;
        if (read(pair[1], buf, sizeof buf) < 0) return 1;
        getppid();
    }
}
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("echo")
    (folder / "p.c").write_text(ECHO)
    subprocess.run(["gcc", "-O1", "-o", folder / "p", folder / "p.c"], check=True)
    return folder / "p"


def run(folder: Path, codec: Codec, echo: Path, payloads: list[str]) -> LensProcess:
    command = lens_command([str(echo), *payloads], folder / "out", codec=codec)
    subprocess.run(command, env=lens_env(), check=True, timeout=60)
    (file,) = folder.glob("out.*.lens")
    return load_lens(file)


def received(process: LensProcess, prev: int = 110) -> Counter[bytes]:
    """Segments after getppid by class."""
    out: Counter[bytes] = Counter()
    for key, visits in zip(process.keys, process.visits, strict=True):
        if key.prev_nr == prev and visits:
            out[process.classes[key.class_id]] += int(visits)
    return out


@pytest.mark.parametrize(
    ("codec", "payloads", "classes"),
    [
        ("resp", ["set a b\r\n", "PING\r\n", "*2\r\n$3\r\nget\r\n$1\r\na\r\n"], {b"GET": 1, b"SET": 1, b"PING": 1}),
        ("resp", ["GET a\r\n", "$5\r\nhello\r\n"], {b"GET": 2}),
        ("resp", ["*2\r\n$3\r\nset\r\n$99999\r\na", "rest of a long value"], {b"SET": 2}),
        ("http1", ["GET /a/b?q=1 HTTP/1.1\r\n\r\n", "POST /c HTTP/1.1\r\n\r\nx", "body goes on"],
         {b"GET /a/b": 1, b"POST /c": 2}),
        ("http1", ["GET /" + "x" * 200 + " HTTP/1.1\r\n\r\n"], {b"GET /" + b"x" * 59: 1}),
        ("http1", ["G", "ET /a HTTP/1.1\r\n\r\n", "P", "OST /c HTTP/1.1\r\n\r\n", "xyz", "GET /b HTTP/1.1\r\n\r\n"],
         {b"none": 1, b"GET /a": 2, b"POST /c": 2, b"GET /b": 1}),
        ("resp", ["*", "2\r\n$3\r\nget\r\n$1\r\na\r\n"], {b"none": 1, b"GET": 1}),
        ("memcached", ["get k\r\n", "set k 0 0 3\r\nabc\r\n", "\x01\x02\x03", "get j\r\n"], {b"get": 2, b"set": 2}),
        ("opaque", ["a" * 100, "b", "a" * 90, "put 1\r\n", "%" + (b"\7put" + bytes(30)).hex()],
         {b"size 7": 2, b"size 1": 1, b"size 3 put": 1, b"size 6": 1}),
        ("opaque", ["%" + opaque_request(300, 2).hex(), "%" + opaque_request(300, 0xFFFF).hex(),
                    "%" + opaque_request(20, 0x8007).hex()], {b"class 2": 1, b"size 9": 1, b"size 5 #7": 1}),
    ],
)  # fmt: skip
def test_codecs(tmp_path: Path, echo: Path, codec: Codec, payloads: list[str], classes: dict[bytes, int]) -> None:
    assert received(run(tmp_path, codec, echo, payloads)) == classes


SELECT, UPDATE = b"SELECT a FROM t1 WHERE id = 7", b"(update b set c = 'x'"


def test_databases(tmp_path: Path, echo: Path) -> None:
    """The classes are those that a recording is read with."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack(">I", len(body) + 4) + body

    start = struct.pack(">II", 12, 3 << 16) + b"u\0a\0"
    said = [struct.pack(">II", 8, 80877103), start, message(b"Q", SELECT + b"\0"), message(b"Q", UPDATE + b"\0")]
    said += [message(b"P", b"s\0" + SELECT + b"\0\0\0"), message(b"B", b"\0s\0"), message(b"B", b"\0t\0")]
    said += [message(b"S", b"")]
    session = pgsql.Session()
    (tmp_path / "pgsql").mkdir()
    found = received(run(tmp_path / "pgsql", "pgsql", echo, ["%" + data.hex() for data in said]))
    assert found == Counter(session.key(data) for data in said)

    def packet(number: int, body: bytes) -> bytes:
        return len(body).to_bytes(3, "little") + bytes([number]) + body

    prepared, executed = packet(0, b"\x16" + SELECT), packet(0, b"\x17\5\0\0\0\0\1\0\0\0")
    steps = ["%" + packet(1, bytes(40)).hex(), "%" + prepared.hex(), ">" + packet(1, b"\0\5\0\0\0\1\0").hex()]
    steps += ["%" + executed.hex(), "%" + packet(0, b"\3" + UPDATE).hex(), "%" + executed[:4].hex()]
    (tmp_path / "mysql").mkdir()
    found = received(run(tmp_path / "mysql", "mysql", echo, [*steps, "%" + executed[4:].hex(), "%0100000001"]))
    text = statement_key(SELECT)
    assert found[b"Bind_" + text] == 2 and found[b"Parse_" + text] == 1 and found[b"Startup"] == 1
    assert found[statement_key(UPDATE)] == 2  # a head alone is of the class before
    assert found[b"Terminate"] == 1


def test_fastcgi(tmp_path: Path, echo: Path) -> None:
    """Received whole or record by record, requests are told apart as a recording tells them."""

    def asked(method: bytes, path: bytes, before: int = 0) -> bytes:
        named = fastcgi.param(b"X", b"x" * before) if before else b""
        named += fastcgi.param(b"REQUEST_METHOD", method) + fastcgi.param(b"SCRIPT_NAME", b"/index")
        return fastcgi.request(named + fastcgi.param(b"REQUEST_URI", path), kept=True)

    whole = [
        asked(b"GET", b"/a?b"),
        asked(b"POST", b"/" + b"c" * 80),
        asked(b"GET", b"/far", 175),
        asked(b"GET", b"/far", 300),
    ]
    found = received(run(tmp_path, "fastcgi", echo, ["%" + data.hex() for data in whole]))
    keys = [fastcgi.request_key(data) for data in whole[:3]]
    assert keys == [b"GET /a", b"POST /" + b"c" * 59, b"GET /index"]
    assert found == Counter([*keys, keys[2]])  # what tells nothing leaves the class as it was
    (tmp_path / "parts").mkdir()
    one = asked(b"GET", b"/a")
    cuts = [0, 8, 16, 24, len(one) - 16, len(one) - 8, len(one)]
    parts = ["%" + one[begin:end].hex() for begin, end in pairwise(cuts)]
    assert received(run(tmp_path / "parts", "fastcgi", echo, parts)) == {b"none": 3, b"GET /a": 3}


def test_h2(tmp_path: Path, echo: Path) -> None:
    """Heads that refer to earlier ones, in Huffman's code or not, whole or in pieces; of several requests the first."""
    encoder = Encoder()
    paths = ["/shop.Cart/Add", "/shop.Cart/List?q=1", "/shop.Cart/Add", "/" + "x" * 70 + "/End"]

    def asked(number: int) -> bytes:
        fields = [(":method", "POST"), (":scheme", "http"), (":path", paths[number % 4]), ("te", "trailers")]
        block = encoder.encode([*fields, ("x-id", "v" * number)], huffman=number % 2 == 0)
        parts = frame(h2.HEADERS, 0, 2 * number + 1, block[:2]) + frame(h2.CONTINUATION, 4, 2 * number + 1, block[2:])
        return parts + frame(h2.DATA, 1, 2 * number + 1, b"x" * number)

    pieces = [begin() + asked(0), acknowledge(), asked(1), asked(2) + asked(3), asked(4)]
    last = asked(7)
    pieces += [last[:7], last[7:20], last[20:]]
    found = received(run(tmp_path, "h2", echo, ["%" + data.hex() for data in pieces]))
    side = h2.Side(True)
    keys = [begun.key for data in pieces for begun in side.feed(data, len(data))[:1]]
    assert keys[:3] == [b"POST /shop.Cart/Add", b"POST /shop.Cart/List", b"POST /shop.Cart/Add"]
    # What begins no request is of the class before: settings, and the beginning of the last head.
    end = b"POST " + paths[3].encode()[-60:]
    assert found == Counter([keys[0], keys[0], keys[1], keys[2], keys[0], keys[0], keys[0], end])


def test_a_wait_ends_the_class_and_the_socket_keeps_it(tmp_path: Path, echo: Path) -> None:
    process = run(tmp_path, "memcached", echo, ["get k\r\n", "-", "\x01", "-"])
    assert received(process) == {b"get": 2}  # after the wait, a receive that begins no request: the socket's class
    assert received(process, prev=7) == {b"none": 2}


def test_too_many_classes_become_other(tmp_path: Path, echo: Path) -> None:
    process = run(tmp_path, "http1", echo, [f"GET /{i} HTTP/1.1\r\n\r\n" for i in range(300)])
    assert len(process.classes) == 256
    assert received(process)[b"other"] == 300 - 254
    assert process.dropped.classes > 0


PASSES = """
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    int way[2], ends[2];
    union { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof(int))]; } control = {0};
    char text[16] = "get k\\r\\n";
    struct iovec iov = {text, 7};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, way);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    sendmsg(way[0], &m, 0);
    recvmsg(way[1], &m, 0);
    m.msg_control = &control; m.msg_controllen = sizeof control;
    control.head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), &ends[1], sizeof(int));
    sendmsg(way[0], &m, 0);
    recvmsg(way[1], &m, 0);
    getppid();
    memcpy(&ends[1], CMSG_DATA(&control.head), sizeof(int));
    if (write(ends[0], "set a 0 0 1\\r\\nx\\r\\n", 16) < 0 || read(ends[1], text, 16) < 0) return 1;
    getpgrp();
}
"""


def test_a_message_that_passes_a_connection_is_no_request(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(PASSES)
    subprocess.run(["gcc", "-O1", "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    command = lens_command([str(tmp_path / "p")], tmp_path / "out", codec="memcached", events=1000)
    subprocess.run(command, env=lens_env(), check=True, timeout=60)
    (file,) = tmp_path.glob("out.*.lens")
    process = load_lens(file)
    assert received(process) == {b"none": 1}
    assert received(process, prev=111) == {b"set": 1}
    told = [(int(e["nr"]), int(e["passed"])) for e in process.events if e["nr"] in (46, 47)]
    sent, taken = told[2][1], told[3][1]
    assert [nr for nr, _ in told] == [46, 47, 46, 47] and [passed for _, passed in told[:2]] == [0, 0]
    assert 0 < sent < taken  # the received one is new
