"""What the segments of an instruction run are made of, as work of one visit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ditto.artifacts.amounts import Amounts, amounts_of, work_of
from ditto.artifacts.lens import PREV_START, KeySummary, LensProcess
from ditto.artifacts.work import Work
from ditto.streams.lens_read import LensReader

MOST_READ = 24
"""Processes that are looked at for what one kind of segment is made of: a service with one for each connection has
hundreds that do the same, and each takes a second or two to read."""

SegmentKey = tuple[bytes, int]
"""Request class and number of the system call before."""


@dataclass(frozen=True)
class Segment:
    """All visits of one kind of segment, over all threads and processes.

    Attributes:
        visits: how many.
        work: the mean of one.
    """

    visits: int
    work: Work

    @property
    def total(self) -> Amounts:
        """All visits together."""
        return amounts_of(self.work) * self.visits

    @property
    def instructions(self) -> float:
        return self.work.instructions * self.visits


def work_of_summary(summary: KeySummary) -> Work:
    """The mean visit of what a summary holds."""
    scale = 1.0 / max(1, summary.visits)
    total = sum(summary.mix.values()) or 1

    def counts(values: object) -> list[float]:
        return [float(v) * scale for v in np.asarray(values, dtype=np.float64).ravel()]

    def shares(values: object) -> list[float]:
        array = np.asarray(values, dtype=np.float64)
        whole = float(array.sum())
        return [float(v) / whole for v in array] if whole else []

    return Work(
        instructions=summary.instructions * scale,
        mix={name: count / total for name, count in summary.mix.items()},
        loads=summary.loads * scale,
        stores=summary.stores * scale,
        load_distance=counts(summary.load_hist),
        store_distance=counts(summary.store_hist),
        code_distance=counts(summary.code_hist),
        page_distance=counts(summary.page_hist),
        shared_loads=counts(summary.shared_load_hist),
        shared_stores=counts(summary.shared_store_hist),
        code_touches=float(summary.code_hist.sum()) * scale,
        stride_share=_share(summary.stride_share),
        branches=summary.branches * scale,
        branch_bins=counts(summary.branch_bins),
        branch_sites=float(summary.branch_sites),
        predictor_misses=summary.branch_misses * scale,
        indirect=summary.indirect * scale,
        indirect_sites=float(summary.indirect_sites),
        indirect_targets=summary.indirect_targets,
        indirect_misses=summary.jump_misses * scale,
        indirect_shared=summary.jump_shares * scale,
        calls=summary.calls * scale,
        raw=shares(summary.raw),
        war=shares(summary.war),
        waw=shares(summary.waw),
        chase_share=_share(summary.chase_share),
        code_lines=float(summary.code_lines),
        code_set_misses=summary.code_set_misses * scale,
        data_set_misses=summary.data_set_misses * scale,
    )


def segments_of(processes: Sequence[LensProcess]) -> dict[SegmentKey, Segment]:
    """The segments of a run.  What was under way when counting began is left out."""
    made: dict[SegmentKey, list[tuple[int, list[int]]]] = defaultdict(list)
    for number, process in enumerate(processes):
        groups: dict[SegmentKey, list[int]] = defaultdict(list)
        for index, key in enumerate(process.keys):
            if key.prev_nr != PREV_START and process.instructions[index]:
                groups[(process.classes[key.class_id], key.prev_nr)].append(index)
        for group, keys in sorted(groups.items()):
            made[group].append((number, keys))
    read: dict[int, list[tuple[SegmentKey, list[int]]]] = defaultdict(list)
    for group, found in made.items():
        for number, keys in found[:: -(-len(found) // MOST_READ)]:
            read[number].append((group, keys))
    parts: dict[SegmentKey, list[Segment]] = {group: [] for group in made}
    for number in sorted(read):
        reader = LensReader(processes[number])
        for group, keys in read[number]:
            summary = reader.summary(keys)
            parts[group].append(Segment(max(1, summary.visits), work_of_summary(summary)))
    return {group: _of_all(joined(parts[group]), processes, found) for group, found in made.items()}


def _of_all(read: Segment, processes: Sequence[LensProcess], found: Sequence[tuple[int, list[int]]]) -> Segment:
    """What was read of some processes, as often and as much as all of them did it."""
    if len(found) <= MOST_READ:
        return read
    visits = sum(max(1, int(processes[number].visits[keys].sum())) for number, keys in found)
    instructions = sum(int(processes[number].instructions[keys].sum()) for number, keys in found)
    return Segment(visits, scaled(read.work, instructions / visits))


def joined(parts: Sequence[Segment]) -> Segment:
    """Several kinds of segments, or one kind in several processes, as one.

    The heaviest speaks for what cannot be added.
    """
    if len(parts) == 1:
        return parts[0]
    visits = sum(part.visits for part in parts)
    total = parts[0].total
    for part in parts[1:]:
        total = total + part.total
    heaviest = max(parts, key=lambda part: part.instructions)
    return Segment(visits, work_of(total * (1.0 / visits), heaviest.work))


def scaled(work: Work, instructions: float) -> Work:
    """Work of as many ``instructions``, made alike."""
    return work_of(amounts_of(work) * (instructions / max(1e-9, work.instructions)), work)


def _share(value: float) -> float:
    return min(1.0, max(0.0, float(value)))
