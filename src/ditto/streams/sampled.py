"""What a service executes, estimated from samples of the CPU clock: for services that no instrument can run.

A sample stands for the time between two of them; it belongs to what its thread executes after the call that it made
last.  From there on a few instructions are decoded, along the way that the code goes when no condition holds.  So the
instruction mix, the accesses and transfers of each instruction, and the lines of code are known; how many instructions
there are follows from the time at a rate that is usual, and is corrected by measured CPU time later.  How far apart
touches of the same line are, and instructions that depend on each other, is not to be seen in samples:
`ditto.streams.usual` has what is put in its place.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from iced_x86 import Decoder, FlowControl, Instruction

from ditto.artifacts.samples import Samples
from ditto.artifacts.work import Work
from ditto.streams import usual
from ditto.streams.cycles import Cycle
from ditto.streams.events import Event, Stream
from ditto.streams.lens_read import decode
from ditto.streams.segments import Segment, SegmentKey

NO_CLASS = b"none"
WINDOW = 24
"""Instructions decoded from a sample on."""
MAX_BYTES = 15 * WINDOW
FEW = 60
"""Samples of a segment below which what it is made of is taken from all segments together."""
_CALLS = (FlowControl.CALL, FlowControl.INDIRECT_CALL)
_INDIRECT = (FlowControl.INDIRECT_BRANCH, FlowControl.INDIRECT_CALL)
_ENDS = (FlowControl.RETURN, FlowControl.INDIRECT_BRANCH, FlowControl.INDIRECT_CALL, FlowControl.INTERRUPT,
         FlowControl.EXCEPTION)  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A sample, and the call of its thread that came before."""

    event: Event
    pid: int
    ip: int


def place(stream: Stream, samples: Samples) -> list[Placed]:
    """Find the call before each sample, and set the gaps of all events: instructions by the samples that follow them.

    Samples outside the recorded window, and of threads that made no call in it, are left out.
    """
    rows: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    begin, end = stream.window_ns
    for t_ns, ip, pid, tid in samples.samples.tolist():
        if begin <= t_ns <= end:
            rows[tid].append((t_ns, pid, ip))
    each = samples.period_ns * usual.INSTRUCTIONS_PER_NS
    placed = []
    for tid, events in stream.threads.items():
        returned = [event.t_out for event in events]
        for event in events:
            event.gap = 0.0
        for t_ns, pid, ip in rows[tid]:
            at = bisect_right(returned, t_ns) - 1
            if at >= 0:
                events[at].gap += each
                placed.append(Placed(events[at], pid, ip))
    return placed


@dataclass
class _Seen:
    """What was decoded at some samples.

    Attributes:
        samples: how many.
        mix: instructions by iform class; all other counts are of the same instructions.
        lines: samples by line of code.
        sites: conditional and indirect branches, by address.
    """

    samples: int = 0
    mix: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    lines: Counter[int] = field(default_factory=Counter)
    sites: dict[str, set[int]] = field(default_factory=lambda: {"branches": set(), "indirect": set()})

    @property
    def instructions(self) -> int:
        return sum(self.mix.values())

    def add(self, other: _Seen) -> None:
        self.samples += other.samples
        self.mix.update(other.mix)
        self.counts.update(other.counts)
        self.lines.update(other.lines)
        for kind, sites in other.sites.items():
            self.sites[kind] |= sites

    def footprint(self) -> float:
        """Lines of code in use: those that were seen, and as many more as those seen once or twice tell of (Chao)."""
        often = Counter(self.lines.values())
        return len(self.lines) + often[1] ** 2 / (2 * max(1, often[2]))


def path(samples: Samples, pid: int, ip: int, length: int = WINDOW) -> Iterator[Instruction]:
    """Instructions from ``ip`` on through direct jumps and calls, as if no condition held, to where that is unknown."""
    while length > 0:
        code = samples.code_at(pid, ip, MAX_BYTES)
        for instruction in Decoder(64, code, ip=ip):
            if not instruction or instruction.next_ip - ip > len(code):
                return
            yield instruction
            length -= 1
            flow = instruction.flow_control
            if flow in _ENDS or length <= 0:
                return
            if flow in (FlowControl.UNCONDITIONAL_BRANCH, FlowControl.CALL):
                ip = instruction.near_branch_target
                break
        else:
            return


