"""How many requests a run made, from what clients print."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ditto.artifacts.app import Load, Requests
from ditto.errors import AppError, RecordingError
from ditto.host.in_turn import Length
from ditto.host.load import LoadResult
from ditto.host.requests import Passes, count_requests, passes_of
from ditto.observe.native_phase import _tell_uncounted
from ditto.validate import _fewer, counting


def result(stdout: str = "", stderr: str = "") -> LoadResult:
    return LoadResult(("client",), 0, 1.0, stdout, stderr, 0)


@pytest.mark.parametrize(
    ("stdout", "requests"),
    [
        ("Running 2s test @ http://x\n  123456 requests in 2.00s, 100.0MB read\nRequests/sec: 61728\n", 123456),
        ("= SET =\n  1000 requests completed in 0.01 seconds\n= GET =\n  1000 requests completed in 1", 2000),
        ("cmd_get: 90\ncmd_set: 10\nRun time: 0.1s Ops: 100 TPS: 900 Net_rate: 1M/s\n", 100),
        ("number of transactions actually processed: 4321/5000\n", 4321),
        ("    transactions:             777    (77.7 per sec.)\n    queries:       1554 (155 per sec.)", 777),
        ("Complete requests:      5,000\nFailed requests:        0\n", 5000),
        ('{\t"transactions":\t\t\t          10,\n\t"transaction_rate":\t\t      333.33,\n', 10),
        ("  Requests/sec:\t9298.61\nStatus code distribution:\n  [200]\t20 responses\n  [404]\t3 responses\n", 23),
        ("  Queries sent:         10000\n  Queries completed:    9999\n", 10000),
    ],
)  # fmt: skip
def test_clients_print_their_number(stdout: str, requests: int) -> None:
    assert count_requests(result(stdout), None).requests == requests
    assert count_requests(result(stdout), None).how.startswith("printed by the client")


def test_the_pattern_of_the_app_comes_first() -> None:
    text = "100 requests in 1s\nsteps=42;\nsteps=8;\n"
    count = count_requests(result(text), 7, r"steps=(\d+);")
    assert count.requests == 50 and "load.count" in count.how
    with pytest.raises(AppError, match=r"load\.count"):
        count_requests(result("nothing"), 7, r"steps=(\d+);")


def test_a_client_that_prints_nothing_is_taken_at_its_word() -> None:
    assert count_requests(result(), 1000).requests == 1000
    assert count_requests(result(), 1000, passes=Passes(2.0, "twice")).requests == 2000


def test_a_silent_client_that_cannot_be_told_a_number_makes_that_of_the_app() -> None:
    said = replace(result("done"), makes=180)
    assert count_requests(said, None).requests == 180 and "load.requests" in count_requests(said, None).how
    assert count_requests(replace(said, stdout="7 requests in 1 s"), None).requests == 7
    with pytest.raises(AppError, match=r"load\.count = "):
        count_requests(replace(said, ended_by_us=True), None)


def test_a_number_that_nothing_tells_is_told_of_early() -> None:
    notes: list[str] = []
    progress = SimpleNamespace(note=notes.append)
    spec = SimpleNamespace(load=Load(command=("client",)))
    _tell_uncounted(result("7 requests in 1 s"), None, spec, progress)  # type: ignore[arg-type]
    _tell_uncounted(result("done"), 90, spec, progress)  # type: ignore[arg-type]
    assert not notes
    _tell_uncounted(result("done"), None, spec, progress)  # type: ignore[arg-type]
    assert "load.count" in notes[0] and "validation" in notes[0]


def test_a_silent_client_bound_by_time_needs_a_pattern() -> None:
    with pytest.raises(AppError, match=r"load\.count = "):
        count_requests(result("done"), None)


@pytest.mark.parametrize(
    ("receives", "factor"), [(1000, 1), (2004, 2), (3020, 3), (125, 1), (1500, 1), (2300, 1), (0, 1)]
)
def test_passes_are_whole_numbers_seen_in_the_receives(receives: float, factor: float) -> None:
    assert passes_of(receives, 1000).factor == factor


@pytest.mark.parametrize(
    ("asked", "lens", "first"), [(5000, 8000, [8000]), (2000, 8000, [4000]), (700, 400, [1000]), (None, 8000, [])]
)
def test_calls_are_counted_after_as_many_requests_as_were_not_recorded(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, lens: int, first: list[int]
) -> None:
    """A database with a cold cache and a new log reads and writes more for a request than it was observed to."""
    loads: list[int | None] = []
    run = SimpleNamespace(prepare=lambda: None, load=loads.append, pids=list)
    load = Load(command=["bench", "{requests}"], requests=Requests(native=200_000, lens=lens))
    sides = SimpleNamespace(run_of=lambda side: nullcontext(run), spec=SimpleNamespace(load=load))

    def begins(pids: list[int]) -> None:
        raise RecordingError("counting begins")

    monkeypatch.setattr(counting, "CallCounter", begins)
    with pytest.raises(RecordingError, match="counting begins"):
        counting.counted_run(sides, "original", Length(asked), None, None)  # type: ignore[arg-type]
    assert loads == first


def test_calls_are_counted_by_fewer_requests_than_are_timed() -> None:
    assert _fewer(Length(9000, 5)) == Length(3000) and _fewer(Length(120, 5)) == Length(100)
    assert _fewer(Length(None, 3, 1)) == Length(None, 1, 2) and _fewer(Length()) == Length()
