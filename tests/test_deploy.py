"""Deployments: files that the published schemas accept, sized by what was seen, and a supervised clone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from application_parts import application, profiles
from ditto import paths
from ditto.artifacts.application import Application, Tier
from ditto.artifacts.fidelity import Record
from ditto.artifacts.plan import load_plan
from ditto.cli.main import app
from ditto.deploy import Deployed, compose_file, deployed, deployed_tiers, kubernetes_files, used
from ditto.errors import BadInputError
from profile_parts import service_profile
from report_parts import full_fidelity
from runtime_build import STATIC, build_clone

DATA = Path(__file__).parent / "data"
STUB = """#!{python}
import socket, sys
assert sys.argv[1] == "--port" and sys.argv[3] == "--host"
s = socket.create_server((sys.argv[4], int(sys.argv[2])))
print("serving", flush=True)
while True:
    c, _ = s.accept(); c.close()
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone's folder with what a deployment needs of it."""
    folder = tmp_path / "clone"
    (folder / "build").mkdir(parents=True)
    service_profile().save(folder / "profile.json")
    for name in ("Dockerfile", "tables.c"):
        (folder / name).write_text(name)
    program = folder / "build" / "clone"
    program.write_text(STUB.format(python=sys.executable))
    program.chmod(0o755)
    return folder


