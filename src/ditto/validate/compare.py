"""From runs to records: which metrics there are, what is asked of each, and how each was had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ditto.artifacts.fidelity import NOT_AVAILABLE, Record, Samples
from ditto.artifacts.syscalls import name_of
from ditto.artifacts.verdict import Bound
from ditto.host.limits import DiskUse
from ditto.validate.counting import RECEIVES, SENDS, WAITS, Counting
from ditto.validate.runs import Side, TimedRun
from ditto.validate.statistics import make_record

THROUGHPUT = Bound(relative=0.10)
CPU = Bound(relative=0.10)
SYSCALLS = Bound(relative=0.03, absolute=0.01)
WAITING = Bound(relative=0.03, absolute=0.01, noise_multiple=2.0)
BYTES = Bound(relative=0.01)
DISK = Bound(relative=0.10, absolute=0.01)
INSTRUCTIONS = Bound(relative=0.05)
FOREIGN = Bound(absolute=0.0)

RARE = 0.01
"""Calls per request below which a system call's error is absolute."""


@dataclass(frozen=True)
class Figures:
    """Records and the samples behind them."""

    records: tuple[Record, ...] = ()
    raw: tuple[tuple[str, Samples], ...] = ()

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.records + other.records, self.raw + other.raw)


def figure(
    metric: str,
    unit: str,
    group: str,
    samples: Samples,
    how: str,
    bound: Bound | None = None,
    near_zero: float = 0.0,
    seed: int = 1,
) -> Figures:
    """One record with its samples; see `ditto.validate.statistics.make_record`."""
    record = make_record(metric, unit, group, samples, how, bound, near_zero, seed)
    return Figures((record,), ((metric, samples),))


def missing(metric: str, unit: str, group: str, why: str, bound: Bound | None = None) -> Figures:
    """A record that could not be had."""
    return Figures((Record(metric=metric, unit=unit, group=group, bound=bound, how=NOT_AVAILABLE + why),))


@dataclass(frozen=True)
class _Timed:
    metric: str
    unit: str
    group: str
    value: Callable[[TimedRun], float]
    how: str
    bound: Bound | None = None
    near_zero: float = 0.0
    of_client: bool = False
    """It is as much the client's as the server's."""


_SPLIT = "by samples of the CPU clock, or where these are not permitted by the kernel's accounting"
_PER_REQUEST = "difference over the client's run, divided by its requests"
_TIMED = (
    _Timed(
        "throughput.saturation", "requests/s", "throughput", lambda r: r.requests / r.seconds,
        "measured: requests of the client over its wall time, start to end", THROUGHPUT, of_client=True,
    ),
    _Timed(
        "cpu.ns_per_request", "ns", "cpu", lambda r: r.usage.run_s * 1e9 / r.requests,
        f"measured: the scheduler's run time of all server threads, {_PER_REQUEST}", CPU,
    ),
    _Timed(
        "cpu.user_ns_per_request", "ns", "cpu", lambda r: r.usage.split_user_s * 1e9 / r.requests,
        f"measured: the run time's share in user mode, {_SPLIT}", CPU,
    ),
    _Timed(
        "cpu.system_ns_per_request", "ns", "cpu",
        lambda r: (r.usage.run_s - r.usage.split_user_s) * 1e9 / r.requests,
        f"measured: the run time's share in the kernel, {_SPLIT}", CPU,
    ),
    _Timed(
        "cpu.cores_busy", "cores", "cpu", lambda r: r.usage.run_s / r.seconds,
        "measured: run time of the server over the client's wall time", of_client=True,
    ),
    _Timed(
        "switches.voluntary_per_request", "switches", "scheduling", lambda r: r.usage.voluntary / r.requests,
        f"measured: /proc, {_PER_REQUEST}", None, 1e-5,
    ),
    _Timed(
        "switches.involuntary_per_request", "switches", "scheduling", lambda r: r.usage.involuntary / r.requests,
        f"measured: /proc, {_PER_REQUEST}", None, 1e-5,
    ),
    _Timed(
        "faults.minor_per_request", "faults", "memory", lambda r: r.usage.minor_faults / r.requests,
        f"measured: /proc, {_PER_REQUEST}", None, 1e-3,
    ),
    _Timed(
        "faults.major_per_request", "faults", "memory", lambda r: r.usage.major_faults / r.requests,
        f"measured: /proc, {_PER_REQUEST}", None, 1e-5,
    ),
    _Timed(
        "memory.resident_bytes", "bytes", "memory", lambda r: float(r.resident_bytes),
        "measured: resident pages of all server processes at the end of the client's run, counted once a process",
    ),
)  # fmt: skip


