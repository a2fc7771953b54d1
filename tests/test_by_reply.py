"""Operations that go with a kind of reply, and what else is told of replies that differ for one path."""

from __future__ import annotations

from ditto.artifacts.observation import FileSeen
from ditto.artifacts.profile import (
    FileGroup,
    Op,
    OpenAtStart,
    OpKind,
    ReplyShape,
    RequestClass,
)  # fmt: skip
from ditto.artifacts.program import FILE_SLOTS, MAX_FILE_GROUPS
from ditto.artifacts.syscalls import NUMBERS
from ditto.model.by_reply import REPLY_DRAW, Sort, drawn_with, may_go_with_a_reply
from ditto.model.files import FileCatalog, of_a_file
from ditto.streams.programs import ClassWork, OpName, OpWork
from ditto.streams.protocol import reply_shape
from profile_parts import fixed

SEND = OpName("reply", NUMBERS["writev"], None, 0)
HEAD = OpName("reply_head", NUMBERS["writev"], None, 0)
FILE = OpName("sendfile", NUMBERS["sendfile"], ("p", b"/page"), 0)
CORK = OpName("setsockopt", NUMBERS["setsockopt"], None, 0)
OTHER = OpName("brk", NUMBERS["brk"], None, 0)
WHOLE, UNCHANGED, PART = ("http", 200, True), ("http", 304, False), ("http", 206, False)


def shape(sort: Sort, share: float) -> ReplyShape:
    return ReplyShape(probability=share, kind="http", status=sort[1], head_bytes=100, size=fixed(sort[1]))


def work_of(courses: list[list[OpName]]) -> ClassWork:
    work = ClassWork(b"GET /page", [None] * len(courses))  # type: ignore[list-item]
    work.courses = courses
    for course in courses:
        for at, name in enumerate(course):
            op = work.ops.setdefault(name, OpWork())
            op.count += 1
            op.position += at
    return work


def test_a_file_and_a_cork_go_with_whole_replies() -> None:
    kinds = [UNCHANGED, WHOLE, PART] * 20
    courses = [[SEND], [CORK, HEAD, FILE], [SEND]] * 20
    for course in courses[::2]:
        course.append(OTHER)
    sorts = {sort: shape(sort, 1 / 3) for sort in (UNCHANGED, WHOLE, PART)}
    made = drawn_with(kinds, work_of(courses), sorts)
    assert made is not None
    shapes, drawn = made
    assert set(drawn) == {SEND, HEAD, FILE, CORK}
    at, starts = 0.0, {}
    for one in shapes:
        starts[one.status] = at
        at += one.probability
    for name in (HEAD, FILE, CORK):
        assert abs(drawn[name]["start"] - starts[200]) < 1e-9  # type: ignore[operator]
        assert abs(drawn[name]["probability"] - 1 / 3) < 1e-9  # type: ignore[operator]
        assert drawn[name]["draw"] == REPLY_DRAW
    assert abs(drawn[SEND]["probability"] - 2 / 3) < 1e-9  # type: ignore[operator]


def test_replies_of_one_kind_need_no_draw() -> None:
    work = work_of([[CORK, HEAD, FILE], [SEND]] * 20)
    assert drawn_with([WHOLE] * 40, work, {WHOLE: shape(WHOLE, 1.0)}) is None
    assert not may_go_with_a_reply(SEND, 1.0) and not may_go_with_a_reply(OpName("call", 1, ("d", 0), 0), 0.5)


def test_of_a_file_that_is_always_open_as_much_is_sent_as_its_reply_has() -> None:
    cls = RequestClass(
        probability=1.0,
        match={"verb": "GET"},
        request_bytes=fixed(40),
        replies=[shape(UNCHANGED, 0.5), shape(PART, 0.5)],
        program=[Op(kind=OpKind.SENDFILE, a=8, draw=REPLY_DRAW, start=0.5, probability=0.5)],
        reply_draw=REPLY_DRAW,
    )
    groups, opens = [FileGroup(kind="regular", size=fixed(5000))], [OpenAtStart(group=0, slot=8, flags=0)]
    assert of_a_file(cls, groups, opens).program[0].size == fixed(206)


def test_a_folder_of_many_files_is_listed() -> None:
    """Each asked about by itself, as a listing does: beyond a number they share a group of their kind."""
    catalog = FileCatalog.of([FileSeen(path=f"/www/{number}", size=3) for number in range(400)], [])
    for number in range(400):
        op = OpWork()
        op.paths[f"/www/{number}".encode()] += 5
        catalog.group_of(OpName("file_stat", NUMBERS["newfstatat"], None, number), op)
    assert len(catalog.groups) == MAX_FILE_GROUPS - FILE_SLOTS
    catalog.slot_of(("p", b"/log"))
    assert len(catalog.groups) == MAX_FILE_GROUPS - FILE_SLOTS + 1


def test_a_reply_without_a_body_is_all_head() -> None:
    begun = b"HTTP/1.1 304 Not Modified\r\nETag: 12345678901234567890"
    seen = reply_shape("http1", begun, 183, 183, 0)
    assert (seen.status, seen.head_bytes, seen.size) == (304, 183, 0)
    assert reply_shape("http1", begun.replace(b"304", b"200"), 183, 183, 0).size == 23
