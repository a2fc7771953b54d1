"""Studies: figures from recorded values, whole studies of small servers, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app_parts import processes_in, write_app
from ditto import paths
from ditto.artifacts.app import AppSpec
from ditto.artifacts.study import Study, load_studies, load_study, study_file
from ditto.artifacts.study_kind import StudyKind
from ditto.artifacts.verdict import Verdict
from ditto.cli import main as entry
from ditto.errors import BadInputError, FormatVersionError, MissingCapabilityError
from ditto.host import commands
from ditto.host.app import AppRun
from ditto.host.cgroup import PREFIX, ControlGroup, find_places
from ditto.host.stress import Neighbour, Stressor
from ditto.study import StudyOptions, study
from ditto.study.settings import Scale, changes_of
from ditto.study.statistics import change_of, noise_of
from recorded_parts import write_tiers
from study_parts import cores_study, interference_study
from test_application_clone import write_clones
from test_validate_run import clone_of


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run(["make", "-s", "-C", str(paths.native_root() / "loadgen")], check=True, timeout=120)


def need_groups() -> None:
    """Skips, with the reason, where control groups cannot be made."""
    try:
        with ControlGroup(("cpu", "memory")):
            pass
    except MissingCapabilityError as error:
        pytest.skip(str(error))


def groups(pid: int | None = None) -> list[Path]:
    """Control groups of a process, this one without a number."""
    name = f"{PREFIX}{pid or os.getpid()}-*"
    return [path for place in find_places().values() for path in place.folder.glob(name)]


# -- figures ---------------------------------------------------------------------------------------------------


def test_the_error_is_of_the_change() -> None:
    made = cores_study()
    records = {record.setting: record for record in made.of_metric("throughput")}
    half, quarter = records["cores-0.5"], records["cores-0.25"]
    # Twice as fast, and halved like the original: no error, whatever the figures themselves are.
    assert (half.original, half.clone) == (500.0, 1000.0)
    assert half.original_change == pytest.approx(-0.5) and half.clone_change == pytest.approx(-0.5)
    assert half.error_points == pytest.approx(0.0, abs=1e-9)
    assert half.error_factor == pytest.approx(0.0, abs=1e-9)
    assert half.verdict is Verdict.INSIDE_NOISE
    # A quarter takes 75 points of the original, 55 of the clone.
    assert quarter.error_points == pytest.approx(20.0)
    assert quarter.error_factor == pytest.approx(0.8)
    assert quarter.verdict is Verdict.OUTSIDE
    assert quarter.noise_points is not None and quarter.noise_points < 2
    unchanged = records["unlimited"]
    assert unchanged.error_points is None and not unchanged.judged
    latency = made.of_metric("latency.closed.p99")
    assert not any(record.judged for record in latency)
    assert made.beyond(0.1) == [quarter] and made.beyond(0.25) == []


def test_noise_follows_the_originals_own_spread() -> None:
    assert noise_of([50.0], [100.0], "x") is None
    assert noise_of([50.0] * 3, [100.0] * 3, "x") == 0
    # Whole rounds are drawn: what a slow round does to both settings is no noise of the change.
    assert noise_of([50.0, 40.0, 60.0], [100.0, 80.0, 120.0], "x") == pytest.approx(0, abs=1e-9)
    wide = noise_of([50.0, 70.0, 30.0], [100.0, 100.0, 100.0], "x")
    assert wide is not None and 20 < wide < 60
    assert wide == noise_of([50.0, 70.0, 30.0], [100.0, 100.0, 100.0], "x")
    assert change_of([1.0], [0.0]) is None and change_of([], [1.0]) is None
    assert change_of([30.0, 10.0, 20.0], [10.0]) == pytest.approx(1.0)


def test_a_side_that_did_not_live_has_no_latency_and_no_throughput() -> None:
    made = interference_study()
    (_, changed) = made.of_metric("throughput")
    assert changed.original_change == -1.0
    assert changed.clone is None and changed.error_points is None
    assert changed.verdict is Verdict.NOT_AVAILABLE


def test_settings_come_from_what_the_original_reaches() -> None:
    scale = Scale(rate=123_456.0, memory_bytes=100 << 20, cores={"front": 0.8, "idle": 0.01, "back": 0.3})
    tiers = {"front": "tier-1", "idle": "tier-2", "back": "tier-3"}
    for kind in StudyKind:
        changes = changes_of(kind, (), scale, tiers)
        assert sum(change.setting.unchanged for change in changes) == 1
        assert len({change.setting.name for change in changes}) == len(changes)
    loads = changes_of(StudyKind.LOAD, (1.0, 0.4, 0.4), scale, {})
    assert [(change.rate, change.setting.unchanged) for change in loads] == [(49_400.0, True), (123_000.0, False)]
    numbers = changes_of(StudyKind.CONNECTIONS, (64.0, 4.2, 4.0), scale, {})
    assert [(change.connections, change.setting.unchanged) for change in numbers] == [(4, True), (64, False)]
    (_, limit) = changes_of(StudyKind.MEMORY, (0.5,), scale, {})
    assert limit.memory_bytes == 50 << 20
    (_, quota) = changes_of(StudyKind.CORES, (0.3,), scale, {})
    assert quota.cores == 0.3
    (_, *halved) = changes_of(StudyKind.TIERS, (), scale, tiers)
    assert [(change.service, change.cores, change.setting.name) for change in halved] == [
        ("front", 0.4, "tier-1-0.5"),
        ("back", 0.15, "tier-3-0.5"),
    ]
    with pytest.raises(BadInputError, match=r"no service uses 0\.02 cores"):
        changes_of(StudyKind.TIERS, (), Scale(1.0, 1, {"front": 0.0}), {"front": "tier-1"})


# -- files -----------------------------------------------------------------------------------------------------


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = cores_study()
    made.save(study_file(tmp_path, made.kind))
    assert load_study(tmp_path / "study-cores.json") == made
    interference_study().save(study_file(tmp_path, StudyKind.INTERFERENCE))
    assert [found.kind for found in load_studies(tmp_path)] == ["interference", "cores"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"format_version": 9}', "format version 9 found, version 1 expected"),
        ("[]", "format version None found"),
        ('{"format_version": 1, "kind": "tea"}', "kind"),
    ],
)
def test_a_damaged_study_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "study-cores.json"
    path.write_text(text)
    with pytest.raises((BadInputError, FormatVersionError), match=says) as caught:
        load_studies(tmp_path)
    assert str(path) in caught.value.message and caught.value.remedy


# -- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["study"], "Missing argument"),
        (["study", "weather", "a.toml", "clone"], "weather"),
        (["study", "cores", "no-such.toml", "clone"], "no-such.toml: no such file"),
        (["study", "cores", "{app}", "no-clone"], "no built clone"),
        (["study", "cores", "{app}", "{clone}", "--at", "0"], "--at 0 is out of range"),
        (["study", "load", "{app}", "{clone}", "--at", "99"], "--at 99 is out of range"),
        (["study", "interference", "{app}", "{clone}", "--at", "1"], "it has settings of its own"),
        (["study", "tiers", "{app}", "{clone}"], "is one service"),
        (["study", "memory", "{app}", "{clone}", "--plan", "no.plan"], "no.plan"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write_app(tmp_path)
    clone = clone_of(spec, tmp_path / "clone")
    assert entry.run_guarded([word.format(app=spec.path, clone=clone) for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if not line.startswith("[")]
    assert lines[0].startswith("ditto: error: ") and says in lines[0]
    assert all(line.startswith("ditto: remedy: ") for line in lines[1:]) and len(lines) <= 2


def test_max_error_decides_the_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from ditto import pipeline

    monkeypatch.setattr(pipeline, "study", lambda *_: cores_study())
    words = ["study", "cores", "a.toml", "clone"]
    assert entry.run_guarded([*words, "--max-error", "0.25"]) == 0
    shown = capsys.readouterr().out
    assert "no quota" in shown and "+20.0" in shown and "outside" in shown
    assert entry.run_guarded([*words, "--json", "--max-error", "0.1"]) == 4
    result = capsys.readouterr()
    assert Study.model_validate_json(result.out) == cores_study()
    assert "throughput at cores-0.25 (+20.0 points)" in result.err


def test_a_missing_stressor_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_app(tmp_path)
    found = commands.find_program
    monkeypatch.setattr(
        commands, "find_program", lambda name, *rest: None if name == "stress-ng" else found(name, *rest)
    )
    with pytest.raises(MissingCapabilityError, match="stress-ng: command not found") as caught:
        study(StudyKind.INTERFERENCE, spec, clone_of(spec, tmp_path / "clone"))
    assert caught.value.remedy == "apt-get install stress-ng"


def test_one_cpu_has_no_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = write_app(tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(commands, "find_program", lambda name, *_: f"/usr/bin/{name}")
    with pytest.raises(MissingCapabilityError, match="one CPU only"):
        study(StudyKind.INTERFERENCE, spec, clone_of(spec, tmp_path / "clone"))


# -- whole studies ---------------------------------------------------------------------------------------------

QUICK = StudyOptions(rounds=1, seconds=0.4, connections=4)
ECHO = """
import select, socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
listener.setblocking(False)
poll = select.epoll(); poll.register(listener, select.EPOLLIN)
held, there = {}, []
BURN, HOARD = 0.0004, 0
while True:
    for number, _ in poll.poll():
        if number == listener.fileno():
            sock, _ = listener.accept(); held[sock.fileno()] = sock
            poll.register(sock, select.EPOLLIN)
            there.append(bytearray(b"x" * (HOARD << 20)))
            continue
        data = held[number].recv(4096)
        if not data:
            poll.unregister(number); held.pop(number).close(); continue
        end = time.thread_time() + BURN
        while time.thread_time() < end: pass
        held[number].sendall(data)
