"""Telling a running process what to do, and reading what several of them wrote."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from ditto.artifacts.lens import VERSION, load_lens
from ditto.errors import BadInputError, FormatVersionError, MissingCapabilityError
from ditto.host import lens as lens_run
from ditto.host.lens import LensControl, LensMode, LensRun, lens_command
from ditto.paths import lens_directory

valgrind = [
    pytest.mark.valgrind,
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
    pytest.mark.skipif(
        not (lens_directory() / "lens-amd64-linux").is_file(), reason="the lens is not built: make -C native/lens"
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]


def needs_valgrind(test: object) -> object:
    for mark in valgrind:
        test = mark(test)
    return test


# Reads a byte at a time: each makes 1009 stores, or ends the program.  In between it sleeps in read().
SERVER = """
#include <unistd.h>
int main(void) {
    char c;
    while (read(0, &c, 1) == 1 && c != 'q') {
        for (volatile int i = 0; i < 1009; i++) ;
        write(1, &c, 1);
    }
    return 0;
}
"""


def build(folder: Path, text: str) -> Path:
    (folder / "p.c").write_text(text)
    subprocess.run(["gcc", "-O1", "-o", folder / "p", folder / "p.c"], check=True)
    return folder / "p"


def ask(server: subprocess.Popen[bytes], times: int) -> None:
    assert server.stdin and server.stdout
    for _ in range(times):
        server.stdin.write(b"x")
        server.stdin.flush()
        assert server.stdout.read(1) == b"x"


@needs_valgrind
def test_control_page(tmp_path: Path) -> None:
    program = build(tmp_path, SERVER)
    run = LensRun.create(tmp_path / "lens", mode=LensMode.OFF, events=100)
    with subprocess.Popen(run.command([str(program)]), env=run.env(), stdin=-1, stdout=-1) as server:
        ask(server, 3)
        run.control.warm()
        ask(server, 3)
        run.control.count()
        ask(server, 7)
        begin = time.monotonic()
        (first,) = run.stop()  # the program sleeps in read()
        assert time.monotonic() - begin < 30
        assert server.pid == first.pid
        run.control.count()
        ask(server, 2)
        (second,) = run.stop()
        assert server.stdin
        server.stdin.write(b"q")
        server.stdin.close()
        assert server.wait(30) == 0
    (last,) = run.collect()
    run.control.close()
    assert first.stopped and second.stopped
    for process, rounds in ((first, 7), (second, 2)):
        after_read = next(i for i, key in enumerate(process.keys) if key.prev_nr == 0)
        assert process.visits[after_read] == rounds
        assert process.transitions[(after_read, 1)] == rounds
        assert rounds * 1010 <= process.store_hist[after_read].sum() < rounds * 1030
        assert process.load_hist[after_read][23] == 0  # warm: nothing is touched for the first time
        assert sum(int(e["nr"]) == 0 for e in process.events) == rounds
    assert last.instructions.sum() == second.instructions.sum()  # an end after a stop writes nothing new


@needs_valgrind
def test_stop_of_a_process_that_never_counted(tmp_path: Path) -> None:
    program = build(tmp_path, SERVER)
    run = LensRun.create(tmp_path / "lens")
    with subprocess.Popen(run.command([str(program)]), env=run.env(), stdin=-1, stdout=-1) as server:
        ask(server, 1)
        (process,) = run.stop()
        assert process.instructions.sum() == 0
        assert server.stdin
        server.stdin.close()
    run.control.close()


def test_control_file(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with LensControl(path) as control:
        assert path.stat().st_size == 4096
        for step, mode in ((control.warm, 0), (control.count, 1), (control.stop, 2), (control.off, 3)):
            step()
            assert struct.unpack_from("<I", path.read_bytes())[0] == mode == control.mode


def test_missing_tool_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens_run.shutil, "which", lambda _: None)
    with pytest.raises(MissingCapabilityError) as none:
        lens_command(["true"], tmp_path / "x")
    assert none.value.remedy == "apt-get install valgrind"
    monkeypatch.setattr(lens_run.shutil, "which", lambda _: "/usr/bin/valgrind")
    monkeypatch.setenv("DITTO_NATIVE", str(tmp_path))
    with pytest.raises(MissingCapabilityError) as unbuilt:
        lens_command(["true"], tmp_path / "x")
    assert unbuilt.value.remedy == "make -C native/lens"


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.lens"
    path.write_bytes(b"something else entirely")
    with pytest.raises(BadInputError, match="not a lens file"):
        load_lens(path)
    path.write_bytes(b"DITTOLNS" + struct.pack("<II", 99, 0))
    with pytest.raises(FormatVersionError, match="99"):
        load_lens(path)
    path.write_bytes(b"DITTOLNS" + struct.pack("<II8sQQII", VERSION, 1, b"meta", 4000, 8, 8, 0))
    with pytest.raises(BadInputError, match="damaged"):
        load_lens(path)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_lens(tmp_path / "none.lens")
