"""An application's clone run here, as its tiers die, stand still and refuse: the others go on, and it recovers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from application_parts import ALONE, CALLS, application, ask, build_application, until
from ditto.errors import AppError
from ditto.host.clones import tier_command, tier_ports
from ditto.host.ports import find_free
from ditto.host.running import Running
from ditto.run.supervise import Member, supervise, tier_members
from runtime_build import SANITIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three tiers, built with the sanitizers: an error in memory would end one."""
    return build_application(tmp_path_factory.mktemp("app") / "clones", SANITIZE)


@contextmanager
def run(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``ditto run --json``; the process and what it printed.  It must leave nothing."""
    command = [sys.executable, "-m", "ditto", "run", str(folder), "--port", str(find_free()), "--json", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    text = ""
    while not text.endswith("\n}\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        text += line
    shown = json.loads(text)
    try:
        yield process, shown
    finally:
        process.terminate()
        process.communicate(timeout=30)
        assert not clones_of(folder)


def clones_of(folder: Path) -> list[str]:
    """What runs of the folder's clones."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = place.read_bytes().split(b"\0")
            if words[0].startswith(str(folder).encode() + b"/"):
                found.append(f"{place.parent.name} {words[0].decode()}")
    return found


class Load:
    """Requests of one kind in a loop until the end of the block; their statuses with the time that each took."""

    def __init__(self, port: int, request: bytes, threads: int = 3) -> None:
        self.seen: list[tuple[int, float]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(port, request)) for _ in range(threads)]

    def _ask(self, port: int, request: bytes) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self.seen.append((ask(port, request), time.monotonic() - began))
            time.sleep(0.002)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def count(self, status: int) -> int:
        return sum(1 for got, _ in self.seen if got == status)


def tier(shown: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in shown["tiers"] if one["name"] == name)