"""
THREADED = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
def serve(sock):
    with sock:
        while data := sock.recv(4096): sock.sendall(data)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENT = """
import socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
with socket.create_connection(("127.0.0.1", port)) as s:
    for _ in range(count):
        s.sendall(b"12345678"); s.recv(100)
print(count, "requests")
"""

# It keeps its connection to its very end: connections that end earlier are ended by the load too.
STAYING = """
import os, socket, sys
count = int(sys.argv[2])
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
for _ in range(count):
    s.sendall(b"12345678"); s.recv(100)
print(count, "requests", flush=True)
os._exit(0)
"""


def echo_app(folder: Path, hoard: int = 0, server: str = ECHO) -> tuple[AppSpec, Path]:
    """A server of known CPU time a request, and a clone that is the same and holds ``hoard`` MiB more a connection."""
    spec = write_app(folder)
    (folder / "server.py").write_text(server)
    (folder / "client.py").write_text(CLIENT)
    clone = folder / "clone"
    (clone / "build").mkdir(parents=True)
    (clone / "server.py").write_text(server.replace("HOARD = 0.0004, 0", f"HOARD = 0.0004, {hoard}"))
    program = clone / "build" / "clone"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {clone / "server.py"} "$2"\n')
    program.chmod(0o755)
    return spec, clone


@pytest.mark.slow
def test_a_quota_slows_both_sides_alike(tmp_path: Path) -> None:
    need_groups()
    spec, clone = echo_app(tmp_path)
    made = study(StudyKind.CORES, spec, clone, replace(QUICK, at=(0.3,), rounds=2, seconds=0.8))
    (free, limited) = made.of_metric("throughput")
    assert free.original is not None and free.original > 100
    assert len(limited.samples.original) == len(limited.samples.clone) == 2
    # The server uses one core; three tenths are left, give or take what the host does.
    assert limited.original_change is not None and -0.9 < limited.original_change < -0.4
    assert limited.error_points is not None and abs(limited.error_points) < 25
    assert limited.noise_points is not None
    assert made.conditions.order == "A B A B"
    assert str(tmp_path) not in made.model_dump_json()
    assert not processes_in(tmp_path) and groups() == []


@pytest.mark.slow
def test_one_tier_with_half_its_time_slows_the_application_of_both_sides_alike(tmp_path: Path) -> None:
    """The clones are the services themselves, so what less time for one does is the same."""
    need_groups()
    spec = write_tiers(tmp_path, requests=200)
    clone = tmp_path / "clone"
    application = write_clones(clone, ["tier-2", "tier-3"])
    for tier in application.tiers:
        words = 'pool "${6##*:}" "${8##*:}"' if tier.calls else "leaf"
        program = clone / tier.name / "build" / "clone"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "tier.py"} "$2" {words}\n')
    made = study(StudyKind.TIERS, spec, clone, replace(QUICK, at=(0.3,)))
    names = [setting.name for setting in made.settings]
    assert names[0] == "unlimited" and {"tier-1-0.3", "tier-2-0.3"} <= set(names)
    (free, front, left, *_) = made.of_metric("throughput")
    assert free.original is not None and free.original > 50
    for limited in (front, left):
        assert limited.judged and limited.original_change is not None and limited.original_change < -0.3
        assert limited.clone_change is not None and limited.clone_change < -0.3
    (_, front, *_) = made.of_metric("latency.closed.p50")
    assert front.judged and front.original_change is not None
    assert "front" not in made.model_dump_json()
    assert not processes_in(tmp_path) and groups() == []


@pytest.mark.slow
def test_memory_that_is_not_enough_is_a_result(tmp_path: Path) -> None:
    need_groups()
    spec, clone = echo_app(tmp_path, hoard=30)
    made = study(StudyKind.MEMORY, spec, clone, replace(QUICK, at=(3.0,)))
    (_, limited) = made.of_metric("throughput")
    assert limited.original is not None and limited.original > 100
    assert limited.clone == 0 and limited.clone_change == -1.0  # ended by the kernel
    assert limited.verdict is Verdict.OUTSIDE
    (_, served) = made.of_metric("served")
    assert (served.original, served.clone) == (1.0, 0.0)
    (_, latency) = made.of_metric("latency.closed.p50")
    assert latency.clone is None and latency.verdict is Verdict.NOT_AVAILABLE
    assert not processes_in(tmp_path) and groups() == []


@pytest.mark.slow
def test_processes_and_threads_are_counted_under_more_connections(tmp_path: Path) -> None:
    spec, clone = echo_app(tmp_path, server=THREADED)
    (tmp_path / "client.py").write_text(STAYING)
    made = study(StudyKind.CONNECTIONS, spec, clone, replace(QUICK, at=(1.0, 8.0), seconds=1.5))
    assert [setting.text for setting in made.settings] == ["1 connection", "8 connections"]
    for metric in ("throughput", "cpu", "processes", "threads"):
        first, more = made.of_metric(metric)
        assert not first.judged and more.judged
    (one, eight) = made.of_metric("threads")
    assert one.original is not None and eight.original == eight.clone and eight.original >= one.original + 6
    assert eight.error_points == pytest.approx(100 * (eight.error_factor or 0.0), abs=1e-9)
    assert eight.verdict is not Verdict.OUTSIDE
    assert made.of_metric("processes")[1].original == 1


@pytest.mark.slow
def test_rates_are_offered_to_both_sides(tmp_path: Path) -> None:
    spec, clone = echo_app(tmp_path)
    made = study(StudyKind.LOAD, spec, clone, replace(QUICK, at=(0.2, 0.5), seconds=1.0))
    low, usual = made.of_metric("throughput")
    assert [setting.unchanged for setting in made.settings] == [False, True]
    for record, setting in ((low, made.settings[0]), (usual, made.settings[1])):
        assert record.original == pytest.approx(setting.value, rel=0.35)
        assert record.clone == pytest.approx(setting.value, rel=0.35)
    assert low.original_change is not None and -0.8 < low.original_change < -0.3
    assert {"cpu", "latency.paced.p50", "latency.paced.p99"} <= set(made.metrics)


@pytest.mark.slow
def test_a_neighbour_works_where_it_was_put_and_ends(tmp_path: Path) -> None:
    if commands.find_program("stress-ng") is None:
        pytest.skip("stress-ng is not installed")
    cpu = max(os.sched_getaffinity(0))
    spec = write_app(tmp_path)
    with AppRun(spec) as run:
        for stressor in Stressor:
            neighbour = Neighbour(run, stressor, cpu)
            children = [
                int(name)
                for name in os.listdir("/proc")
                if name.isdigit() and _command(int(name)).startswith("stress-ng") and _started_here(int(name), run)
            ]
            assert children
            # A child is there a moment before it is put where it belongs.
            deadline = time.monotonic() + 10
            while any(os.sched_getaffinity(child) != {cpu} for child in children) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert all(os.sched_getaffinity(child) == {cpu} for child in children)
            neighbour.check()
            neighbour.stop()
    assert not processes_in(tmp_path)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def _children(parent: int) -> set[str]:
    """Names of the programs that a process has started."""
    found = set()
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.add(_command(pid).strip())
    return found


def _started_here(pid: int, run: AppRun) -> bool:
    try:
        return run.run_folder.name.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cores", "interference"])
def test_interruption_leaves_nothing(tmp_path: Path, kind: str) -> None:
    need_groups()
    if kind == "interference" and commands.find_program("stress-ng") is None:
        pytest.skip("stress-ng is not installed")
    spec, clone = echo_app(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = [sys.executable, "-m", "ditto", "study", kind, str(spec.path), str(clone), "-o", str(tmp_path / "out")]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:
        wanted = {"ditto-load"} if kind == "cores" else {"ditto-load", "stress-ng"}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not wanted <= _children(driver.pid):
            time.sleep(0.02)
        assert wanted <= _children(driver.pid)
        driver.send_signal(signal.SIGINT)
        out, err = driver.communicate(timeout=60)
    assert (driver.returncode, out) == (130, "")
    assert "interrupted; everything that was started has been ended" in err
    assert not processes_in(tmp_path) and groups(driver.pid) == []
    assert list(temporary.iterdir()) == [] and not (tmp_path / "out").exists()


def test_json_of_a_study_holds_every_sample() -> None:
    data = json.loads(cores_study().model_dump_json())
    assert data["format_version"] == 1
    assert all(len(record["samples"]["original"]) == 3 for record in data["records"])
