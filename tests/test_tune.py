"""Correcting blocks: amounts that add up, what is put on which block, how rounds are compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from ditto.artifacts.amounts import amounts_of, work_of
from ditto.artifacts.app import AppSpec, Load, Requests
from ditto.artifacts.profile import Op, OpKind, Profile, Role, Timer
from ditto.artifacts.syscalls import NUMBERS
from ditto.artifacts.work import Work
from ditto.host.place import Place
from ditto.host.process import Memory
from ditto.host.progress import SilentProgress
from ditto.streams import segments
from ditto.streams.cycles import follow
from ditto.streams.events import is_wait
from ditto.streams.evidence import Gaps, requests_of
from ditto.streams.instructions import InstructionRun, end_answered
from ditto.streams.matching import class_index
from ditto.streams.segments import Segment, joined, scaled
from ditto.tune import loop
from ditto.tune.loop import Tuned, stored
from ditto.tune.score import score
from ditto.tune.work import Measured, correct, measured, paced, predicted, runtime_lines, with_service
from profile_parts import block, service_profile
from test_language_runtimes import rounds_of_tasks
from test_sharing import REQUEST, Threads, accept


def plain(instructions: float, **changes: object) -> Work:
    values = block(instructions).model_dump(include=set(Work.model_fields))
    return Work.model_validate({**values, **changes})


def test_amounts_are_work_again() -> None:
    work = plain(1000.0, raw=[0.5, 0.25, 0.25], chase_share=0.2, stride_share=0.1)
    again = work_of(amounts_of(work), work)
    assert again.instructions == work.instructions and again.mix == pytest.approx(work.mix)
    assert again.load_distance[:7] == pytest.approx(work.load_distance)
    assert again.raw[:3] == pytest.approx([0.5, 0.25, 0.25])
    assert (again.chase_share, again.stride_share) == pytest.approx((0.2, 0.1))


def test_amounts_add_up() -> None:
    total = amounts_of(plain(1000.0)) + amounts_of(plain(3000.0)) - amounts_of(plain(500.0))
    assert total.instructions == pytest.approx(3500)
    assert total.mix["jcc"] == pytest.approx(0.15 * 3500)
    assert total.number("loads") == pytest.approx(250 * 3.5)


def test_a_bucket_below_zero_keeps_the_counts_beyond() -> None:
    lacks = amounts_of(plain(100.0, load_distance=[5, 5, 5, 5])) - amounts_of(plain(0.0, load_distance=[0, 0, 8, 0]))
    assert work_of(lacks, plain(1.0)).load_distance[:4] == [5, 2, 0, 5]


def test_segments_of_several_processes_are_one() -> None:
    segment = joined([Segment(10, plain(1000.0)), Segment(30, plain(2000.0))])
    assert segment.visits == 40 and segment.work.instructions == pytest.approx(1750)
    assert scaled(plain(1000.0), 250).loads == pytest.approx(62.5)


def test_of_many_processes_some_speak_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    class Reader:
        def __init__(self, process: SimpleNamespace) -> None:
            self.process = process

        def summary(self, keys: list[int]) -> SimpleNamespace:
            read.append(self.process.number)
            return SimpleNamespace(visits=2, instructions=sum(self.process.instructions[keys]))

    monkeypatch.setattr(segments, "LensReader", Reader)
    monkeypatch.setattr(segments, "work_of_summary", lambda summary: plain(summary.instructions / summary.visits))
    key = SimpleNamespace(class_id=0, prev_nr=1)
    processes = [
        SimpleNamespace(
            number=n,
            classes=[b"a"],
            keys=[key],
            visits=np.array([2]),
            instructions=np.array([2000 + 4000 * (n >= 150)]),
        )
        for n in range(300)
    ]
    (segment,) = segments.segments_of(cast(Any, processes)).values()
    assert len(read) == len(set(read)) <= segments.MOST_READ and max(read) - min(read) > 250
    assert segment.visits == 600 and segment.work.instructions == pytest.approx(2000)
    read.clear()
    (segment,) = segments.segments_of(cast(Any, processes[:20])).values()
    assert len(read) == 20 and segment.visits == 40 and segment.work.instructions == pytest.approx(1000)


def measured_of(profile: Profile, runtime: float) -> Measured:
    """A clone whose blocks come out as wanted and whose runtime executes ``runtime`` instructions beside each."""
    wanted = [b.wanted for b in profile.services[0].blocks]

    def segment(visits: int, *works: Work) -> Segment:
        total = amounts_of(plain(runtime))
        for work in works:
            total = total + amounts_of(work)
        return Segment(visits, work_of(total, plain(1.0)))

    return Measured(
        {
            (0, 0): segment(600, wanted[0]), (0, 1): segment(600, wanted[2]), (1, 0): segment(200, wanted[1]),
            (1, 1): segment(200), (-1, 232): segment(400, wanted[3]),
        },
        {0: 600, 1: 200},
    )  # fmt: skip


def test_the_runtime_is_taken_off_and_the_rest_comes_right() -> None:
    profile = service_profile()
    work = [plain(1000.0), plain(2000.0), plain(200.0), plain(300.0)]
    original = Measured(
        {
            (0, 0): Segment(6000, work[0]), (0, 1): Segment(6000, work[2]), (1, 0): Segment(2000, work[1]),
            (1, 1): Segment(2000, work[2]), (-1, 232): Segment(3000, work[3]),
        },
        {0: 6000, 1: 2000},
    )  # fmt: skip
    places = measured_of(profile, 150).segments.items()
    skeleton = Measured({place: Segment(s.visits, plain(150.0)) for place, s in places}, {0: 600, 1: 200})
    profile = correct(profile, original, predicted(profile, skeleton, original))
    blocks = profile.services[0].blocks
    assert blocks[0].wanted.instructions == pytest.approx(850, rel=0.01)
    # The 50 instructions after the reply of the second class have no block of their own: its only one takes them.
    assert blocks[1].wanted.instructions == pytest.approx(1900, rel=0.01)
    assert blocks[3].wanted.instructions == pytest.approx(150, rel=0.01)
    for _ in range(3):
        profile = correct(profile, original, measured_of(profile, 150))
    clone = measured_of(profile, 150)
    for place in ((0, 0), (0, 1)):
        assert clone.segments[place].work.instructions == pytest.approx(
            original.segments[place].work.instructions, rel=0.01
        )
    total = sum(clone.segments[1, nr].work.instructions for nr in (0, 1))
    assert total == pytest.approx(2200, rel=0.01)


@pytest.mark.parametrize(("beyond", "rounds"), [(2.0, 2), (1.02, 1)])
def test_a_first_round_that_is_far_off_is_not_the_last_for_want_of_time(
    monkeypatch: pytest.MonkeyPatch, beyond: float, rounds: int
) -> None:
    profile = service_profile()
    original = Measured({(0, 0): Segment(6000, plain(1000.0))}, {0: 6000})
    measured_in_turn = [100.0, 1000.0 * beyond, 1050.0]

    def clone(*_: object, **__: object) -> Measured:
        return Measured({(0, 0): Segment(600, plain(measured_in_turn.pop(0)))}, {0: 600})

    monkeypatch.setattr(loop, "measured", lambda service, run: original)
    monkeypatch.setattr(loop, "_measure", clone)
    tuned = Tuned(profile)
    place = Place(AppSpec.model_construct())
    run = InstructionRun.__new__(InstructionRun)
    loop._tune_work(place, tuned, run, "resp2", lambda _: Path(), SilentProgress(), seconds=0.0)
    assert [round_.number for round_ in tuned.rounds] == list(range(rounds + 1))


def test_work_of_a_class_is_compared_by_requests_and_not_by_visits() -> None:
    """A service that receives in vain more often than its clone does no more for a request."""
    original = Measured(
        {
            (0, 0): Segment(9000, plain(600.0)), (0, 1): Segment(6000, plain(200.0)),
            (1, 0): Segment(2000, plain(2000.0)), (1, 1): Segment(2000, plain(200.0)),
            (-1, 232): Segment(3000, plain(300.0)),
        },
        {0: 6000, 1: 2000, -1: 7},
    )  # fmt: skip
    profile = service_profile()
    for _ in range(4):
        clone = measured_of(profile, 150)
        profile = correct(profile, original, Measured(clone.segments, {**clone.requests, -1: 400}))
    clone = measured_of(profile, 150)
    assert clone.segments[0, 0].total.instructions / 600 == pytest.approx(900, rel=0.01)
    # What belongs to no class goes by its visits, however many requests were of none.
    assert clone.segments[-1, 232].work.instructions == pytest.approx(300, rel=0.01)


def test_work_after_a_call_without_a_block_is_the_originals_however_often_the_clone_calls() -> None:
    """A background thread that is woken once works for long; its clone is woken often and has nothing to do."""
    profile = service_profile()
    clone = measured_of(profile, 150)
    woken = {**clone.segments, (-1, 202): Segment(500, plain(10.0))}
    original = Measured({**clone.segments, (-1, 202): Segment(2, plain(100_000.0))}, clone.requests)
    corrected = correct(profile, original, Measured(woken, clone.requests)).services[0].blocks
    more = [after.wanted.instructions - before.wanted.instructions
            for before, after in zip(profile.services[0].blocks, corrected, strict=True)]  # fmt: skip
    grown = max(range(len(more)), key=more.__getitem__)
    assert corrected[grown].request_class >= 0 and 100 < more[grown] < 1100
    assert [round(value) for number, value in enumerate(more) if number != grown] == [0] * (len(more) - 1)


def test_a_block_that_did_not_run_is_left_as_it_is() -> None:
    """Such as memory cleared once in thousands of requests: rounds without one had each added as much to it."""
    profile = service_profile()
    clone = measured_of(profile, 0)
    segments = {place: segment for place, segment in clone.segments.items() if place != (-1, 232)}
    wakes = amounts_of(profile.services[0].blocks[3].wanted)
    original = Measured({**clone.segments, (-1, 232): Segment(400, work_of(wakes * 3.0, plain(1.0)))}, clone.requests)
    left = correct(profile, original, Measured(segments, clone.requests)).services[0].blocks[3].wanted
    assert left.instructions == pytest.approx(wakes.instructions)
    again = correct(profile, original, clone).services[0].blocks[3].wanted
    assert again.instructions == pytest.approx(3 * wakes.instructions, rel=0.01)


def test_what_the_runtime_touches_in_a_request() -> None:
    distance = [100.0, 0, 0, 0, 20.0, 10.0]
    run = Measured({(0, 0): Segment(50, plain(500.0, load_distance=distance, store_distance=[]))}, {0: 50})
    assert runtime_lines(run) == pytest.approx(30)


def test_scores_are_in_units_of_the_bounds() -> None:
    same = score(amounts_of(plain(1000.0)), amounts_of(plain(1000.0)))
    assert same.inside and same.total == pytest.approx(0)
    more = score(amounts_of(plain(1000.0)), amounts_of(plain(1040.0)))
    assert more.errors["instructions"] == pytest.approx(2) and not more.inside and "instructions" in more.worst
    far = plain(1000.0, load_distance=list(np.roll(plain(1000.0).load_distance + [0.0] * 10, 8)))
    assert score(amounts_of(plain(1000.0)), amounts_of(far)).errors["data curve"] > 5


def periodic_profile() -> Profile:
    profile = service_profile()
    role = profile.services[0].roles[0]
    sleep = NUMBERS["clock_nanosleep"]
    timer = Timer(period_ms=2.0, program=[Op(kind=OpKind.COMPUTE, block=4)])
    keeps = role.model_copy(update={"kind": "periodic", "wait_nr": sleep, "listens": False, "timers": [timer]})
    blocks = [*profile.services[0].blocks, block(6000.0).model_copy(update={"request_class": -1, "after": sleep})]
    load = profile.services[0].load.model_copy(update={"requests_per_second": 50_000})
    process = profile.services[0].processes[0].model_copy(update={"roles": [0, 1]})
    return with_service(profile, {"roles": [role, keeps], "blocks": blocks, "load": load, "processes": [process]})


def sleeping(profile: Profile, visits: int, instructions: float) -> Measured:
    """800 requests in which a thread slept so often and executed so much after each."""
    run = measured_of(profile, 0)
    sleep = {(-1, NUMBERS["clock_nanosleep"]): Segment(visits, plain(instructions))}
    return Measured({**run.segments, **sleep}, run.requests)


def test_only_threads_that_slept_less_often_than_a_clone_that_keeps_the_period_follow_the_load() -> None:
    profile = periodic_profile()
    same = paced(profile, sleeping(profile, 200, 9000.0), sleeping(profile, 300, 10.0))
    assert same == profile
    follows = paced(profile, sleeping(profile, 50, 9000.0), sleeping(profile, 300, 10.0))
    timer = follows.services[0].roles[-1].timers[-1]
    assert timer.requests == 100
    # It sleeps 6 times as seldom as with its period kept, where requests came 37.5 times as seldom.
    assert 37.5**timer.follows == pytest.approx(6.0)
    process = profile.services[0].processes[0]
    parts = [process.model_copy(update={"roles": [n], "parent": n - 1}) for n in (0, 1)]
    apart = with_service(profile, {"processes": parts})  # a process of its own knows of no requests
    assert paced(apart, sleeping(profile, 50, 9000.0), sleeping(profile, 300, 10.0)) == apart
    # What it does is between the original's by visits and by requests, more as well as less.
    for visits, wanted in ((10, 9000 * (50 / 10) ** 0.5), (50, 9000), (200, 9000 * (50 / 200) ** 0.5)):
        done = follows
        for _ in range(2):
            work = done.services[0].blocks[4].wanted.instructions
            done = correct(done, sleeping(profile, 50, 9000.0), sleeping(done, visits, work))
        assert done.services[0].blocks[4].wanted.instructions == pytest.approx(wanted, rel=0.02)


class Filled:
    """A run of an app that is filled with 50,000 requests and keeps ``a_request`` bytes of each."""

    def __init__(self, empty: int, a_request: int) -> None:
        load = Load(command=("client", "{requests}"), requests=Requests(native=100_000))
        self.spec = AppSpec.model_construct(name="shelf", load=load)
        self._bytes, self._a_request = empty, a_request

    def __enter__(self) -> Filled:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def prepare(self) -> None:
        self.load(50_000)

    def load(self, requests: int) -> None:
        self._bytes += requests * self._a_request

    def memory(self) -> Memory:
        return Memory(self._bytes, 0)


@pytest.mark.parametrize("keeps", [90, 110])
def test_a_clone_starts_with_what_the_original_has_besides_what_it_stores(
    monkeypatch: pytest.MonkeyPatch, keeps: int
) -> None:
    """Whenever the original's memory was observed: its clients may have stored more by then, or less."""
    clone = Filled(7_000_000, keeps)
    monkeypatch.setattr(Place, "original", lambda _: Filled(4_000_000, 100))
    monkeypatch.setattr(Place, "clone", lambda *_: clone)
    place = Place(clone.spec)
    for seen in (11_000_000, 15_000_000):
        profile = with_service(service_profile(), {"resident_bytes": seen})
        found = stored(place, profile, Path("clone"), SilentProgress())
        assert found["stored_scale"] == pytest.approx(max(1.0, 100 / keeps))
        assert seen - found["stored_bytes"] == pytest.approx(4_000_000 + 75_000 * (100 - max(100, keeps)), abs=1)
    clone = Filled(7_000_000, 1)
    assert stored(place, profile, Path("clone"), SilentProgress()) == {"stored_bytes": 0}
    # A database's clone grows by the processes of its connections alone.
    clone = Filled(7_000_000, keeps)
    database = with_service(profile, {"codec": "pgsql"})
    assert stored(place, database, Path("clone"), SilentProgress()) == {}


