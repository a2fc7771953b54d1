"""A real Redis, cloned by the command line, and its real client against the clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditto.artifacts.profile import load_profile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed"),
    pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="redis-benchmark is not installed"),
]

# Words that stand for the owner's secrets: in keys, values and the name of the app.
APP = """
name = "sekretapp"
[service]
command = ["redis-server", "--port", "{port}", "--save", "", "--appendonly", "no"]
port = 6379
ready = "tcp"
[prepare]
command = ["sh", "fill.sh", "{port}"]
[load]
command = ["redis-benchmark", "-p", "{port}", "-q", "-n", "{requests}", "-c", "20", "-r", "5000", "-d", "100",
           "-t", "get,set"]
requests = { native = 60000, lens = 3000 }
connections = 20
"""
FILL = """#!/bin/sh
redis-benchmark -p "$1" -q -n 20000 -r 5000 -d 100 -t set >/dev/null
for i in 1 2 3 4 5 6 7 8 9; do echo "SET hushkey$i mumvalue$i"; done | redis-cli -p "$1" >/dev/null
"""
SECRETS = (b"sekretapp", b"hushkey", b"mumvalue", b"redis", b"serverCron", b"dictFind", b"jemalloc", b"key:0000")


def ditto(*words: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ditto", *map(str, words)], capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    (folder / "app.toml").write_text(APP)
    (folder / "fill.sh").write_text(FILL)
    return folder / "app.toml"


@pytest.fixture(scope="module")
def out(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    short = ("--rounds", "2", "--seconds", "1", "--work-seconds", "10", "--cpu-seconds", "12")
    done = ditto("clone", app, "-o", folder, *short)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def served(out: Path) -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "ditto", "run", str(out / "clone"), "--port", str(port)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield port
        assert process.poll() is None
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_everything_is_written(out: Path) -> None:
    for name in ("profile.json", "fidelity.json", "tuning.json", "report.html", "clone/build/clone", "observation"):
        assert (out / name).exists(), name
    assert (out / "observation").stat().st_mode & 0o077 == 0
    report = (out / "report.html").read_text()
    assert "src=" not in report.replace('src="data:', "") and "http://" not in report.replace("http://www.w3.org", "")


@pytest.mark.parametrize("options", [["-P", "16"], ["-c", "1"], ["-c", "50"]], ids=" ".join)
def test_the_client_is_answered(served: int, options: list[str]) -> None:
    requests = "20000" if options == ["-c", "1"] else "100000"
    done = subprocess.run(
        ["redis-benchmark", "-p", str(served), "-q", "-n", requests, "-r", "5000", "-d", "100", "-t", "get,set",
         *options],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "rror" not in done.stdout + done.stderr
    assert len(re.findall(r"requests per second", done.stdout)) == 2


def test_calls_and_bytes_are_the_originals(out: Path) -> None:
    fidelity = json.loads((out / "fidelity.json").read_text())
    records = {record["metric"]: record for record in fidelity["records"]}
    if records["syscalls.total"]["original"] is None:
        pytest.skip(records["syscalls.total"]["how"])
    for name in ("read", "write"):
        assert records[f"syscalls.{name}"]["error"] == pytest.approx(0, abs=0.03)
    assert records["syscalls.foreign_types"]["clone"] == 0
    assert records["bytes.sent_per_request"]["error"] == pytest.approx(0, abs=0.01)
    assert records["bytes.received_per_request"]["error"] == pytest.approx(0, abs=0.01)
    if records["instructions.user_per_request"]["original"] is not None:
        assert records["instructions.user_per_request"]["error"] == pytest.approx(0, abs=0.05)
        empty = records["instructions.user_per_request"]["empty_body"]
        assert empty < records["instructions.user_per_request"]["clone"]


def test_no_secret_is_in_the_clone_or_its_profile(out: Path, app: Path) -> None:
    for path in [out / "profile.json", *(p for p in (out / "clone").rglob("*") if p.is_file())]:
        data = path.read_bytes()
        for secret in (*SECRETS, str(app.parent).encode()):
            assert secret not in data, (path, secret)


def test_same_profile_same_bytes(out: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert ditto("generate", out / "profile.json", "-o", tmp_path / name).returncode == 0
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path
    other = ditto("generate", out / "profile.json", "-o", tmp_path / "c", "--seed", "99")
    assert other.returncode == 0
    assert (tmp_path / "c" / "blocks.S").read_bytes() != (tmp_path / "a" / "blocks.S").read_bytes()


def test_the_clone_builds_from_its_folder_alone(out: Path, tmp_path: Path) -> None:
    shutil.copytree(out / "clone", tmp_path / "clone", ignore=shutil.ignore_patterns("build"))
    done = subprocess.run(["make", "-C", tmp_path / "clone"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    binary = (tmp_path / "clone" / "build" / "clone").read_bytes()
    assert binary[:4] == b"\x7fELF" and b"/lib64/ld-linux" not in binary


def test_the_profile_tells_what_it_is(out: Path) -> None:
    service = load_profile(out / "profile.json").services[0]
    assert service.codec == "resp2" and service.name == "service-1"
    assert {cls.match.verb for cls in service.classes} >= {"GET", "SET"}
    assert service.load.connections == 20 and service.blocks


def _left(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if state not in "ZX" and (marker in command or marker in where) and entry.name != str(os.getpid()):
                found.append(command)
    return found


@pytest.mark.parametrize("seconds", [1.5, 4.0, 9.0, 14.0, 22.0, 30.0])
def test_an_interruption_at_any_stage_leaves_nothing(app: Path, tmp_path: Path, seconds: float) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "ditto", "clone", str(app), "-o", str(tmp_path / "out")],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal does
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in said
    assert _left(str(app.parent)) == [] and _left(str(tmp_path)) == []
    assert list(temporary.iterdir()) == []
