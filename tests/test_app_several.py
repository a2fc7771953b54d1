"""Apps of several services: ports told to each other, order, data, and that nothing is left running."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hpack import Encoder

from app_parts import processes_in
from ditto import paths
from ditto.artifacts.app import load_app
from ditto.artifacts.observation import load_observation
from ditto.artifacts.records import RECORD, Kind, Mode, Recording
from ditto.artifacts.syscalls import NUMBERS
from ditto.errors import AppError, BadInputError
from ditto.host import commands
from ditto.host.app import AppRun
from ditto.host.progress import SilentProgress
from ditto.host.requests_h2 import begin, frame
from ditto.host.server import Server
from ditto.observe.tiers import _apart, observe_tiers
from ditto.streams import h2
from ditto.streams.cycles import follow
from ditto.streams.events import KnownDescriptor, from_recording
from ditto.streams.evidence import load_evidence
from recorded_parts import write_tiers


def test_services_reach_each_other_and_all_end(tmp_path: Path) -> None:
    with AppRun(write_tiers(tmp_path)) as run:
        assert run.services[0].name == "front"
        assert len({run.port_of(name) for name in ("front", "left", "right")}) == 3
        assert run.port_of("front") == run.port
        words = Path(f"/proc/{run.pid}/cmdline").read_text().split("\0")
        assert words[2:6] == [str(run.port), "pool", str(run.port_of("left")), str(run.port_of("right"))]
        assert len(run.pids()) == 3
        run.load(20)
    assert processes_in(tmp_path) == []


def test_a_service_starts_after_those_whose_port_it_is_told(tmp_path: Path) -> None:
    text = 'name = "chain"\n'
    for name, words in (("a", "{port:c}"), ("b", "x"), ("c", "{port:d}"), ("d", "x")):
        text += f'[[service]]\nname = "{name}"\ncommand = ["server", "{words}"]\nport = 1\n'
    path = tmp_path / "app.toml"
    path.write_text(text + '[load]\ncommand = ["client"]\n')
    assert [service.name for service in load_app(path).start_order()] == ["b", "d", "c", "a"]
    path.write_text((text + '[load]\ncommand = ["client"]\n').replace('["server", "x"]', '["server", "{port:c}"]'))
    assert sorted(str(service.name) for service in load_app(path).start_order()) == ["a", "b", "c", "d"]


def test_each_service_is_filled_with_its_own_data(tmp_path: Path) -> None:
    extra = '[service.prepare]\ncommand = ["sh", "-c", "echo {port} {port:front} >filled"]'
    with AppRun(write_tiers(tmp_path, extra=extra)) as run:
        run.prepare()
        filled = (tmp_path / "filled").read_text().split()
        assert filled == [str(run.port_of("right")), str(run.port)]


def test_services_are_told_of_before_they_execute_their_command(tmp_path: Path) -> None:
    seen: dict[str, str] = {}

    def look(server: Server) -> None:
        seen[server.name] = os.readlink(f"/proc/{server.pid}/exe")

    with AppRun(write_tiers(tmp_path), on_start=look) as run:
        assert list(seen) == ["left", "right", "front"]
        assert all(Path(program).name != Path(os.readlink(f"/proc/{run.pid}/exe")).name for program in seen.values())
        run.load(4)


@pytest.mark.parametrize("broken", ["left", "right", "front"])
def test_one_that_does_not_start_ends_all(tmp_path: Path, broken: str) -> None:
    spec = write_tiers(tmp_path)
    text = (tmp_path / "app.toml").read_text()
    at = text.index(f'name = "{broken}"')
    text = text[:at] + text[at:].replace('"tier.py"', '"missing.py"', 1)
    (tmp_path / "app.toml").write_text(text)
    spec = load_app(tmp_path / "app.toml")
    with pytest.raises(AppError, match=f"{broken} ended with exit code 2"):
        AppRun(spec).start()
    assert processes_in(tmp_path) == []


def test_one_that_ends_under_load_is_named(tmp_path: Path) -> None:
    with AppRun(write_tiers(tmp_path)) as run:
        right = next(server for server in run.services if server.name == "right")
        os.kill(right.pid, 9)
        with pytest.raises(AppError, match="right ended by signal 9"):
            run.load(1000)
    assert processes_in(tmp_path) == []


def test_a_port_of_nobody_is_refused(tmp_path: Path) -> None:
    write_tiers(tmp_path)
    path = tmp_path / "app.toml"
    path.write_text(path.read_text().replace("{port:right}", "{port:wrong}"))
    with pytest.raises(BadInputError, match=r"front: \{port:wrong\} names no server") as caught:
        load_app(path)
    assert "front, left, right" in caught.value.remedy


def test_a_fixed_port_in_use_is_named(tmp_path: Path) -> None:
    write_tiers(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "app.toml"
        fixed = path.read_text().replace('"{port}", "leaf"]\nport = 20103', f'"{port}", "leaf"]\nport = {port}')
        path.write_text(fixed)
        with pytest.raises(AppError, match=f"port {port}, wanted by right, is in use"):
            AppRun(load_app(path)).start()


@pytest.mark.ebpf
def test_each_service_is_observed_by_itself(tmp_path: Path) -> None:
    spec = write_tiers(tmp_path, requests=400)
    made = observe_tiers(spec, tmp_path / "out", 2.0, SilentProgress())
    assert [observation.app for observation in made] == ["front", "left", "right"]
    fitted = {}
    for name in ("left", "right"):
        folder = tmp_path / "out" / name / "observation"
        assert folder.stat().st_mode & 0o077 == 0
        observation = load_observation(folder)
        evidence = load_evidence(folder, observation)
        fitted[name] = {key: len(cycles) for key, cycles in evidence.requests.classes.items()}
        assert (observation.lens is not None) == _has_lens()
    # Half of the client's requests make two calls to the one, one to the other; the last on a connection may miss.
    assert fitted["right"] == {b"GET /y": pytest.approx(200, abs=10)}
    assert fitted["left"] == {b"GET /x": pytest.approx(200, abs=10), b"GET /z": pytest.approx(200, abs=10)}
    assert not (tmp_path / "out" / "app.rec").exists()
    assert processes_in(tmp_path) == []


def _has_lens() -> bool:
    return commands.find_program("valgrind") is not None and (paths.lens_directory() / "lens-amd64-linux").is_file()


def test_requests_that_came_one_at_a_time_are_a_recording_of_their_own() -> None:
    """The load's has of that time only how descriptors were made; both have what was made before."""
    calls = [("socket", 1), ("MARK", 2), ("socket", 3), ("read", 4), ("MARK", 5), ("MARK", 6), ("read", 7)]
    modes = iter((Mode.ALL, Mode.STRUCTURE, Mode.ALL))
    records = np.zeros(len(calls), dtype=RECORD)
    for row, (name, at) in zip(records, calls, strict=True):
        row["kind"] = Kind.MARK if name == "MARK" else Kind.SYSCALL
        row["nr"] = next(modes) if name == "MARK" else NUMBERS[name]
        row["t_ns"] = at
    alone, load = _apart(records)
    assert alone is not None and alone["t_ns"].tolist() == [1, 2, 3, 4, 5]
    assert load["t_ns"].tolist() == [1, 2, 3, 5, 6, 7]
    assert load["nr"][load["kind"] == Kind.MARK].tolist() == [Mode.STRUCTURE, Mode.STRUCTURE, Mode.ALL]
    alone, load = _apart(records[:5])
    assert alone is None and len(load) == 5


