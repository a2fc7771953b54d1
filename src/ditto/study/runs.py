"""The runs of a study: both sides, started anew and filled, under one change (or, for a sweep of rates, all of them).

Where the app permits it both stand at once and are loaded in parts that take turns, so that what else the machine does
is no part of the error of a change; else, and where memory is limited or threads are counted, one after the other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Literal

from ditto.artifacts.app import AppSpec
from ditto.artifacts.plan import Arrivals
from ditto.artifacts.study import Setting
from ditto.artifacts.study_kind import StudyKind
from ditto.errors import AppError, MissingCapabilityError
from ditto.host import commands
from ditto.host.app import AppRun, Wrap
from ditto.host.census import Census
from ditto.host.cgroup import ControlGroup
from ditto.host.drive import clone_plan
from ditto.host.in_turn import in_turn
from ditto.host.loadgen import LATE_NS, LoadMeasured, Offered, drive, percentile
from ditto.host.stress import Neighbour, on_cpu, require_stressor
from ditto.host.usage import use_by_service
from ditto.study.settings import Change, Scale

Side = Literal["original", "clone"]
SIDES: tuple[Side, ...] = ("original", "clone")
Readings = dict[str, float]

THROUGHPUT, CPU, SERVED, HELD = "throughput", "cpu", "served", "memory.held"
PROCESSES, THREADS = "processes", "threads"
PACED_SHARE = 0.3
"""Of the rate that the original reaches alone: low enough for a server that has half a core left."""
_PERCENTILES = (50.0, 95.0, 99.0)
_WARM_S = 0.5
_PART_S = 0.5
"""Of a run, in turn with those of the other side; five periods of a quota."""
_CONTROLLERS = {StudyKind.CORES: ("cpu",), StudyKind.TIERS: ("cpu",), StudyKind.MEMORY: ("memory",)}


@dataclass(frozen=True)
class Placement:
    """CPUs of server, load and neighbour; the same for both sides."""

    server: int
    client: int
    neighbour: int

    @property
    def shared(self) -> bool:
        """Whether load and neighbour have one CPU between them."""
        return self.client == self.neighbour

    @property
    def text(self) -> str:
        """For people."""
        yields = ", which leaves it to the load whenever that wants it" if self.shared else ""
        return (
            f"server on CPU {self.server}, load on CPU {self.client}, neighbour on CPU {self.neighbour}{yields}, "
            f"or on CPU {self.server}"
        )


@dataclass(frozen=True)
class Bench:
    """What every run of a study needs.

    Attributes:
        clone: the clone's command with ``{port}``, or, of several services, the app with their clones in their place.
        plan: the requests to send.
        seconds: measured in each run.
        placement: where the kind of study pins; None elsewhere.
        late: told of settings where the load generator itself was behind its schedule.
    """

    kind: StudyKind
    spec: AppSpec
    clone: tuple[str, ...] | AppSpec
    plan: Path
    connections: int
    seconds: float
    placement: Placement | None
    late: Callable[[Setting], None]

    @property
    def together(self) -> bool:
        """Whether both sides stand at once."""
        return self.spec.may_stand_twice and self.kind in (StudyKind.CORES, StudyKind.INTERFERENCE)

    def run_of(self, side: Side, wrap: Wrap | None, service: str | None = None) -> AppRun:
        """A run of one side, not started; ``wrap`` is for the one service of several, or for all."""
        if side == "original":
            return AppRun(self.spec, wrap=wrap, only=service)
        if isinstance(self.clone, AppSpec):
            return AppRun.for_application(self.clone, wrap, only=service)
        return AppRun.for_clone(self.spec, self.clone, wrap=wrap)

    def drive(self, run: AppRun, rate: float | None, seconds: float, connections: int | None = None) -> LoadMeasured:
        """Offer a closed loop, or Poisson arrivals at a rate, and see that the server has lived through it."""
        connections = connections or self.connections
        kind = Arrivals.CLOSED if rate is None else Arrivals.POISSON
        offered = Offered(arrivals=kind, rate=rate, connections=connections, seconds=seconds, warmup=0.0)
        before = on_cpu(self.placement.client) if self.placement else []
        plan = clone_plan(self.plan) if run.is_clone else self.plan
        measured = drive(plan, run.port, offered, run.host, before)
        run.check_alive()
        return measured


def placement_of(kind: StudyKind) -> Placement | None:
    """Where things run: pinned in the interference study only.

    Raises:
        MissingCapabilityError: there is one CPU only, or a program is missing.
    """
    if kind is not StudyKind.INTERFERENCE:
        return None
    require_stressor()
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise MissingCapabilityError(
            "one CPU only: there is no neighbouring core", "let ditto use two CPUs or more (taskset shows which)"
        )
    return Placement(server=cpus[0], client=cpus[2] if len(cpus) > 2 else cpus[1], neighbour=cpus[1])


def scale_of(bench: Bench) -> Scale:
    """What the original reaches in a closed loop, alone and without a limit.

    Raises:
        AppError: it failed, or answered nothing.
    """
    with ExitStack() as stack:
        groups = _groups(bench, SIDES[:1], stack)
        run = stack.enter_context(bench.run_of("original", _wrap(bench, groups[0] if groups else None)))
        run.prepare()
        bench.drive(run, None, _WARM_S)
        before = use_by_service(run)
        began = time.monotonic()
        measured = bench.drive(run, None, bench.seconds)
        took = time.monotonic() - began
        after = use_by_service(run)
        if not measured.received:
            raise AppError(
                f"{bench.spec.name} answered none of the requests", "run the load by hand against the server"
            )
        cores = {name: (use.run_s - before[name].run_s) / took for name, use in after.items()}
        return Scale(measured.rate, run.memory().rss_bytes, cores)


def readings(
    bench: Bench, change: Change, scale: Scale, tell: Callable[[Sequence[Side]], None]
) -> dict[Side, Readings]:
    """Figures of one run of each side under one change, by metric.

    A server that the kernel ended because its memory ran out is a result, of no throughput; its latencies are missing.

    Args:
        tell: called with the sides that are run next.

    Raises:
        AppError: side, load or neighbour failed in another way.
    """
    found: dict[Side, Readings] = {}
    for sides in (SIDES,) if bench.together else ((side,) for side in SIDES):
        tell(sides)
        found |= _readings(bench, sides, change, scale)
    return found


def _readings(bench: Bench, sides: Sequence[Side], change: Change, scale: Scale) -> dict[Side, Readings]:
    with ExitStack() as stack:
        groups = _groups(bench, sides, stack)
        if change.memory_bytes is not None:
            for group in groups:
                group.limit_memory(change.memory_bytes)
        try:
            found = _served(bench, sides, change, scale, groups)
        except AppError:
            if change.memory_bytes is None or not any(group.kills() for group in groups):
                raise
            return {side: {THROUGHPUT: 0.0, HELD: float(groups[0].memory_peak()), SERVED: 0.0} for side in sides}
        if bench.kind is StudyKind.MEMORY:
            for side, group in zip(sides, groups, strict=True):
                found[side] |= {HELD: float(group.memory_peak()), SERVED: 1.0}
        return found


def _served(
    bench: Bench, sides: Sequence[Side], change: Change, scale: Scale, groups: Sequence[ControlGroup]
) -> dict[Side, Readings]:
    with ExitStack() as stack:
        runs = []
        for number, side in enumerate(sides):
            group = groups[number] if bench.placement is None and groups else None
            run = stack.enter_context(bench.run_of(side, _wrap(bench, group), change.service))
            run.prepare()
            if group is not None and change.cores is not None:
                group.limit_cpu(change.cores)
            runs.append(run)
        neighbour = _neighbour(bench, runs[0], change, groups[0] if groups else None)
        for run in runs:
            bench.drive(run, None, _WARM_S, change.connections)
        if bench.kind is StudyKind.CONNECTIONS:
            with Census(runs[0]) as census:
                found = _measured(bench, runs, change, None, "closed")
            found[0] |= {PROCESSES: census.processes, THREADS: census.threads}
        else:
            found = _measured(bench, runs, change, None, "closed")
        if bench.kind is StudyKind.INTERFERENCE:
            paced = _measured(bench, runs, change, PACED_SHARE * scale.rate, "paced")
            for values, more in zip(found, paced, strict=True):
                values |= {name: value for name, value in more.items() if name.startswith("latency.")}
        if neighbour is not None:
            neighbour.check()
    return dict(zip(sides, found, strict=True))


def _neighbour(bench: Bench, run: AppRun, change: Change, group: ControlGroup | None) -> Neighbour | None:
    if bench.placement is None or change.stressor is None:
        return None
    if change.same_core:
        return Neighbour(run, change.stressor, bench.placement.server)
    if group is not None:
        group.yield_cpu()
    return Neighbour(run, change.stressor, bench.placement.neighbour, group)


def sweep(bench: Bench, side: Side, changes: Sequence[Change], step: Callable[[Change], None]) -> list[Readings]:
    """Figures of one side at every rate, one after the other on a server that is started once.

    Args:
        step: called before each rate.
    """
    with bench.run_of(side, None) as run:
        run.prepare()
        bench.drive(run, None, _WARM_S)
        found = []
        for change in changes:
            step(change)
            found += _measured(bench, [run], change, change.rate, "paced")
        return found


def _measured(bench: Bench, runs: Sequence[AppRun], change: Change, rate: float | None, name: str) -> list[Readings]:
    """Figures of each of the runs, which are loaded in turn."""
    parts = max(1, round(bench.seconds / _PART_S)) if len(runs) > 1 else 1
    loads: dict[AppRun, list[LoadMeasured]] = {run: [] for run in runs}
    used = dict.fromkeys(runs, 0.0)
    for run in in_turn(runs, parts):
        before = run.cpu_times().run_s
        loads[run].append(bench.drive(run, rate, bench.seconds / parts, change.connections))
        used[run] += run.cpu_times().run_s - before
    return [_figures(bench, change, reduce(add, loads[run]), used[run], name) for run in runs]


def _figures(bench: Bench, change: Change, load: LoadMeasured, used: float, name: str) -> Readings:
    if load.late_p99_ns > LATE_NS:
        bench.late(change.setting)
    values = {THROUGHPUT: load.rate}
    if load.received and bench.kind is not StudyKind.TIERS:
        values[CPU] = used / load.received * 1e9
    if load.received:
        for percent in _PERCENTILES:
            values[f"latency.{name}.p{percent:g}"] = percentile(load.corrected, percent) / 1000
    return values


def _groups(bench: Bench, sides: Sequence[Side], stack: ExitStack) -> list[ControlGroup]:
    """The groups that a study needs: one for the server of each side, or one for a neighbour on the CPU of the load."""
    if bench.placement is not None:
        return [stack.enter_context(ControlGroup(("cpu",)))] if bench.placement.shared else []
    controllers = _CONTROLLERS.get(bench.kind)
    return [stack.enter_context(ControlGroup(controllers)) for _ in sides] if controllers else []


def _wrap(bench: Bench, group: ControlGroup | None) -> Wrap | None:
    placement = bench.placement
    if placement is None:
        return group.wrap if group is not None else None
    pin = on_cpu(placement.server)
    pin[0] = commands.require_program(pin)
    return lambda command, environment: ([*pin, *command], environment)
