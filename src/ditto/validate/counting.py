"""The counting runs: system calls and bytes per request of each side.  Not timed, for counting itself costs time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from ditto.artifacts.fidelity import Dropped, RoleCount, Samples, SyscallRow, ThreadLine, Timeline, Unavailable
from ditto.artifacts.syscalls import name_of, numbers
from ditto.errors import MissingCapabilityError
from ditto.host.in_turn import Length
from ditto.host.progress import Progress
from ditto.host.recorder import CallCounter, CallCounts, Calls
from ditto.host.requests import Passes, count_requests, data_receives, passes_of
from ditto.host.timeline import Task, ThreadWatch, tasks_of
from ditto.validate.runs import Side, Sides

SENDS = numbers("write", "writev", "sendto", "sendmsg", "sendmmsg", "sendfile", "splice", "pwrite64", "pwritev")
RECEIVES = numbers("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "pread64", "preadv")
MOVES = SENDS | RECEIVES
ACCEPTS = numbers("accept", "accept4")
WAITS = numbers(
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6", "futex", "nanosleep",
    "clock_nanosleep", "sched_yield", "io_uring_enter",
)  # fmt: skip


@dataclass(frozen=True)
class CountedRun:
    """Counts of one run of the client.

    Attributes:
        requests: made by the client.
        calls: by number, summed over threads.
        roles: live threads by what they did, and how many.
        lost: calls that could not be counted.
        lines: the threads that were looked at, and when each ran; empty where none were.
        line_ms: milliseconds of one part of their time.
    """

    side: Side
    requests: float
    calls: dict[int, Calls]
    roles: dict[str, int]
    lost: int
    lines: tuple[ThreadLine, ...] = ()
    line_ms: float = 0.0

    def per_request(self, number: int) -> float:
        """Calls per request."""
        return self.calls.get(number, Calls()).calls / self.requests

    def bytes_per_request(self, of: frozenset[int]) -> float:
        """Bytes per request that these calls moved."""
        return sum(value.bytes for number, value in self.calls.items() if number in of) / self.requests


@dataclass(frozen=True)
class Counting:
    """All counting runs, in the order they were made."""

    runs: tuple[CountedRun, ...] = ()
    passes: Passes = field(default_factory=Passes)
    unavailable: tuple[Unavailable, ...] = ()

    def of(self, side: Side) -> list[CountedRun]:
        """The runs of one side."""
        return [run for run in self.runs if run.side == side]

    def numbers(self) -> list[int]:
        """Every system call that any side made, by number."""
        return sorted({number for run in self.runs for number in run.calls})

    def samples(self, number: int) -> Samples:
        """Calls per request of one system call in each run."""
        return Samples(
            original=[run.per_request(number) for run in self.of("original")],
            clone=[run.per_request(number) for run in self.of("clone")],
            empty_body=[run.per_request(number) for run in self.of("empty_body")],
        )

    def byte_samples(self, of: frozenset[int]) -> Samples:
        """Bytes per request of these calls in each run."""
        return Samples(
            original=[run.bytes_per_request(of) for run in self.of("original")],
            clone=[run.bytes_per_request(of) for run in self.of("clone")],
            empty_body=[run.bytes_per_request(of) for run in self.of("empty_body")],
        )

    def dropped(self) -> list[Dropped]:
        """Calls that were not counted, by side."""
        names: dict[Side, str] = {"original": "original", "clone": "clone", "empty_body": "empty body"}
        return [
            Dropped(what=f"system calls not counted ({name})", count=sum(run.lost for run in self.of(side)))
            for side, name in names.items()
            if self.of(side)
        ]

    def table(self) -> list[SyscallRow]:
        """Means over the runs of each side, the most frequent call of the original first."""
        rows = [self._row(number) for number in self.numbers()]
        return sorted(rows, key=lambda row: (-row.original, -row.clone, row.nr))

    def _row(self, number: int) -> SyscallRow:
        def mean(side: Side, name: str) -> float:
            values = [getattr(run.calls.get(number, Calls()), name) / run.requests for run in self.of(side)]
            return sum(values) / len(values) if values else 0.0

        moves = number in MOVES
        return SyscallRow(
            name=name_of(number),
            nr=number,
            original=mean("original", "calls"),
            clone=mean("clone", "calls"),
            empty_body=mean("empty_body", "calls") if self.of("empty_body") else None,
            original_bytes=mean("original", "bytes") if moves else 0.0,
            clone_bytes=mean("clone", "bytes") if moves else 0.0,
            original_again=mean("original", "again"),
            clone_again=mean("clone", "again"),
        )

    def role_counts(self) -> list[RoleCount]:
        """Threads of original and clone by what they did, from the last run of each."""
        if not self.of("original") or not self.of("clone"):
            return []
        a, b = self.of("original")[-1].roles, self.of("clone")[-1].roles
        return [RoleCount(name=n, original=a.get(n, 0), clone=b.get(n, 0)) for n in _ROLES if a.get(n) or b.get(n)]

    def timeline(self) -> Timeline | None:
        """When the threads of both sides ran; None where they were not looked at."""
        seen = {side: next((run for run in self.of(side) if run.lines), None) for side in ("original", "clone")}
        a, b = seen["original"], seen["clone"]
        if a is None or b is None:
            return None
        return Timeline(
            original_ms=a.line_ms,
            clone_ms=b.line_ms,
            original=_busiest(a.lines),
            clone=_busiest(b.lines),
            original_more=max(0, len(a.lines) - MOST_LINES),
            clone_more=max(0, len(b.lines) - MOST_LINES),
        )


MOST_LINES = 24
FIRST_LOADS = 2
"""Most of the requests before those that are counted, for each of these: a server of few requests is counted sooner."""
LINE_PARTS = 80


def _busiest(lines: Sequence[ThreadLine]) -> list[ThreadLine]:
    """The busiest threads, by role and then by how busy they were."""
    kept = sorted(lines, key=lambda line: -sum(line.busy))[:MOST_LINES]
    return sorted(kept, key=lambda line: (_ROLES.index(line.role), -sum(line.busy)))


_ROLES = ("accepts and serves", "serves", "accepts", "works in the background", "idle")


def _role_of(calls: dict[int, Calls], requests: float) -> str:
    received = sum(v.calls - v.again for n, v in calls.items() if n in RECEIVES)
    accepted = sum(v.calls - v.again for n, v in calls.items() if n in ACCEPTS)
    serves = received >= max(10.0, requests / 1000)
    if serves:
        return "accepts and serves" if accepted else "serves"
    if accepted:
        return "accepts"
    return "works in the background" if calls else "idle"


def roles_of(counts: CallCounts, tasks: set[Task], requests: float) -> dict[Task, str]:
    """What each thread did: ``tasks`` are the live (process, thread) pairs, silent ones included."""
    by_task: dict[Task, dict[int, Calls]] = {task: {} for task in tasks}
    for (pid, tid, number), value in counts.counts.items():
        if (pid, tid) in by_task:
            by_task[pid, tid][number] = value
    return {task: _role_of(calls, requests) for task, calls in by_task.items()}


def counted_run(
    sides: Sides, side: Side, length: Length, passes: Passes | None, pattern: str | None, watched: bool = False
) -> tuple[CountedRun, Passes]:
    """Start one side, fill it, and count the calls of one run of the client; its threads are ``watched`` or not.

    What a database reads and writes for a request becomes less as its cache and log fill, so the client's requests are
    counted after those that were not recorded either when the service was observed.
    Without ``passes`` they are found from this run's receives; they come back with the run.

    Raises:
        AppError: the side or the client failed.
        MissingCapabilityError: calls cannot be counted here.
        RecordingError: the collector failed.
    """
    asked = length.asked
    with sides.run_of(side) as run:
        run.prepare()
        if asked is not None:
            run.load(min(sides.spec.load.first_requests, FIRST_LOADS * asked))
        with CallCounter(run.pids()) as counter:
            before = counter.snapshot()
            watch = ThreadWatch(run)
            with watch if watched else nullcontext():
                result = length.load(run)
            counts = counter.snapshot() - before
            tasks = set(tasks_of(run.pids()))
    calls = counts.by_call()
    if passes is None:
        named = {name_of(n): (float(v.calls), float(v.bytes), float(v.again)) for n, v in calls.items()}
        passes = passes_of(data_receives(named), asked) if asked else Passes()
    requests = count_requests(result, asked, pattern, passes).requests
    roles = roles_of(counts, tasks, requests)
    lines: list[ThreadLine] = []
    if watched:
        busy = watch.busy(LINE_PARTS)
        lines = [ThreadLine(role=role, busy=busy[task].tolist()) for task, role in roles.items() if task in busy]
    line_ms = 1e3 * watch.seconds / LINE_PARTS
    return CountedRun(side, requests, calls, dict(Counter(roles.values())), counts.lost, tuple(lines), line_ms), passes


def count_sides(
    sides: Sides, length: Length, passes: Passes | None, pattern: str | None, progress: Progress
) -> Counting:
    """The counting runs: original and clone twice, in turn, the original once more, and the empty body once.

    Two runs of the original alone are alike by chance too often for what they differ by to be its spread.

    Raises:
        AppError: a side or the client failed.
        RecordingError: the collector failed.
    """
    order: list[Side] = ["original", "clone", "original", "clone", "original"]
    if sides.empty_body:
        order.append("empty_body")
    runs: list[CountedRun] = []
    for number, side in enumerate(order):
        progress.update(f"counting calls: {side.replace('_', ' ')}", number / len(order))
        try:
            watched = number >= 2 and side != "empty_body"
            counted, passes = counted_run(sides, side, length, passes, pattern, watched)
        except MissingCapabilityError as error:
            missing = Unavailable(what="system calls and bytes per request", why=error.message, remedy=error.remedy)
            return Counting(passes=passes or Passes(), unavailable=(missing,))
        runs.append(counted)
    return Counting(tuple(runs), passes or Passes())
