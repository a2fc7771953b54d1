"""Kinds of requests that came natively and not while instructions were counted."""

from __future__ import annotations

import pytest

from ditto.model.blocks import BlockBook
from ditto.streams.cycles import Work
from ditto.streams.evidence import MAX_CLASSES, Gaps, Requests, class_works, op_gaps, requests_of
from ditto.streams.unseen import estimated, unseen_classes, unseen_note
from ditto.tune.work import Measured, correct
from profile_parts import service_profile
from serial_parts import LISTENER, Recorder
from test_tune import measured_of

RECORDER_NS = 800
"""What the recorder takes after each call."""


def run(verbs: dict[bytes, int], scale: float = 1.0, recorder: float = 0.0) -> tuple[Requests, Work]:
    """Some requests of each kind, one kind after the other; after its receive one executes so much."""
    record = Recorder((10,))
    record.call(10, "accept4", 7, LISTENER)
    for verb, amount in verbs.items():
        request = b"*2\r\n$%d\r\n%s\r\n$1\r\nk\r\n" % (len(verb), verb)
        for _ in range(20):
            for name, size, after in (("epoll_wait", 1, 0), ("read", len(request), amount), ("write", 5, 0)):
                record.call(10, name, size, *((4,) if name == "epoll_wait" else (7,)), payload=request)
                record.threads[10][-1].gap = after * scale + recorder
    record.call(10, "read", 0, 7)
    work = record.work()
    return requests_of(work, "resp2"), work


def after_receive(amounts: dict[object, float]) -> float:
    return sum(amount for name, amount in amounts.items() if getattr(name, "kind", "") == "receive")


def test_what_was_not_counted_is_estimated_by_its_time() -> None:
    seen, counted = run({b"GET": 4000, b"SET": 6000})
    native, work = run({b"GET": 4000, b"SET": 6000, b"LPUSH": 30000}, scale=0.25, recorder=RECORDER_NS)
    gaps = op_gaps(class_works(seen), counted)
    unseen = unseen_classes(native, seen)
    assert unseen == {b"LPUSH": 20}
    found = estimated(native, work, gaps, unseen)
    assert list(found) == [b"LPUSH"] and after_receive(dict(found[b"LPUSH"])) == pytest.approx(30000, rel=0.01)
    book = BlockBook(gaps, {}, 40, estimated=found)
    assert book.amounts(b"LPUSH") == found[b"LPUSH"] and book.amounts(b"GET") == gaps.inside[b"GET"]


def test_where_no_time_is_known_or_nothing_is_common_there_is_no_estimate() -> None:
    seen, counted = run({b"GET": 4000})
    gaps = op_gaps(class_works(seen), counted)
    native, work = run({b"GET": 4000, b"LPUSH": 30000}, scale=0.0, recorder=-1.0)  # as ptrace records
    assert estimated(native, work, gaps, unseen_classes(native, seen)) == {}
    native, work = run({b"LPUSH": 30000})
    assert estimated(native, work, gaps, unseen_classes(native, seen)) == {}
    assert estimated(native, work, Gaps(), unseen_classes(native, seen)) == {}


def test_the_share_is_told_with_the_remedy() -> None:
    note = unseen_note({b"LPUSH": 30, b"LRANGE": 10}, 100, True)
    assert note is not None and note.startswith("40% of the requests are of 2 kinds") and "load.requests.lens" in note
    assert "CPU time" in note and "of others" in str(unseen_note({b"LPUSH": 30}, 100, False))
    assert "is not known" in str(unseen_note({b"LPUSH": 100}, 100, False))
    assert unseen_note({b"AUTH": 4}, 1000, True) is None and unseen_note({}, 0, False) is None


def test_of_more_kinds_than_are_kept_none_is_called_unseen() -> None:
    native, _ = run({b"GET": 10, b"SET": 10})
    crowded = Requests("resp2", {b"V%d" % n: native.classes[b"GET"] for n in range(MAX_CLASSES)}, 1)
    assert unseen_classes(native, crowded) == {}


def test_tuning_leaves_alone_what_the_originals_run_did_not_come_to() -> None:
    profile = service_profile()
    clone = measured_of(profile, 150)
    original = Measured({place: seen for place, seen in clone.segments.items() if place[0] != 1}, {0: 600})
    done = correct(profile, original, clone).services[0].blocks[1]
    before = profile.services[0].blocks[1].wanted.instructions
    assert done.wanted.instructions == pytest.approx(before, rel=0.001)
