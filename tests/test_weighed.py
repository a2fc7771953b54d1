"""Of requests that came alone, those that call others as often as under load."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ditto.streams.weighed import FEWEST, as_under_load


def cycles(count: int, *calls: tuple[bytes, int]) -> list[SimpleNamespace]:
    """Requests of which each so-many-th calls a service."""
    made = []
    for number in range(count):
        called = [SimpleNamespace(peer=SimpleNamespace(path=path)) for path, every in calls if number % every == 0]
        made.append(SimpleNamespace(calls=called))
    return made


def rate(found: list[SimpleNamespace], path: bytes) -> float:
    return sum(call.peer.path == path for cycle in found for call in cycle.calls) / len(found)


@pytest.mark.parametrize(("every_alone", "every_loaded"), [(5, 1000), (5, 25), (40, 8), (4, 4), (20, 19)])
def test_a_cache_that_was_cold_is_as_warm_as_under_load(every_alone: int, every_loaded: int) -> None:
    alone = {
        b"page": cycles(400, (b"cache", 1), (b"cache", every_alone), (b"item", 1)),
        b"other": cycles(60, (b"item", 1)),
    }
    loaded = {b"page": cycles(3000, (b"cache", 1), (b"cache", every_loaded), (b"item", 1)), b"other": cycles(1000)}
    kept = as_under_load(alone, loaded)  # type: ignore[arg-type]
    expected = 1 / every_loaded if every_alone / every_loaded != pytest.approx(1, abs=0.2) else 1 / every_alone
    assert rate(kept[b"page"], b"cache") - 1 == pytest.approx(expected, abs=0.006)  # type: ignore[arg-type]
    assert rate(kept[b"page"], b"item") == 1  # type: ignore[arg-type]
    assert len(kept[b"other"]) == 60 and len(kept[b"page"]) >= FEWEST


def test_too_few_are_left_as_they_are() -> None:
    alone = {b"page": cycles(40, (b"item", 20))}
    loaded = {b"page": cycles(1000, (b"item", 2))}
    assert len(as_under_load(alone, loaded)[b"page"]) == 40  # type: ignore[arg-type]
