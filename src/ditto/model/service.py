"""The profile of one service, fitted to the evidence of one observation."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from ditto.artifacts.observation import ProcessSeen
from ditto.artifacts.profile import Load, Op, OpKind, Process, Profile, RequestClass, Role, ServiceProfile, Timer
from ditto.model.batches import with_batches
from ditto.model.blocks import BlockBook
from ditto.model.children import with_children
from ditto.model.classes import Placement, fit_class, fit_program
from ditto.model.downstream import CallBook, fit_downstreams
from ditto.model.files import FileCatalog, of_a_file
from ditto.model.handover import closing_ops, find_handover, kept_open, lasting, set_up_before
from ditto.model.links import numbered_alike
from ditto.model.messages import with_inboxes, with_messages, worker_role
from ditto.model.network import fit_listener, fit_receive, fit_send, listener_events, relisten
from ditto.model.passage import with_passages
from ditto.model.pool import PoolParts, pool_role, with_helpers, without_own_calls
from ditto.model.roles import RoleSeen, RolesSeen, find_roles, leads_session, pauses
from ditto.model.rounds import ONE_BY_ONE, datagram_rounds
from ditto.model.serial import receives_first, refused_receives, serial_role
from ditto.model.shape import parts_left_out, require_known_shape, require_requests
from ditto.model.syncs import Syncs
from ditto.model.timers import TimerSeen, find_timer
from ditto.model.waits import longest_rest, longest_timeout, most_events
from ditto.model.wakes import before_dispatch, before_waits, each_wait, each_wake
from ditto.streams import programs
from ditto.streams.cycles import Cycle, ThreadWork, Wake
from ditto.streams.datagrams import is_datagram
from ditto.streams.deferral import deferral
from ditto.streams.events import Event, Obj
from ditto.streams.evidence import Evidence, plain_works
from ditto.streams.lives import closing_work, setup_work
from ditto.streams.multiplexed import leave_together
from ditto.streams.programs import ClassWork, OpName
from ditto.streams.settled import resumes_late, usual_rounds

DEFERRED_SHARE = 0.5
NO_WORK: dict[OpName, float] = {}
NO_CLASS = b"none"
"""What lens calls the class of a thread that has received nothing since its wait."""


@dataclass(frozen=True)
class Fitted:
    """A profile and sentences on what the model could not take over.

    ``called`` tells where each of the service's downstreams was, as ``HOST:PORT``: private, no part of the profile.
    """

    profile: Profile
    notes: list[str]
    called: list[str] = field(default_factory=list)


@dataclass
class _Fit:
    """What the parts of one fit share."""

    evidence: Evidence
    print_key: int
    roles: RolesSeen
    catalog: FileCatalog
    book: BlockBook
    deferred: bool = False
    lifo: bool = False
    late: bool = False
    notes: list[str] = field(default_factory=list)
    timers: dict[int, TimerSeen] = field(default_factory=dict)
    calls: CallBook = field(default_factory=CallBook)

    @property
    def wakes(self) -> float:
        """Wake-ups of the serving threads by request, under the load of the instruction run."""
        gaps = self.evidence.gaps
        return gaps.wakes / gaps.requests if gaps and gaps.requests else 1.0

    @property
    def placement(self) -> Placement:
        return Placement(self.catalog.group_of, self.catalog.slot_of, self.calls.call_of, self.catalog.size_of)


def fit(evidence: Evidence, version: str, seed: int) -> Fitted:
    """Fit the profile of the observed service.

    Args:
        evidence: what the recordings showed.
        version: ditto's version, for the profile.
        seed: decides the clone's random choices and the key of its path fingerprints.

    Raises:
        UnsupportedShapeError: no request was seen, or the service serves in a way this version has no model for.
    """
    observation = evidence.observation
    require_requests(evidence)
    require_known_shape(evidence)
    roles = find_roles(evidence.stream, evidence.work, observation.native.processes, evidence.sharing, evidence.helpers)
    catalog = FileCatalog.of(observation.native.files, evidence.stream.descriptors.objects)
    print_key = (seed * 0x9E3779B1) & 0xFFFFFFFF
    this = _Fit(evidence, print_key, roles, catalog, BlockBook.of(evidence))
    share, this.lifo = deferral(list(evidence.work.threads.values()))
    this.late = resumes_late(evidence.work)
    this.deferred = this.late or share > DEFERRED_SHARE
    service = _service(this)
    profile = Profile(ditto_version=version, seed=seed, services=[service])
    return Fitted(profile, parts_left_out(evidence) + this.notes + this.book.notes, this.calls.addresses)


def _service(this: _Fit) -> ServiceProfile:
    evidence = this.evidence
    skip = _find_timers(this) | refused_receives(evidence) | _before_waits(this)
    this.calls = fit_downstreams(evidence, this.print_key, this.book, this.placement)
    works = plain_works(evidence, skip)
    counts = {key: len(cycles) for key, cycles in evidence.requests.classes.items()}
    total = sum(counts.values())
    gaps = evidence.gaps
    client = evidence.observation.client
    again = evidence.requests.again()
    classes, syncs = [], Syncs(evidence.work)
    ranked = sorted(works, key=lambda key: (-counts[key], key))
    for number, key in enumerate(ranked):
        work = works[key]
        share = counts[key] / total
        amounts = this.book.amounts(key)
        block_for = this.book.namer(key, share, number)
        classes.append(
            fit_class(
                evidence.requests.codec,
                this.print_key,
                work,
                share,
                amounts,
                block_for,
                this.placement,
                this.deferred,
                client.reply_framing if client else "",
                client.results if client else (),
            )
        )
        classes[-1] = of_a_file(
            without_own_calls(classes[-1], evidence.sharing), this.catalog.groups, this.catalog.opens
        )
        update = {
            "together": evidence.requests.together(key),
            "again": again[key],
            "rounds": usual_rounds(work.cycles) if this.late else 1,
        }
        classes[-1] = syncs.of_class(classes[-1].model_copy(update=update), work.cycles)
        _note_unsupported(this, work)
    cycles = [cycle for work in works.values() for cycle in work.cycles]
    rounds = datagram_rounds(evidence.work) if evidence.datagrams else ONE_BY_ONE
    between = this.book.add(NO_CLASS, None, gaps.between, 0.1) if gaps else None
    heads = evidence.requests.codec == "http1"
    at_once = (this.deferred and not this.late) or leave_together(cycles)
    send = fit_send(cycles, at_once, between, heads)
    for number, key in enumerate(ranked):
        own = fit_send(works[key].cycles, at_once, between, heads)
        if own != send:
            classes[number] = classes[number].model_copy(update={"send": own})
    roles = _woken([_role(this, index, role) for index, role in enumerate(this.roles.roles)])
    roles = with_passages(evidence, this.roles.roles, with_inboxes(evidence, this.roles.roles, roles))
    roles = [set_up_before(evidence, role) for role in roles]
    seen = evidence.observation.native.processes
    roles = [
        role.model_copy(update={"leads_session": leads_session(of, seen)})
        for role, of in zip(roles, this.roles.roles, strict=True)
    ]
    if this.deferred and not this.late:
        seen_classes = {key: evidence.requests.classes[key] for key in ranked}
        classes, roles = with_batches(this.roles.roles, seen_classes, classes, roles, this.placement)
    classes = numbered_alike(with_messages(evidence, with_helpers(classes, roles), roles))
    classes, born = with_children(classes, [works[key] for key in ranked], evidence.work, len(roles), this.placement)
    roles += born
    if any(role.kind == "pull" for role in roles):
        classes = [_without_replies(cls) for cls in classes]
    processes = [_process(this, index, roles) for index in range(len(this.roles.processes))]
    brief = _brief(this, roles)
    seconds = max(1e-9, (evidence.stream.window_ns[1] - evidence.stream.window_ns[0]) / 1e9)
    wakes = sum(_waits(w) for t in evidence.work.threads.values() for w in t.wakes if w.received)
    return ServiceProfile(
        name="service-1",
        codec=evidence.requests.codec,
        print_key=this.print_key,
        folds=evidence.requests.folds,
        starts_empty=client is not None and client.starts_empty,
        classes=classes,
        receive=fit_receive(cycles, rounds, evidence.requests.codec == "fastcgi"),
        send=send,
        listener=fit_listener(
            evidence.stream,
            evidence.work,
            evidence.observation.native.port,
            evidence.sharing.shared,
            evidence.datagrams,
            rounds,
        ),
        roles=roles,
        processes=lasting(processes, roles),
        files=this.catalog.groups,
        blocks=this.book.blocks,
        body="empty" if gaps is None else "sampled" if evidence.samples else "counted",
        downstreams=this.calls.downstreams,
        resident_bytes=sum(p.rss_bytes for p in evidence.observation.native.processes),
        born_bytes=sum(p.rss_bytes for p in brief),
        file_bytes=sum(p.file_bytes for p in evidence.observation.native.processes if p not in brief),
        load=Load(
            connections=evidence.observation.native.connections,
            requests_per_second=total / seconds,
            requests_per_wake=total / wakes if wakes else 1.0,
        ),
    )


def _without_replies(cls: RequestClass) -> RequestClass:
    """A job that was fetched: nobody waits for an answer."""
    return cls.model_copy(update={"program": [op for op in cls.program if op.kind is not OpKind.REPLY]})


def _waits(wake: Wake) -> int:
    """How often a thread waited in a wake-up: once, or in each receive where it blocks in those for datagrams."""
    return len(wake.received) if wake.wait is None and is_datagram(wake.received[0].connection) else 1


def _find_timers(this: _Fit) -> set[int]:
    """Find each loop role's timer; the events that belong to one are no part of a request."""
    window = this.evidence.stream.window_ns
    skip: set[int] = set()
    for index, role in enumerate(this.roles.roles):
        if role.kind != "loop":
            continue
        own = {id(thread) for thread in role.work}
        classes = (
            {
                key: [c for c in cycles if any(c.tid == t.tid for t in role.work)]
                for key, cycles in this.evidence.requests.classes.items()
            }
            if own
            else {}
        )
        timer = find_timer(role.work, classes, window[1] - window[0])
        if timer is not None:
            this.timers[index] = timer
            skip |= {id(event) for burst in timer.bursts for event in burst}
    return skip


