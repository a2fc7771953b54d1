"""The search for knobs that make a clone as fast as its original, with clones whose time follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ditto.artifacts.app import AppSpec
from ditto.artifacts.profile import Knobs, Profile
from ditto.host.in_turn import Length
from ditto.host.place import Place
from ditto.host.progress import SilentProgress
from ditto.tune import native, search
from profile_parts import service_profile


class Bench:
    """A clone whose user time depends on the knobs in a way that is known, in place of runs of the real one."""

    def __init__(self, error: Callable[[Knobs], float], doubt: float) -> None:
        self.error = error
        self.doubt = doubt
        self.knobs = Knobs()
        self.comparisons = 0

    def remake(self, profile: Profile) -> Path:
        self.knobs = profile.knobs
        return Path("clone")

    def compare(self, *_: object) -> native.Compared:
        self.comparisons += 1
        return native.Compared(self.error(self.knobs), self.doubt, 2 * self.doubt, 1000.0, 4096.0)


def tuned_with(bench: Bench, monkeypatch: pytest.MonkeyPatch, uncounted: bool = False) -> Profile:
    monkeypatch.setattr(native, "compare", bench.compare)
    monkeypatch.setattr(native, "_length", lambda _: Length(1000))
    place = Place(AppSpec.model_construct(name="bench"))
    return native.tune_native(place, service_profile(), bench.remake, SilentProgress(), uncounted=uncounted)[0]


def test_a_clone_that_is_too_fast_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: -0.25 + k.stalls * 0.04, 0.01)
    profile = tuned_with(bench, monkeypatch)
    assert abs(bench.error(profile.knobs)) <= search.GOAL and profile.knobs.stalls == pytest.approx(6.25, rel=0.25)
    assert profile.knobs.stalls_computed and not profile.knobs.stalls_in_store
    assert profile.knobs.resident_bytes == -4096 and bench.comparisons <= 4 and profile.knobs.dependence == 1.0


def test_processes_born_for_connections_get_the_pages_that_they_lack() -> None:
    profile = service_profile()
    lacking = search._resident(profile, search.Compared(0.0, 0.01, 0.02, 1000.0, -5000.0, -1200.0))
    assert (lacking.knobs.resident_bytes, lacking.knobs.born_pages) == (5000, 1200)
    more = search._resident(lacking, search.Compared(0.0, 0.01, 0.02, 1000.0, 0.0, 1500.0))
    assert more.knobs.born_pages == 0
    used = [native.Used(1e-5, 100.0, 1500.0)] * 3, [native.Used(1e-5, 90.0, 300.0)] * 3
    assert native._compared("bench", *used).faults == -1200.0


def test_requests_that_take_memory_anew_get_the_pages_that_they_lack() -> None:
    used = [native.Used(1e-5, 100.0, faults=1.75)] * 3, [native.Used(1e-5, 90.0, faults=0.25)] * 3
    lacking = search._resident(service_profile(), native._compared("bench", *used))
    assert lacking.knobs.fresh_pages == 1.5 and lacking.knobs.born_pages == 0
    assert search._resident(lacking, search.Compared(0.0, 0.01, 0.02, 1000.0, 0.0, fresh=2.0)).knobs.fresh_pages == 0


def test_without_time_for_more_tries_what_lies_between_them_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STALL_TRIES", 1)
    bench = Bench(lambda k: -0.5 + k.stalls * 0.3, 0.01)
    profile = tuned_with(bench, monkeypatch)
    assert profile.knobs.stalls == pytest.approx(5 / 3)


def test_waits_that_cost_nothing_at_first_are_found_between_too_few_and_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(lambda k: -0.15 + max(0.0, k.stalls - 2.0) * 0.15, 0.01)
    profile = tuned_with(bench, monkeypatch)
    assert abs(bench.error(profile.knobs)) <= search.GOAL and profile.knobs.stalls == pytest.approx(3.0, rel=0.12)
    assert bench.comparisons <= 1 + search.STALL_TRIES


def test_waits_have_a_bound_and_the_other_knobs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: -0.5 + k.stalls * 0.001 + (1 - k.dependence) * 0.5, 0.01)
    profile = tuned_with(bench, monkeypatch)
    most = search.STALL_SHARE * search._instructions(profile) / search.STALL_INSTRUCTIONS
    assert 0 < profile.knobs.stalls <= most and profile.knobs.dependence < 1


def test_a_clone_that_is_too_slow_is_first_made_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: 0.3 - (k.dependence - 1) * 0.3 + k.stalls * 0.03, 0.02)
    profile = tuned_with(bench, monkeypatch)
    assert abs(bench.error(profile.knobs)) <= search.GOAL
    assert profile.knobs.dependence == 2.5 and profile.knobs.stalls > 0


@pytest.mark.parametrize("share", [0.2, 0.35, 0.6])
def test_fewer_branches_are_unpredictable_where_a_clone_is_too_slow(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Whatever part of its time they take."""
    bench = Bench(lambda k: 1.2 * (1 - share * (1 - k.entropy)) - 1, 0.01)
    profile = tuned_with(bench, monkeypatch)
    assert abs(bench.error(profile.knobs)) <= search.GOAL
    assert profile.knobs.entropy < 1 and profile.knobs.dependence == 1.0 and bench.comparisons <= 5


