"""Replies of RESP in both its versions: recognised, told apart, and taken by their shapes."""

from __future__ import annotations

from ditto.model.classes import shapes_of
from ditto.streams.protocol import ReplySeen, recognise, reply_shape
from ditto.streams.resp import reply_end

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
SCORED = b"*2\r\n*2\r\n$5\r\nab:12\r\n,0.25\r\n*2\r\n$5\r\nab:13\r\n,0.75\r\n"


def shape(reply: bytes) -> ReplySeen:
    return reply_shape("resp2", reply[:64], len(reply), len(reply))


def test_a_server_that_speaks_version_3_is_recognised() -> None:
    request = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    assert recognise([request] * 5, [HELLO, b"_\r\n", b"#t\r\n", b",1.5\r\n", b">1\r\n:1\r\n"]) == "resp2"
    assert recognise([request] * 5, [b"&what"] * 5) == "opaque"


def test_replies_of_version_3_end_where_they_do() -> None:
    parts = [HELLO, b"_\r\n", SCORED, b"~2\r\n+a\r\n#f\r\n", b"=5\r\ntxt:a\r\n", b"%0\r\n"]
    whole, at = b"".join(parts), 0
    for part in parts:
        assert reply_end(whole, at) == at + len(part)
        at += len(part)
    assert reply_end(HELLO[:-3], 0) is None


def test_elements_have_their_kind_and_size() -> None:
    assert shape(b"_\r\n") == shape(b"$-1\r\n") == shape(b"*-1\r\n") == ReplySeen("nil")
    assert shape(b",0.5\r\n") == ReplySeen("integer", status=1, size=3)
    assert shape(b"*3\r\n:1\r\n:1\r\n:1\r\n") == ReplySeen("array", status=1, count=3, size=1)
    assert shape(b"*5\r\n" + b"$100\r\n%b\r\n" % (b"v" * 100) * 5) == ReplySeen("array", count=5, size=100)
    assert shape(b"%2\r\n" + b"$3\r\nabc\r\n" * 4) == ReplySeen("array", status=10, count=2, size=3)
    assert shape(SCORED) == ReplySeen("array", status=5, count=2, size=9)
    entry = b"*2\r\n$15\r\n1234567890123-0\r\n*2\r\n$1\r\nf\r\n$4\r\n1234\r\n"
    assert shape(b"*9\r\n" + entry * 9).status == 6
    assert shape(b"~1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n") == ReplySeen("array", status=27, count=1, size=2)


def test_elements_may_lie_in_an_array_within() -> None:
    keys = b"$7\r\nkey:123\r\n" * 4
    assert shape(b"*2\r\n$3\r\n128\r\n*4\r\n" + keys) == ReplySeen("array", status=40, count=4, size=7)
    assert shape(b"*2\r\n$1\r\n0\r\n*4\r\n" + keys) == ReplySeen("array", status=41, count=4, size=7)
    assert shape(b"*2\r\n$1\r\n0\r\n*0\r\n") == ReplySeen("array", status=41)
    entry = b"*2\r\n$15\r\n1234567890123-0\r\n*2\r\n$1\r\nf\r\n$4\r\n1234\r\n"
    inner = ReplySeen("array", status=42, count=3, size=shape(b"*3\r\n" + entry * 3).size)
    assert shape(b"*1\r\n*2\r\n$2\r\nst\r\n*3\r\n" + entry * 3) == inner
    assert shape(b"%1\r\n$2\r\nst\r\n*3\r\n" + entry * 3) == inner


def test_what_a_transaction_answers_is_no_reply_of_its_commands() -> None:
    seen = [shape(b"+QUEUED\r\n")] * 9 + [shape(b":12\r\n")]
    assert [(one.kind, one.probability) for one in shapes_of("resp2", seen)] == [("integer", 1.0)]
    assert [one.kind for one in shapes_of("resp2", seen[:9])] == ["simple"]
