"""The instruction run as a stream: events with the instructions between them, and what the segments are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ditto.artifacts.lens import PREV_START, KeySummary, LensProcess, load_lens
from ditto.artifacts.observation import DescriptorSeen
from ditto.streams.cycles import Work, follow
from ditto.streams.events import Descriptors, Event
from ditto.streams.evidence import Gaps, class_works, known_descriptors, op_gaps, requests_of
from ditto.streams.lens_read import LensReader

SegmentMap = dict[tuple[bytes, int], KeySummary]


@dataclass(frozen=True)
class InstructionRun:
    """One run under lens.

    Attributes:
        processes: as lens saw them.
        work: their events, followed to requests; gaps are instructions.
        gaps: mean work after each operation.
        segments: what was executed, by class and the call before.
    """

    processes: list[LensProcess]
    work: Work
    gaps: Gaps
    segments: SegmentMap

    @property
    def instructions(self) -> int:
        """User instructions counted in all processes."""
        return sum(int(p.instructions.sum()) for p in self.processes)


def read_instruction_run(
    files: Sequence[Path], descriptors: Iterable[DescriptorSeen], codec: str, segments: bool = True
) -> InstructionRun:
    """Read the files of one run under lens.

    Args:
        files: one a process.
        descriptors: open when counting began.
        codec: how requests are told apart.
        segments: whether to work out what the segments are made of (decodes all blocks).

    Raises:
        BadInputError: a file is missing or damaged.
    """
    processes = [load_lens(path) for path in sorted(files)]
    table = Descriptors(known_descriptors(descriptors))
    threads: dict[int, list[Event]] = {}
    for process in processes:
        _add_events(process, table, threads)
    work = follow(threads)
    requests = requests_of(work, codec)
    gaps = op_gaps(class_works(requests), work)
    gaps.instructions = float(sum(int(p.instructions.sum()) for p in processes))
    return InstructionRun(processes, work, gaps, _segments(processes) if segments else {})


def _add_events(process: LensProcess, table: Descriptors, threads: dict[int, list[Event]]) -> None:
    """Turn the events of one process into resolved events, with the gap after each."""
    last: dict[int, Event] = {}
    base = sum(len(events) for events in threads.values())
    names = [process.classes[key.class_id] for key in process.keys]
    for index, row in enumerate(process.events.tolist()):
        serial, key, nr, _, ret, args, instructions = row
        tid = process.threads.get(serial, serial)
        at = base + index
        event = Event(process.pid, tid, nr, ret, (*(int(a) for a in args), 0, 0, 0), at, at)
        event.index = at
        before = last.get(tid)
        if before is not None:
            before.gap = float(instructions)
            if names[key] not in (b"none", b"other"):
                before.cls = names[key]
        last[tid] = event
        table.apply(event)
        threads.setdefault(tid, []).append(event)


def _segments(processes: list[LensProcess]) -> SegmentMap:
    """What was executed after each call in each class; the process that executed most of it speaks for all."""
    found: SegmentMap = {}
    for process in processes:
        groups: dict[tuple[bytes, int], list[int]] = defaultdict(list)
        for index, key in enumerate(process.keys):
            if key.prev_nr != PREV_START and process.instructions[index]:
                groups[(process.classes[key.class_id], key.prev_nr)].append(index)
        reader = LensReader(process)
        for group, keys in sorted(groups.items()):
            summary = reader.summary(keys)
            if group not in found or summary.instructions > found[group].instructions:
                found[group] = summary
    return found