def test_work_on_late_answers_is_not_the_waits() -> None:
    """The first of a round's late answers follows the wait; how many are first depends on the load."""
    record = Threads()
    rounds_of_tasks(record, late=True, rounds=10)
    work = follow(record.threads)
    requests = requests_of(work)
    wait, send = NUMBERS["epoll_wait"], NUMBERS["sendto"]
    key = next(iter(requests.classes))
    run = InstructionRun(
        processes=[], work=work, gaps=Gaps(), requests=requests,
        segments={(b"none", wait): Segment(20, plain(600.0)), (key, send): Segment(30, plain(700.0))},
    )  # fmt: skip
    service = service_profile().services[0]
    index = class_index(service, key)
    found = measured(service, run).segments
    moved = sum(
        c.resumed_gap for c in requests.classes[key] if c.resumed_after is not None and is_wait(c.resumed_after)
    )
    assert moved > 5000
    assert found[-1, wait].instructions == pytest.approx(12000 - moved, rel=0.01)
    assert found[index, send].instructions == pytest.approx(21000 + moved, rel=0.01)


def test_calls_for_a_connection_are_compared_by_their_number() -> None:
    """They come after an answer in the clone and after a wait in the original: another class, and no more of them."""
    profile = service_profile()
    blocks = [*profile.services[0].blocks, block(1000.0, request_class=-1, after=51)]
    profile = with_service(profile, {"blocks": blocks})
    original = Measured({(-1, 51): Segment(8, plain(1200.0)), (0, 0): Segment(100, plain(900.0))}, {0: 100})
    clone = Measured({(0, 51): Segment(20, plain(1000.0)), (0, 0): Segment(50000, plain(900.0))}, {0: 50000})
    aim = correct(profile, original, clone).services[0].blocks[-1].wanted
    assert aim.instructions == pytest.approx(1200, rel=0.01)