def test_the_whole_application_is_started_in_order_and_ends_as_a_whole(folder: Path, tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with run(folder, "--logs", str(tmp_path / "logs"), "--data", str(tmp_path / "data")) as (process, shown):
            assert [one["name"] for one in shown["tiers"]] == ["tier-3", "tier-2", "tier-1"]
            assert tier(shown, "tier-1")["port"] == shown["port"] and shown["host"] == "127.0.0.1"
            assert ask(shown["port"]) == 200
            assert len(clones_of(folder)) == 3
            for one in shown["tiers"]:
                assert Path(one["log"]).read_text().endswith(f"listening on 127.0.0.1 port {one['port']}\n")
                os.kill(one["pid"], 0)
            process.send_signal(number)
            errors = process.communicate(timeout=30)[1]
            assert process.returncode == 130 and not clones_of(folder)
            assert errors == "ditto: interrupted; everything that was started has been ended\n"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["tier-1", "tier-2", "tier-3"]


def test_it_ends_even_if_ditto_is_killed(folder: Path) -> None:
    with run(folder) as (process, shown):
        process.kill()
        process.wait(10)
        deadline = time.monotonic() + 10
        while clones_of(folder):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert Path(shown["logs"]).is_dir()
    for path in Path(shown["logs"]).iterdir():
        path.unlink()
    Path(shown["logs"]).rmdir()


def test_ports_are_the_tiers_own_or_free_ones() -> None:
    app = application()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        entry, busy = find_free(), taken.getsockname()[1]
        own = find_free()
        chosen = tier_ports(application((1, own, busy)), entry)
        assert chosen["tier-1"] == entry and chosen["tier-2"] == own
        assert chosen["tier-3"] not in (busy, own, entry)
        assert tier_ports(application((1, entry, own)), entry)["tier-2"] != entry
        with pytest.raises(AppError, match=f"port {busy}, wanted by --base-port {busy} for tier-2, is in use"):
            tier_ports(app, entry, busy)
        with pytest.raises(AppError, match=f"port {busy}, wanted by --port"):
            tier_ports(app, busy)


def test_commands_of_tiers(folder: Path) -> None:
    app, ports = application(), {"tier-1": 1, "tier-2": 2, "tier-3": 3}
    program = str(folder / "tier-1" / "build" / "clone")
    assert tier_command(folder, app, app.entry, "0.0.0.0", ports) == [
        program, "--port", "1", "--host", "0.0.0.0", "--downstream", "0=127.0.0.1:2",
    ]  # fmt: skip
    assert tier_command(folder, app, app.tier("tier-3"), "0.0.0.0", ports)[1:] == ["--port", "3", "--host", "127.0.0.1"]
    tiers = [app.tiers[0], app.tiers[1].model_copy(update={"calls": [None, "tier-1"]}), app.tiers[2]]
    back = app.model_copy(update={"tiers": tiers})
    assert tier_command(folder, back, tiers[1], "::", ports)[5:] == ["--downstream", "1=[::1]:1"]


@pytest.mark.parametrize("name", ["tier-1", "tier-2", "tier-3"])
def test_a_tier_that_is_killed_is_started_again(folder: Path, name: str) -> None:
    with run(folder) as (process, shown):
        port = shown["port"]
        with Load(port, CALLS) as calls, Load(port, ALONE) as alone:
            for _ in range(2):
                time.sleep(0.5)
                before = calls.count(200)
                os.kill(_pid_at(folder, name), signal.SIGKILL)
                deadline = time.monotonic() + 15
                while calls.count(200) < before + 100:
                    assert time.monotonic() < deadline, calls.seen[-5:]
                    time.sleep(0.05)
        assert {status for status, _ in calls.seen} <= {200, 502, 0}
        assert {status for status, _ in alone.seen} <= ({200, 0} if name == "tier-1" else {200})
        assert max(took for _, took in calls.seen + alone.seen) < 5
        process.terminate()
        errors = process.communicate(timeout=30)[1].splitlines()
        assert len(errors) == 4 and all(line.startswith(f"ditto: {name} ended by signal 9") for line in errors[:2])
        assert errors[2].startswith("ditto: interrupted") or errors[2].startswith("ditto: the logs are left in")
        logs = Path(shown["logs"])
        assert "Sanitizer" not in "".join(path.read_text() for path in logs.iterdir())
        for path in logs.iterdir():
            path.unlink()
        logs.rmdir()


def _pid_at(folder: Path, name: str) -> int:
    (found,) = (line for line in clones_of(folder) if f"/{name}/" in line)
    return int(found.split()[0])


@pytest.mark.parametrize("name", ["tier-2", "tier-3"])
def test_a_tier_that_stands_still_holds_up_only_who_needs_it(folder: Path, name: str) -> None:
    with run(folder) as (process, shown):
        port, pid = shown["port"], tier(shown, name)["pid"]
        with Load(port, CALLS) as calls, Load(port, ALONE, threads=1) as alone:
            time.sleep(0.5)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.2)
            before = calls.count(200), alone.count(200)
            time.sleep(1.5)
            assert calls.count(200) <= before[0] + 3 and alone.count(200) > before[1] + 50
            os.kill(pid, signal.SIGCONT)
            deadline = time.monotonic() + 15
            while calls.count(200) < before[0] + 100:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert {status for status, _ in calls.seen + alone.seen} == {200}  # nothing was lost: they waited
        assert max(took for _, took in alone.seen) < 1
        process.terminate()
        assert process.communicate(timeout=30)[1].count("\n") == 1  # nothing was started again


