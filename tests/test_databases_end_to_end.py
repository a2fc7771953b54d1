"""Real databases of the examples, cloned by the command line, and their real clients against the clones."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ditto.artifacts.profile import ServiceProfile, load_profile

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PGBENCH = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))), None)
BINARIES = (EXAMPLES.parent / "native" / "collector" / "build", EXAMPLES.parent / "native" / "lens" / "build")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ebpf,
    pytest.mark.valgrind,
    pytest.mark.skipif(not all(path.exists() for path in BINARIES), reason="the native parts are not built"),
]


@dataclass(frozen=True)
class Cloned:
    """A clone that serves, and the profile it was made from."""

    service: ServiceProfile
    folder: Path
    port: int


def ditto(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ditto", *map(str, words)], capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr


def shortened(example: str, folder: Path) -> Path:
    """An example that makes fewer requests: enough to see its shape."""
    folder.mkdir()
    for path in EXAMPLES.iterdir():
        if path.is_dir() or path.suffix == ".sh":
            (folder / path.name).symlink_to(path)
    text = (EXAMPLES / example).read_text()
    text, changed = re.subn(r"(?m)^requests = .*", "requests = { native = 60000, lens = 1500 }", text)
    assert changed == 1
    (folder / example).write_text(text)
    return folder / example


def cloned(example: str, folder: Path) -> Iterator[Cloned]:
    ditto("observe", shortened(example, folder / "app"), "-o", folder, "--seconds", "1")
    ditto("model", folder)
    ditto("generate", folder / "profile.json", "-o", folder / "clone")
    ditto("build", folder / "clone")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = int(sock.getsockname()[1])
    command = [str(folder / "clone" / "build" / "clone"), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield Cloned(load_profile(folder / "profile.json").services[0], folder / "clone", port)
        finally:
            process.terminate()


def holds_none_of(cloned: Cloned, words: tuple[bytes, ...]) -> None:
    contents = b"".join(path.read_bytes() for path in cloned.folder.rglob("*") if path.is_file())
    assert not [word for word in words if word in contents]


@pytest.fixture(scope="module")
def elephant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloned]:
    if PGBENCH is None:
        pytest.skip("pgbench is not installed")
    yield from cloned("postgres.toml", tmp_path_factory.mktemp("postgres"))


@pytest.fixture(scope="module")
def seal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloned]:
    if shutil.which("sysbench") is None or not Path("/usr/sbin/mariadbd").exists():
        pytest.skip("mariadb-server or sysbench is not installed")
    yield from cloned("mariadb.toml", tmp_path_factory.mktemp("mariadb"))


def main_class_is(service: ServiceProfile, verb: str) -> None:
    first = max(service.classes, key=lambda cls: cls.probability)
    assert first.match.verb == verb and first.probability > 0.9
    assert [reply.kind for reply in first.replies] == ["rows"]
    assert sum(op.kind == "compute" for op in first.program) >= 1


def test_a_process_for_each_connection_with_background_processes(elephant: Cloned) -> None:
    service = elephant.service
    main_class_is(service, "SELECT")
    assert service.codec == "pgsql"
    acceptor = next(role for role in service.roles if role.listens)
    assert acceptor.handover == "spawn_process"
    server = service.roles[acceptor.hand_to]
    assert (server.kind, server.wait, server.receive_first) == ("serve", "epoll", True)
    assert len(service.processes) >= 3  # the master, and children of different periods
    assert {role.kind for role in service.roles} >= {"loop", "periodic", "serve"}
    holds_none_of(elephant, (b"pgbench", b"abalance", b"pg_catalog", b"checkpointer"))


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_its_client_drives_the_clone(elephant: Cloned, mode: str) -> None:
    done = subprocess.run(
        [str(PGBENCH), "-h", "127.0.0.1", "-p", str(elephant.port), "-U", "postgres", "-n", "-S", "-M", mode, "-c",
         "16", "-t", "500", "postgres"], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "actually processed: 8000/8000" in done.stdout and "failed transactions: 0 " in done.stdout


def test_a_thread_for_each_connection(seal: Cloned) -> None:
    service = seal.service
    main_class_is(service, "Bind_SELECT")
    assert service.codec == "mysql"
    acceptor = next(role for role in service.roles if role.listens)
    assert acceptor.handover == "spawn_thread"
    assert service.roles[acceptor.hand_to].kind == "serve"
    holds_none_of(seal, (b"sbtest", b"innodb"))


def test_the_other_client_drives_the_clone(seal: Cloned) -> None:
    done = subprocess.run(
        ["sysbench", "oltp_point_select", "--db-driver=mysql", "--mysql-host=127.0.0.1", f"--mysql-port={seal.port}",
         "--mysql-user=sbtest", "--table-size=100000", "--threads=16", "--events=8000", "--time=0", "run"],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignored errors:                      0 " in done.stdout