def test_what_connections_of_http2_said_before_the_load_is_kept_for_it() -> None:
    """The path was told in the first head, one at a time; the load's heads name it by its number."""
    encoder = Encoder()
    fields = [(":method", "POST"), (":path", "/shop.Similar/Of"), ("content-type", "application/grpc")]
    heads = [frame(h2.HEADERS, 5, number, encoder.encode(fields)) for number in (1, 3)]
    begun = begin() + heads[0]
    rows: list[tuple[str, int, bytes]] = [
        ("ALL", 0, b""), ("accept4", 3, b""), ("recvmsg", 7, begun[:24]), ("MORE", 0, begun[24:88]),
        ("MORE", 0, begun[88:]), ("read", 9, b"other"), ("STRUCTURE", 0, b""), ("ALL", 0, b""),
        ("recvmsg", 7, heads[1]),
    ]  # fmt: skip
    records = np.zeros(len(rows), dtype=RECORD)
    at = 0
    for row, (name, fd, data) in zip(records, rows, strict=True):
        at += name != "MORE"
        row["t_ns"], row["pid"], row["tid"], row["payload_len"], row["payload"] = at, 5, 5, len(data), data
        row["args"][0] = fd
        if name in NUMBERS:
            row["kind"], row["nr"], row["ret"] = Kind.SYSCALL, NUMBERS[name], len(data) or 7
        elif name == "MORE":
            row["kind"] = Kind.MORE
        else:
            row["kind"], row["nr"] = Kind.MARK, Mode[name]
        if data == begun[:24]:
            row["ret"] = len(begun)
    _, load = _apart(records)
    assert load["t_ns"].tolist() == [1, 2, 3, 3, 3, 5, 6, 7]
    stream = from_recording(Recording("ebpf", 0, load), [KnownDescriptor(5, 3, "listener")])
    assert [event.ret for event in stream.said] == [len(begun)] and len(stream.threads[5]) == 1
    follow(stream.threads, stream.said)
    assert h2.begun(stream.threads[5][0]).key == b"POST /shop.Similar/Of"
