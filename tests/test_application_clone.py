"""The clones of an app of several services: wired, compared tier by tier, and all of it on a real application."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from app_parts import processes_in
from application_parts import profiles
from ditto import pipeline
from ditto.artifacts.app import AppSpec, load_app
from ditto.artifacts.app_recording import AppRecording, ServiceRecorded
from ditto.artifacts.application import Application, Tier, load_application
from ditto.artifacts.fidelity import load_fidelity
from ditto.artifacts.graph import Edge, EdgeKind, Endpoint, Graph, Service, ServiceKind
from ditto.artifacts.profile import Profile, load_profile
from ditto.artifacts.verdict import Verdict
from ditto.errors import AppError, BadInputError
from ditto.host import commands, lens_session
from ditto.host.app import AppRun
from ditto.host.clones import application_spec, built_clone, tier_command
from ditto.host.place import Place
from ditto.host.progress import SilentProgress
from ditto.host.usage import ServiceUse, Usage
from ditto.pipeline import application as application_stages
from ditto.pipeline import tuning
from ditto.pipeline.application import _names
from ditto.tune.loop import Tuned
from ditto.validate import ValidateOptions
from ditto.validate.runs import TimedRun
from ditto.validate.tiers import Tiers, calls_per_request, edge_figures, tier_figures
from recorded_parts import write_tiers

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ("nginx", "redis-server", "gunicorn", "pg_lsclusters", "wrk", "cc", "make", "valgrind")
MISSING = [name for name in PROGRAMS if commands.find_program(name) is None]

# In place of a clone: answers like a tier, and writes down what it was told.
STANDIN = f"""#!{sys.executable}
import socket, sys, threading
port = int(sys.argv[sys.argv.index("--port") + 1])
open(__file__ + ".told", "a").write(" ".join(sys.argv[1:]) + "\\n")
def serve(connection):
    while connection.recv(4096):
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
listener = socket.create_server(("127.0.0.1", port), backlog=64)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


def write_clones(folder: Path, calls: list[str | None]) -> Application:
    """Three tiers, the first of which calls; their programs stand in for clones."""
    application = Application(
        tiers=[
            Tier(name="tier-1", port=8080, calls=calls),
            Tier(name="tier-2", port=8081),
            Tier(name="tier-3", port=8082),
        ]
    )
    for tier in application.tiers:
        program = folder / tier.name / "build" / "clone"
        program.parent.mkdir(parents=True)
        program.write_text(STANDIN)
        program.chmod(0o755)
    application.save(folder)
    return application


def test_a_tier_is_told_where_those_that_it_calls_are(tmp_path: Path) -> None:
    application = write_clones(tmp_path, ["tier-3", None, "tier-2"])
    ports = {"tier-1": 1001, "tier-2": 1002, "tier-3": 1003}
    assert tier_command(tmp_path, application, application.entry, "127.0.0.1", ports) == [
        str(tmp_path / "tier-1" / "build" / "clone"), "--port", "1001", "--host", "127.0.0.1",
        "--downstream", "0=127.0.0.1:1003", "--downstream", "2=127.0.0.1:1002",
    ]  # fmt: skip
    (tmp_path / "tier-2" / "build" / "clone").unlink()
    with pytest.raises(BadInputError, match=r"tier-2: no built clone"):
        tier_command(tmp_path, application, application.tier("tier-2"), "127.0.0.1", ports)


def test_the_clones_run_in_place_of_the_services(tmp_path: Path) -> None:
    """What is no tier is stood in for, and no client of the app fills a clone behind the entry."""
    spec = write_tiers(tmp_path, extra='[service.prepare]\ncommand = ["sh", "-c", "touch filled"]')
    clone = tmp_path / "clone"
    write_clones(clone, ["tier-2", "tier-3", None])
    with AppRun.for_application(application_spec(spec, clone)) as run:
        assert run.is_clone and [server.name for server in run.services] == ["front", "left", "right"]
        run.prepare()
        told = (clone / "tier-1" / "build" / "clone.told").read_text().splitlines()
        stub, entry = told
        assert stub.startswith("--stub 2 --port ")
        places = [f"0=127.0.0.1:{run.port_of('left')}", f"1=127.0.0.1:{run.port_of('right')}"]
        places.append(f"2=127.0.0.1:{stub.split()[-1]}")
        assert entry == f"--port {run.port} --host 127.0.0.1 " + " ".join(f"--downstream {place}" for place in places)
        run.load(20)
    assert not (tmp_path / "filled").exists()
    assert processes_in(tmp_path) == []


