"""The instruction run as a stream: events with the instructions between them, and what the segments are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ditto.artifacts.lens import LensProcess, load_lens
from ditto.artifacts.observation import DescriptorSeen
from ditto.artifacts.syscalls import numbers
from ditto.streams.cycles import Cycle, Work, follow
from ditto.streams.events import Descriptors, Event
from ditto.streams.evidence import Gaps, Requests, class_key, class_works, known_descriptors, op_gaps, requests_of
from ditto.streams.messages import join_messages
from ditto.streams.peer_waits import find_waits_of_calls
from ditto.streams.segments import Segment, SegmentKey, segments_of

_FORKS = numbers("clone", "clone3", "fork", "vfork")


@dataclass(frozen=True)
class InstructionRun:
    """One run under lens.

    Attributes:
        processes: as lens saw them.
        work: their events, followed to requests; gaps are instructions.
        gaps: mean work after each operation.
        requests: the requests that were answered, by class key.
        segments: what was executed, by class and the call before.
        under_way: how many were not when counting ended, by class key.
    """

    processes: list[LensProcess]
    work: Work
    gaps: Gaps
    requests: Requests
    segments: dict[SegmentKey, Segment]
    under_way: dict[bytes, int] = field(default_factory=dict)

    @property
    def instructions(self) -> int:
        """User instructions counted in all processes."""
        return sum(int(p.instructions.sum()) for p in self.processes)


def read_instruction_run(
    files: Sequence[Path], descriptors: Iterable[DescriptorSeen], codec: str, segments: bool = True, folds: bool = False
) -> InstructionRun:
    """Read the files of one run under lens.

    Args:
        files: one a process.
        descriptors: open when counting began.
        codec: how requests are told apart.
        segments: whether to work out what the segments are made of (decodes all blocks).
        folds: whether digits in paths tell no class, as lens was told.

    Raises:
        BadInputError: a file is missing or damaged.
    """
    processes = [load_lens(path) for path in sorted(files)]
    table = Descriptors(known_descriptors(descriptors))
    threads: dict[int, list[Event]] = {}
    for process in processes:
        _add_events(process, table, threads)
    find_waits_of_calls(threads)
    work = follow(threads)
    join_messages(work)
    open_still = end_answered(work)
    requests = requests_of(work, codec, folds)
    gaps = op_gaps(class_works(requests), work)
    gaps.instructions = float(sum(int(p.instructions.sum()) for p in processes))
    under_way = Counter(class_key(codec, cycle) for cycle in open_still)
    return InstructionRun(processes, work, gaps, requests, segments_of(processes) if segments else {}, dict(under_way))


def end_answered(work: Work) -> list[Cycle]:
    """End what was answered when counting ended, though nothing followed on its connection; returns what was not.

    A slow service answers few requests under an instrument, and the last of each connection is a good part of them.
    """
    left = [cycle for thread in work.threads.values() for cycle in thread.cycles if not cycle.complete]
    for cycle in left:
        cycle.complete = cycle.sent > 0
    return [cycle for cycle in left if not cycle.complete]


def _add_events(process: LensProcess, table: Descriptors, threads: dict[int, list[Event]]) -> None:
    """Turn the events of one process into resolved events, with the gap after each."""
    last: dict[int, Event] = {}
    base = sum(len(events) for events in threads.values())
    names = [process.classes[key.class_id] for key in process.keys]
    for index, row in enumerate(process.events.tolist()):
        serial, key, nr, passed, ret, args, instructions = row
        tid = process.threads.get(serial, serial)
        at = base + index
        six = (*(int(a) for a in args), int(passed > 0), max(0, passed - 1), 0)
        event = Event(process.pid, tid, nr, ret, six, at, at)
        event.index = at
        before = last.get(tid)
        if before is not None:
            before.gap = float(instructions)
            if names[key] not in (b"none", b"other"):
                before.cls = names[key]
        last[tid] = event
        if nr in _FORKS and ret > 0:  # a thread's number is no process' and is never asked for
            table.fork(process.pid, int(ret))
        table.apply(event)
        threads.setdefault(tid, []).append(event)
