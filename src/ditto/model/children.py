"""What a process does that a request starts: runs of equal calls, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ditto.artifacts.profile import Op, OpKind, RequestClass, Role, Timer
from ditto.model.classes import Placement, fit_op
from ditto.streams.children import FORKS
from ditto.streams.cycles import Cycle, ThreadWork, Wake, Work
from ditto.streams.events import Event, Obj
from ditto.streams.programs import ClassWork, OpName, OpWork, describe_in, note

MOST_RUNS = 64
"""Of equal calls; where there are more, all equal ones are taken together, in the order of the first."""
MOST_TIMES = 1 << 20


def with_children(
    classes: Sequence[RequestClass], works: Sequence[ClassWork], work: Work, roles: int, placement: Placement
) -> tuple[list[RequestClass], list[Role]]:
    """Classes whose forks name the role of the process they start, and these roles.

    Args:
        classes: as fitted.
        works: what was seen of each.
        work: of all threads.
        roles: how many there are before.
        placement: where files are.
    """
    made: list[Role] = []
    named = []
    for cls, seen in zip(classes, works, strict=True):
        started = [
            work.children[event.ret]
            for cycle in seen.cycles
            for event in cycle.events
            if event.nr in FORKS and event.ret in work.children
        ]
        if started:
            cls = cls.model_copy(update={"program": [_naming(op, roles + len(made)) for op in cls.program]})
            # One of those that did as much as most.
            usual = sorted(started, key=lambda child: len(child.events))[len(started) // 2]
            made.append(Role(kind="child", count=1, wait="blocking", timers=_runs(usual, placement)))
        named.append(cls)
    return named, made


def _naming(op: Op, role: int) -> Op:
    return op.model_copy(update={"a": role}) if op.kind is OpKind.FORK else op


def _runs(child: ThreadWork, placement: Placement) -> list[Timer]:
    cycle = Cycle(Obj("none", 0), child.tid, Wake(child.tid, None, 0), child.events[0], events=child.events)
    slots: dict[Obj, tuple[str, object]] = {}
    unmodelled = ClassWork(b"child")
    named = []
    for event in child.events:
        kind = describe_in(event, cycle, slots, unmodelled)
        if kind is not None and (
            kind[0].startswith("file_") or kind[0] in ("misc", "mmap", "munmap", "madvise", "sleep")
        ):
            named.append((kind, event))
    runs = [(kind, [event for _, event in run]) for kind, run in groupby(named, key=lambda pair: pair[0])]
    return [timer for kind, events in _few(runs) for timer in _timer(OpName(*kind, 0), events, placement)]


_Kind = tuple[str, int, tuple[str, object] | None]


def _few(runs: Sequence[tuple[_Kind, list[Event]]]) -> list[tuple[_Kind, list[Event]]]:
    if len(runs) <= MOST_RUNS:
        return list(runs)
    joined: dict[_Kind, list[Event]] = {}
    for kind, events in runs:
        joined.setdefault(kind, []).extend(events)
    closing = [kind for kind in joined if kind[0] == "file_close"]
    order = [*(kind for kind in joined if kind not in closing), *closing]
    return [(kind, joined[kind]) for kind in order][:MOST_RUNS]


def _timer(name: OpName, events: Sequence[Event], placement: Placement) -> Iterator[Timer]:
    work = OpWork()
    for event in events:
        note(work, event, 0, name.kind)
    op = fit_op(name, work, len(events), placement, deferred=False)
    if op is not None:
        yield Timer(period_ms=1.0, times=min(MOST_TIMES, len(events)), program=[op])