def _note_unsupported(this: _Fit, work: ClassWork) -> None:
    for nr, count in sorted(work.unsupported.items()):
        if count >= 0.01 * len(work.cycles):
            from ditto.artifacts.syscalls import name_of

            this.notes.append(
                f"{name_of(nr)}: {count / len(work.cycles):.3f} calls a request of one class are not modelled"
            )


def _pseudo(key: bytes, bursts: list[list[Event]]) -> ClassWork:
    """Bursts of events, some of which may be empty, as the cycles of a class."""
    nowhere = Wake(0, None, 0)
    cycles = []
    first = next(burst[0] for burst in bursts if burst)
    for burst in bursts:
        cycle = Cycle(_NOBODY, first.tid, nowhere, first, events=burst)
        cycle.wake_of = [nowhere] * len(burst)
        cycles.append(cycle)
    return programs.build(key, cycles)


def _role(this: _Fit, index: int, role: RoleSeen) -> Role:
    evidence = this.evidence
    gaps = evidence.gaps
    in_each = max(1, round(len(role.threads) / max(1, len(this.roles.processes[role.process].pids))))
    common = {"kind": role.kind, "count": in_each, "wait": role.wait_name, "wait_nr": role.wait_nr}
    if role.kind in ("idle", "pull"):
        return Role(**common)
    if role.kind == "accept_serve" and role.serves:
        waited = gaps and gaps.on_wake
        woken = this.book.add(NO_CLASS, role.wait_nr, waited, this.wakes) if waited else None
        each = each_wake(role, this.placement, _timed(this, index), served_alone=True)
        return serial_role(evidence, role, in_each, woken, each, this.book, this.placement)
    if role.kind in ("shared", "dispatch"):
        program = partial(_plain_program, this)
        made_of = PoolParts(this.book, program, this.wakes, _closing(this), this.placement)
        return pool_role(evidence, this.roles, role, in_each, made_of)
    if role.kind == "worker":
        return worker_role(evidence, role, in_each, this.book, this.placement)
    if role.kind == "helper":
        return Role(**common, timers=_helping(this, role))
    if role.kind == "periodic":
        return Role(**common, timers=_periodic(this, role))
    handover = find_handover(evidence, this.roles, role)
    waits = [w.wait for t in role.work for w in t.wakes if w.wait is not None]
    timers = [_timer(this, role, self_timer)] if (self_timer := this.timers.get(index)) else []
    accept = setup_work(evidence.work, by_acceptor=True)
    adopt = setup_work(evidence.work, by_acceptor=False)
    serving = role.serves
    woken = gaps is not None and serving and role.wait_name != "blocking"
    accept_amounts = gaps.accept if gaps else NO_WORK
    return Role(
        **common,
        max_events=most_events(waits),
        timeout_ms=longest_timeout(waits) if serving or role.accepts else longest_rest(waits),
        listens=role.accepts or (serving and evidence.datagrams),
        listen_events=listener_events(evidence.stream, evidence.observation.native.port) if role.accepts else 1,
        relisten=relisten(role) if role.kind == "loop" else 0,
        handover=handover.how,
        hand_to=handover.to,
        notify_nr=handover.notify_nr,
        receive_first=role.kind == "serve" and receives_first(role),
        deferred_lifo=this.lifo and not this.late,
        deferred_late=this.late and role.kind == "loop",
        each_wake=each_wake(role, this.placement, _timed(this, index)) if serving else [],
        each_wait=each_wait(role) if serving else [],
        on_wake_block=this.book.add(NO_CLASS, role.wait_nr, gaps.on_wake, this.wakes) if gaps and woken else None,
        before_wait_block=this.book.add(NO_CLASS, None, gaps.before_wait, this.wakes) if gaps and woken else None,
        on_accept=kept_open(_plain_program(this, accept, accept_amounts), handover) if role.accepts else [],
        on_adopt=_plain_program(this, adopt, accept_amounts) if not role.accepts and serving else [],
        on_close=_closing(this) if serving else [],
        timers=timers,
    )