def test_calls_for_a_connection_that_come_after_answers_on_both_sides_do_not_grow_with_the_requests() -> None:
    """The original answers 26 requests under lens, its clone without bodies 50,000, over as many connections."""
    profile = service_profile()
    blocks = [*profile.services[0].blocks, block(1000.0, request_class=-1, after=51)]
    profile = with_service(profile, {"blocks": blocks})
    many, few = Segment(50000, plain(900.0)), Segment(26, plain(900.0))
    original = Measured({(0, 51): Segment(6, plain(1200.0)), (-1, 51): Segment(2, plain(1200.0)), (0, 0): few}, {0: 26})
    clone = Measured({(0, 51): Segment(8, plain(1000.0)), (0, 0): many}, {0: 50000})
    aim = correct(profile, original, clone).services[0].blocks[-1].wanted
    assert aim.instructions == pytest.approx(1200, rel=0.01)


def test_what_runs_by_the_clock_never_reaches_farther_than_the_original_did() -> None:
    """Its far touches come out nearer, for hardly any request comes between two visits: rounds do not add them up."""
    sleep = NUMBERS["clock_nanosleep"]
    far = [60.0, 40, 40, 40, 30, 20, 20, 0, 0, 16]
    own = block(6000.0, load_distance=far, request_class=-1, after=sleep)
    profile = with_service(service_profile(), {"blocks": [*service_profile().services[0].blocks, own]})
    run = measured_of(profile, 500.0)

    def visited(instructions: float, loads: list[float]) -> Measured:
        segment = {(-1, sleep): Segment(50, plain(instructions, load_distance=loads))}
        return Measured({**run.segments, **segment}, run.requests)

    for _ in range(3):
        profile = correct(profile, visited(6000.0, far), visited(5000.0, [60.0, 40, 40, 40, 30, 20, 36]))
    aim = profile.services[0].blocks[-1].wanted
    assert aim.load_distance[9] == 16 and aim.load_distance[0] == 60 and aim.instructions > 6000


