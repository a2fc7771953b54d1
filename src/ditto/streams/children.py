"""Processes that requests start and that end by themselves, such as one that writes its parent's data to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditto.artifacts.syscalls import numbers
from ditto.streams.events import RECEIVES, SENDS, Obj, is_wait

if TYPE_CHECKING:
    from ditto.streams.cycles import ThreadWork, Work
    from ditto.streams.events import Event

FORKS = numbers("clone", "clone3", "fork", "vfork")
CHILD = "child"
"""Kind of the object that marks the call which starts such a process."""
_ENDS = numbers("exit", "exit_group")
_EXECS = numbers("execve", "execveat")


def find_children(work: Work) -> None:
    """Note such processes in ``work.children``; the calls that start them are marked: ``target`` is of kind child.

    A process is one if it is a copy of its parent, made within a request, that serves nobody, waits for nothing and
    has ended.  One that executes another program is not.
    """
    mark = Obj(CHILD, 0)
    for thread in list(work.threads.values()):
        for cycle in thread.cycles:
            for event in cycle.events:
                child = work.threads.get(event.ret) if event.nr in FORKS and event.ret > 0 else None
                if child is not None and child.pid == child.tid and _works_alone(child):
                    event.target = mark
                    work.children[child.pid] = child


def starts(event: Event) -> bool:
    """Whether a call starts such a process."""
    return event.target is not None and event.target.kind == CHILD


def _works_alone(child: ThreadWork) -> bool:
    return (
        not (child.cycles or child.accepts)
        and bool(child.events)
        and child.events[-1].nr in _ENDS
        and not any(event.nr in _EXECS or is_wait(event) or _moves(event) for event in child.events)
    )


def _moves(event: Event) -> bool:
    on = event.obj.kind if event.obj is not None else ""
    return event.nr in RECEIVES | SENDS and on in ("connection", "downstream")
