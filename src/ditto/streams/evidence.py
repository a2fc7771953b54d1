"""An observation read back as evidence: streams of events, followed to requests, with what the instruction run adds."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from ditto.artifacts.observation import DescriptorSeen, Observation
from ditto.artifacts.prints import folded
from ditto.artifacts.records import load_recording
from ditto.artifacts.samples import load_samples
from ditto.streams import h2, programs, protocol, sampled, silent
from ditto.streams.alone import by_themselves, given_rounds
from ditto.streams.cycles import Cycle, Work
from ditto.streams.datagrams import mostly
from ditto.streams.earlier import work_of
from ditto.streams.events import RECEIVES, SENDS, Event, KnownDescriptor, Stream, from_recording
from ditto.streams.helpers import find_helpers
from ditto.streams.lives import closing_work, connect_work, setup_work, work_before_accepts
from ditto.streams.messages import worker_cycles
from ditto.streams.multiplexed import mostly_multiplexed
from ditto.streams.pipelined import split
from ditto.streams.programs import ClassWork, OpName
from ditto.streams.segments import Segment, SegmentKey
from ditto.streams.sharing import Sharing, find_sharing, mean_after_parking
from ditto.streams.weighed import as_under_load

RARE_CLASS = 0.002
"""Classes with a smaller share of the requests are kept only while there is room."""
MAX_CLASSES = 32
STRAY = 0.05
"""Share of cycles that do not begin like a request, below which they are taken for parts of others."""
FEW_ALONE = 30
"""Requests of a class that came one at a time, from which on they tell what it does."""
FEW_SHARED = 4
"""The same where threads share connections, or tasks go on in rounds."""
IN_ROUNDS = 0.5
"""Rounds of a loop of tasks for each request from which on its programs are told by requests that came alone."""
STRAY_CALLS = 0.01
SAMPLE = 4000


@dataclass
class Requests:
    """The requests of one run, by class key; ``folds`` where digits in paths tell no class."""

    codec: str
    classes: dict[bytes, list[Cycle]]
    total: int
    folds: bool = False

    def together(self, key: bytes) -> float:
        """Requests that come in one receive with one of a class as its first, which alone an instruction run sees."""
        firsts = [cycle.together for cycle in self.classes.get(key, ()) if cycle.together]
        return sum(firsts) / len(firsts) if firsts else 1.0

    def again(self) -> dict[bytes, float]:
        """Of each class, the share of its requests before which their thread served another of it."""
        threads: dict[int, list[tuple[int, bytes]]] = {}
        for key, cycles in self.classes.items():
            for cycle in cycles:
                threads.setdefault(cycle.tid, []).append((cycle.receive.index, key))
        follow: Counter[bytes] = Counter()
        for served in threads.values():
            served.sort()
            follow.update(key for (_, before), (_, key) in pairwise(served) if before == key)
        return {key: follow[key] / max(1, len(cycles)) for key, cycles in self.classes.items()}


@dataclass
class Gaps:
    """What follows each operation, as the instruction run counted it, in instructions.

    Attributes:
        inside: class -> operation -> mean instructions until the thread's next call, where that is no wait.
        before_wait: role-wide mean of what comes on top when the next call is a wait, per wake-up.
        on_wake: mean instructions between the return of a wait and the next call.
        between: between a send that did not finish a reply and the next call.
        accept: operation -> mean, for the set-up of a connection.
        on_unpark: mean instructions of serving threads between a futex wait and the next call.
        closing, before_accept: likewise, for its end, and for what serial servers do before each accept.
        connect: for the making of a connection to another service.
        worker: for what threads do for others with each message.
        requests: cycles counted.
        instructions: user instructions of the whole window, all threads.
    """

    inside: dict[bytes, dict[OpName, float]] = field(default_factory=dict)
    before_wait: float = 0.0
    on_wake: float = 0.0
    between: float = 0.0
    accept: dict[OpName, float] = field(default_factory=dict)
    closing: dict[OpName, float] = field(default_factory=dict)
    before_accept: dict[OpName, float] = field(default_factory=dict)
    connect: dict[OpName, float] = field(default_factory=dict)
    timer: dict[OpName, float] = field(default_factory=dict)
    worker: dict[OpName, float] = field(default_factory=dict)
    on_unpark: float = 0.0
    requests: int = 0
    instructions: float = 0.0
    wakes: int = 0


@dataclass
class Evidence:
    """Everything the model is fitted to.

    ``alone`` are requests that came one at a time, where some were let so.  ``samples`` is the number of samples of the
    CPU clock that gaps and segments are estimated from; 0 where they were counted, or are unknown.  ``unseen`` are
    numbers of requests of classes that the instruction run has not, ``estimated`` the gaps of these by their time.
    """

    observation: Observation
    stream: Stream
    work: Work
    requests: Requests
    alone: Requests | None = None
    gaps: Gaps | None = None
    segments: Mapping[SegmentKey, Segment] = field(default_factory=dict)
    samples: int = 0
    unseen: Mapping[bytes, int] = field(default_factory=dict)
    estimated: Mapping[bytes, dict[OpName, float]] = field(default_factory=dict)

    @cached_property
    def datagrams(self) -> bool:
        """Whether requests come in datagrams."""
        return mostly(cycle.connection for found in self.requests.classes.values() for cycle in found)

    @cached_property
    def helpers(self) -> set[int]:
        """Threads that work when others wake them."""
        return find_helpers(self.work)

    @cached_property
    def sharing(self) -> Sharing:
        """Which threads share connections."""
        return find_sharing(self.work, (cycle for found in self.requests.classes.values() for cycle in found))


def load_evidence(folder: Path, observation: Observation) -> Evidence:
    """Read the recordings of an observation.

    Raises:
        BadInputError: a file is missing or damaged.
    """
    gc.disable()  # a million small objects are made and kept: collections would only cost
    try:
        return _load(folder, observation)
    finally:
        gc.freeze()
        gc.enable()


def _load(folder: Path, observation: Observation) -> Evidence:
    native = observation.native
    known = known_descriptors(native.descriptors)
    stream = from_recording(load_recording(folder / native.recording), known)
    samples = load_samples(folder / native.samples) if observation.lens is None and native.samples else None
    placed = sampled.place(stream, samples) if samples is not None else []
    work = work_of(stream)
    lens = observation.lens
    observation = _lasting(observation, work)
    evidence = Evidence(observation, stream, work, requests_of(work, folds=lens.folds if lens else None))
    if samples is not None and placed:
        evidence.segments = sampled.segments_of(placed, stream, evidence.requests.classes, samples)
        evidence.gaps = op_gaps(class_works(evidence.requests), work)
        evidence.samples = len(placed)
    if native.alone and evidence.work.peers:
        apart = work_of(from_recording(load_recording(folder / native.alone)))
        found = requests_of(apart, evidence.requests.codec, evidence.requests.folds)
        lone = by_themselves(found.classes)
        given_rounds(apart, (cycle for kept in lone.values() for cycle in kept))
        evidence.alone = replace(found, classes=as_under_load(lone, evidence.requests.classes))
    if lens is not None:
        from ditto.streams.instructions import read_instruction_run
        from ditto.streams.unseen import estimated, unseen_classes

        files = [folder / name for name in lens.files]
        run = read_instruction_run(files, lens.descriptors, evidence.requests.codec, folds=lens.folds)
        evidence.gaps, evidence.segments = _by_request(run.gaps, run.requests, evidence.requests), run.segments
        evidence.unseen = unseen_classes(evidence.requests, run.requests)
        evidence.estimated = estimated(evidence.requests, work, evidence.gaps, evidence.unseen)
    return evidence


def _lasting(observation: Observation, work: Work) -> Observation:
    """An observation without the processes that requests have started, one of which may just have been there."""
    kept = [process for process in observation.native.processes if process.pid not in work.children]
    native = observation.native.model_copy(update={"processes": kept})
    return observation.model_copy(update={"native": native})


def _by_request(gaps: Gaps, seen: Requests, native: Requests) -> Gaps:
    """Gaps of an instruction run, which tells no requests apart that come together, by requests."""
    inside = {
        key: {name: amount / native.together(key) for name, amount in amounts.items()}
        for key, amounts in gaps.inside.items()
    }
    requests = sum(len(cycles) * native.together(key) for key, cycles in seen.classes.items())
    return replace(gaps, inside=inside, requests=round(requests))


def known_descriptors(descriptors: Iterable[DescriptorSeen]) -> list[KnownDescriptor]:
    """An observation's descriptors for :class:`~ditto.streams.events.Descriptors`."""
    return [
        KnownDescriptor(
            d.pid, d.fd, d.kind, d.path.encode("utf-8", "surrogateescape"), d.port, d.flags, d.size, d.identity
        )
        for d in descriptors
    ]


