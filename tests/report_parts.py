"""A fidelity file with everything in it, made without running anything."""

from __future__ import annotations

import math

from ditto.artifacts.fidelity import (
    Conditions,
    Curve,
    Dropped,
    Fidelity,
    Histogram,
    LatencyPoint,
    LatencySide,
    MixShare,
    Record,
    RoleCount,
    Samples,
    SyscallRow,
    ThreadLine,
    Timeline,
    TuningRound,
    Unavailable,
)
from ditto.artifacts.machine import Cache, MachineFacts
from ditto.artifacts.verdict import Bound
from ditto.validate.statistics import make_record

HOSTILE = "<script>alert('x')</script>\"&{{ 7*7 }}</title><svg onload=x>"

_SIZES = [64 << step for step in range(22)]


def _curve(name: str, height: float, reach: float) -> Curve:
    def values(factor: float) -> list[float]:
        return [height * math.exp(-step / (reach * factor)) for step in range(len(_SIZES))]

    return Curve(name=name, sizes_bytes=_SIZES, original=values(1), clone=values(1.1), empty_body=values(0.5))


def _point(share: float, offered: float | None) -> LatencyPoint:
    def side(slow: float) -> LatencySide:
        return LatencySide(
            rate=share * 4000.0 / slow,
            median_ns=[1e5 * slow, 3e5 * slow, 2e6 * slow],
            least_ns=[0.9e5, 2e5, 1e6],
            most_ns=[2e5, 5e5, 9e7],
        )

    return LatencyPoint(
        share=share, offered=offered, percents=[50.0, 95.0, 99.0], original=side(1.0), clone=side(1.05)
    )  # fmt: skip


def full_fidelity(app: str = "service-1", text: str = "client -c 20") -> Fidelity:
    """Every verdict, every section; ``text`` stands wherever a text of the app could stand."""
    samples = {
        "throughput.saturation": Samples(original=[800, 805, 795], clone=[810, 812, 801], empty_body=[1100, 1101]),
        "cpu.ns_per_request": Samples(original=[10_000, 10_100, 9_950], clone=[10_900, 11_000, 10_950]),
        "cpu.user_ns_per_request": Samples(original=[3_000, 3_010, 2_990], clone=[4_100, 4_000, 4_200]),
        "cpu.cores_busy": Samples(original=[0.8, 0.81], clone=[0.9, 0.91]),
        "syscalls.read": Samples(original=[1.0, 1.0], clone=[1.001, 1.0], empty_body=[1.0]),
        "syscalls.epoll_wait": Samples(original=[0.2, 0.3], clone=[0.26, 0.24]),
        "syscalls.openat": Samples(original=[0.0, 0.0001], clone=[0.0, 0.0]),
        "bytes.sent_per_request": Samples(original=[41.0, 41.1], clone=[41.0, 41.1]),
    }
    units = {"throughput": "requests/s", "cpu": "ns", "syscalls": "calls", "bytes": "bytes"}
    bounds = {"throughput": 0.1, "cpu": 0.1, "syscalls": 0.03, "bytes": 0.01}
    records = [
        make_record(
            metric, units[group], group, values, "measured: in a test",
            None if metric == "cpu.cores_busy" else Bound(relative=bounds[group], absolute=0.01),
            near_zero=0.001,
        )
        for metric, values in samples.items()
        if (group := metric.partition(".")[0])
    ]  # fmt: skip
    records.append(
        Record(
            metric="instructions.user_per_request", unit="instructions", group="instructions",
            how=f"not available here: {text}",
        )
    )  # fmt: skip
    records.append(Record(metric=f"x.{text}", unit=text, group=text, how=text))
    return Fidelity(
        app=app,
        when="2026-01-02T03:04:05+00:00",
        machine=MachineFacts(
            cpu_model=f"Processor {text}",
            cpus=2,
            cpus_online=2,
            memory_bytes=1 << 34,
            kernel="6.1",
            caches=(Cache(level=1, kind="data", size_bytes=49152, line_bytes=64, ways=12, shared_by_cpus=1),),
        ),
        conditions=Conditions(
            connections=20, rounds=3, seconds=1.0, requests=1000, load=text, counted=text, order="A B C A B C A B C"
        ),
        records=records,
        curves=[_curve("loads", 0.4, 3), _curve("stores", 0.2, 4), _curve("code", 0.6, 5)],
        mix=[
            MixShare(name="load", original=0.3, clone=0.31, empty_body=0.2),
            MixShare(name=text, original=0.7, clone=0.69),
        ],
        histograms=[
            Histogram(name="raw", labels=["1", "more"], original=[0.7, 0.3], clone=[0.75, 0.25], empty_body=[1.0, 0.0]),
            Histogram(name=text, labels=[text, "2"], original=[0.4, 0.6], clone=[0.5, 0.5]),
            Histogram(name="waw", labels=["1"], original=[1.0]),
        ],
        timeline=Timeline(
            original_ms=25.0,
            clone_ms=24.0,
            original=[ThreadLine(role="serves", busy=[0.0, 0.5, 1.0]), ThreadLine(role="idle", busy=[0.0, 0.0, 0.0])],
            clone=[ThreadLine(role=text, busy=[0.1, 0.5, 0.9])],
            clone_more=3,
        ),
        syscall_table=[
            SyscallRow(name="read", nr=0, original=1.0, clone=1.0, original_bytes=90.0, clone_bytes=90.0),
            SyscallRow(name=text, nr=999, original=0.5, clone=0.4, empty_body=0.1),
        ],
        roles=[RoleCount(name="accepts and serves", original=1, clone=1), RoleCount(name=text, original=4, clone=3)],
        latency=[_point(0.25, 1000.0), _point(0.75, 3000.0), _point(1.0, None)],
        tuning=[
            TuningRound(phase="work", number=0, error=-0.6, change="skeleton"),
            TuningRound(phase="work", number=1, error=0.2, change="kept; outside", errors={text: 7.5, "loads": 3}),
            TuningRound(phase="work", number=2, error=0.01, change=f"kept; {text}", errors={text: 0.5, "loads": 1.25}),
            TuningRound(phase="work", number=3, error=0.3, change="dropped", errors={text: 9, "loads": 9}),
            TuningRound(phase=text, number=0, error=0.42, change="as the work left it: kept"),
            TuningRound(phase=text, number=1, error=-0.03, change=f"{text}: kept"),
            TuningRound(phase=text, number=2, error=0.6, change=f"{text}: dropped"),
        ],
        dropped=[Dropped(what=text, count=12345)],
        unavailable=[Unavailable(what="latency", why=text, remedy=text)],
        raw=samples,
    )