def test_the_compose_file_is_what_the_specification_asks_for() -> None:
    part = deployed(service_profile().services[0], used(full_fidelity()), 7000)
    made = compose_file([part])
    schema = json.loads((DATA / "compose-spec.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(made)
    service = made["services"][part.name]
    assert service["ports"] == ["127.0.0.1:7000:8080"]  # nothing listens beyond this machine unasked
    assert service["deploy"]["resources"]["reservations"]["cpus"] == "0.91"  # cores busy, as the certificate has it
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate({"services": {"x": {"prots": []}}})


def test_the_kubernetes_objects_are_what_its_schemas_ask_for() -> None:
    part = deployed(
        service_profile().services[0], used(full_fidelity()), 7000, replicas=3, registry="registry.example/team"
    )
    files = kubernetes_files([part])
    kinds = []
    for objects in files.values():
        for made in objects:
            kubernetes_validate.validate(made, "1.29", strict=True)
            kinds.append(made["kind"])
    assert kinds == ["Deployment", "Service", "Job"]
    pod = files["service.yaml"][0]["spec"]
    assert pod["replicas"] == 3
    container = pod["template"]["spec"]["containers"][0]
    assert container["image"].startswith("registry.example/team/ditto-")
    assert container["resources"]["requests"]["cpu"] == "905m"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(files["service.yaml"][0] | {"spec": {"replicas": "many"}}, "1.29", strict=True)


def test_without_a_certificate_the_profile_sizes_it() -> None:
    service = service_profile().services[0].model_copy(update={"resident_bytes": 100 << 20})
    part = deployed(service, used(None), 7000)
    assert part.cpus is None and part.memory_bytes == 125 << 20
    assert "cpus" not in compose_file([part])["services"][part.name]["deploy"]["resources"]["reservations"]


@pytest.mark.parametrize("target", ["compose", "kubernetes"])
def test_a_deployment_is_a_folder_that_can_be_built(clone: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / "deployment"
    for _ in range(2):  # and again over itself
        done = CliRunner().invoke(app, ["deploy", str(clone), "--to", target, "-o", str(out)])
        assert done.exit_code == 0, done.output
    name = service_profile().services[0].name
    assert (out / name / "Dockerfile").is_file() and not (out / name / "build").exists()
    load = out / f"{name}-load"
    assert load_plan(load / "requests.plan").requests > 1000
    subprocess.run(["make", "-s", "-C", str(load)], check=True, timeout=120)
    for path in out.glob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text()))


def test_a_folder_of_something_else_is_left_alone(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letters.txt").write_text("dear")
    done = CliRunner().invoke(app, ["deploy", str(clone), "--to", "compose", "-o", str(tmp_path / "mine")])
    assert isinstance(done.exception, BadInputError) and "not empty" in done.exception.message
    assert (tmp_path / "mine" / "letters.txt").read_text() == "dear"
    done = CliRunner().invoke(app, ["deploy", str(clone), "--to", "moon"])
    assert isinstance(done.exception, BadInputError) and "moon" in done.exception.message


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_a_local_clone_is_healthy_before_it_is_announced_and_ends_as_a_whole(clone: Path, tmp_path: Path) -> None:
    port = _free_port()
    words = ["deploy", str(clone), "--to", "local", "--port", str(port), "--seconds", "0.3", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (shown,) = json.loads(done.stdout)["tiers"]
    assert shown["port"] == port and not Path(f"/proc/{shown['pid']}").exists()
    assert shown["log"] == str(tmp_path / "clone.log") and (tmp_path / "clone.log").read_text() == "serving\n"


@contextlib.contextmanager
def _local(clone: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [
        sys.executable,
        "-m",
        "ditto",
        "deploy",
        str(clone),
        "--to",
        "local",
        "--port",
        str(_free_port()),
        *words,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline().split("process ")[1].split(",")[0])
        try:
            yield process, pid
        finally:
            process.terminate()
            process.wait(30)


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def test_a_local_clone_that_dies_is_told_and_a_signal_ends_it(clone: Path) -> None:
    with _local(clone, "--no-restart") as (process, pid):
        os.kill(pid, signal.SIGKILL)
        assert process.wait(20) == 5 and process.stderr is not None
        assert process.stderr.readline().startswith("ditto: error: clone ended by signal 9")
    with _local(clone) as (process, pid):
        os.kill(pid, signal.SIGKILL)
        assert process.stderr is not None and "started again in 0.1 s" in process.stderr.readline()
    with _local(clone) as (process, pid):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130 and _gone(pid)


def _tiers(app: Application, **options: Any) -> list[Deployed]:
    services = {tier.name: profiles()["tier-1"].services[0] for tier in app.tiers}
    return deployed_tiers(app, services, None, 7000, options.pop("replicas", {}), **options)


def _ring() -> Application:
    """The last calls the second again, and stands in for somebody."""
    tiers = application().tiers
    return Application(tiers=[*tiers[:2], tiers[2].model_copy(update={"calls": [None, "tier-2"]})])


def test_an_application_finds_its_tiers_by_name_in_compose() -> None:
    made = compose_file(_tiers(_ring()))
    schema = json.loads((DATA / "compose-spec.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(made)
    services = made["services"]
    assert list(services) == ["tier-1", "tier-2", "tier-3", "tier-1-load"]
    assert services["tier-1"]["command"] == ["--downstream", "0=tier-2:8080"]
    assert services["tier-3"]["command"] == ["--downstream", "1=tier-2:8080"]
    assert [name for name in services if "ports" in services[name]] == ["tier-1"]  # clients reach the entry alone
    waits = {name: list(services[name].get("depends_on", {})) for name in services}
    assert waits == {"tier-1": ["tier-2"], "tier-2": ["tier-3"], "tier-3": [], "tier-1-load": ["tier-1"]}
    assert services["tier-1-load"]["command"][:4] == ["--host", "tier-1", "--port", "8080"]


def test_an_application_finds_its_tiers_by_name_in_kubernetes() -> None:
    files = kubernetes_files(_tiers(_ring(), replicas={"tier-2": 3}, registry="r.example"))
    assert list(files) == ["application.yaml", "load.yaml"]
    objects = [made for group in files.values() for made in group]
    for made in objects:
        kubernetes_validate.validate(made, "1.29", strict=True)
    assert [made["kind"] for made in objects] == ["Deployment", "Service"] * 3 + ["Job"]
    pods = {made["metadata"]["name"]: made["spec"] for made in objects if made["kind"] == "Deployment"}
    assert {name: spec["replicas"] for name, spec in pods.items()} == {"tier-1": 1, "tier-2": 3, "tier-3": 1}
    (container,) = pods["tier-2"]["template"]["spec"]["containers"]
    assert container["args"] == ["--downstream", "0=tier-3:8080"] and container["image"] == "r.example/ditto-tier-2:1"
    ports = {made["metadata"]["name"]: made["spec"]["ports"][0] for made in objects if made["kind"] == "Service"}
    assert {name: port["port"] for name, port in ports.items()} == {"tier-1": 7000, "tier-2": 8080, "tier-3": 8080}
    assert objects[-1]["spec"]["template"]["spec"]["containers"][0]["args"][:4] == [
        "--host",
        "tier-1",
        "--port",
        "7000",
    ]


def test_names_and_protocols_are_what_the_targets_take() -> None:
    app = Application(tiers=[Tier(name="2048", port=1, calls=["a"]), Tier(name="a", port=2)])
    assert [part.name for part in _tiers(app)] == ["tier-2048", "tier-a"]  # a service's name begins with a letter
    load = Application(tiers=[Tier(name="a", port=1), Tier(name="a-load", port=2)])
    with pytest.raises(BadInputError, match="a-load"):
        _tiers(load)
    with pytest.raises(BadInputError, match="replicas of tier-7"):
        _tiers(application(), replicas={"tier-7": 2})
    service = profiles()["tier-1"].services[0]
    listener = service.listener.model_copy(update={"datagrams": True})
    part = deployed(service.model_copy(update={"listener": listener}), used(None), 53)
    assert compose_file([part])["services"][part.name]["ports"] == ["127.0.0.1:53:8080/udp"]
    for made in kubernetes_files([part])["service.yaml"]:
        kubernetes_validate.validate(made, "1.29", strict=True)
        assert "UDP" in json.dumps(made) and "tcpSocket" not in json.dumps(made)


@pytest.fixture
def application_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    for name, profile in profiles().items():
        (folder / name / "build").mkdir(parents=True)
        profile.save(folder / name / "profile.json")
        for source in ("Dockerfile", "tables.c", "build/clone"):
            (folder / name / source).write_text(name)
    certificate = full_fidelity()
    figures = {"tier.tier-2.cpu.per_request": ("ns", 5000.0), "tier.tier-2.memory.resident_bytes": ("bytes", 40e6)}
    records = [
        Record(metric=metric, unit=unit, group="tiers", original=value, clone=value, how="measured")
        for metric, (unit, value) in figures.items()
    ]
    certificate.model_copy(update={"records": [*certificate.records, *records]}).save(tmp_path / "fidelity.json")
    application().save(folder)
    return folder


def test_an_application_is_deployed_as_a_folder(application_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deployment"
    words = ["deploy", str(application_folder), "--to", "compose", "-o", str(out), "--port", "7000"]
    for _ in range(2):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    made = yaml.safe_load((out / "compose.yaml").read_text())["services"]
    # By the application's certificate: CPU time per request of the entry, and how many of those there were a second.
    rate = full_fidelity().record("throughput.saturation")
    assert rate is not None and rate.clone is not None
    asked = made["tier-2"]["deploy"]["resources"]["reservations"]
    assert float(asked["cpus"]) == pytest.approx(rate.clone * 5e-6, abs=0.01)
    assert asked["memory"] != made["tier-3"]["deploy"]["resources"]["reservations"]["memory"]
    assert "cpus" not in made["tier-1"]["deploy"]["resources"]["reservations"]
    for name in ("tier-1", "tier-2", "tier-3"):
        assert (out / name / "Dockerfile").read_text() == name and not (out / name / "build").exists()
    assert load_plan(out / "tier-1-load" / "requests.plan").requests > 1000


def test_images_of_what_is_built_need_nothing_else(application_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deployment"
    words = [
        "deploy",
        str(application_folder),
        "--to",
        "kubernetes",
        "-o",
        str(out),
        "--built",
        "--replicas",
        "tier-2=4",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for name in ("tier-1", "tier-2", "tier-3", "tier-1-load"):
        lines = (out / name / "Dockerfile").read_text().splitlines()
        assert [line for line in lines if line.startswith(("FROM", "RUN"))] == ["FROM scratch"]
    assert (out / "tier-3" / "clone").read_text() == "tier-3"
    done_ = subprocess.run([str(out / "tier-1-load" / "ditto-load"), "--help"], capture_output=True, check=False)
    assert b"--plan" in done_.stdout + done_.stderr
    replicas = [made["spec"]["replicas"] for made in yaml.safe_load_all((out / "application.yaml").read_text())
                if made["kind"] == "Deployment"]  # fmt: skip
    assert replicas == [1, 4, 1]


@pytest.mark.parametrize("told", ["0", "x", "tier-2=", "tier-2=-1", "10001", "²"])
def test_numbers_of_replicas_are_checked(application_folder: Path, tmp_path: Path, told: str) -> None:
    words = ["deploy", str(application_folder), "--to", "kubernetes", "-o", str(tmp_path / "o"), "--replicas", told]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, BadInputError) and f"--replicas {told}" in done.exception.message


@pytest.mark.slow
def test_a_clone_can_check_itself(tmp_path: Path) -> None:
    """What the compose file's health check runs: the images have no shell."""
    binary = build_clone(tmp_path / "clone", "resp", mode=STATIC)
    port = _free_port()
    check = [str(binary), "--check", "--port", str(port)]
    assert subprocess.run(check, timeout=10).returncode == 1
    process = subprocess.Popen([str(binary), "--port", str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline().startswith(b"listening")
        assert subprocess.run(check, timeout=10).returncode == 0
    finally:
        process.terminate()
        process.wait(10)


def test_the_load_generator_ships_with_its_sources() -> None:
    assert (paths.native_root() / "loadgen" / "Makefile").is_file()
