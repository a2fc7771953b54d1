"""Bodies from samples of the CPU clock, for services that no instrument can run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.observation import NativeRun, load_observation
from ditto.artifacts.profile import load_profile
from ditto.artifacts.records import HEADER, RECORD, Kind, Mode, Recording
from ditto.artifacts.samples import PAGE, PAGE_BYTES, SAMPLE, Samples, load_samples
from ditto.errors import AppError, BadInputError, DittoError, FormatVersionError, MissingCapabilityError, RecordingError
from ditto.host.code_samples import CodeSampler
from ditto.host.progress import SilentProgress
from ditto.observe import stage
from ditto.paths import lens_directory
from ditto.streams import sampled, usual
from ditto.streams.events import Descriptors, Event, Stream
from ditto.streams.evidence import Wire, load_evidence
from ditto.streams.started import gone_before_load

SERVER = Path(__file__).parent / "data" / "refuses.c"
AT = 0x401000
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
needs_lens = pytest.mark.skipif(
    shutil.which("valgrind") is None or not (lens_directory() / "lens-amd64-linux").is_file(),
    reason="valgrind is not installed, or the lens is not built",
)


def samples_with(code: bytes, rows: list[tuple[int, int, int]] = [], at: int = AT) -> Samples:  # noqa: B006
    """Samples (time, address, thread) of process 7, whose code is at ``at``, the page after it unknown."""
    page = np.zeros((1, PAGE_BYTES), np.uint8)
    page[0, at % PAGE_BYTES : at % PAGE_BYTES + len(code)] = np.frombuffer(code, np.uint8)
    return Samples(
        1000,
        np.array([(t, ip, 7, tid) for t, ip, tid in rows], SAMPLE),
        np.array([(at & -PAGE_BYTES, 7)], PAGE),
        page,
    )


def words(code: bytes, at: int = AT, length: int = 16) -> list[str]:
    return [str(i).split()[0] for i in sampled.path(samples_with(code, at=at), 7, at, length)]


def test_the_way_goes_through_jumps_and_calls_and_no_condition_holds() -> None:
    code = bytes.fromhex("eb01 cc e801000000 cc 7502 90 ffc0 75fc 48890f c3".replace(" ", ""))
    way = ["jmp", "call", "jne", "nop", "inc", "jne", "mov", "ret"]
    assert words(code) == way and words(code, length=3) == way[:3]


@pytest.mark.parametrize(
    ("code", "way"), [("90c390", ["nop", "ret"]), ("ffe090", ["jmp"]), ("90ff1090", ["nop", "call"])]
)
def test_the_way_ends_where_it_is_unknown(code: str, way: list[str]) -> None:
    assert words(bytes.fromhex(code)) == way


def test_an_instruction_that_is_not_all_known_ends_the_way() -> None:
    end = (AT & -PAGE_BYTES) + PAGE_BYTES - 3
    assert words(bytes.fromhex("90b801"), at=end) == ["nop"]
    assert list(sampled.path(samples_with(b""), 7, 0x999999)) == []


def stream_of(calls: list[tuple[int, int, int]]) -> Stream:
    """Calls (thread, begin, end) of process 7 in a window from 0 to 100,000."""
    threads: dict[int, list[Event]] = {}
    for number, (tid, begin, end) in enumerate(calls):
        event = Event(7, tid, number, 0, (0,) * 6, begin, end)
        event.index = number
        threads.setdefault(tid, []).append(event)
    return Stream(threads, [], {}, {}, set(), (0, 100_000), Descriptors([]))


def test_samples_belong_to_the_call_before_them_and_are_its_gap() -> None:
    stream = stream_of([(1, 0, 10), (1, 500, 600), (2, 0, 50)])
    rows = [(5, AT, 1), (20, AT, 1), (400, AT, 1), (700, AT, 1), (60, AT, 2), (60, AT, 3), (200_000, AT, 1)]
    placed = sampled.place(stream, samples_with(b"\x90", rows))
    assert [(one.event.tid, one.event.nr) for one in placed] == [(1, 0), (1, 0), (1, 1), (2, 2)]
    each = 1000 * usual.INSTRUCTIONS_PER_NS
    assert [event.gap for events in stream.threads.values() for event in events] == [2 * each, each, each]


def test_segments_have_the_mix_of_the_code_and_the_time_of_the_samples() -> None:
    stream = stream_of([(1, 0, 10), (1, 90_000, 90_001)])
    code = bytes.fromhex("488b07488907ffc0c3")  # a load, a store, inc, ret
    samples = samples_with(code, [(20 + n, AT, 1) for n in range(80)])
    segments = sampled.segments_of(sampled.place(stream, samples), stream, {}, samples)
    ((key, segment),) = segments.items()
    assert key == (b"none", 0) and segment.visits == 1
    work = segment.work
    assert work.instructions == 80_000 * usual.INSTRUCTIONS_PER_NS
    assert work.mix == {"arith_r": 0.25, "ret": 0.25, "mov_l": 0.25, "mov_s": 0.25}
    assert work.loads == work.instructions / 2 and work.stores == work.instructions / 4 and work.branches == 0
    assert sum(work.load_distance) == pytest.approx(work.loads)
    assert sum(work.code_distance) == pytest.approx(work.code_touches)


def test_code_comes_back_at_the_distance_of_the_lines_in_use() -> None:
    shares = usual.code_distance(200.0, 2000.0)
    assert sum(shares) == pytest.approx(1.0) and shares[8] == pytest.approx(0.1) and not any(shares[9:])
    assert sum(usual.code_distance(5000.0, 10.0)) == pytest.approx(1.0) and min(usual.code_distance(1.0, 1.0)) >= 0
    for one in (usual.LOAD_DISTANCE, usual.STORE_DISTANCE, usual.PAGE_DISTANCE, usual.branch_bins()):
        assert sum(one) == pytest.approx(1.0)


def test_samples_are_private_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    samples_with(b"\x90\xc3", [(5, AT, 1)]).save(path)
    again = load_samples(path)
    assert again.code_at(7, AT, 2) == b"\x90\xc3" and again.period_ns == 1000 and again.samples["tid"].tolist() == [1]
    assert path.stat().st_mode & 0o077 == 0


def test_samples_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    with pytest.raises(BadInputError, match="no samples"):
        load_samples(path)
    path.write_bytes(b"something else")
    with pytest.raises(BadInputError, match="no samples"):
        load_samples(path)
    np.savez(path, version=9)
    with pytest.raises(FormatVersionError, match="9"):
        load_samples(path)
    np.savez(
        path, version=1, period_ns=1, samples=np.zeros(1), pages=np.zeros(1, PAGE), code=np.zeros((1, 2), np.uint8)
    )
    with pytest.raises(BadInputError, match="damaged"):
        load_samples(path)


SPIN = "int main(void) { for (volatile long i = 0; ; i++) ; }"


@needs_gcc
def test_where_a_program_runs_and_its_code(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(SPIN)
    subprocess.run(["gcc", "-O1", "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    code = (tmp_path / "p").read_bytes()
    with subprocess.Popen([tmp_path / "p"]) as process:
        try:
            with CodeSampler([process.pid]) as sampler, pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.6)
        finally:
            process.kill()
    made = sampler.made()
    if sampler.reason:
        assert made is None
        pytest.skip(sampler.reason)
    assert made is not None and len(made.samples) > 50
    assert {int(pid) for pid in made.samples["pid"]} == {process.pid}
    ips, counts = np.unique(made.samples["ip"], return_counts=True)
    assert made.code_at(process.pid, int(ips[np.argmax(counts)]), 8) in code
    assert sampler.made([1]) is None


def rows_of(rows: list[tuple[int, Kind, int, int, bytes]]) -> Recording:
    """Records (time, kind, process, parent or mode, program)."""
    records = np.zeros(len(rows), RECORD)
    for record, (t, kind, pid, other, name) in zip(records, rows, strict=True):
        record["t_ns"], record["kind"], record["pid"], record["tid"] = t, kind, pid, pid
        record["payload_len"] = min(64, len(name) + 1) if name else 0
        record["payload"] = np.frombuffer(name[:63].ljust(64, b"\0"), "V64")[0]
        if kind == Kind.BIRTH:
            record["args"][1] = other
        elif kind == Kind.MARK:
            record["nr"] = other
    return Recording("ebpf", 0, records)


def test_programs_that_ended_before_the_load_are_told_from_those_that_became_the_service() -> None:
    long = b"/opt/" + b"x" * 80
    start: list[tuple[int, Kind, int, int, bytes]] = [
        (1, Kind.EXEC, 10, 0, b"/bin/sh"),  # a script that becomes the server
        (2, Kind.EXEC, 10, 0, b"/usr/sbin/server"),
        (3, Kind.BIRTH, 11, 10, b""),
        (4, Kind.EXEC, 11, 0, b"/usr/bin/gcc"),
        (5, Kind.BIRTH, 12, 11, b""),
        (6, Kind.EXEC, 12, 0, long),
        (7, Kind.EXIT, 12, 0, b""),
        (8, Kind.EXIT, 11, 0, b""),
        (9, Kind.BIRTH, 13, 10, b""),  # leaves a daemon and ends
        (10, Kind.EXEC, 13, 0, b"/usr/bin/launcher"),
        (11, Kind.BIRTH, 14, 13, b""),
        (12, Kind.EXIT, 13, 0, b""),
        (13, Kind.BIRTH, 15, 10, b""),
        (14, Kind.EXEC, 15, 0, b"/bin/sh"),
        (15, Kind.EXIT, 15, 0, b""),
    ]
    load: list[tuple[int, Kind, int, int, bytes]] = [
        (20, Kind.MARK, 0, Mode.ALL, b""),
        (21, Kind.BIRTH, 16, 10, b""),
        (22, Kind.EXEC, 16, 0, b"/usr/bin/cgi"),
        (23, Kind.EXIT, 16, 0, b""),
    ]
    assert gone_before_load(rows_of(start + load)) == [f"{long[:63].decode()}*", "/usr/bin/gcc"]
    assert gone_before_load(rows_of(start)) == []


@pytest.mark.parametrize(
    "error",
    [AppError("it ended"), RecordingError("wrote nothing"), MissingCapabilityError("valgrind: command not found")],
)
def test_what_does_not_run_under_valgrind_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: DittoError
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(stage, "run_under_lens", fails)
    tmp_path.joinpath("app.toml").write_text(APP)
    header = np.zeros(1, HEADER)
    header["magic"], header["version"], header["record_size"] = 0x43455244, 1, RECORD.itemsize
    header.tofile(tmp_path / "r")
    native = NativeRun(
        recording="r",
        collector="ebpf",
        records=0,
        lost=0,
        seconds=1,
        connections=1,
        port=1,
        descriptors=[],
        processes=[],
    )
    notes: list[str] = []
    spec = load_app(tmp_path / "app.toml")
    assert stage.lens_of(spec, tmp_path, Wire("http1", False, False), native, notes, SilentProgress()) is None
    (note,) = notes
    assert note.startswith("no instruction run") and error.message in note and "\n" not in note
    assert ("lens_command" in note) == (not isinstance(error, MissingCapabilityError))


APP = """
name = "refuses"
[service]
command = ["./refuses", "{port}"]
port = 7090
[load]
command = ["redis-benchmark", "-p", "{port}", "-q", "-n", "{requests}", "-c", "8", "-d", "64", "-t", "set"]
requests = { native = 60000, lens = 3000 }
connections = 8
"""
needs_redis_benchmark = pytest.mark.skipif(
    shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed"
)


def ditto(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ditto", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refuses")
    subprocess.run(["gcc", "-O2", "-o", folder / "refuses", SERVER], check=True)
    (folder / "app.toml").write_text(APP)
    (folder / "tolerant.toml").write_text(APP.replace('"{port}"]\nport', '"{port}", "tolerant"]\nport'))
    return folder / "app.toml"


def mix_of(folder: Path, counted: bool) -> dict[str, float]:
    """Instructions by class of all segments of an observation."""
    observation = load_observation(folder)
    if not counted:
        observation = observation.model_copy(update={"lens": None})
    total: dict[str, float] = {}
    for segment in load_evidence(folder, observation).segments.values():
        for name, share in segment.work.mix.items():
            total[name] = total.get(name, 0.0) + share * segment.instructions
    whole = sum(total.values())
    return {name: value / whole for name, value in total.items()}


@pytest.mark.slow
@needs_gcc
@needs_lens
@needs_redis_benchmark
def test_the_estimated_mix_is_near_the_counted_one(app: Path, tmp_path: Path) -> None:
    assert ditto("observe", app.parent / "tolerant.toml", "-o", tmp_path).returncode == 0
    folder = tmp_path / "observation"
    if not load_observation(folder).native.samples:
        pytest.skip("the CPU clock may not be sampled here")
    counted, estimated = mix_of(folder, True), mix_of(folder, False)
    names = counted.keys() | estimated.keys()
    assert sum(abs(counted.get(n, 0.0) - estimated.get(n, 0.0)) for n in names) / 2 < MIX_BOUND


MIX_BOUND = 0.22
"""Half the sum of differences; measured 0.16 for this program, 0.07 to 0.15 for others."""


@pytest.mark.slow
@needs_gcc
@needs_lens
@needs_redis_benchmark
def test_an_app_that_refuses_valgrind_is_cloned(app: Path, tmp_path: Path) -> None:
    done = ditto("clone", app, "-o", tmp_path, "--rounds", "1", "--seconds", "0.5", "--cpu-seconds", "12")
    assert done.returncode == 0, done.stderr
    assert "refuses does not run under valgrind" in done.stderr and "lens_command" in done.stderr
    if not load_observation(tmp_path / "observation").native.samples:
        pytest.skip("the CPU clock may not be sampled here")
    assert "the clone's body is modelled" in done.stderr
    service = load_profile(tmp_path / "profile.json").services[0]
    assert service.body == "sampled" and service.blocks
    assert sum(b.instructions * b.runs_per_request for b in service.blocks) > 5000
    unavailable = json.loads((tmp_path / "fidelity.json").read_text())["unavailable"]
    assert any(row["why"].startswith("modelled: from samples") for row in unavailable)
    assert "modelled from samples of the CPU clock" in (tmp_path / "report.html").read_text()


@pytest.fixture
def served(app: Path) -> Iterator[tuple[int, int]]:
    """A running server: its process and its port."""
    port = 7091
    with subprocess.Popen([app.parent / "refuses", str(port)]) as process:
        yield process.pid, port
        process.kill()


@pytest.mark.slow
@needs_gcc
@needs_redis_benchmark
def test_a_running_process_has_a_body_too(served: tuple[int, int], tmp_path: Path) -> None:
    pid, port = served
    with subprocess.Popen(
        ["redis-benchmark", "-p", str(port), "-q", "-l", "-n", "10000", "-c", "4", "-d", "64", "-t", "set"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as client:  # fmt: skip
        try:
            done = ditto("observe", "--pid", str(pid), "--seconds", "2", "-o", tmp_path)
        finally:
            client.kill()
    if done.returncode == MissingCapabilityError.exit_code:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    done = ditto("model", tmp_path)
    assert done.returncode == 0, done.stderr
    service = load_profile(tmp_path / "profile.json").services[0]
    if os.geteuid() == 0:
        assert service.body == "sampled" and service.blocks