def test_what_is_done_with_messages_goes_by_requests_however_often_its_calls_are_made() -> None:
    """Under an instrument threads wait for an interpreter's lock more often than natively, and in the clone never."""
    futex, entropy = NUMBERS["futex"], NUMBERS["getrandom"]
    profile = service_profile()
    service = profile.services[0]
    number = len(service.blocks)
    blocks = [*service.blocks, *(block(1000.0, request_class=-1, after=nr) for nr in (futex, futex, entropy))]
    rare = [Op(kind=OpKind.FUTEX_WAKE, nr=futex, probability=0.25), Op(kind=OpKind.MISC, nr=entropy, probability=0.5)]
    first, second, third = (Op(kind=OpKind.COMPUTE, block=number + k) for k in range(3))
    timer = Timer(period_ms=1, program=[first, rare[0], second, rare[1], third])
    worker = Role(kind="worker", count=2, wait="blocking", wait_nr=futex, timers=[timer])
    classes = [
        cls.model_copy(update={"program": [Op(kind=OpKind.NOTIFY, nr=futex, a=1), *cls.program]})
        for cls in service.classes
    ]
    profile = with_service(profile, {"blocks": blocks, "roles": [*service.roles, worker], "classes": classes})

    def clone(profile: Profile) -> Measured:
        run = measured_of(profile, 0)
        done = [b.wanted.instructions for b in profile.services[0].blocks[number:]]
        segments = {
            (-1, futex): Segment(1000, plain((done[0] + done[1]) * 800 / 1000)),
            (-1, entropy): Segment(400, plain(done[2] * 800 / 400)),
        }
        return Measured({**run.segments, **segments}, run.requests)

    run = measured_of(profile, 0)
    original = Measured(
        {
            **{place: Segment(s.visits // 10, s.work) for place, s in run.segments.items()},
            (-1, futex): Segment(1600, plain(300.0)), (-1, entropy): Segment(80, plain(9000.0)),
        },
        {0: 60, 1: 20},
    )  # fmt: skip
    done = correct(profile, original, clone(profile)).services[0].blocks[number:]
    assert done[0].wanted.instructions + done[1].wanted.instructions == pytest.approx(6000, rel=0.01)
    assert done[2].wanted.instructions == pytest.approx(9000, rel=0.01)


def test_the_last_request_of_each_connection_counts_and_those_under_way_count_half() -> None:
    """Of 40 requests that a slow service began under an instrument, eight connections' last ones had been left out."""
    record = Threads()
    accept(record, 1)
    for fd in (7, 7, 8):
        record.serve(1, fd)
    record.call(1, "read", len(REQUEST), 9, payload=REQUEST)
    work = record.work()
    assert [cycle.receive.args[0] for cycle in end_answered(work)] == [9]
    requests = requests_of(work, "http1")
    assert requests.total == 3
    key = next(iter(requests.classes))
    run = InstructionRun([], work, Gaps(), requests, {(key, 0): Segment(6, plain(600.0))}, under_way={key: 4})
    found = measured(service_profile().services[0], run)
    assert found.total_requests == 3 + 2 and found.per_request().instructions == pytest.approx(720)


def test_what_new_connections_cost_a_clone_is_not_taken_off_its_requests() -> None:
    """Each new thread sets up its memory for 400,000 instructions, and a run of 17 requests had eight new ones."""
    profile = service_profile()
    own = block(500.0, request_class=-1, after=NUMBERS["mmap"], runs_per_request=0.003)
    profile = with_service(profile, {"blocks": [*profile.services[0].blocks, own]})
    run = measured_of(profile, 0)
    born = {(-1, NUMBERS["mmap"]): Segment(60, plain(450_000.0))}
    seen = {(-1, NUMBERS["mmap"]): Segment(11, plain(1500.0))}
    original = Measured({**run.segments, **seen}, run.requests)
    blocks = correct(profile, original, Measured({**run.segments, **born}, run.requests)).services[0].blocks
    for before, after in zip(profile.services[0].blocks[:4], blocks[:4], strict=True):
        assert after.wanted.instructions == pytest.approx(before.wanted.instructions, rel=0.01)


def test_first_touches_count_as_the_farthest_that_a_clone_comes_back_to() -> None:
    """A clone's memory is not new: what the original touches for the first time would lack in every round."""
    near = [60.0, 40, 40, 40, 30, 20, 20]
    seen = [*near, *[0.0] * 16, 16]  # the last bucket: for the first time
    own = block(6000.0, load_distance=seen, request_class=-1, after=NUMBERS["mmap"])
    profile = with_service(service_profile(), {"blocks": [*service_profile().services[0].blocks, own]})
    run = measured_of(profile, 500.0)

    def visited(loads: list[float]) -> Measured:
        segment = {(-1, NUMBERS["mmap"]): Segment(50, plain(6000.0, load_distance=loads))}
        return Measured({**run.segments, **segment}, run.requests)

    for _ in range(3):
        profile = correct(profile, visited(seen), visited([*near, *[0.0] * 9, 16]))
    aim = profile.services[0].blocks[-1].wanted.load_distance
    assert sum(aim[15:]) == pytest.approx(16) and aim[:7] == pytest.approx(near)
    profile = correct(profile, visited(seen), visited([*near, *[0.0] * 9, 10]))
    assert sum(profile.services[0].blocks[-1].wanted.load_distance[15:]) == pytest.approx(22)