def _before_waits(this: _Fit) -> set[int]:
    """``id`` of the calls that belong to the waits of event loops and dispatchers, and to no request."""
    loops = [role for role in this.roles.roles if role.kind == "loop" and role.serves]
    found = {id(event) for role in loops for thread in role.work for event in before_waits(thread)}
    dispatchers = [role for role in this.roles.roles if role.kind == "dispatch"]
    return found | {id(event) for role in dispatchers for thread in role.work for event in before_dispatch(thread)}


def _timed(this: _Fit, index: int) -> set[int]:
    timer = this.timers.get(index)
    return {id(event) for burst in timer.bursts for event in burst} if timer is not None else set()


def _woken(roles: list[Role]) -> list[Role]:
    """The descriptor that wakes a role belongs to the role that is woken."""
    for role in list(roles):
        if role.hand_to >= 0:
            roles[role.hand_to] = roles[role.hand_to].model_copy(update={"notify_nr": role.notify_nr})
    return [role.model_copy(update={"notify_nr": 0}) if role.hand_to >= 0 else role for role in roles]


def _plain_program(this: _Fit, work: ClassWork, amounts: dict[OpName, float]) -> list[Op]:
    block_for = this.book.namer(work.key, 0.001)
    ops = fit_program(work, amounts, block_for, this.placement, deferred=False, minimum=0.2)
    return [op for op in ops if op.kind is not OpKind.NOTIFY]