def requests_of(work: Work, codec: str | None = None, folds: bool | None = None) -> Requests:
    """All complete cycles by class; the codec is recognised from a sample of them if it is not given.

    So is whether digits in paths tell no class (``folds``).
    """
    cycles = [cycle for thread in work.threads.values() for cycle in thread.cycles if cycle.complete]
    if codec is None:
        step = max(1, len(cycles) // SAMPLE)
        sample = cycles[::step]
        codec = protocol.recognise([request_head(c) for c in sample], [_first_sent(c) for c in sample if c.sent])
        codec = "h2" if mostly_multiplexed(sample) else codec
    if codec == "resp2":
        cycles = split(cycles)
    classes: dict[bytes, list[Cycle]] = defaultdict(list)
    sessions: dict[int, protocol.Session | None] = {}
    for cycle in sorted(cycles, key=lambda c: c.receive.index) if protocol.session_of(codec) else cycles:
        session = sessions.setdefault(cycle.connection.serial, protocol.session_of(codec))
        classes[class_key(codec, cycle, session)].append(cycle)
        if session is not None:
            session.answered(_first_sent(cycle))
    if codec == "opaque":
        classes = silent.apart(classes)
    total = len(cycles)
    if 0 < len(classes.get(protocol.STRANGE, ())) < STRAY * total:
        # Where threads take over each other's work, some cycles begin in the middle of a request.
        total -= len(classes.pop(protocol.STRANGE))
    if folds is None:
        folds = protocol.folds(codec, classes)
    return Requests(codec, _limited(_folded(classes) if folds else dict(classes)), total, folds)


def _folded(classes: dict[bytes, list[Cycle]]) -> dict[bytes, list[Cycle]]:
    """Classes whose keys differ by digits alone as one, its cycles in their order."""
    joined: dict[bytes, list[Cycle]] = defaultdict(list)
    for key, cycles in classes.items():
        joined[folded(key)] += cycles
    return {key: sorted(cycles, key=lambda cycle: cycle.receive.index) for key, cycles in joined.items()}


def class_key(codec: str, cycle: Cycle, session: protocol.Session | None = None) -> bytes:
    """The class of a cycle: by what the instruction run said of it, else by its first bytes."""
    if codec == "opaque":
        told = _receives(cycle)[0].cls
        if told is not None:  # of the first piece, where it came in several
            kind, *rest = told.split(b" ")
            return protocol.sized(b"".join(rest[1:]), cycle.received_bytes) if kind == b"size" else told
    elif codec != "dns":
        told = next((e.cls for e in reversed(_receives(cycle)) if e.cls is not None), None)
        if told is not None:
            return told
    if session is not None:
        return session.key(request_head(cycle))
    if codec == "h2":
        return h2.begun(cycle.receive).key or protocol.STRANGE
    head = request_head(cycle, protocol.head_bytes(codec))
    return protocol.request_key(codec, head, cycle.received_bytes)


def request_head(cycle: Cycle, most: int = protocol.RECORDED) -> bytes:
    """The first bytes of a request as far as they were recorded, which may have come in several receives."""
    head = b""
    for event in _receives(cycle):
        seen = event.payload + event.more if most > protocol.RECORDED else event.payload
        head += seen
        if len(seen) != event.ret or len(head) >= most:
            break
    return head[:most]


def _receives(cycle: Cycle) -> list[Event]:
    """The receives that brought a request."""
    found = []
    for event in cycle.events:
        if event.nr in SENDS:
            break
        if event.nr in RECEIVES and event.obj is cycle.connection and event.ret > 0:
            found.append(event)
    return found or [cycle.receive]


def _first_sent(cycle: Cycle) -> bytes:
    return next((e.payload for e in cycle.events if e.nr in SENDS and e.obj is cycle.connection), b"")


def _limited(classes: dict[bytes, list[Cycle]]) -> dict[bytes, list[Cycle]]:
    """At most MAX_CLASSES classes: the rarest are joined to the most common one of the same first word."""
    ranked = sorted(classes.items(), key=lambda item: (-len(item[1]), item[0]))
    kept = dict(ranked[:MAX_CLASSES])
    for key, cycles in ranked[MAX_CLASSES:]:
        word = key.split(b" ", 1)[0]
        home = next((k for k in kept if k.split(b" ", 1)[0] == word), next(iter(kept)))
        kept[home] = kept[home] + cycles
    return kept


def plain_works(evidence: Evidence, skip: set[int] | None = None) -> dict[bytes, ClassWork]:
    """The counted operations of every class; of requests that came one at a time where their calls are plainer."""
    works = class_works(evidence.requests, skip)
    if evidence.alone is None or one_after_the_other(evidence.requests):
        return works
    alone = class_works(evidence.alone)
    shared = evidence.sharing.shared
    return {key: plainer(work, alone.get(key), shared) for key, work in works.items()}


def one_after_the_other(requests: Requests) -> bool:
    """Whether each thread had one request under way at a time, so that its calls are that request's without doubt."""
    cycles = sorted(
        (cycle for found in requests.classes.values() for cycle in found), key=lambda cycle: cycle.receive.t_out
    )
    ends: dict[int, int] = {}
    beside = 0
    for cycle in cycles:
        beside += cycle.receive.t_out < ends.get(cycle.tid, 0)
        last = max((event.t_out for event in cycle.events), default=cycle.receive.t_out)
        ends[cycle.tid] = max(ends.get(cycle.tid, 0), last)
    return beside <= STRAY_CALLS * len(cycles)


def plainer(work: ClassWork, alone: ClassWork | None, shared: bool = False) -> ClassWork:
    """A class as seen under load, or as seen in requests that came one at a time.

    In an event loop every request under way could have made a call.  Where a class seems to make other calls under load
    than it makes alone, some were given to the wrong requests.  Where threads share connections (``shared``), a task
    also calls from a thread that has another request in work, and even a few that came alone tell more.  And where
    tasks go on in rounds of their loop, what they call for nobody is seen to be theirs in those that came alone.
    """
    if alone is None or len(alone.cycles) < FEW_SHARED:
        return work
    if sum(op.count for name, op in alone.ops.items() if name.kind == programs.YIELD) > IN_ROUNDS * len(alone.cycles):
        return alone
    calls, few = _calls(alone), len(alone.cycles) < FEW_ALONE and not shared
    return alone if not few and (calls != _calls(work) or (shared and calls)) else work


def _calls(work: ClassWork) -> set[OpName]:
    """The calls that more than a few requests make, and their further parts."""
    few = STRAY_CALLS * len(work.cycles)
    return {name for name, op in work.ops.items() if name.kind in ("call", "call_more") and op.count >= few}


def class_works(requests: Requests, skip: set[int] | None = None) -> dict[bytes, ClassWork]:
    """The counted operations of every class."""
    heads = requests.codec == "http1"
    return {key: programs.build(key, cycles, skip, heads) for key, cycles in requests.classes.items()}


def gap_name(name: OpName) -> OpName:
    """An operation's name in tables of gaps: files that stay open have other paths in other runs."""
    if name.kind == "mmap":  # an instruction run does not tell what is mapped
        return name._replace(slot=None)
    if name.slot is not None and name.slot[0] == "p":
        return name._replace(slot=("p", b""))
    return name


def gap_names(work: ClassWork) -> dict[OpName, OpName]:
    """The names of a class's operations in tables of gaps.

    Where a run does not tell which of several open files a call is for, they are told apart by their order: so are
    those that most cycles make.
    """
    names: dict[OpName, OpName] = {}
    usual: Counter[tuple[str, int]] = Counter()
    for name, op in work.ordered():
        named = gap_name(name)
        if named.slot == ("p", b"") and 2 * op.count > len(work.cycles):
            named = named._replace(occurrence=usual[name.kind, name.nr])
            usual[name.kind, name.nr] += 1
        names[name] = named
    return names


def op_gaps(works: dict[bytes, ClassWork], work: Work) -> Gaps:
    """Mean work after each operation, the part that belongs to the end of a wake-up taken out."""
    gaps = Gaps()
    extra_sum = extra_count = 0.0
    between: list[float] = []
    for key, class_work in works.items():
        amounts: dict[OpName, float] = {}
        names = gap_names(class_work)
        rare_first = sorted(class_work.ops.items(), key=lambda item: item[1].count)
        for name, op in rare_first:
            if op.inside >= max(3, 0.02 * op.before_wait):
                amounts[names[name]] = op.mean_inside
                if op.before_wait >= 3:
                    extra_sum += (op.mean_before_wait - op.mean_inside) * op.before_wait
                    extra_count += op.before_wait
            elif op.inside or op.before_wait:
                total = op.gap_inside + op.gap_before_wait
                amounts[names[name]] = total / (op.inside + op.before_wait)
                extra_count += op.before_wait
        gaps.inside[key] = amounts
        gaps.requests += len(class_work.cycles)
        if class_work.between.inside:
            between.append(class_work.between.mean_inside)
    gaps.before_wait = max(0.0, extra_sum / extra_count) if extra_count else 0.0
    gaps.between = sum(between) / len(between) if between else 0.0
    wakes: Counter[str] = Counter()
    for thread in work.threads.values():
        for wake in thread.wakes:
            if wake.wait is not None and wake.wait.gap >= 0 and (wake.received or wake.answers):
                wakes["count"] += 1
                wakes["gap"] += wake.wait.gap  # type: ignore[assignment]
    gaps.wakes = wakes["count"]
    gaps.on_wake = wakes["gap"] / wakes["count"] if wakes["count"] else 0.0
    gaps.instructions = sum(max(0.0, e.gap) for t in work.threads.values() for e in t.events)
    gaps.on_unpark = mean_after_parking(thread for thread in work.threads.values() if thread.cycles)
    gaps.closing = _mean_gaps(closing_work(work))
    gaps.connect = _mean_gaps(connect_work(work.peers.values()))
    gaps.before_accept = _mean_gaps(work_before_accepts(work))
    gaps.worker = _mean_gaps(programs.build(b"worker", worker_cycles(work)))
    gaps.accept = _mean_gaps(setup_work(work, True)) | _mean_gaps(setup_work(work, False))
    return gaps


def _mean_gaps(class_work: ClassWork) -> dict[OpName, float]:
    names = gap_names(class_work)
    return {
        names[name]: (op.gap_inside + op.gap_before_wait) / (op.inside + op.before_wait)
        for name, op in class_work.ops.items()
        if op.inside + op.before_wait
    }
