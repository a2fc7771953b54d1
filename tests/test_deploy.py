"""Deployments: files that the published schemas accept, sized by what was seen, and a supervised clone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from ditto import paths
from ditto.artifacts.plan import load_plan
from ditto.cli.main import app
from ditto.deploy import compose_file, deployed, kubernetes_files, run_local
from ditto.errors import AppError, BadInputError
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
    part = deployed(service_profile().services[0], full_fidelity(), 7000)
    made = compose_file(part)
    schema = json.loads((DATA / "compose-spec.json").read_text())
    jsonschema.Draft201909Validator(schema).validate(made)
    service = made["services"][part.name]
    assert service["ports"] == ["127.0.0.1:7000:8080"]  # nothing listens beyond this machine unasked
    assert service["deploy"]["resources"]["reservations"]["cpus"] == "0.91"  # cores busy, as the certificate has it
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft201909Validator(schema).validate({"services": {"x": {"prots": []}}})


def test_the_kubernetes_objects_are_what_its_schemas_ask_for() -> None:
    part = deployed(service_profile().services[0], full_fidelity(), 7000, replicas=3, registry="registry.example/team")
    files = kubernetes_files(part)
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
    part = deployed(service, None, 7000)
    assert part.cpus is None and part.memory_bytes == 125 << 20
    assert "cpus" not in compose_file(part)["services"][part.name]["deploy"]["resources"]["reservations"]


@pytest.mark.parametrize("target", ["compose", "kubernetes"])
def test_a_deployment_is_a_folder_that_can_be_built(clone: Path, tmp_path: Path, target: str) -> None:
    out = tmp_path / "deployment"
    for _ in range(2):  # and again over itself
        done = CliRunner().invoke(app, ["deploy", str(clone), "--to", target, "-o", str(out)])
        assert done.exit_code == 0, done.output
    name = service_profile().services[0].name
    assert (out / name / "Dockerfile").is_file() and not (out / name / "build").exists()
    assert load_plan(out / "load" / "requests.plan").requests > 1000
    subprocess.run(["make", "-s", "-C", str(out / "load")], check=True, timeout=120)
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
    port, seen = _free_port(), []

    def ready(pid: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            seen.append(pid)

    run_local(clone / "build" / "clone", "127.0.0.1", port, tmp_path / "clone.log", ready, seconds=0.3)
    assert len(seen) == 1 and not Path(f"/proc/{seen[0]}").exists()
    assert (tmp_path / "clone.log").read_text() == "serving\n"


def test_a_local_clone_that_dies_is_told_and_a_signal_ends_it(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(AppError, match="ended with"):
        run_local(
            clone / "build" / "clone", "127.0.0.1", _free_port(), tmp_path / "clone.log",
            lambda pid: os.kill(pid, signal.SIGKILL), seconds=20,
        )  # fmt: skip
    port = _free_port()
    words = [sys.executable, "-m", "ditto", "deploy", str(clone), "--to", "local", "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.readline()
    pid = int(said.split("process ")[1].split(",")[0])
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


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