def _closing(this: _Fit) -> list[Op]:
    work = closing_work(this.evidence.work)
    return closing_ops(_plain_program(this, work, {}) if work.cycles else [])


def _timer(this: _Fit, role: RoleSeen, timer: TimerSeen) -> Timer:
    work = _pseudo(b"timer", timer.bursts)
    ops = fit_program(
        work, this.book.rare_amounts(), this.book.namer(b"timer", 0.0), this.placement, deferred=False, minimum=0.1
    )
    served = sum(len(thread.cycles) for thread in role.work)
    requests = round(served / len(timer.bursts)) if timer.allocates else 0
    return Timer(period_ms=max(0.1, timer.period_ns / 1e6), requests=requests, program=ops, descriptor=timer.descriptor)


def _periodic(this: _Fit, role: RoleSeen) -> list[Timer]:
    """The period of a thread that sleeps, and what it does between two sleeps."""
    periods: list[float] = []
    bursts: list[list[Event]] = []
    for thread in role.work:
        waits = pauses(thread)
        if len(waits) >= 2:
            periods.append((waits[-1].t_out - waits[0].t_out) / (len(waits) - 1))
            bursts += _between(thread, waits)
    period_ns = sum(periods) / len(periods) if periods else 1e9
    return [Timer(period_ms=max(0.1, period_ns / 1e6), program=_ticking(this, role, bursts))]