@pytest.mark.parametrize(("slow", "period"), [(0.3, 8), (0.45, 2), (0.2, 32)])
def test_branches_of_a_slow_clone_recur_sooner_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch, slow: float, period: int
) -> None:
    bench = Bench(lambda k: slow - {64: 0.0, 32: 0.2, 8: 0.3, 2: 0.45}[k.period], 0.01)
    knobs = tuned_with(bench, monkeypatch).knobs
    assert (knobs.period, knobs.entropy, knobs.stalls) == (period, 1.0, 0.0) and bench.comparisons <= 3


def test_what_helps_hardly_at_all_takes_no_unpredictable_branches_away(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: 1.7 + 0.01 * k.entropy - (k.irregular < 1) * 1.7, 0.01)
    knobs = tuned_with(bench, monkeypatch).knobs
    assert (knobs.entropy, knobs.period, knobs.irregular) == (1.0, 64, 0.5)


def test_far_reads_are_changed_while_noisy_pairs_still_tell_of_much(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: -0.3 + min(k.stalls, 5.0) * 0.03 + max(0.0, k.stalls - 5.0) * 0.04, 0.2)
    profile = tuned_with(bench, monkeypatch)
    assert abs(bench.error(profile.knobs)) <= search.DOUBTED and bench.comparisons <= 4


def test_what_pairs_cannot_tell_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda _: 0.12, 0.15)
    assert tuned_with(bench, monkeypatch).knobs.dependence == 1.0 and bench.comparisons == 1


def test_branches_are_looked_at_again_once_what_else_was_slow_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """At first it takes far longer than its branches could; then what is left is theirs."""
    bench = Bench(lambda k: 1.6 - min(k.dependence - 1, 1.5) * 0.85 - (k.period < 64) * 0.3, 0.01)
    monkeypatch.setattr(search, "MISS_NS", 1.0)
    knobs = tuned_with(bench, monkeypatch).knobs
    assert (knobs.irregular, knobs.dependence) == (0.1, 2.5) and knobs.period == search.PERIOD
    assert abs(bench.error(knobs)) <= search.GOAL