def test_patience_ends_before_the_tier_goes_on(folder: Path) -> None:
    """Without the supervisor, so that the tiers are told to wait for a second only."""
    app, ports = application(), {name: find_free() for name in ("tier-1", "tier-2", "tier-3")}
    processes = {}
    try:
        for one in app.start_order():
            command = [*tier_command(folder, app, one, "127.0.0.1", ports), "--patience", "1"]
            processes[one.name] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until(ports["tier-1"], 200)
        for name in ("tier-3", "tier-2"):
            with Load(ports["tier-1"], CALLS) as calls:
                processes[name].send_signal(signal.SIGSTOP)
                until(ports["tier-1"], 502)
                time.sleep(1)
                processes[name].send_signal(signal.SIGCONT)
                until(ports["tier-1"], 200)
            assert {status for status, _ in calls.seen} == {200, 502}
            assert max(took for _, took in calls.seen) < 6
    finally:
        for process in processes.values():
            process.terminate()
        errors = [process.communicate(timeout=10)[1] for process in processes.values()]
    assert errors == [b"", b"", b""] and all(process.returncode == 0 for process in processes.values())


def test_a_tier_that_refuses_is_answered_for(folder: Path, tmp_path: Path) -> None:
    """Its program is away while it is down: it is tried again and again, and the application goes on."""
    port = find_free()
    members = tier_members(folder, application(), "127.0.0.1", tier_ports(application(), port), tmp_path, None)
    program = folder / "tier-3" / "build" / "clone"
    away = program.with_name("away")
    said: list[str] = []
    during: list[int] = []

    def ready(running: list[Running]) -> None:
        def play() -> None:
            program.rename(away)
            os.kill(next(one.pid for one in running if one.name == "tier-3"), signal.SIGKILL)
            time.sleep(1.0)
            during.extend((ask(port), ask(port, ALONE)))
            away.rename(program)
            until(port, 200)
            during.append(200)

        threading.Thread(target=play, daemon=True).start()

    supervise(members, ready, said.append, seconds=8.0)
    assert during == [502, 200, 200]
    assert 2 <= len(said) <= 8 and "ended by signal 9" in said[0]
    delays = [float(line.rpartition(" in ")[2].removesuffix(" s")) for line in said]
    assert delays == sorted(delays) and delays[0] == 0.1


def test_an_end_is_the_end_without_restarts(folder: Path, tmp_path: Path) -> None:
    members = tier_members(folder, application(), "127.0.0.1", tier_ports(application(), find_free()), tmp_path, None)
    with pytest.raises(AppError, match="tier-2 ended by signal 9"):
        supervise(members, lambda all_: os.kill(all_[1].pid, signal.SIGKILL), print, seconds=20, restart=False)
    assert not clones_of(folder)


def test_a_tier_that_does_not_come_up_is_told(folder: Path, tmp_path: Path) -> None:
    members = tier_members(folder, application(), "127.0.0.1", tier_ports(application(), find_free()), tmp_path, None)
    broken = Member("tier-9", (*members[0].command, "--nonsense"), "127.0.0.1", find_free(), tmp_path / "tier-9.log")
    with pytest.raises(AppError, match=r"tier-9 ended with exit code 2; last lines: "):
        supervise([members[0], broken], lambda _: pytest.fail("not ready"), print)
    assert not clones_of(folder)


def test_one_that_accepts_no_longer_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ditto.run.supervise.CHECK_S", 0.2)
    program = tmp_path / "deaf"
    program.write_text(
        f"#!{sys.executable}\nimport socket, sys, time\ns = socket.create_server(('127.0.0.1', int(sys.argv[2])))\n"
        "time.sleep(0.3)\ns.close()\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    port, said = find_free(), []
    command = (str(program), "--port", str(port))
    supervise([Member("deaf", command, "127.0.0.1", port, tmp_path / "log")], lambda _: None, said.append, seconds=2.0)
    assert said and said[0].startswith(f"deaf accepts no connections on port {port}")


@pytest.mark.parametrize("words", [["--base-port", "7000"], ["--logs", "x"], ["--no-restart"], ["--json"]])
def test_options_of_applications_are_refused_for_one_service(folder: Path, words: list[str]) -> None:
    assert _fails(folder / "tier-3", *words).startswith(f"ditto: error: {words[0]}: ")
    assert "application" in _fails(folder, "--downstream", "0=127.0.0.1:1")


def _fails(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "ditto", "run", str(folder), "--port", str(find_free()), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stdout == ""
    return done.stderr