def _helping(this: _Fit, role: RoleSeen) -> list[Timer]:
    """What a thread does each time it is woken; its period means nothing."""
    bursts = [burst for thread in role.work for burst in _between(thread, thread.parks)]
    return [Timer(period_ms=1.0, program=_ticking(this, role, bursts))]


def _between(thread: ThreadWork, pauses: list[Event]) -> list[list[Event]]:
    """What a thread calls before each of its pauses."""
    pause_ids = {id(pause) for pause in pauses}
    bursts: list[list[Event]] = []
    burst: list[Event] = []
    for event in thread.events:
        if id(event) in pause_ids:
            bursts.append(burst)
            burst = []
        else:
            burst.append(event)
    return bursts


def _ticking(this: _Fit, role: RoleSeen, bursts: list[list[Event]]) -> list[Op]:
    """The program of a thread between two of its pauses."""
    program: list[Op] = []
    if any(bursts):
        work = _pseudo(b"periodic", bursts)
        amounts = this.book.rare_amounts()
        program = fit_program(work, amounts, this.book.namer(b"periodic", 0.0), this.placement, deferred=False)
    # What the thread does right after its sleep, before any call, comes first.
    woken = this.book.after(role.wait_nr)
    if woken is not None:
        program = [Op(kind=OpKind.COMPUTE, block=woken), *program]
    return program


def _process(this: _Fit, index: int, roles: list[Role]) -> Process:
    process = this.roles.processes[index]
    serving = any(this.roles.roles[r].serves or this.roles.roles[r].accepts for r in process.roles)
    opens = this.catalog.opens
    if not serving and len(this.roles.processes) > 1:
        opens = this.catalog.opens_for(timer.program for r in process.roles for timer in roles[r].timers)
    siblings = len(process.pids) if process.parent >= 0 else 1
    parents = len(this.roles.processes[process.parent].pids) if process.parent >= 0 else 1
    return Process(
        parent=process.parent, count=max(1, round(siblings / parents)), roles=process.roles, open_at_start=opens
    )


def _brief(this: _Fit, roles: list[Role]) -> list[ProcessSeen]:
    """The processes that live for one connection."""
    born = {role.hand_to for role in roles if role.handover == "spawn_process"}
    pids = {pid for process in this.roles.processes if set(process.roles) & born for pid in process.pids}
    return [p for p in this.evidence.observation.native.processes if p.pid in pids]


_NOBODY = Obj("none", 0)
