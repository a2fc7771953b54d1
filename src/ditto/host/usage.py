"""What a tree of processes used of the machine so far: CPU, context switches, page faults, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ditto.host.app import AppRun
from ditto.host.counters import Counters, Counts, Event
from ditto.host.cpu_clock import CpuClock
from ditto.host.ended import EndedTasks, family_of, switches_of
from ditto.host.limits import DiskUse
from ditto.host.process import CpuTimes, cpu_times, memory, threads_of


@dataclass(frozen=True)
class Usage:
    """Totals since the processes began; the difference of two is what was used between them, and such add up.

    Attributes:
        run_s: user and system CPU together, in the scheduler's own nanoseconds.
        user_s, system_s: split by the kernel's accounting.
        voluntary, involuntary: context switches of the threads that are alive; a `Meter` adds those that ended.
        minor_faults, major_faults: page faults, also of threads that ended and of children that were waited for.
        user_share: of ``run_s``, by samples of the CPU clock; None where there are none.
        disk: what disks were asked for; None where that is not counted.
        counts: of hardware counters; None where these were not asked for.
    """

    run_s: float
    user_s: float
    system_s: float
    voluntary: float
    involuntary: float
    minor_faults: float
    major_faults: float
    user_share: float | None = None
    disk: DiskUse | None = None
    counts: Counts | None = None

    def __sub__(self, earlier: Usage) -> Usage:
        return Usage(
            self.run_s - earlier.run_s,
            self.user_s - earlier.user_s,
            self.system_s - earlier.system_s,
            self.voluntary - earlier.voluntary,
            self.involuntary - earlier.involuntary,
            self.minor_faults - earlier.minor_faults,
            self.major_faults - earlier.major_faults,
            disk=self.disk - earlier.disk if self.disk is not None and earlier.disk is not None else None,
        )

    def __add__(self, other: Usage) -> Usage:
        both = self.run_s + other.run_s
        shares = [part.user_share for part in (self, other)]
        disks = [part.disk for part in (self, other)]
        counts = [part.counts for part in (self, other)]
        return Usage(
            both,
            self.user_s + other.user_s,
            self.system_s + other.system_s,
            self.voluntary + other.voluntary,
            self.involuntary + other.involuntary,
            self.minor_faults + other.minor_faults,
            self.major_faults + other.major_faults,
            user_share=None if None in shares or both <= 0 else (self.split_user_s + other.split_user_s) / both,
            disk=None if disks[0] is None or disks[1] is None else disks[0] + disks[1],
            counts=None if counts[0] is None or counts[1] is None else counts[0] + counts[1],
        )

    @property
    def split_user_s(self) -> float:
        """The user part of ``run_s``: by samples, or else divided as the kernel's user and system times are."""
        if self.user_share is not None:
            return self.run_s * self.user_share
        both = self.user_s + self.system_s
        return self.run_s * self.user_s / both if both > 0 else 0.0


@dataclass(frozen=True)
class ServiceUse:
    """One service of several.

    Attributes:
        run_s: CPU time since its processes began, in the scheduler's own nanoseconds.
        resident_bytes: now.
    """

    run_s: float
    resident_bytes: int


def use_by_service(run: AppRun) -> dict[str, ServiceUse]:
    """What each service of a run used so far, by its name."""
    found = {}
    for server in run.services:
        processes = server.processes()
        found[server.name] = ServiceUse(cpu_times(processes).run_s, memory(processes).rss_bytes)
    return found


class Meter:
    """What a run's processes use while it is entered: `usage`, once that is over.

    `born` is how many processes began meanwhile, as far as the kernel tells.

    Args:
        run: what is running.
        events: that hardware counters are to count.
    """

    def __init__(self, run: AppRun, events: Sequence[Event] = ()) -> None:
        self._run = run
        self._events = events
        self._counters: Counters | None = None
        self._clock = CpuClock()
        self._ended = EndedTasks()
        self._before: Usage | None = None
        self._pids: set[int] = set()
        self.usage = Usage(0, 0, 0, 0, 0, 0, 0)
        self.born = 0

    def __enter__(self) -> Meter:
        self._ended.__enter__()
        self._before = read_usage(self._run)
        self._pids = set(self._run.pids())
        if self._events:
            self._counters = Counters(self._pids, self._events).__enter__()
        self._clock.__enter__()
        return self

    def __exit__(self, *what: object) -> None:
        if self._counters is not None:
            self._counters.__exit__(*what)
        pids = self._pids | set(self._run.pids())
        self._ended.__exit__(None, None, None)
        after = read_usage(self._run)
        self._clock.__exit__(None, None, None)
        if self._before is not None:
            used = after - self._before
            voluntary, involuntary = switches_of(self._ended.found, pids)
            self.born = len((pids | family_of(self._ended.found, pids)) - self._pids)
            self.usage = replace(
                used,
                voluntary=used.voluntary + voluntary,
                involuntary=used.involuntary + involuntary,
                user_share=self._clock.user_share(pids),
                counts=self._counters.counts if self._counters is not None else None,
            )


class MeterEach:
    """User CPU seconds of each service of a run while it is entered: `user_s` by name, once that is over."""

    def __init__(self, run: AppRun) -> None:
        self._run = run
        self._clock = CpuClock()
        self._before: dict[str, ServiceUse] = {}
        self._split: dict[str, CpuTimes] = {}
        self.user_s: dict[str, float] = {}

    def __enter__(self) -> MeterEach:
        self._before = use_by_service(self._run)
        self._split = self._times()
        self._clock.__enter__()
        return self

    def __exit__(self, *what: object) -> None:
        after, times = use_by_service(self._run), self._times()
        pids = {server.name: [p.pid for p in server.processes()] for server in self._run.services}
        self._clock.__exit__(None, None, None)
        for name, use in after.items():
            share = self._clock.user_share(pids[name])
            if share is None:
                split = times[name] - self._split[name]
                share = split.user_s / max(1e-9, split.user_s + split.system_s)
            self.user_s[name] = (use.run_s - self._before[name].run_s) * share

    def _times(self) -> dict[str, CpuTimes]:
        return {server.name: cpu_times(server.processes()) for server in self._run.services}


def read_usage(run: AppRun) -> Usage:
    """Usage of all live processes of a run now."""
    cpu = run.cpu_times()
    voluntary = involuntary = minor = major = 0
    for pid in run.pids():
        for tid in threads_of(pid):
            yes, no = _switches(Path(f"/proc/{pid}/task/{tid}"))
            voluntary += yes
            involuntary += no
        faults = _faults(pid)
        minor += faults[0]
        major += faults[1]
    return Usage(cpu.run_s, cpu.user_s, cpu.system_s, voluntary, involuntary, minor, major, disk=run.disk_use())


def thread_count(run: AppRun) -> tuple[int, int]:
    """Live processes and threads of a run."""
    pids = run.pids()
    return len(pids), sum(len(threads_of(pid)) for pid in pids)


def _switches(task: Path) -> tuple[int, int]:
    try:
        lines = (task / "status").read_text(errors="replace").splitlines()
    except OSError:
        return 0, 0
    values = dict(line.split(":", 1) for line in lines if "ctxt_switches:" in line)
    return int(values.get("voluntary_ctxt_switches", 0)), int(values.get("nonvoluntary_ctxt_switches", 0))


def _faults(pid: int) -> tuple[int, int]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0, 0
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[7]) + int(fields[8]), int(fields[9]) + int(fields[10])