def test_what_branches_cannot_cost_is_not_sought_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some misses a request: their time is no part to speak of in a clone that takes twice as long."""
    bench = Bench(lambda k: 1.8 - k.dependence, 0.01)
    tried: list[Knobs] = []
    remake = bench.remake

    def remember(profile: Profile) -> Path:
        tried.append(profile.knobs)
        return remake(profile)

    bench.remake = remember  # type: ignore[method-assign]
    monkeypatch.setattr(search, "MISS_NS", 1.0)
    tuned_with(bench, monkeypatch)
    assert tried[1].irregular < 1 and all((knobs.period, knobs.entropy) == (64, 1.0) for knobs in tried)


@pytest.mark.parametrize(("ratio", "sizes"), [(2.0, [480]), (1.1, [480, 1000])])
def test_clones_that_are_far_off_are_compared_in_short_runs(
    monkeypatch: pytest.MonkeyPatch, ratio: float, sizes: list[int]
) -> None:
    seen: list[int | None] = []

    def pair(place: Place, binary: Path, length: Length) -> tuple[native.Used, native.Used]:
        seen.append(length.asked)
        return native.Used(1.0, 0.0), native.Used(ratio, 0.0)

    monkeypatch.setattr(native, "_pair", pair)
    place = Place(AppSpec.model_construct(name="bench"))
    now = native.compare(place, Path("clone"), Length(1000), 0.0, far=True)
    assert now.error == pytest.approx(ratio - 1) and list(dict.fromkeys(seen)) == sizes


@pytest.mark.parametrize(("held", "lacks"), [((18e6, 21e6, 19e6), 0.0), ((18e6, 18.5e6, 19e6), 2.5e6)])
def test_memory_is_put_right_beyond_what_the_original_is_apart_from_itself(
    held: tuple[float, float, float], lacks: float
) -> None:
    used = [native.Used(1e-5, size) for size in held], [native.Used(1e-5, 21e6)] * 3
    assert native._compared("bench", *used).resident == pytest.approx(lacks)


def test_knobs_that_do_not_help_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(lambda k: 0.2 + abs(k.dependence - 1), 0.01)
    knobs = tuned_with(bench, monkeypatch).knobs
    assert (knobs.dependence, knobs.entropy, knobs.period) == (1.0, 1.0, 64) and bench.comparisons == 6


@pytest.mark.parametrize("uncounted", [True, False])
def test_only_of_an_app_that_was_not_counted_are_the_instructions_scaled(
    monkeypatch: pytest.MonkeyPatch, uncounted: bool
) -> None:
    bench = Bench(lambda k: 3.0 * (0.1 + 0.9 * k.instructions) - 1, 0.01)
    profile = tuned_with(bench, monkeypatch, uncounted)
    assert (profile.knobs.instructions < 0.4) == uncounted
    assert (abs(bench.error(profile.knobs)) < 0.15) == uncounted


def test_tiers_are_compared_in_the_same_runs_until_each_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tier is right at once, one is too fast: only that is made again, and both are compared each time."""
    made: list[str] = []
    knobs = {"a": Knobs(), "b": Knobs()}

    def remake(some: Mapping[str, Profile]) -> None:
        made.extend(some)
        knobs.update({name: profile.knobs for name, profile in some.items()})

    def compared(tiers: object, asked: object) -> dict[str, native.Compared]:
        errors = {"a": 0.01, "b": -0.25 + knobs["b"].stalls * 0.04}
        return {name: native.Compared(error, 0.01, 0.02, 1000.0, 4096.0) for name, error in errors.items()}

    monkeypatch.setattr(native, "_compare_together", compared)
    monkeypatch.setattr(native, "_length", lambda _: Length(1000))
    place = Place(AppSpec.model_construct(name="bench"))
    profiles = {name: service_profile() for name in ("a", "b")}
    tuned = native.tune_together({"a": place, "b": place}, profiles, (), remake, SilentProgress(), 30.0)
    assert abs(-0.25 + tuned["b"][0].knobs.stalls * 0.04) <= search.GOAL and tuned["a"][0].knobs.stalls == 0
    assert made.count("a") <= 2 and made.count("b") >= 2
    assert {name: knobs[name] == profile.knobs for name, (profile, _) in tuned.items()} == {"a": True, "b": True}
