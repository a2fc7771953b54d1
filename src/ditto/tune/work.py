"""Correcting what blocks are to execute: lens on the clone against lens on the original, segment by segment.

Segments of both runs are named alike (request class, call before).  What the clone executes too little or too much in a
segment, in every figure that adds up, is put onto the aims of the blocks that run there; where no block runs, onto the
heaviest block of the class.  The first correction takes off what the clone's own runtime executes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from ditto.artifacts.amounts import DISTANCES, Amounts, Vector, amounts_of, work_of
from ditto.artifacts.profile import OpKind, Profile, ServiceProfile
from ditto.artifacts.work import Block
from ditto.streams.cycles import Cycle
from ditto.streams.events import SENDS, SLEEPS, is_wait
from ditto.streams.instructions import InstructionRun
from ditto.streams.matching import class_index
from ditto.streams.segments import Segment, joined
from ditto.tune.code_sets import code_sets

ADAPTS = 2.0
"""Times that a clone sleeps as often a request as its original, under an instrument, from which on that one adapts."""

SELDOM = 0.05
"""Runs a request below which a block is none of what requests bring."""

FAR_FROM = 7
"""First bucket of data distances, of 64 lines, that depends on more than the code of a block itself."""

BEYOND = 15
"""First bucket of data distances, of 1 MiB, from which on touches are one amount: what the original touches for the
first time a clone can only come back to, from wherever it is then."""

_SERVING = frozenset({"loop", "serve", "accept_serve", "shared"})

Place = tuple[int, int]
"""Class of the profile (-1: none) and system call before."""


def by_clock(place: Place) -> bool:
    """Whether it is what a thread does after a sleep: an instrument that slows requests does not slow the clock."""
    return place[0] < 0 and place[1] in SLEEPS


@dataclass(frozen=True)
class Measured:
    """One instruction run by places.

    Attributes:
        segments: what was executed there.
        requests: by class.
        code_sets: lines of code that most requests touch, by the set of a cache that they fall into; of a line's number
            what is left by the number of sets.
    """

    segments: Mapping[Place, Segment]
    requests: Mapping[int, int]
    code_sets: tuple[int, ...] = ()

    @property
    def total_requests(self) -> int:
        return sum(self.requests.values())

    def per_request(self) -> Amounts:
        """Everything but what the clock decides the number of, by the requests of all classes."""
        total = Amounts()
        for place, segment in self.segments.items():
            if not by_clock(place):
                total = total + segment.total
        return total * (1.0 / max(1, self.total_requests))


def measured(service: ServiceProfile, run: InstructionRun) -> Measured:
    """A run by the classes of the profile."""
    parts: dict[Place, list[Segment]] = defaultdict(list)
    for (key, nr), segment in run.segments.items():
        index = -1 if key in (b"none", b"other") else class_index(service, key)
        parts[index, nr].append(segment)
    requests: dict[int, int] = defaultdict(int)
    for key, cycles in run.requests.classes.items():
        index = class_index(service, key)
        together = service.classes[index].together if index >= 0 else 1.0
        requests[index] += round(len(cycles) * together)  # an instruction run shows the first of those
    for key, count in run.under_way.items():
        requests[class_index(service, key)] += count // 2  # on the average half of each was done
    segments = {place: joined(found) for place, found in sorted(parts.items())}
    for key, cycles in run.requests.classes.items():
        _move_late(segments, class_index(service, key), cycles)
    return Measured(segments, dict(requests), code_sets(run, sum(requests.values())))


def _move_late(segments: dict[Place, Segment], index: int, cycles: list[Cycle]) -> None:
    """Count the work on late answers where their other work is, and not to the wait that the first of them follows.

    How many waits there are depends on the load, so that by waits it would be another amount in every run.
    """
    moved: dict[tuple[Place, Place], float] = defaultdict(float)
    for cycle in cycles:
        after = cycle.resumed_after
        first = next((event for event in cycle.events if event.nr in SENDS), None)
        if after is not None and first is not None and is_wait(after):
            moved[(-1, after.nr), (index, first.nr)] += max(0.0, cycle.resumed_gap)
    for (source, target), amount in moved.items():
        there, here = segments.get(source), segments.get(target)
        if there is None or here is None or not there.instructions:
            continue
        share = min(1.0, amount / there.instructions)
        part = there.total * share
        left = there.total * (1.0 - share)
        segments[source] = Segment(there.visits, work_of(left * (1.0 / there.visits), there.work))
        segments[target] = Segment(here.visits, work_of((here.total + part) * (1.0 / here.visits), here.work))


def _edge(histogram: Vector) -> int:
    """The farthest bucket that enough touches reach for there to be a footprint of its size; at least 1."""
    return next((b for b in range(21, 1, -1) if histogram[b:].sum() >= 2 ** (b - 1)), 1)


def among(skeleton: Measured, original: Measured) -> dict[Place, Segment]:
    """The skeleton's segments as they will be with bodies between them.

    What the skeleton touches once in a request comes back at the distance of all that a request touches: in its own run
    that is little, in the clone as much as in the original.
    """
    segments = dict(skeleton.segments)
    for name in DISTANCES:
        wanted, have = original.per_request().of(name), skeleton.per_request().of(name)
        far, near = _edge(wanted), _edge(have)
        shape = wanted[far:] / wanted[far:].sum() if wanted[far:].sum() > 0 else None
        if shape is None or far <= near:
            continue
        for place, segment in segments.items():
            amounts = amounts_of(segment.work)
            part = amounts.of(name)
            once = part[near:].sum()
            part[near:] = 0.0
            part[far:] += once * shape
            segments[place] = Segment(segment.visits, work_of(amounts, segment.work))
    return segments


def runtime_lines(skeleton: Measured) -> float:
    """Data lines that the runtime touches in a request: what comes back only with the next one."""
    request = skeleton.per_request()
    histogram = request.of("load_distance") + request.of("store_distance")
    return float(histogram[_edge(histogram) :].sum())


def predicted(profile: Profile, skeleton: Measured, original: Measured) -> Measured:
    """What a clone would execute whose blocks came out as their aims say, by a run of its skeleton."""
    service = profile.services[0]
    segments = among(skeleton, original)
    owners = _Owners(service, skeleton)
    for number, block in enumerate(service.blocks):
        place = (block.request_class, block.after)
        runs = owners.runs(number)
        there = segments.get(place)
        total = amounts_of(block.wanted) * runs
        if there is not None:
            total = total + there.total
        visits = there.visits if there is not None else max(1, round(runs))
        segments[place] = Segment(visits, work_of(total * (1.0 / visits), block.wanted))
    return Measured(segments, skeleton.requests)


def correct(profile: Profile, original: Measured, clone: Measured, damping: float = 1.0) -> Profile:
    """Aims moved by what the clone lacks.

    Args:
        profile: whose clone was measured.
        original: the app's own run.
        clone: the clone's.
        damping: share of the difference that is put right.
    """
    service = profile.services[0]
    owners = _Owners(service, clone)
    following = {r.wait_nr for r in service.roles if r.kind == "periodic" and any(t.requests for t in r.timers)}
    lacks: dict[tuple[int, ...], Amounts] = {}
    ran: set[tuple[int, ...]] = {()}
    for place in sorted(original.segments.keys() | clone.segments.keys()):
        there, here = original.segments.get(place), clone.segments.get(place)
        who, alike = owners.of(place), clone.total_requests / max(1, original.total_requests)
        if by_clock(place) and not who:
            continue
        if place[0] >= 0 and place[0] not in original.requests:  # whose run did not come to such requests
            continue
        elsewhere = _elsewhere(place, original, clone) if here is None else 0
        if there is None:
            wanted = Amounts()
        elif here is None and (elsewhere or owners.by_visits(who)):
            wanted = amounts_of(there.work) * elsewhere
        elif here is None:
            wanted = there.total * alike
        elif place[0] >= 0 and not owners.by_visits(who) and (asked := original.requests.get(place[0])):
            # By requests, as the blocks run: how often they receive in vain, say, need not be the same.
            wanted = there.total * (clone.requests.get(place[0], 0) / asked)
        elif not who or owners.by_message(who):
            # Another block takes it, or these do, which do not run as often as this call is made.
            wanted = there.total * alike
        else:
            wanted = amounts_of(there.work) * here.visits
            if by_clock(place):
                a_request = there.visits / max(1, original.total_requests)
                wanted = wanted * _by_load(a_request, here.visits, clone, place[1] in following)
        if here is not None or elsewhere or owners.by_message(who):
            ran.add(who)
        lack = (wanted - here.total if here is not None else wanted) * damping
        lacks[who] = lacks[who] + lack if who in lacks else lack
    aims = [amounts_of(block.wanted) for block in service.blocks]
    left = Amounts()
    for who, lack in sorted(lacks.items()):
        if who not in ran:
            continue  # a run so rare that this one had none tells nothing, and every round would add to it
        rest = _spread(aims, who, lack, owners) if who else lack
        # What a clone does too much for each connection is not taken off what it does for each request.
        left = left + (Amounts() if who and owners.by_connection(who) else rest)
    if owners.heaviest >= 0:
        _spread(aims, (owners.heaviest,), left, owners)
    aims = [
        _no_farther(aim, block) if by_clock((block.request_class, block.after)) else aim
        for aim, block in zip(aims, service.blocks, strict=True)
    ]
    blocks = [
        block.model_copy(update={"aim": work_of(_beyond_as_one(aim, block), block)})
        for block, aim in zip(service.blocks, aims, strict=True)
    ]
    return with_service(profile, {"blocks": blocks})


def _no_farther(aim: Amounts, block: Block) -> Amounts:
    """The aim of a block that runs by the clock, with no more far touches of data than the original made there.

    How far away what it touched before is depends on how many requests came meanwhile, so that these touches never
    come out as they were: every round would add what lacks, until the block reaches for more lines than a cache has.
    """
    seen = amounts_of(block)
    for name in ("load_distance", "store_distance"):
        far = aim.of(name)[FAR_FROM:]
        np.minimum(far, seen.of(name)[FAR_FROM:], out=far)
    return aim


def _beyond_as_one(aim: Amounts, block: Block) -> Amounts:
    """The aim with its farthest touches of data as far away as the original's are, and as many as all of them together.

    Bucket by bucket, first touches would lack in every round, however many had been put farthest away in their place.
    """
    seen = amounts_of(block)
    for name in ("load_distance", "store_distance"):
        beyond, shape = aim.of(name)[BEYOND:], seen.of(name)[BEYOND:]
        whole = max(0.0, beyond.sum())
        if shape.sum() > 0:
            beyond[:] = whole * shape / shape.sum()
        else:
            beyond[1:] = 0.0
            beyond[0] = whole
    return aim


def _elsewhere(place: Place, original: Measured, clone: Measured) -> int:
    """Visits to a call of a place in classes where the original never makes it.

    Calls that belong to no request, such as those for a new connection, are counted to the class of whatever the thread
    did before, which need not be the original's.  What the clone's timers do is a place of its own.
    """
    return sum(
        segment.visits
        for (cls, nr), segment in clone.segments.items()
        if cls >= 0 and nr == place[1] and (cls, nr) not in original.segments
    )


def _by_load(visits_a_request: float, visits: int, clone: Measured, follows: bool) -> float:
    """What a visit's work is scaled by where sleeps adapt to the load.

    Such a thread looks more often where more requests come, and has less to do each time.  Its clone need not look as
    often under an instrument: by visits it would do too much there, or by requests too little natively.  The mean of
    both, by their ratio; where sleeps are not known to adapt, only a clone that looks more often does less.
    """
    expected = visits_a_request * clone.total_requests
    if not visits:
        return 1.0
    return sqrt(expected / visits) if follows else min(1.0, sqrt(expected / visits))


def paced(profile: Profile, original: Measured, clone: Measured) -> Profile:
    """The profile with the periodic threads told that sleep longer where fewer requests come.

    Under an instrument fewer do.  A clone that keeps the period sleeps much more often a request there than natively,
    and than its original if that adapts: how much of the difference the original keeps gives the power of the rate that
    its sleeps follow.  Threads beside those that serve can do so: they see what is served.

    Args:
        profile: whose clone was measured; the periods and the rate of requests are those of the native run.
        original: the app's own run.
        clone: the clone's, or that of its skeleton.
    """
    service = profile.services[0]
    beside = {
        number
        for process in service.processes
        if any(service.roles[r].kind in _SERVING for r in process.roles)
        for number in process.roles
    }
    slower = max(1.0, original.per_request().instructions / max(1.0, clone.per_request().instructions))
    roles = []
    for number, role in enumerate(service.roles):
        there, here = original.segments.get((-1, role.wait_nr)), clone.segments.get((-1, role.wait_nr))
        sleeps = number in beside and role.kind == "periodic" and role.timers and role.wait_nr in SLEEPS
        if sleeps and there and here:
            kept = slower * here.visits / max(1, clone.total_requests)
            often = kept * original.total_requests / max(1, there.visits)
            came = round(service.load.requests_per_second * role.timers[0].period_ms / 1000)
            if often > ADAPTS and came:
                follows = log(often) / log(max(often, kept * came))
                timer = role.timers[0].model_copy(update={"requests": came, "follows": follows})
                role = role.model_copy(update={"timers": [timer, *role.timers[1:]]})
        roles.append(role)
    return with_service(profile, {"roles": roles})


def _spread(aims: list[Amounts], who: tuple[int, ...], lack: Amounts, owners: _Owners) -> Amounts:
    """Put a difference onto some blocks by the instructions they execute; returns what would fall below none."""
    weights = [max(aims[i].instructions, 1.0) * owners.runs(i) for i in who]
    whole = sum(weights)
    rest = Amounts()
    for i, weight in zip(who, weights, strict=True):
        moved = aims[i] + lack * (weight / whole / owners.runs(i))
        if moved.instructions < 0:
            rest = rest + moved * owners.runs(i)
            moved = Amounts()
        aims[i] = moved
    return rest


class _Owners:
    """Which blocks answer for a place, and how often each block runs in a run."""

    def __init__(self, service: ServiceProfile, run: Measured) -> None:
        self._run = run
        self._blocks = service.blocks
        self._by_place: dict[Place, list[int]] = defaultdict(list)
        self._by_class: dict[int, list[int]] = defaultdict(list)
        for number, block in enumerate(service.blocks):
            self._by_place[block.request_class, block.after].append(number)
            self._by_class[block.request_class].append(number)
        self._times = Counter(op.block for cls in service.classes for op in cls.program if op.block is not None)
        self._visits: dict[int, float] = defaultdict(float)
        for (cls, nr), segment in run.segments.items():
            if cls < 0 or not self._by_place.get((cls, nr)):
                self._visits[nr] += segment.visits
        self._messages = self._by_messages(service)
        # What is no block's own goes to one that runs for requests: others run by the clock, or hardly ever.
        self.heaviest = max(
            range(len(self._blocks)), key=lambda i: (self._blocks[i].request_class >= 0, self._weight(i)), default=-1
        )

    def _weight(self, number: int) -> float:
        return self._blocks[number].instructions * self.runs(number)

    def _by_messages(self, service: ServiceProfile) -> dict[int, float]:
        """How often each block of workers runs: with each message, however often the call before it is made.

        The visits to its calls are not left for the others' blocks.
        """
        runs: dict[int, float] = defaultdict(float)
        for number, role in enumerate(service.roles):
            if role.kind != "worker":
                continue
            told = sum(
                self._run.requests.get(index, 0) * op.probability
                for index, cls in enumerate(service.classes)
                for op in cls.program
                if op.kind is OpKind.NOTIFY and op.a == number
            )
            self._visits[role.wait_nr] -= told
            for op in (op for timer in role.timers for op in timer.program):
                if op.block is not None:
                    runs[op.block] += told * op.probability
                else:
                    self._visits[op.nr] -= told * op.probability
        return runs

    def runs(self, number: int) -> float:
        """Executions of a block in the run; at least 1."""
        block = self._blocks[number]
        if number in self._messages:
            return max(1.0, self._messages[number])
        if block.request_class >= 0:
            return float(max(1, self._run.requests.get(block.request_class, 0)) * max(1, self._times[number]))
        same = sum(other not in self._messages for other in self._by_place[-1, block.after])
        return max(1.0, self._visits.get(block.after, 0) / same)

    def by_visits(self, who: tuple[int, ...]) -> bool:
        """Whether these blocks run as often as their call is made, and not with each request of a class."""
        return bool(who) and all(self._blocks[i].request_class < 0 for i in who) and not self.by_message(who)

    def by_connection(self, who: tuple[int, ...]) -> bool:
        """Whether these blocks run for connections, or as rarely."""
        return self.by_visits(who) and all(self._blocks[i].runs_per_request < SELDOM for i in who)

    def by_message(self, who: tuple[int, ...]) -> bool:
        """Whether most of what these blocks execute is done with messages, of which requests bring as many each."""
        weights = {i: self._weight(i) for i in who}
        return 2 * sum(weight for i, weight in weights.items() if i in self._messages) > sum(weights.values())

    def of(self, place: Place) -> tuple[int, ...]:
        """The blocks of a place: its own, those of the same call in no class, the heaviest of the class."""
        cls, nr = place
        found = self._by_place.get(place) or self._by_place.get((-1, nr))
        if found:
            return tuple(found)
        mates = self._by_class.get(cls)
        if cls >= 0 and mates:
            return (max(mates, key=self._weight),)
        return ()


def with_service(profile: Profile, changes: dict[str, object]) -> Profile:
    """The profile with its service changed."""
    service = profile.services[0].model_copy(update=changes)
    return profile.model_copy(update={"services": [service, *profile.services[1:]]})
