"""A run under lens: what is waited for before anything is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from ditto.host import lens_session
from ditto.host.app import AppRun


def test_what_still_loads_its_program_is_waited_for_before_anything_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that imported for seconds more had 24 of its first 28 million instructions counted to eight requests."""
    used = [0.0, 0.3, 0.3, 0.6, 0.6, 0.61]  # before and after each look
    checked = []
    run = SimpleNamespace(
        cpu_times=lambda: SimpleNamespace(run_s=used.pop(0)), check_alive=lambda: checked.append(len(used))
    )
    monkeypatch.setattr(lens_session, "REST_S", 0.2)
    lens_session.come_to_rest(cast(AppRun, run))
    assert checked == [5, 3, 1] and not used
    used += [0.5 * at for at in range(100)]
    monkeypatch.setattr(lens_session, "REST_MOST_S", 0.5)
    lens_session.come_to_rest(cast(AppRun, run))
    assert 90 < len(used) < 100  # one that is never at rest


@pytest.mark.parametrize(("quick", "asked"), [(8000, [8000]), (500, [8000, 800, 80]), (0, [8000, 800, 80])])
def test_a_client_that_was_ended_comes_to_its_later_kinds_with_fewer_requests(quick: int, asked: list[int]) -> None:
    """Of four kinds that redis-benchmark makes one after the other, two had been counted."""
    seen: list[int] = []

    def load_for(seconds: float, requests: int, again: bool) -> list[SimpleNamespace]:
        assert seconds in (lens_session.COUNT_MOST_S, lens_session.FEWER_MOST_S) and not again
        seen.append(requests)
        return [SimpleNamespace(ended_by_us=requests > quick)]

    load = SimpleNamespace(connections=20)
    run = SimpleNamespace(load_for=load_for, spec=SimpleNamespace(load=load))
    lens_session.count_load(cast(AppRun, run), 8000)
    assert seen == asked
