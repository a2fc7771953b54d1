"""Tuning measured CPU time: original and clone in turn, two knobs, bounded rounds.

What a clone executes is right by then; how fast it executes it depends on what no histogram tells: how long chains of
dependent instructions are and how many far accesses wait for each other.  The knobs stretch or shorten these.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.profile import Profile
from ditto.errors import AppError
from ditto.host.app import AppRun
from ditto.host.in_turn import LEAST_REQUESTS, Length, asked_in, in_turn, timed_length
from ditto.host.place import Place
from ditto.host.progress import Progress
from ditto.host.requests import count_requests
from ditto.host.usage import Meter, MeterEach, use_by_service
from ditto.tune.search import Compared, Rows, Search

PAIRS = 3
PARTS = 3
"""Of one run, in turn with those of the other where both stand at once.  An odd number: each then follows itself as
often as the other does.  Clients that choose keys by the second ask for the same again if they follow at once."""
MOST_PAIRS = 7
SURE = 0.03
"""Standard error of a comparison from which on further pairs tell nothing new."""
ROUGH_SECONDS = 1.2
"""Of one run while the two are far apart, which takes little to see."""
ROUGH = 0.3
SECONDS = 2.5
"""Of one run, about as long as those of validation: what a service keeps for its clients grows with their requests, and
with it what each request waits for memory."""
DOUBTS = 0.25
"""Part of an error that its standard error may be: which knob to turn, and by how much, does not depend on it."""
LEAST_SECONDS = 30.0
"""For which knobs are tried, however long everything before took."""
MEDIAN = 1.25
"""Standard error of a median in those of a mean, for runs spread normally."""
SHARE = 0.4
"""Share of the time left that one comparison may take for pairs beyond the least number."""


@dataclass(frozen=True)
class Used:
    """One run: user seconds per request, resident bytes at its end, page faults for each process that began in it, or
    those of a request where none did."""

    user_s: float
    resident: float
    born_faults: float = 0.0
    faults: float = 0.0


@dataclass(frozen=True)
class Part:
    """A part of a run: its requests, user seconds, page faults, and processes that began in it."""

    requests: float
    user_s: float
    faults: float
    born: int


def tune_native(
    place: Place,
    profile: Profile,
    remake: Callable[[Profile], Path],
    progress: Progress,
    seconds: float = LEAST_SECONDS,
    uncounted: bool = False,
) -> tuple[Profile, Rows]:
    """Turn the knobs until the clone's user CPU time per request is the original's.

    Args:
        seconds: after which no further knob is tried.
        uncounted: how many instructions the app executes here was not counted: it makes code at run time, and its
            compiler gets to little under an instrument; or no instrument could run it.  Their number is a knob then,
            and the first.

    Returns:
        The profile with the best knobs and with resident memory put right, and the rounds.

    Raises:
        AppError: app, clone or client failed.
    """
    progress.update("user CPU time of original and clone")
    length = _length(place)
    search = Search(profile, progress, time.monotonic() + seconds, uncounted)
    steps = search.steps()
    tried = next(steps)
    with suppress(StopIteration):
        while True:
            far = not search.rows or abs(search.rows[-1][1]) > ROUGH
            tried = steps.send(compare(place, remake(tried), length, SHARE * (search.ends - time.monotonic()), far))
    return search.best_profile, search.rows


def tune_together(
    tiers: Mapping[str, Place],
    profiles: Mapping[str, Profile],
    uncounted: Collection[str],
    remake: Callable[[Mapping[str, Profile]], object],
    progress: Progress,
    seconds: float,
) -> dict[str, tuple[Profile, Rows]]:
    """Turn the knobs of all tiers of an application, which are compared in the same runs; see `tune_native`.

    Args:
        tiers: where each stands, by name.
        profiles: of each.
        uncounted: those whose instructions were not counted as they are here.
        remake: generates and builds the clones of some.

    Raises:
        AppError: app, clones or client failed.
    """
    ends = time.monotonic() + seconds
    searches = {name: Search(profiles[name], progress, ends, name in uncounted, name) for name in tiers}
    steps = {name: search.steps() for name, search in searches.items()}
    tried = {name: next(step) for name, step in steps.items()}
    length = _length(next(iter(tiers.values())))
    while tried:
        remake(tried)
        compared = _compare_together(tiers, length)
        now = {}
        for name in tried:
            with suppress(StopIteration):
                now[name] = steps[name].send(compared[name])
        remake({name: searches[name].best_profile for name in tried.keys() - now.keys()})
        tried = now
    return {name: (search.best_profile, search.rows) for name, search in searches.items()}


def _compare_together(tiers: Mapping[str, Place], length: Length) -> dict[str, Compared]:
    """All tiers of the original and of the clone in turn, each time started anew."""
    any_place = next(iter(tiers.values()))
    original: list[dict[str, Used]] = []
    clone: list[dict[str, Used]] = []
    for _ in range(PAIRS):
        for side, run in ((original, any_place.whole_original()), (clone, any_place.whole_clone())):
            side.append(_each(run, tiers, length))
    return {name: _compared(name, [r[name] for r in original], [r[name] for r in clone]) for name in tiers}


def _each(run: AppRun, tiers: Mapping[str, Place], length: Length) -> dict[str, Used]:
    """User seconds per request and resident bytes of each tier in one run."""
    with run:
        run.prepare()
        with MeterEach(run) as meter:
            result = run.load(length.asked, seconds=length.whole_seconds)
        requests = max(1.0, count_requests(result, length.asked, run.spec.load.count).requests)
        used = use_by_service(run)
        return {
            name: Used(meter.user_s[place.name] / requests, float(used[place.name].resident_bytes))
            for name, place in tiers.items()
        }


def compare(place: Place, binary: Path, length: Length, seconds: float, far: bool = False) -> Compared:
    """Original and clone in turn, each started anew for every run and filled.

    Args:
        binary: the clone.
        length: of one run.
        seconds: time for pairs beyond the least number, where these do not agree.
        far: whether they may be far apart: short runs come first then, and are enough if they are.

    Raises:
        AppError: app, clone or client failed.
    """
    rough_length = length.shorter(ROUGH_SECONDS / SECONDS)
    if far and rough_length != length:
        rough = _pairs(place, binary, rough_length, 0.0)
        if abs(rough.error) > ROUGH:
            return rough
    return _pairs(place, binary, length, seconds)


def _pairs(place: Place, binary: Path, length: Length, seconds: float) -> Compared:
    original: list[Used] = []
    clone: list[Used] = []
    began = time.monotonic()
    while True:
        before, after = _pair(place, binary, length)
        original.append(before)
        clone.append(after)
        if len(original) < PAIRS:
            continue
        now = _compared(place.name, original, clone)
        each = (time.monotonic() - began) / len(original)
        late = time.monotonic() + each > began + seconds
        if now.doubt <= max(SURE, DOUBTS * abs(now.error)) or len(original) == MOST_PAIRS or late:
            return now


def _compared(name: str, original: list[Used], clone: list[Used]) -> Compared:
    times = [used.user_s for used in original]
    a, b = statistics.median(times), statistics.median(used.user_s for used in clone)
    if a <= 0:
        raise AppError(f"{name}: the original used no CPU time under its load", "give the load more requests")
    ratios = [after.user_s / before for before, after in zip(times, clone, strict=True) if before > 0]
    doubt = MEDIAN * statistics.stdev(ratios) / len(ratios) ** 0.5 if len(ratios) > 1 else 0.0
    held = [used.resident for used in original]
    memory = statistics.median(used.resident for used in clone) - statistics.median(held)
    if abs(memory) <= max(held) - min(held):
        memory = 0.0  # no more than the original is apart from itself
    born = statistics.median(u.born_faults for u in clone) - statistics.median(u.born_faults for u in original)
    fresh = statistics.median(u.faults for u in clone) - statistics.median(u.faults for u in original)
    return Compared(b / a - 1, doubt, (max(times) - min(times)) / a, 1e9 * a, memory, born, fresh)


def _pair(place: Place, binary: Path, length: Length) -> tuple[Used, Used]:
    """A run of each; both stand at once and their parts take turns where the app permits it."""
    runs = place.original(), place.clone(binary)
    if not place.spec.may_stand_twice:
        return _used(runs[:1], length)[0], _used(runs[1:], length)[0]
    original, clone = _used(runs, length)
    return original, clone


def _used(runs: Sequence[AppRun], length: Length) -> list[Used]:
    """What each used in one run, started anew, filled and warmed up."""
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run).prepare()
            if length.asked is not None:
                run.load(max(LEAST_REQUESTS, length.asked // 20))  # as validation does
        seen: dict[AppRun, list[Part]] = {run: [] for run in runs}
        for run in in_turn(runs, length.parts):
            seen[run].append(_part(run, length))
        return [_sum(seen[run], float(run.memory().rss_bytes)) for run in runs]


def _part(run: AppRun, length: Length) -> Part:
    with Meter(run) as meter:
        result = length.load(run)
    requests = max(1.0, count_requests(result, length.asked_a_part, run.spec.load.count).requests)
    return Part(requests, meter.usage.split_user_s, meter.usage.minor_faults, meter.born)


def _sum(parts: Sequence[Part], resident: float) -> Used:
    requests = sum(part.requests for part in parts)
    faults, born = sum(part.faults for part in parts), sum(part.born for part in parts)
    each, fresh = (faults / born, 0.0) if born else (0.0, faults / requests)
    return Used(sum(part.user_s for part in parts) / requests, resident, each, fresh)


def _length(place: Place) -> Length:
    """That of a run which takes the original about SECONDS."""
    spec = place.spec
    if not spec.load.counts_requests:
        return timed_length(spec.load, SECONDS)
    with place.original() as run:
        run.prepare()
        asked = asked_in(run, SECONDS)
    return Length(asked, max(1, min(PARTS, asked // LEAST_REQUESTS)) if spec.may_stand_twice else 1)