_TWO_CLIENTS = (
    "the app's own client cannot talk to the clone, whose protocol has no codec, nor can its requests be sent again: "
    "each side has a client of its own, and is as fast as that"
)


def timed_figures(
    runs: Sequence[TimedRun], seed: int, throughput: Bound = THROUGHPUT, two_clients: bool = False
) -> Figures:
    """Records of the timed runs, in a fixed order.

    Args:
        throughput: asked of the requests a second.
        two_clients: original and clone are driven by programs of different speeds.
    """
    total = Figures()
    counted = all(run.usage.disk is not None for run in runs)
    for item in (*_TIMED, *(_DISKS if counted else ())):
        if two_clients and item.of_client:
            total += missing(item.metric, item.unit, item.group, _TWO_CLIENTS, item.bound)
            continue
        samples = Samples(
            original=_values(runs, "original", item),
            clone=_values(runs, "clone", item),
            empty_body=_values(runs, "empty_body", item),
        )
        bound = throughput if item.group == "throughput" else item.bound
        total += figure(item.metric, item.unit, item.group, samples, item.how, bound, item.near_zero, seed)
    return total


_GROUP = "measured: what the servers' control group asked disks for, over the client's run, divided by its requests"
_DISKS = (
    _Timed("disk.reads_per_request", "operations", "disk", lambda r: _disk(r).reads / r.requests, _GROUP, DISK, 1e-3),
    _Timed(
        "disk.read_bytes_per_request", "bytes", "disk", lambda r: _disk(r).read_bytes / r.requests, _GROUP, DISK, 4.0
    ),
    _Timed("disk.writes_per_request", "operations", "disk", lambda r: _disk(r).writes / r.requests, _GROUP, DISK, 1e-3),
    _Timed(
        "disk.write_bytes_per_request", "bytes", "disk", lambda r: _disk(r).write_bytes / r.requests, _GROUP, DISK, 4.0
    ),
)


def _disk(run: TimedRun) -> DiskUse:
    return run.usage.disk or DiskUse()


def _values(runs: Sequence[TimedRun], side: Side, item: _Timed) -> list[float]:
    return [item.value(run) for run in runs if run.side == side]


def counted_figures(counting: Counting, seed: int) -> Figures:
    """Records of the counting runs: bytes, then each system call, the original's most frequent first."""
    if not counting.runs:
        why = counting.unavailable[0].why if counting.unavailable else "calls were not counted"
        return (
            missing("bytes.sent_per_request", "bytes", "bytes", why, BYTES)
            + missing("bytes.received_per_request", "bytes", "bytes", why, BYTES)
            + missing("syscalls.total", "calls", "syscalls", why, SYSCALLS)
            + missing("syscalls.foreign_types", "types", "syscalls", why, FOREIGN)
        )
    how = "measured: calls seen by the kernel's tracepoints, counted over the client's run, divided by its requests"
    moved = "measured: bytes that {} calls moved (files included), over the client's run, divided by its requests"
    total = figure(
        "bytes.sent_per_request", "bytes", "bytes", counting.byte_samples(SENDS), moved.format("write and send"),
        BYTES, 0.01, seed,
    ) + figure(
        "bytes.received_per_request", "bytes", "bytes", counting.byte_samples(RECEIVES),
        moved.format("read and receive"), BYTES, 0.01, seed,
    )  # fmt: skip
    apart = f"{how}; calls that wait for events, locks or time are left out, for timing decides their number"
    total += figure("syscalls.total", "calls", "syscalls", _all_calls(counting), apart, SYSCALLS, RARE, seed)
    total += _foreign(counting)
    for row in counting.table():
        waiting = row.nr in WAITS
        note = "; its number depends on timing" if waiting else ""
        bound = WAITING if waiting else SYSCALLS
        total += figure(
            f"syscalls.{name_of(row.nr)}", "calls", "syscalls", counting.samples(row.nr), how + note, bound, RARE, seed
        )
    return total


def _all_calls(counting: Counting) -> Samples:
    """All calls but those that wait: how many of these there are is decided by timing."""

    def of(side: Side) -> list[float]:
        return [
            sum(value.calls for number, value in run.calls.items() if number not in WAITS) / run.requests
            for run in counting.of(side)
        ]

    return Samples(original=of("original"), clone=of("clone"), empty_body=of("empty_body"))


def _foreign(counting: Counting) -> Figures:
    known = {number for run in counting.of("original") for number in run.calls}

    def of(side: Side) -> list[float]:
        return [float(len(set(run.calls) - known)) for run in counting.of(side)]

    samples = Samples(original=of("original"), clone=of("clone"), empty_body=of("empty_body"))
    how = "measured: kinds of system calls under load that the original made in none of its runs"
    return figure("syscalls.foreign_types", "types", "syscalls", samples, how, FOREIGN)
