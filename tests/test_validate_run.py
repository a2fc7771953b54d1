"""Whole comparisons: an app against itself in the place of its clone, and against one that does more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app_parts import processes_in, write_app
from ditto.artifacts.app import AppSpec
from ditto.artifacts.fidelity import Fidelity
from ditto.artifacts.verdict import Verdict
from ditto.errors import BadInputError
from ditto.report import render
from ditto.validate import ValidateOptions, validate


def clone_of(spec: AppSpec, folder: Path, change: str = "") -> Path:
    """A folder like a built clone's whose program is the app's own server, with a line before its replies."""
    server = (spec.folder / "server.py").read_text()
    assert "    data = c.recv(100)\n" in server
    (folder / "build").mkdir(parents=True)
    (folder / "server.py").write_text(server.replace("    data = c.recv(100)\n", f"    data = c.recv(100)\n{change}"))
    program = folder / "build" / "clone"
    program.write_text(
        f'#!/bin/sh\n[ "$1" = --port ] || exit 9\n[ $# -eq 2 ] || [ "$3" = --skeleton ] || exit 9\n'
        f'exec {sys.executable} {folder / "server.py"} "$2"\n'
    )
    program.chmod(0o755)
    return folder


QUICK = ValidateOptions(rounds=2, seconds=0.3, instructions=False, latency=False)


def compare(spec: AppSpec, clone: Path, **options: object) -> Fidelity:
    """A short comparison."""
    return validate(spec, clone, ValidateOptions(**{**QUICK.__dict__, **options}))


@pytest.mark.ebpf
def test_two_clients_tell_nothing_of_throughput(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    load = spec.load.model_copy(update={"clone_command": ("/usr/bin/env", *spec.load.command)})
    spec = spec.model_copy(update={"load": load})
    fidelity = compare(spec, clone_of(spec, tmp_path / "clone"))
    for metric in ("throughput.saturation", "cpu.cores_busy"):
        record = fidelity.record(metric)
        assert record is not None and record.clone is None and record.verdict is Verdict.NOT_AVAILABLE
        assert "client of its own" in record.how
    assert (cpu := fidelity.record("cpu.ns_per_request")) is not None and cpu.error is not None


@pytest.mark.ebpf
def test_an_app_against_itself_makes_the_same_calls_and_moves_the_same_bytes(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    fidelity = compare(spec, clone_of(spec, tmp_path / "clone"), latency=True)
    for name in ("accept4", "recvfrom", "sendto", "close"):
        record = fidelity.record(f"syscalls.{name}")
        assert record is not None and record.original is not None and record.error is not None
        assert record.original == pytest.approx(1.0, abs=0.02)
        assert abs(record.error) < 0.02
        assert record.verdict in (Verdict.INSIDE_NOISE, Verdict.INSIDE_BOUND)
    sent = fidelity.record("bytes.sent_per_request")
    assert sent is not None and sent.original == pytest.approx(4.0, abs=0.05)  # "ping"
    foreign = fidelity.record("syscalls.foreign_types")
    assert foreign is not None and foreign.clone == 0
    assert [(r.name, r.original, r.clone) for r in fidelity.roles] == [("accepts and serves", 1, 1)]
    # The generator may well be late on a busy machine, which is no loss.
    assert all(d.count == 0 for d in fidelity.dropped if "late" not in d.what)
    assert [(p.share, p.offered is None) for p in fidelity.latency] == [
        (0.25, False), (0.5, False), (0.75, False), (1.0, True),
    ]  # fmt: skip
    for point in fidelity.latency[:3]:
        assert point.original.rate == pytest.approx(point.offered, rel=0.15)
        assert sorted(point.original.median_ns) == point.original.median_ns
    p99 = fidelity.record("latency.p99_at_50")
    assert p99 is not None and p99.original is not None and 1 < p99.original < 1e6 and p99.noise is not None
    assert fidelity.conditions.order == "A B C A B C"
    assert len(fidelity.raw["cpu.ns_per_request"].empty_body) == 2
    assert "accept4" in render(fidelity)
    assert not processes_in(tmp_path)


@pytest.mark.ebpf
def test_a_clone_that_does_more_is_found_out(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    change = "    os.getppid(); os.stat('/'); os.stat('/')\n"
    fidelity = compare(spec, clone_of(spec, tmp_path / "clone", change), empty_body=False)
    foreign = fidelity.record("syscalls.foreign_types")
    assert foreign is not None and foreign.clone == 2 and foreign.verdict is Verdict.OUTSIDE
    extra = fidelity.record("syscalls.getppid")
    assert extra is not None and extra.error_kind == "absolute" and extra.error == pytest.approx(1.0, abs=0.02)
    assert extra.verdict is Verdict.OUTSIDE
    assert "syscalls.getppid" in [r.metric for r in fidelity.beyond()]


def test_without_counting_the_figures_are_there_and_marked(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    fidelity = compare(spec, clone_of(spec, tmp_path / "clone"), count=False, empty_body=False, rounds=1)
    throughput = fidelity.record("throughput.saturation")
    assert throughput is not None and throughput.original is not None and throughput.original > 0
    assert throughput.noise is None and throughput.interval is None  # one run tells nothing of its spread
    total = fidelity.record("syscalls.total")
    assert total is not None and total.verdict is Verdict.NOT_AVAILABLE and total.how.startswith("not available here: ")


def test_a_client_that_cannot_be_relayed_leaves_latency_out_and_says_why(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    load = spec.load.model_copy(update={"command": ["sh", "-c", "echo 100 requests"], "count": r"(\d+) requests"})
    fidelity = compare(
        spec.model_copy(update={"load": load}), clone_of(spec, tmp_path / "clone"),
        latency=True, count=False, empty_body=False, rounds=1,
    )  # fmt: skip
    assert not fidelity.latency
    missing = [u for u in fidelity.unavailable if "latency" in u.what]
    assert len(missing) == 1 and "{port}" in missing[0].why + missing[0].remedy


def test_a_folder_without_a_built_clone_is_refused(tmp_path: Path) -> None:
    spec = write_app(tmp_path)
    with pytest.raises(BadInputError, match="no built clone"):
        validate(spec, tmp_path, QUICK)