def test_an_application_that_is_another_apps_is_refused(tmp_path: Path) -> None:
    spec = write_tiers(tmp_path)
    with pytest.raises(BadInputError, match=r"application\.json"):
        application_spec(spec, tmp_path)
    Application(tiers=[Tier(name="a", port=1)]).save(tmp_path)
    with pytest.raises(BadInputError, match=r"1 tiers, and .*app\.toml has 3 services"):
        application_spec(spec, tmp_path)
    with pytest.raises(BadInputError, match="the clone of an app of several services"):
        built_clone(tmp_path)


def test_names_are_neutral_unless_they_are_kept() -> None:
    services = [ServiceRecorded(name=name, pid=number, port=number) for number, name in enumerate(("Web_1", "b"), 1)]
    app = AppRecording(app="x", made_at="now", collector="ebpf", records=1, lost=0, seconds=1.0, services=services)
    assert _names(app, False) == {"Web_1": "tier-1", "b": "tier-2"}
    assert _names(app, True) == {"Web_1": "web-1", "b": "b"}
    same = app.model_copy(update={"services": [services[0], services[0].model_copy(update={"name": "web.1"})]})
    with pytest.raises(BadInputError, match="web-1 cannot be a tier's name"):
        _names(same, True)


def graph_of(calls: int) -> Graph:
    """A hundred requests to ``front``, and so many calls to ``back`` from two of its endpoints."""
    edges = [
        Edge(
            caller="front", to="back", endpoint=name, target="GET", kind=EdgeKind.CALL, calls=part,
            calls_per_request=0.0, probability=0.0, repeats=0.0, order=0,
        )
        for name, part in (("a", calls // 2), ("b", calls - calls // 2))
    ]  # fmt: skip
    front = Service(
        name="front", kind=ServiceKind.SERVICE, observed=True,
        endpoints=[Endpoint(name="a", requests=60), Endpoint(name="b", requests=40)],
    )  # fmt: skip
    back = Service(name="back", kind=ServiceKind.CACHE, observed=True, endpoints=[Endpoint(name="GET", requests=calls)])
    return Graph(source="recording", services=[front, back], edges=edges, traces=100, spans=100 + calls)


def test_calls_between_tiers_are_compared_by_requests_of_the_entry() -> None:
    assert calls_per_request(graph_of(130), "front") == {("front", "back"): pytest.approx(1.3)}
    names = {"front": "tier-1", "back": "tier-2"}
    graphs = {"original": [graph_of(130), graph_of(131)], "clone": [graph_of(150), graph_of(150)]}
    record = edge_figures(Tiers(names, graphs), 1).records[0]  # type: ignore[arg-type]
    assert record.metric == "edge.tier-1.tier-2.calls_per_request"
    assert record.original == pytest.approx(1.305) and record.clone == pytest.approx(1.5)
    assert record.verdict is Verdict.OUTSIDE and record.noise is not None
    alike = {"original": graphs["original"], "clone": [graph_of(132), graph_of(133)]}
    assert edge_figures(Tiers(names, alike), 1).records[0].verdict is not Verdict.OUTSIDE  # type: ignore[arg-type]
    (without,) = edge_figures(Tiers(names, {}, "no recorder"), 1).records
    assert without.verdict is Verdict.NOT_AVAILABLE and "no recorder" in without.how


def test_each_tier_has_its_cpu_time_and_memory() -> None:
    usage = Usage(1, 1, 0, 0, 0, 0, 0)

    def run(side: str, seconds: float, size: int) -> TimedRun:
        tiers = {"front": ServiceUse(seconds, size), "back": ServiceUse(2 * seconds, 2 * size)}
        return TimedRun(side, 1.0, 1000.0, "", usage, 3 * size, 2, 2, (), tiers)  # type: ignore[arg-type]

    runs = [run("original", 0.01, 1 << 20), run("clone", 0.012, 1 << 20), run("original", 0.01, 1 << 20)]
    records = {r.metric: r for r in tier_figures(runs, Tiers({"front": "tier-1", "back": "tier-2"}, {}), 1).records}
    assert records["tier.tier-1.cpu.per_request"].original == pytest.approx(10_000)
    assert records["tier.tier-2.cpu.per_request"].error == pytest.approx(0.2)
    assert records["tier.tier-2.cpu.per_request"].verdict is Verdict.OUTSIDE
    assert records["tier.tier-2.memory.resident_bytes"].clone == 2 << 20


@pytest.mark.ebpf
def test_an_application_is_compared_at_its_entry_and_tier_by_tier(tmp_path: Path) -> None:
    """Of programs in place of clones that answer and call nobody: all figures are there, and the calls are missed."""
    write_tiers(tmp_path, requests=300)
    write_clones(tmp_path / "clone", ["tier-2", "tier-3"])
    fidelity = pipeline.validate(tmp_path / "app.toml", tmp_path / "clone", tmp_path, 1, 0.5, SilentProgress())
    assert load_fidelity(tmp_path / "fidelity.json") == fidelity
    edges = {r.metric: r for r in fidelity.records if r.group == "edges"}
    # Half of the requests make two calls to the one and one to the other.
    assert edges["edge.tier-1.tier-2.calls_per_request"].original == pytest.approx(1.0, abs=0.05)
    assert edges["edge.tier-1.tier-3.calls_per_request"].original == pytest.approx(0.5, abs=0.05)
    assert all(record.clone == 0 and record.verdict is Verdict.OUTSIDE for record in edges.values())
    tiers = [r for r in fidelity.records if r.group == "tiers"]
    assert len(tiers) == 6 and all(record.original and record.clone is not None for record in tiers)
    assert {point.share for point in fidelity.latency} == {0.3, 0.6, 1.0}
    assert not any(word in r.metric for r in fidelity.records for word in ("front", "left", "right"))
    assert processes_in(tmp_path) == []


def ditto(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ditto", *map(str, words)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def web3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with a shorter load."""
    folder = tmp_path_factory.mktemp("examples")
    for name in ("web3", "postgres"):
        shutil.copytree(ROOT / "examples" / name, folder / name)
    shutil.copy(ROOT / "examples" / "gone.sh", folder)
    path = folder / "web3" / "app.toml"
    text = path.read_text()
    assert '"{seconds}s"' in text
    path.write_text(text.replace('"{seconds}s"', '"2s"'))
    return path


@pytest.mark.parametrize(("built", "made"), [(True, []), (False, ["tier-1", "tier-2", "tier-3"])])
def test_tiers_that_were_just_built_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: bool, made: list[str]
) -> None:
    """Generating takes longer than all else that tuning does; a changed profile is made in any case."""
    written: list[str] = []
    known, spec = tuned_tiers(tmp_path, monkeypatch, written)

    def tuned(place: object, profile: Profile, *others: Any, **more: object) -> Tuned:
        remake = others[2]
        remake(profile)
        changed = profile.model_copy(update={"seed": profile.seed + 1})
        remake(changed)
        remake(changed)
        return Tuned(changed)

    monkeypatch.setattr("ditto.tune.loop.tune_profile", tuned)
    application_stages.tune(spec, tmp_path, False, SilentProgress(), built=built)
    assert sorted(written) == sorted([*made, *known])
    for name, profile in known.items():
        made_last = load_profile(tmp_path / "clone" / name / "profile.json")
        assert made_last.seed == profile.seed + 1 == load_profile(tmp_path / "profiles" / f"{name}.json").seed


def tuned_tiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> tuple[dict[str, Profile], AppSpec]:
    """Tiers of which nothing is generated, built or run; ``written`` gets the names of those that would be."""
    known = profiles()
    Application(tiers=[Tier(name=name, port=8080 + at) for at, name in enumerate(known)]).save(tmp_path / "profiles")

    def write(profile: Profile, clone: Path, seed: object) -> None:
        written.append(clone.name)
        profile.save(clone / "profile.json")

    for name, profile in known.items():
        profile.save(application_stages.profile_of(tmp_path / "profiles", name))
        profile.save(tmp_path / "clone" / name / "profile.json")
    monkeypatch.setattr("ditto.pipeline.write_clone", write)
    monkeypatch.setattr("ditto.generate.clone.has_body", lambda profile: True)
    monkeypatch.setattr(application_stages, "entry_driven", lambda spec, out: spec)
    monkeypatch.setattr(application_stages, "application_spec", lambda spec, clone: spec)
    monkeypatch.setattr(application_stages, "load_observation", lambda folder: None)
    monkeypatch.setattr("ditto.run.build.build_clone", lambda clone: clone)
    return known, write_tiers(tmp_path)


def test_tiers_are_tuned_together_each_with_a_copy_of_its_own_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one runs, what the others run among does not change."""
    known, spec = tuned_tiers(tmp_path, monkeypatch, [])
    monkeypatch.setattr(tuning, "together", lambda: 2)
    both = threading.Barrier(2, timeout=20)
    seen: list[tuple[str, list[str]]] = []

    def tuned(place: Place, profile: Profile, *others: Any, **more: object) -> Tuned:
        if len(seen) < 2:
            both.wait()
        changed = profile.model_copy(update={"seed": profile.seed + 1})
        program = others[2](changed)
        assert place.application is not None
        seen.append((str(program), [service.command[0] for service in place.application.services]))
        return Tuned(changed)

    spec = spec.model_copy(update={"services": spec.services[:2]})
    Application(tiers=[Tier(name=name, port=8080 + at) for at, name in enumerate([*known][:2])]).save(
        tmp_path / "profiles"
    )
    monkeypatch.setattr("ditto.tune.loop.tune_profile", tuned)
    application_stages.tune(spec, tmp_path, False, SilentProgress())
    assert len(seen) == 2
    for program, programs in seen:
        assert programs.count(program) == 1 and str(tmp_path / "clone") not in program
        assert not Path(program).parents[1].exists()


def test_a_tier_that_fails_ends_the_work_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, spec = tuned_tiers(tmp_path, monkeypatch, [])
    all_run = threading.Barrier(len(known), timeout=20)
    ended: list[str] = []

    def tuned(place: Place, profile: Profile, *others: Any, **more: object) -> Tuned:
        all_run.wait()
        if place.service == spec.services[0].name:
            raise AppError("it fell over", "see its log")
        try:
            for _ in range(2000):
                others[3].update("counting")
                time.sleep(0.01)
        except CancelledError:
            ended.append(place.name)
            raise
        return Tuned(profile)

    monkeypatch.setattr(tuning, "together", lambda: 3)
    monkeypatch.setattr("ditto.tune.loop.tune_profile", tuned)
    with pytest.raises(AppError, match="fell over"):
        application_stages.tune(spec, tmp_path, False, SilentProgress())
    assert len(ended) == len(known) - 1


@pytest.mark.slow
@pytest.mark.ebpf
@pytest.mark.valgrind
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_four_tiers_are_cloned_and_call_each_other_as_often(
    web3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(lens_session, "WARM_S", 0.5)
    monkeypatch.setattr(lens_session, "COUNT_S", 1.5)
    progress = SilentProgress()
    pipeline.observe(web3, out, None, 1.5, progress)
    pipeline.generate(pipeline.model(out, progress), out / "clone", None, progress)
    ditto("build", out / "clone")
    application = load_application(out / "clone")
    assert [tier.calls for tier in application.tiers] == [["tier-2"], ["tier-4", "tier-3"], [], []]
    services = [load_profile(out / "clone" / tier.name / "profile.json").services[0] for tier in application.tiers]
    assert [service.codec for service in services] == ["http1", "http1", "pgsql", "resp2"]
    # Two hundred pages are one class, and caller and called have the same fingerprints.
    assert [len(service.classes) for service in services] == [4, 3, 3, 4]
    assert {down.codec for down in services[1].downstreams} == {"pgsql", "resp2"}
    # Each connection to the database has a process of its own, made before the load; rows are as large as they were.
    assert "spawn_process" in {role.handover for role in services[2].roles}
    assert sorted(cls.replies[0].kind for cls in services[2].classes) == ["done", "rows", "rows"]
    prints = [
        {cls.match.path_print for cls in part} for part in (services[0].downstreams[0].classes, services[1].classes)
    ]
    assert prints[0] == prints[1]
    told = b"".join(p.read_bytes() for p in out.rglob("clone/**/*") if p.is_file() and "runtime" not in p.parts)
    assert not any(word in told for word in (b"/page", b"/vote", b"about.html", b"votes", b"web3", b"UPDATE votes"))
    monkeypatch.setattr(application_stages, "RECORDED_S", 0.5)
    monkeypatch.setattr(application_stages, "RECORDINGS", 1)
    options = ValidateOptions(rounds=1, seconds=0.5, count=False, latency=False)
    fidelity = application_stages.validate(load_app(web3), out / "clone", out, options, SilentProgress())
    for edge in ("tier-1.tier-2", "tier-2.tier-3", "tier-2.tier-4"):
        record = fidelity.record(f"edge.{edge}.calls_per_request")
        assert record is not None and record.error is not None and record.original
        # Half a second is some hundreds of requests; calls that depend on what a cache has are made by chance.
        chance = (max(0.0, 1.0 - record.original) / record.original / 300) ** 0.5
        assert abs(record.error) <= 0.03 + 3 * chance, record
    for tier in application.tiers:
        record = fidelity.record(f"tier.{tier.name}.cpu.per_request")
        assert record is not None and record.original and record.clone
    fidelity.save(out / "fidelity.json")
    ditto("report", out)
    assert "tier-2" in (out / "report.html").read_text()
    assert processes_in(out) == [] and processes_in(web3.parent) == []
