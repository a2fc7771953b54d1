"""The command line: help, exit codes, one line per error, nothing on standard output but results."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from app_parts import processes_in, write_app
from ditto import errors
from ditto.cli import main as entry

COMMANDS = ["doctor", "clone", "observe", "model", "generate", "build", "run", "tune", "validate", "study", "report"]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Stands in for the stages: set its functions."""
    import ditto

    stub = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "ditto.pipeline", stub)
    monkeypatch.setattr(ditto, "pipeline", stub, raising=False)
    yield stub


def _fail(error: BaseException) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


def test_general_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run_guarded(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {command} " in out for command in COMMANDS)
    assert "130 interrupted" in out.replace("\n", " ")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_ends_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run_guarded([command, "--help"]) == 0
    paragraphs = capsys.readouterr().out.strip().split("\n\n")
    assert paragraphs[-1].strip().startswith(f"Example: ditto {command}")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["clone"], "Missing argument 'APP.toml'"),
        (["clone", "a.toml"], "Missing option"),
        (["clone", "a.toml", "-o", "x", "--bad"], "No such option"),
        (["run", "clone", "--port", "0"], "--port"),
        (["run", "no-such-clone", "--port", "20500"], "no-such-clone: no such folder"),
        (["observe", "-o", "x"], "give either APP.toml or --pid"),
        (["observe", "-o", "x", "--pid", "7"], "--pid needs --seconds"),
        (["observe", "a.toml", "-o", "x", "--pid", "7"], "give either APP.toml or --pid"),
    ],
)
def test_wrong_use_is_bad_input(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run_guarded(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    first, *rest = shown.err.splitlines()
    assert first.startswith("ditto: error: ")
    assert says in first
    assert all(line.startswith("ditto: remedy: ") for line in rest)
    assert len(rest) <= 1


def test_without_words_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.run_guarded([]) == 2
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadInputError("a.toml: x: unknown key", "remove it"), 2),
        (errors.MissingCapabilityError("no valgrind", "apt-get install valgrind"), 3),
        (errors.CheckFailedError("too far off"), 4),
        (errors.AppError("app ended", "look"), 5),
        (errors.RecordingError("lost 1 %", "again"), 6),
        (errors.UnsupportedShapeError("io_uring"), 7),
        (OSError(errno.ENOSPC, "No space left on device", "/mnt/out/file"), 6),
        (OSError(errno.ENOSPC, "No space left on device"), 6),
        (PermissionError(errno.EACCES, "Permission denied", "/mnt/out"), 2),
        (ZeroDivisionError("division\nby zero"), 70),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_is_one_line_and_a_code(
    error: BaseException, code: int, pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.report = _fail(error)
    assert entry.run_guarded(["report", "out"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.splitlines()
    assert lines[0].startswith("ditto: ")
    assert len(lines) <= 2
    assert "Traceback" not in shown.err
    if getattr(error, "errno", None) == errno.ENOSPC:
        assert "no space left on " in lines[0]


def test_debug_shows_where(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.report = _fail(ZeroDivisionError("here"))
    assert entry.run_guarded(["--debug", "report", "out"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "ditto: error: ZeroDivisionError: here"


def test_results_as_text_and_as_json(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline.model = lambda out, progress, seed, keep_names: out / "profile.json"
    assert entry.run_guarded(["model", "out"]) == 0
    assert capsys.readouterr().out == "profile: out/profile.json\n"
    assert entry.run_guarded(["model", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"profile": "out/profile.json"}


def test_max_error_decides_the_code(pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    from ditto.artifacts.fidelity import Conditions, Fidelity, Record
    from ditto.artifacts.verdict import Bound, Verdict

    record = Record(
        metric="cpu.user", unit="ns", group="cpu", original=100.0, clone=120.0, error=0.2, noise=0.01,
        bound=Bound(relative=0.1), verdict=Verdict.OUTSIDE, how="measured: here",
    )  # fmt: skip
    conditions = Conditions(
        connections=1, rounds=1, seconds=1.0, requests=1, load="client", counted="by the client", order="A B"
    )
    fidelity = Fidelity(app="a", when="2026-01-01T00:00:00Z", conditions=conditions, records=[record])
    pipeline.validate = lambda *_: fidelity
    assert entry.run_guarded(["validate", "a.toml", "clone", "--max-error", "0.3"]) == 0
    assert "cpu.user" in capsys.readouterr().out
    assert entry.run_guarded(["validate", "a.toml", "clone", "--json", "--max-error", "0.1"]) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["records"][0]["metric"] == "cpu.user"
    assert "cpu.user (+20.0%)" in shown.err


def test_progress_is_on_standard_error_and_only_for_long_work(
    pipeline: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(clone: Path, progress: object) -> list[Path]:
        progress.stage("compiling")  # type: ignore[attr-defined]
        progress.update("body.S", 0.5)  # type: ignore[attr-defined]
        if clone.name == "slow":
            time.sleep(2.6)
            progress.note("42 bytes")  # type: ignore[attr-defined]
        return [clone]

    pipeline.build_all = build
    assert entry.run_guarded(["build", "quick"]) == 0
    assert capsys.readouterr().err == ""
    assert entry.run_guarded(["build", "slow"]) == 0
    shown = capsys.readouterr()
    assert "compiling" in shown.err
    assert "note: 42 bytes" in shown.err
    assert shown.out == "binary: slow\n"


def test_doctor_tells_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = entry.run_guarded(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == (0 if found["sufficient"] else 3)
    checks = {check["name"]: check for check in found["checks"]}
    assert {"recording with eBPF", "recording with ptrace", "lens", "compiler", "hardware counters"} <= set(checks)
    for check in checks.values():
        assert check["detail"]
        assert bool(check["remedy"]) != check["ok"], check
    assert list(tmp_path.iterdir()) == []
    assert found["sufficient"] == all(check["ok"] or not check["needed"] for check in checks.values())


def _ditto(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ditto", *words],
        capture_output=True,
        text=True,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


def test_the_process_becomes_the_clone(tmp_path: Path) -> None:
    binary = tmp_path / "build" / "clone"
    binary.parent.mkdir()
    binary.write_text('#!/bin/sh\necho $$ "$@"\ngrep SigIgn /proc/self/status\n')
    binary.chmod(0o755)
    words = [sys.executable, "-m", "ditto", "run", str(tmp_path), "--port", "0", "--data", "d"]
    from ditto.host import ports

    words[words.index("0")] = port = str(ports.find_free())
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate(timeout=30)
    first, ignored = out.splitlines()
    assert first == f"{process.pid} --port {port} --host 127.0.0.1 --data d"
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def test_full_standard_output_is_no_space() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ditto", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 6
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_malformed_app_through_the_command(tmp_path: Path) -> None:
    pytest.importorskip("ditto.pipeline", reason="the stages are not there yet")
    path = tmp_path / "app.toml"
    path.write_text('name = "a"\n[service]\ncomand = ["x"]\nport = 1\n')
    done = _ditto("observe", str(path), "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == f"ditto: error: {path}: service.comand: unknown key"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("server", ["early", "plain"])
def test_app_failures_through_the_command(tmp_path: Path, server: str) -> None:
    pytest.importorskip("ditto.pipeline", reason="the stages are not there yet")
    folder = tmp_path / "app"
    folder.mkdir()
    write_app(folder, server=server, client="fail")
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = _ditto("observe", str(folder / "app.toml"), "-o", str(tmp_path / "out"), env=environment)
    assert done.returncode == 5, done.stderr
    assert ("no database" if server == "early" else "cannot agree with the server") in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_in(folder) == []
    assert list(tmp_path.glob("ditto-run-*")) == []


def test_an_interruption_while_commands_load_is_told_in_one_line() -> None:
    text = """
import sys
class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "ditto.cli.clone":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from ditto.cli.entry import main
main()
"""
    done = subprocess.run([sys.executable, "-c", text, "doctor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ditto: interrupted; nothing was started\n")