def _seen_at(samples: Samples, pid: int, ip: int) -> _Seen:
    seen = _Seen(samples=1)
    line = -1
    for instruction in path(samples, pid, ip):
        decoded = decode(instruction)
        seen.mix[decoded.iform] += 1
        seen.counts["loads"] += decoded.load_count
        seen.counts["stores"] += decoded.store_count
        for touched in range(instruction.ip >> 6, (instruction.next_ip - 1 >> 6) + 1):
            seen.counts["touches"] += touched != line
            seen.lines[touched] = 1
            line = touched
        flow = instruction.flow_control
        if flow != FlowControl.NEXT:
            line = -1  # what is entered touches its line anew
        if flow == FlowControl.CONDITIONAL_BRANCH:
            seen.counts["branches"] += 1
            seen.sites["branches"].add(instruction.ip)
        seen.counts["calls"] += flow in _CALLS
        if flow in _INDIRECT:
            seen.counts["indirect"] += 1
            seen.sites["indirect"].add(instruction.ip)
    return seen


def _work(seen: _Seen, instructions: float, footprint: float, request: float) -> Work:
    """Work of so many instructions.

    Args:
        footprint: lines of code that a request runs through.
        request: instructions of a request.
    """
    scale = instructions / max(1, seen.instructions)
    loads, stores = seen.counts["loads"] * scale, seen.counts["stores"] * scale
    touches = seen.counts["touches"] * scale
    whole = touches * request / max(1.0, instructions)
    branches = seen.counts["branches"] * scale
    return Work(
        instructions=instructions,
        mix={name: count / seen.instructions for name, count in sorted(seen.mix.items())},
        loads=loads,
        stores=stores,
        load_distance=[share * loads for share in usual.LOAD_DISTANCE],
        store_distance=[share * stores for share in usual.STORE_DISTANCE],
        page_distance=[share * (loads + stores) for share in usual.PAGE_DISTANCE],
        code_distance=[share * touches for share in usual.code_distance(footprint, whole)],
        code_touches=touches,
        stride_share=usual.STRIDE_SHARE,
        branches=branches,
        branch_bins=[share * branches for share in usual.branch_bins()],
        branch_sites=float(len(seen.sites["branches"])),
        predictor_misses=usual.MISSES_PER_BRANCH * branches,
        indirect=seen.counts["indirect"] * scale,
        indirect_sites=float(len(seen.sites["indirect"])),
        indirect_targets=usual.INDIRECT_TARGETS,
        indirect_misses=usual.MISSES_PER_INDIRECT * seen.counts["indirect"] * scale,
        calls=seen.counts["calls"] * scale,
        raw=usual.READ_AFTER_WRITE,
        war=usual.WRITE_AFTER_READ,
        waw=usual.WRITE_AFTER_WRITE,
        chase_share=usual.CHASE_SHARE,
        code_lines=footprint,
    )


def segments_of(
    placed: list[Placed], stream: Stream, requests: Mapping[bytes, Sequence[Cycle]], samples: Samples
) -> Mapping[SegmentKey, Segment]:
    """What was executed, by class and the call before, as `ditto.streams.segments` gives it of an instruction run."""
    classes = {event.index: key for key, cycles in requests.items() for cycle in cycles for event in cycle.events}
    decoded: dict[tuple[int, int], _Seen] = {}
    parts: dict[SegmentKey, _Seen] = defaultdict(_Seen)
    for one in placed:
        where = (one.pid, one.ip)
        if where not in decoded:
            decoded[where] = _seen_at(samples, *where)
        parts[classes.get(one.event.index, NO_CLASS), one.event.nr].add(decoded[where])
    visits = Counter(
        (classes.get(event.index, NO_CLASS), event.nr) for events in stream.threads.values() for event in events
    )
    each = samples.period_ns * usual.INSTRUCTIONS_PER_NS
    every = _Seen()
    for part in parts.values():
        every.add(part)
    if not every.instructions:
        return {}
    footprint = every.footprint()
    request = every.samples * each / max(1, sum(map(len, requests.values())))
    return {
        key: Segment(
            visits[key],
            _work(
                part if part.samples >= FEW and part.instructions else every,
                part.samples * each / visits[key],
                footprint,
                request,
            ),
        )
        for key, part in sorted(parts.items())
    }
